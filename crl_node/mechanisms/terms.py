"""The term library: small programs that say how one variable drives the change of another.

A term maps (state, action) to a feature phi; a mechanism is a sparse sum of weight * phi. Motion terms are
vectors in the table plane with *one* scalar weight, which makes them equivariant under rotation; brightness
terms are scalars. `features` is the single reference for their meaning in numpy; the planner's ONNX graph
implements the same formulas and a test compares the two.

Notation, slot i at time t: position z_i [2] m, velocity v_i [2] m/s, brightness b_i, extent e_i m. The body is
slot 0; u_0 is its displacement in this step (observed while learning, predicted while planning) and
u_j = v_j dt for things. z'_j = z_j + u_j. For a thing as target d = |z_i - z'_j|, n = (z_i - z'_j) / d; for the
body as target the commanded position is compared with the thing where it stands: d = |z_0 + a dt - z_j|.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import ACTION_PARENT, BODY, NO_PARENT, Array, Term, TermKind

#: m, a spring within this distance of its rest length is held by friction.
DEAD_ZONE = 0.008
#: m per step, the unit of DRIFT_X and DRIFT_Y.
DRIFT_STEP = 0.01
#: Two slots touch fully at 1.0 and not at all beyond this multiple of the sum of their extents.
CONTACT_REACH = 1.25
#: A thing touches the rim at this multiple of its extent (its disc has the footprint's area; a box's face is nearer).
RIM_MARGIN = 0.95
#: m, distances below this have no direction.
MIN_DISTANCE = 1e-6
#: m per step, slower than this nothing closes in, nothing moves.
CLOSING_STEP, MOVING_STEP = 0.002, 0.004
#: 1 per step, a brightness that is expected to change by more is being switched.
SWITCHING_STEP = 0.1
#: What moves away at more than this share of its speed does not act on what it leaves.
RECEDING = 0.5
#: How many things in a row are pushed in one step.
CHAIN = 3
#: Channels of a feature: x [m], y [m], brightness [1].
CHANNELS = 3

MOTION_KINDS = tuple(kind for kind in TermKind if kind < TermKind.DECAY)
BRIGHTNESS_KINDS = tuple(kind for kind in TermKind if kind >= TermKind.DECAY)


@dataclass(frozen=True)
class TermTable:
    """P terms as columns, the form in which features are computed for all of them in one call."""

    kind: NDArray[np.int32]  # [P] TermKind
    target: NDArray[np.int32]  # [P] slot index
    parent: NDArray[np.int32]  # [P] slot index, NO_PARENT or ACTION_PARENT
    length: Array  # [P] m

    @classmethod
    def of(cls, terms: Sequence[Term]) -> TermTable:
        """Table of a sequence of terms, in their order."""
        return cls(
            np.array([t.kind for t in terms], np.int32),
            np.array([t.target for t in terms], np.int32),
            np.array([t.parent for t in terms], np.int32),
            np.array([t.length for t in terms], float),
        )

    def __len__(self) -> int:
        return len(self.kind)

    def term(self, row: int) -> Term:
        """One row as a `Term`."""
        return Term(
            TermKind(int(self.kind[row])), int(self.target[row]), int(self.parent[row]), float(self.length[row])
        )


@dataclass(frozen=True)
class Scene:
    """What does not change within a rollout: which slots there are, their size, the table."""

    extent: Array  # [S] m
    exists: NDArray[np.bool_]  # [S], [..., S] for many states
    wall: Array  # [4] m, x_min, x_max, y_min, y_max
    dt: float  # s, control step


def anticipated(state: Array, body_step: Array, dt: float) -> Array:
    """z' [..., S, 2] m: where every slot is about to be. `state` [..., S, 5], `body_step` [..., 2] m."""
    ahead = state[..., :2] + state[..., 2:4] * dt
    ahead[..., BODY, :] = state[..., BODY, :2] + body_step
    return np.asarray(ahead)


def contact_degrees(position: Array, scene: Scene) -> Array:
    """c [S, S] in 0..1: 1 when two slots' discs touch, 0 beyond 1.25 x; 0 on the diagonal and where absent."""
    reach = scene.extent[:, None] + scene.extent[None, :]
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    degree = np.clip(
        (CONTACT_REACH * reach - distance) / np.maximum((CONTACT_REACH - 1.0) * reach, MIN_DISTANCE), 0.0, 1.0
    )
    degree *= scene.exists[:, None] & scene.exists[None, :]
    np.fill_diagonal(degree, 0.0)
    return np.asarray(degree)


def presses_a_stack(near: NDArray[np.bool_]) -> bool:
    """The body touches a thing that touches another: which of them holds the body up if it is, cannot be told.

    (A box pressed against a block would be taken for one that never moves, and not be pushed again.) `near` [S, S].
    """
    among_things = near[BODY + 1 :, BODY + 1 :]
    return bool((near[BODY, BODY + 1 :] & among_things.any(axis=1)).any())


def within_room(step: Array, position: Array, extent: Array, scene: Scene) -> Array:
    """`step` [..., N, 2] m, shortened on each axis to the room between things at `position` and the rim."""
    margin = RIM_MARGIN * extent[:, None]
    low, high = scene.wall[[0, 2]], scene.wall[[1, 3]]
    back = np.maximum(position - (low + margin), 0.0)
    forth = np.maximum((high - margin) - position, 0.0)
    return np.asarray(np.clip(step, -back, forth))


def _jammed(position: Array, body_step: Array, scene: Scene) -> Array:
    """WALL for the body, phi [..., 2] m: what things pinned against the rim do not give way pushes the body back."""
    offset = (position[..., BODY, :] + body_step)[..., None, :] - position[..., 1:, :]
    distance = np.linalg.norm(offset, axis=-1)
    normal = offset / np.maximum(distance, MIN_DISTANCE)[..., None]
    reach = scene.extent[BODY] + scene.extent[1:]
    approach = np.squeeze(-normal @ body_step[..., None], -1)
    depth = np.minimum(np.maximum(reach - distance, 0.0), np.maximum(approach, 0.0))
    wanted = -(depth * scene.exists[..., 1:])[..., None] * normal
    return np.asarray((within_room(wanted, position[..., 1:, :], scene.extent[1:], scene) - wanted).sum(axis=-2))


def features(table: TermTable, state: Array, action: Array, body_step: Array, scene: Scene) -> Array:
    """phi [..., P, 3] per step (x [m], y [m], brightness [1]) of every term of `table`.

    `state` [..., S, 5] (m, m, m/s, m/s, 1), `action` [..., 2] m/s, `body_step` [..., 2] m is u_0; many states at once
    may differ in `scene.exists` [..., S]. Terms whose target or parent does not exist give 0. ValueError for brightness
    terms of more than one state.
    """
    dt = scene.dt
    position, velocity, brightness = state[..., :2], state[..., 2:4], state[..., 4]
    kind, i = table.kind, table.target
    j = np.maximum(table.parent, 0)
    to_body = i == BODY
    out = np.zeros((*state.shape[:-2], len(table), CHANNELS))

    def at(*kinds: TermKind) -> NDArray[np.bool_]:
        return np.isin(kind, kinds)

    own_step = velocity * dt
    ahead = anticipated(state, body_step, dt)
    action_step = (action * dt)[..., None, :]
    commanded = position[..., BODY, None, :] + action_step
    parent_at = np.where(to_body[:, None], position[..., j, :], ahead[..., j, :])
    own_at = np.where(to_body[:, None], commanded, position[..., i, :])
    offset = own_at - parent_at
    distance = np.linalg.norm(offset, axis=-1)
    normal = offset / np.maximum(distance, MIN_DISTANCE)[..., None]
    length = table.length

    rows = at(TermKind.INERTIA)
    out[..., rows, :2] = own_step[..., i[rows], :]
    rows = at(TermKind.ACTION)
    out[..., rows, :2] = action_step
    out[..., at(TermKind.DRIFT_X), 0] = DRIFT_STEP
    out[..., at(TermKind.DRIFT_Y), 1] = DRIFT_STEP

    # What closes the gap in this step: the parent's step, or for the body as target its own commanded step.
    closing = np.where(to_body[:, None], -action_step, (ahead - position)[..., j, :])
    approach = np.sum(closing * normal, axis=-1)

    rows = at(TermKind.PUSH)
    # Bounded by the approach: things at rest in contact do not push each other apart, and a radius that is a
    # little too large (the corners of a box) does not overstate the push.
    depth = np.minimum(np.maximum(length - distance, 0.0), np.maximum(approach, 0.0))
    out[..., rows, :2] = depth[..., rows, None] * normal[..., rows, :]

    rows = at(TermKind.DRAG)
    sliding = closing[..., rows, :] - approach[..., rows, None] * normal[..., rows, :]
    out[..., rows, :2] = np.where((distance < length)[..., rows, None], sliding, 0.0)

    rows = at(TermKind.SPRING)
    stretch = (length - distance)[..., rows]
    pull = np.sign(stretch) * np.maximum(np.abs(stretch) - DEAD_ZONE, 0.0)
    out[..., rows, :2] = pull[..., None] * normal[..., rows, :]

    # A thing is not moved further than the room it has to the rim: whatever pushes it, it stays on the table.
    thing = ~to_body
    held = within_room(out[..., thing, :2], position[..., i[thing], :], scene.extent[i[thing]], scene)
    out[..., thing, :2] = held

    rows = at(TermKind.WALL) & thing
    margin = scene.extent[i[rows], None]
    low, high = scene.wall[[0, 2]], scene.wall[[1, 3]]
    where = ahead[..., i[rows], :]
    out[..., rows, :2] = np.maximum(low + margin - where, 0.0) - np.maximum(where - high + margin, 0.0)
    out[..., at(TermKind.WALL) & to_body, :2] = _jammed(position, action * dt, scene)[..., None, :]

    rows = kind >= TermKind.DECAY
    if rows.any():
        if state.ndim != 2:
            raise ValueError(f"brightness terms are for one state at a time, not for states {state.shape}")
        out[:, 2] = np.where(rows, _brightness_features(table, brightness, position, ahead, scene), 0.0)
    absent = ~scene.exists[..., i] | ((table.parent >= 0) & ~scene.exists[..., j])
    out[np.broadcast_to(absent, out.shape[:-1])] = 0.0
    return out


def _brightness_features(
    table: TermTable, brightness: Array, position: Array, ahead: Array, scene: Scene
) -> Array:
    """phi [P] per step of the brightness terms (arbitrary in rows of other kinds)."""
    kind, i, j = table.kind, table.target, np.maximum(table.parent, 0)
    soon = contact_degrees(ahead, scene)
    pressed_soon, pressed_now = soon.max(axis=1), contact_degrees(position, scene).max(axis=1)
    own = brightness[i]
    return np.select(
        [kind == k for k in BRIGHTNESS_KINDS],
        [
            -own,
            np.ones_like(own),
            pressed_soon[j] - own,
            np.maximum(pressed_soon - pressed_now, 0.0)[j] * (1.0 - 2.0 * own),
            soon[i, j] - own,
        ],
        0.0,
    )


def in_contact(state: Array, scene: Scene) -> NDArray[np.bool_]:
    """[S] the planner's test of contact: something within 1.25 x reach, or the thing moves faster than 4 mm a step.

    Coarser than `disturbed`, which learning uses: without anything closing in the pair terms are silent anyway.
    """
    touching = contact_degrees(state[:, :2], scene).max(axis=1) > 0.0
    moving = np.linalg.norm(state[:, 2:4], axis=1) * scene.dt > MOVING_STEP
    return np.asarray((touching | moving) & scene.exists)


def disturbed(state: Array, body_step: Array, scene: Scene) -> NDArray[np.bool_]:
    """[S] whose noise is that of contact: something it touches within this step acts on it, or it moves already.

    Touching alone is not enough: things lie side by side for most of a run without moving, and counting those steps
    as contact made the contact noise four times too small and impacts count for far too much. What slides along a
    thing acts on it too (corners hook, friction drags), and what is pushed pushes what stands behind it in the same
    step: counted as free, such steps were worth ten standard deviations of a free thing's noise. `body_step` [2] m.
    """
    step = state[:, 2:4] * scene.dt
    step[BODY] = body_step
    position = state[:, :2]
    offset = position[:, None] - position[None]
    normal = offset / np.maximum(np.linalg.norm(offset, axis=-1), MIN_DISTANCE)[..., None]
    # The gap may close within the step: a fast tip is on the thing before it was ever seen beside it.
    touching = (contact_degrees(position, scene) > 0.0) | (contact_degrees(position + step, scene) > 0.0)
    moving = np.linalg.norm(state[:, 2:4], axis=1) * scene.dt > MOVING_STEP
    things = np.arange(len(step)) != BODY
    own, met = step, np.zeros(len(step), bool)
    for _ in range(CHAIN):
        relative = step[None, :] - own[:, None]
        closing = np.sum(relative * normal, axis=-1)
        speed = np.linalg.norm(relative, axis=-1)
        acts = touching & (speed > CLOSING_STEP) & (closing > -RECEDING * speed)
        met |= acts.any(axis=1)
        pushed = np.where(acts, closing, 0.0)
        pusher = pushed.argmax(axis=1)
        given = np.maximum(pushed.max(axis=1), 0.0)[:, None] * normal[np.arange(len(step)), pusher]
        step = np.where((things & ~moving)[:, None], given, own)
    return np.asarray((met | moving) & scene.exists)


def advance(
    table: TermTable, weights: Array, state: Array, action: Array, scene: Scene
) -> tuple[Array, Array]:
    """(delta [S, 3], phi [P, 3]) per step for weights [P]: the body first, then all others from its step."""
    slots = len(scene.extent)

    def deltas(phi: Array) -> Array:
        out = np.zeros((slots, CHANNELS))
        np.add.at(out, table.target, weights[:, None] * phi)
        return out

    phi = features(table, state, action, action * scene.dt, scene)
    body = deltas(phi)[BODY, :2]
    phi = features(table, state, action, body, scene)
    return deltas(phi), phi


def advance_motion(
    table: TermTable, weights: Array, state: Array, action: Array, scene: Scene
) -> Array:
    """Displacements [M, S, 2] m per step in M states [M, S, 5] under actions [M, 2] m/s, as `advance` for each.

    `table` holds motion terms only.
    """
    onto = np.zeros((len(scene.extent), len(table)))
    onto[table.target, np.arange(len(table))] = weights
    body = np.einsum("sp,mpc->msc", onto[:1], features(table, state, action, action * scene.dt, scene))[:, 0, :2]
    return np.asarray(np.einsum("sp,mpc->msc", onto, features(table, state, action, body, scene)[..., :2]))


def describe(term: Term, names: Sequence[str]) -> str:
    """The term in words, e.g. "push(slot_3, r=0.057)". `names` [S] by slot index."""
    if term.parent == ACTION_PARENT:
        return f"{term.kind.name.lower()}(action)"
    if term.parent == NO_PARENT:
        return term.kind.name.lower()
    size = f", {'L' if term.kind == TermKind.SPRING else 'r'}={term.length:.3f}" if term.length > 0 else ""
    return f"{term.kind.name.lower()}({names[term.parent]}{size})"
