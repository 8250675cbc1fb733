"""What a network sees of a slot and its neighbours: numbers that do not change when the scene is moved or turned.

Everything about a thing is expressed in the frame whose first axis leads from the body to it, everything about the body
in the frame of its command. A network that answers in the same frame is equivariant under rotation by construction, so
that it learns a push once and not once for every side; what is not the same everywhere (the rim) comes in as a vector.

Lengths are in units of UNIT m, motion in UNIT per step. Positions are complex numbers x + iy, for a rotation is then a
product. B states, S slots (row 0 the body), T = S - 1 things, J neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crl_node.data import MAX_SLOTS, Array, Floats

Points = NDArray[np.complex64]

#: What is 1 [m]: about a step's motion, about the depth at which a contact is plain.
UNIT = 0.02
#: A distance that becomes 1, and from where on the rim is felt [units].
FAR, RIM_GAP = 7.5, 1.5
#: Gaps are told apart between these [units].
GAPS = (-2.0, 3.0)
#: Neighbours besides the body that a thing has, things that the body has.
NEIGHBOURS = 3
#: Numbers before the identity, of a slot and of a neighbour: three vectors, then single ones.
OWN, PAIR = 10, 9
OWN_SIZE, PAIR_SIZE = OWN + MAX_SLOTS, PAIR + MAX_SLOTS + 1  # an even number: a row is also complex numbers


class State(NamedTuple):
    """What changes, for B states."""

    position: Points  # [B, S] units
    velocity: Points  # [B, S] units per step
    brightness: Floats  # [B, S]


@dataclass(frozen=True)
class Cast:
    """What stays: who is there."""

    extent: Floats  # [S] units
    identity: NDArray[np.int64]  # [S] number of each slot for the networks, 0 for the body
    rim: Array  # [4] units: x_min, x_max, y_min, y_max

    def __post_init__(self) -> None:
        if len(self.extent) != len(self.identity) or not 1 <= len(self.identity) <= MAX_SLOTS:
            raise ValueError(f"cast: {len(self.extent)} extents for {len(self.identity)} slots (1 to {MAX_SLOTS})")
        if self.identity[0] != 0 or (self.identity[1:] < 1).any() or (self.identity >= MAX_SLOTS).any():
            raise ValueError(f"cast: identities {self.identity.tolist()} must be 0, then 1 to {MAX_SLOTS - 1}")


class View(NamedTuple):
    """Inputs of one network for R slots in B states, and the frames that its answers are in."""

    own: Floats  # [B, R, OWN_SIZE]
    pair: Floats  # [B, R, NEIGHBOURS, PAIR_SIZE], zeros where there is no neighbour
    frame: Points  # [B, R] unit numbers


def points(xy: NDArray[np.floating]) -> Points:
    """[..., 2] as complex numbers."""
    return np.asarray(xy[..., 0] + 1j * xy[..., 1], np.complex64)


def pairs(z: Points) -> Floats:
    """Complex numbers [...] as [..., 2], without a copy."""
    return np.ascontiguousarray(z).view(np.float32).reshape(*z.shape, 2)


def _unit(way: Points, length: Floats) -> Points:
    """The direction of `way`; 1 where it has none."""
    tiny = np.float32(1e-4)
    return np.asarray(np.where(length > tiny, way, tiny) / np.maximum(length, tiny), np.complex64)


class Lens:
    """Looks at B states of one cast. What it returns is overwritten by its next look: copy what is to be kept."""

    def __init__(self, cast: Cast, states: int) -> None:
        self.cast = cast
        things = len(cast.identity) - 1
        names = np.eye(MAX_SLOTS, dtype=np.float32)[cast.identity]
        self._names = names[1:]
        self._own = np.zeros((states, things, OWN_SIZE), np.float32)
        self._own[..., OWN - 1], self._own[..., OWN:] = 1.0, names[1:]
        self._pair = np.zeros((states, things, NEIGHBOURS, PAIR_SIZE), np.float32)
        self._body = np.zeros((states, 1, OWN_SIZE), np.float32)
        self._body[..., OWN - 1] = 1.0
        self._body_pair = np.zeros((states, 1, NEIGHBOURS, PAIR_SIZE), np.float32)
        self._others = np.array([[j for j in range(things) if j != i] for i in range(things)], np.int64)
        self._others = self._others.reshape(things, max(things - 1, 0))
        e, rim = cast.extent, cast.rim
        self._reach = e[1:] + e[0]  # [T]
        self._between = e[1:][self._others] + e[1:, None]  # [T, T - 1]
        self._centre = np.array([rim[0] + rim[1], rim[2] + rim[3]], np.float32) / 2
        half = np.array([rim[1] - rim[0], rim[3] - rim[2]], np.float32) / 2
        self._free = half - e[:, None] - RIM_GAP  # [S, 2] from the centre
        for pair, count in ((self._pair, things - 1), (self._body_pair, things)):
            pair[:, :, : min(max(count, 0), NEIGHBOURS), PAIR - 1] = 1.0
        self._name(self._pair, np.broadcast_to(self._others[None], (1, things, max(things - 1, 0))))
        self._name(self._body_pair, np.arange(things)[None, None])

    def _name(self, pair: Floats, who: NDArray[np.int64]) -> None:
        """Write who the neighbours are; those that are chosen anew at each look are written then."""
        if who.shape[2] <= NEIGHBOURS:
            pair[:, :, : who.shape[2], PAIR : PAIR + MAX_SLOTS] = self._names[who]

    def _near_rim(self, position: Points, rows: slice) -> Points:
        """[B, R] how near the rim is, axis by axis: 0 from RIM_GAP on, 1 where a thing leans on it, signed."""
        off = pairs(position) - self._centre
        near = np.abs(off)
        near -= self._free[rows]
        near *= np.float32(1.0 / RIM_GAP)
        np.maximum(near, 0.0, out=near)
        return np.asarray(np.copysign(near, off).view(np.complex64)[..., 0])

    def _neighbours(
        self, pair: Floats, to: Points, reach: Floats, who: NDArray[np.int64], state: State, back: Points
    ) -> None:
        """The nearest of C candidates `to` [B, R, C], which are things number `who` [R, C], into `pair`."""
        b, r, count = to.shape
        if not count:
            return
        distance = np.abs(to)
        gap = np.asarray(distance - reach, np.float32)
        motion, light = state.velocity[:, 1:], state.brightness[:, 1:]
        if count > NEIGHBOURS:
            nearest = np.argpartition(gap, NEIGHBOURS - 1, axis=2)[:, :, :NEIGHBOURS]
            flat = nearest + count * np.arange(b * r).reshape(b, r, 1)
            to, gap, distance = to.reshape(-1)[flat], gap.reshape(-1)[flat], distance.reshape(-1)[flat]
            chosen = who.reshape(-1)[nearest + count * np.arange(r)[:, None]]
            pair[..., PAIR : PAIR + MAX_SLOTS] = self._names[chosen]
            at = chosen + motion.shape[1] * np.arange(b)[:, None, None]
            moves, lights = motion.reshape(-1)[at], light.reshape(-1)[at]
        else:
            moves, lights = motion[:, who], light[:, who]
        kept = to.shape[2]
        vectors = pair.view(np.complex64)[:, :, :kept, :3]
        np.multiply(to, np.float32(1.0 / FAR), out=vectors[..., 0])
        np.divide(to, np.maximum(distance, np.float32(1e-3)), out=vectors[..., 1])
        vectors[..., 2] = moves
        vectors *= back[..., None, None]
        gap_out = pair[:, :, :kept, 6]
        np.maximum(gap, GAPS[0], out=gap_out)
        np.minimum(gap_out, GAPS[1], out=gap_out)
        pair[:, :, :kept, 7] = lights

    def things(self, state: State, moved: Points) -> View:
        """What is seen of the T things while the body moves by `moved` [B] units."""
        at, own = state.position[:, 1:], self._own
        away = at - (state.position[:, 0] + moved)[:, None]
        distance = np.abs(away)
        frame = _unit(away, distance)
        back = frame.conj()
        vectors = own.view(np.complex64)[..., :3]
        vectors[..., 0], vectors[..., 1] = moved[:, None], state.velocity[:, 1:]
        vectors[..., 2] = self._near_rim(at, slice(1, None))
        vectors *= back[..., None]
        gap_out = own[..., 6]
        np.maximum(distance - self._reach, GAPS[0], out=gap_out)
        np.minimum(gap_out, GAPS[1], out=gap_out)
        np.multiply(distance, np.float32(1.0 / FAR), out=own[..., 7])
        own[..., 8] = state.brightness[:, 1:]
        if len(self._others) > 1:
            ahead = at + state.velocity[:, 1:]
            to = ahead[:, self._others] - at[:, :, None]
            self._neighbours(self._pair, to, self._between, self._others, state, back)
        return View(own, self._pair, frame)

    def body(self, state: State, command: Points) -> View:
        """What is seen of the body, which is told to move by `command` [B] units: one row."""
        own, tip = self._body, state.position[:, :1]
        size = np.abs(command)[:, None]
        frame = _unit(command[:, None], size)
        back = frame.conj()
        vectors = own.view(np.complex64)[..., :3]
        vectors[..., 0], vectors[..., 1] = command[:, None], state.velocity[:, :1]
        vectors[..., 2] = self._near_rim(tip, slice(0, 1))
        vectors *= back[..., None]
        to = (state.position[:, 1:] - (tip + command[:, None]))[:, None]
        who = np.arange(to.shape[2])[None]
        self._neighbours(self._body_pair, to, self._reach, who, state, back)
        return View(own, self._body_pair, frame)
