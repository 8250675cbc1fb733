"""The candidate grammar: which terms a variable may have, in a fixed layout of columns, and their weight priors.

Every slot owns the same columns, so sufficient statistics are plain arrays [S, F, F]. Columns that are
alternatives of one another (one PUSH, three radii) form a *group*: at most one of a group is in a mechanism.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import ACTION_PARENT, BODY, MAX_SLOTS, NO_PARENT, Array, TermKind
from crl_node.mechanisms.terms import TermTable

#: Contact radii as multiples of the sum of two extents.
PUSH_FACTORS = (0.85, 1.0, 1.15)
DRAG_FACTOR = 1.1
#: m, rest lengths tried around the distance at which a pair was first seen. A spring has pulled its ends to about its
#: rest length before anyone looks, so the distance is right up to what friction holds and the camera errs.
SPRING_OFFSETS = (-0.012, 0.0, 0.012)

MOTION_UNARY = (TermKind.INERTIA, TermKind.ACTION, TermKind.DRIFT_X, TermKind.DRIFT_Y, TermKind.WALL)
MOTION_PAIR = (
    *(TermKind.PUSH for _ in PUSH_FACTORS),
    TermKind.DRAG,
    *(TermKind.SPRING for _ in SPRING_OFFSETS),
)
BRIGHTNESS_UNARY = (TermKind.DECAY, TermKind.GLOW)
BRIGHTNESS_PAIR = (TermKind.LIT_BY, TermKind.TOGGLE_BY, TermKind.TOUCH)

MOTION_COLUMNS = len(MOTION_UNARY) + MAX_SLOTS * len(MOTION_PAIR)
BRIGHTNESS_COLUMNS = len(BRIGHTNESS_UNARY) + MAX_SLOTS * len(BRIGHTNESS_PAIR)

#: Weight priors N(mean, std^2) given that the term is in. PUSH must start wide and away from 0: before the first
#: contact it is the only reason to expect that a thing moves, and particles that disagree make contact worth
#: trying. ACTION and WALL start where a servo that obeys and a rim that holds would put them.
WEIGHT_PRIOR: dict[TermKind, tuple[float, float]] = {
    TermKind.INERTIA: (0.3, 0.4),
    TermKind.ACTION: (0.9, 0.3),
    TermKind.DRIFT_X: (0.0, 0.3),
    TermKind.DRIFT_Y: (0.0, 0.3),
    TermKind.PUSH: (0.6, 0.5),
    TermKind.DRAG: (0.3, 0.3),
    TermKind.SPRING: (0.3, 0.3),
    TermKind.WALL: (0.7, 0.5),
    TermKind.DECAY: (0.3, 0.4),
    TermKind.GLOW: (0.0, 0.3),
    TermKind.LIT_BY: (0.7, 0.4),
    TermKind.TOGGLE_BY: (0.8, 0.4),
    TermKind.TOUCH: (0.7, 0.4),
}


@dataclass(frozen=True)
class Columns:
    """The layout of one variable type (motion or brightness): F columns in G groups, the same for every target."""

    kind: NDArray[np.int32]  # [F] TermKind
    parent: NDArray[np.int32]  # [F] slot index, NO_PARENT or ACTION_PARENT
    alternative: NDArray[np.int32]  # [F] 0, 1, ...: which of its group
    group: NDArray[np.int32]  # [F] group number, 0..G-1
    group_kind: NDArray[np.int32]  # [G]
    group_parent: NDArray[np.int32]  # [G]
    prior_mean: Array  # [F] of the weight, given that the term is in
    prior_std: Array  # [F]

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def groups(self) -> int:
        return len(self.group_kind)

    def of_group(self, kind: TermKind, parent: int = NO_PARENT) -> int:
        """Number of the group of this kind and parent; KeyError when the grammar has none."""
        hits = np.flatnonzero((self.group_kind == kind) & (self.group_parent == parent))
        if not hits.size:
            raise KeyError(f"the grammar has no {kind.name} term with parent {parent}")
        return int(hits[0])


def _columns(unary: tuple[TermKind, ...], pair: tuple[TermKind, ...]) -> Columns:
    kinds: list[int] = list(unary)
    parents = [ACTION_PARENT if kind == TermKind.ACTION else NO_PARENT for kind in unary]
    for parent in range(MAX_SLOTS):
        kinds += list(pair)
        parents += [parent] * len(pair)
    group: list[int] = []
    alternative: list[int] = []
    heads: list[tuple[int, int]] = []
    for kind, parent in zip(kinds, parents, strict=True):
        if not heads or heads[-1] != (kind, parent):
            heads.append((kind, parent))
            alternative.append(0)
        else:
            alternative.append(alternative[-1] + 1)
        group.append(len(heads) - 1)
    priors = np.array([WEIGHT_PRIOR[TermKind(kind)] for kind in kinds])
    return Columns(
        kind=np.array(kinds, np.int32),
        parent=np.array(parents, np.int32),
        alternative=np.array(alternative, np.int32),
        group=np.array(group, np.int32),
        group_kind=np.array([head[0] for head in heads], np.int32),
        group_parent=np.array([head[1] for head in heads], np.int32),
        prior_mean=priors[:, 0],
        prior_std=priors[:, 1],
    )


MOTION = _columns(MOTION_UNARY, MOTION_PAIR)
BRIGHTNESS = _columns(BRIGHTNESS_UNARY, BRIGHTNESS_PAIR)


def motion_lengths(extent: Array, first_distance: Array) -> Array:
    """[S, F] m: the length of every motion candidate. `extent` [S] m, `first_distance` [S, S] m (0: never seen)."""
    reach = extent[:, None] + extent[None, :]
    per_pair = [factor * reach for factor in PUSH_FACTORS]
    per_pair.append(DRAG_FACTOR * reach)
    per_pair += [np.where(first_distance > 0, first_distance + offset, 0.0) for offset in SPRING_OFFSETS]
    lengths = np.stack(per_pair, axis=-1).reshape(len(extent), -1)
    return np.hstack([np.zeros((len(extent), len(MOTION_UNARY))), lengths])


def allowed(columns: Columns, registered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[S, F] which candidates make sense: both ends exist, no self pairs, and only the body is moved by the action.

    That the command reaches things only through the body is what "body" means, so it is grammar, not data. The
    body has no brightness, no springs hold it and nothing drags it: a position-controlled arm is only blocked.
    """
    slots = len(registered)
    target = np.arange(slots)[:, None]
    parent = columns.parent[None, :]
    ok = registered[:, None] & ((parent < 0) | (registered[np.maximum(parent, 0)] & (parent != target)))
    ok &= (parent != ACTION_PARENT) | (target == BODY)
    if columns is BRIGHTNESS:
        ok &= target != BODY
    else:
        body_kinds = (*MOTION_UNARY, TermKind.PUSH)
        ok &= (target != BODY) | np.isin(columns.kind, body_kinds)[None, :]
        springs = (columns.kind == TermKind.SPRING)[None, :]
        ok &= ~springs | (parent != BODY)
    return np.asarray(ok)


def table(columns: Columns, lengths: Array) -> TermTable:
    """The candidates of all S targets as one table, row i * F + f. `lengths` [S, F] m."""
    slots = len(lengths)
    return TermTable(
        np.tile(columns.kind, slots),
        np.repeat(np.arange(slots, dtype=np.int32), len(columns)),
        np.tile(columns.parent, slots),
        lengths.reshape(-1),
    )
