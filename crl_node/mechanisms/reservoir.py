"""Transitions in which something may have pushed something, kept so that another contact radius can be tried on them.

Nothing here is random. A pair (target, parent) whose transitions cannot be kept any more is *final*: its candidates'
lengths stay as they are. So for every pair that is not final all transitions are here in which a push of any length up
to `LONGEST` would have been felt by more than `LEAST`, and a column made anew from them is what it would have been had
it had that length from the beginning.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from crl_node.checkpoint import Arrays
from crl_node.data import BODY, MAX_SLOTS, STATE_SIZE, Array
from crl_node.mechanisms.terms import MIN_DISTANCE, Scene, anticipated

#: Transitions kept: 1.3 kB each.
CAPACITY = 2048
#: Share of the places that are free after pairs were made final to gain room.
_ROOM = 0.25
#: The longest contact radius that is ever tried, as a multiple of the sum of two extents.
LONGEST = 1.4
#: m per step, approaches below this teach nothing about a radius (a resting thing's velocity is no exact 0).
LEAST = 2e-4

_FIELDS: dict[str, tuple[tuple[int, ...], type]] = {
    "state": ((MAX_SLOTS, STATE_SIZE), float),  # m, m, m/s, m/s, 1
    "action": ((2,), float),  # m/s
    "body_step": ((2,), float),  # m
    "change": ((MAX_SLOTS, 2), float),  # m
    "weight": ((MAX_SLOTS,), float),  # with which it was learned from
    "regime": ((MAX_SLOTS,), int),
    "here": ((MAX_SLOTS,), bool),
    "near": ((MAX_SLOTS, MAX_SLOTS), bool),  # target by parent: what the transition is kept for
}


def near_pairs(state: Array, action: Array, body_step: Array, scene: Scene) -> NDArray[np.bool_]:
    """[S, S] target by parent: a push of the longest length would be felt, see `terms` for what closes in on what."""
    position = state[:, :2]
    ahead = anticipated(state, body_step, scene.dt)
    offset = position[:, None] - ahead[None]
    closing = np.broadcast_to((ahead - position)[None], offset.shape).copy()
    offset[BODY] = position[BODY] + action * scene.dt - position
    closing[BODY] = -action * scene.dt
    distance = np.sqrt(np.square(offset).sum(axis=-1))
    approach = (closing * offset).sum(axis=-1) / np.maximum(distance, MIN_DISTANCE)
    near = (distance < LONGEST * (scene.extent[:, None] + scene.extent[None])) & (approach > LEAST)
    near &= scene.exists[:, None] & scene.exists[None]
    np.fill_diagonal(near, False)
    return np.asarray(near)


class Reservoir:
    """At most `capacity` transitions as arrays [N, ...] by name, and what is known of each pair [S, S]."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity, self.size = capacity, 0
        self.rows: dict[str, Arrays] = {
            name: np.zeros((capacity, *shape), kind) for name, (shape, kind) in _FIELDS.items()
        }
        self.count = np.zeros((MAX_SLOTS, MAX_SLOTS), np.int64)  # transitions kept for a pair
        self.final = np.zeros((MAX_SLOTS, MAX_SLOTS), bool)

    def add(
        self, state: Array, action: Array, body_step: Array, change: Array, regime: NDArray[np.int_], weight: Array,
        scene: Scene,
    ) -> None:  # fmt: skip
        """One transition, if it is of use: `state` [S, 5], `change` [S, 2] m, `regime` [S], `weight` [S]."""
        near = near_pairs(state, action, body_step, scene) & (weight > 0.0)[:, None] & ~self.final
        if not near.any():
            return
        if self.size == self.capacity:
            self._make_room()
            near &= ~self.final
            if not near.any():
                return
        values = {
            "state": state, "action": action, "body_step": body_step, "change": change, "weight": weight,
            "regime": regime, "here": scene.exists, "near": near,
        }  # fmt: skip
        for name, value in values.items():
            self.rows[name][self.size] = value
        self.size += 1
        self.count += near

    def of(self, target: int, parent: int) -> NDArray[np.int_]:
        """Rows kept for a pair."""
        return np.flatnonzero(self.rows["near"][: self.size, target, parent])

    def finish(self) -> None:
        """Another environment begins: what was met so far keeps its lengths, its transitions are given up."""
        self.final |= self.count > 0
        self._keep(np.zeros(self.size, bool))

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse, as target and as parent."""
        rows = self.rows
        rows["weight"][:, slot] = 0.0
        rows["here"][:, slot] = False
        for array in (rows["near"][:, slot], rows["near"][:, :, slot], self.final[slot], self.final[:, slot]):
            array[...] = False
        self._keep(np.asarray(rows["near"][: self.size].any(axis=(1, 2))))

    def merge(self, other: Reservoir) -> None:
        """Add another model's transitions of the same variables with the same lengths."""
        self.final |= other.final
        for n in range(other.size):
            near = other.rows["near"][n] & ~self.final
            if self.size == self.capacity:
                self._make_room()
                near &= ~self.final
            if near.any():
                for name in _FIELDS:
                    self.rows[name][self.size] = other.rows[name][n]
                self.size += 1
        self._settle()

    def _make_room(self) -> None:
        """Make the best known pairs final until a part of the places is free."""
        while self.size > (1.0 - _ROOM) * self.capacity:
            best = int(np.argmax(np.where(self.final, -1, self.count)))
            self.final[np.unravel_index(best, self.final.shape)] = True
            self._settle()

    def _settle(self) -> None:
        near = self.rows["near"][: self.size]
        near &= ~self.final
        self._keep(np.asarray(near.any(axis=(1, 2))))

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        rows, count = np.flatnonzero(kept), int(kept.sum())
        for array in self.rows.values():
            array[:count] = array[: self.size][rows]
            array[count:] = 0
        self.size = count
        self.count = self.rows["near"][:count].sum(axis=0)

    def state(self) -> dict[str, Arrays]:
        """Arrays by name, for a checkpoint."""
        out = {f"reservoir_{name}": array[: self.size] for name, array in self.rows.items()}
        out["reservoir_final"] = self.final
        return out

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take over arrays written by `state`; ValueError when one does not fit (nothing is changed then)."""
        found = {name: np.asarray(arrays[f"reservoir_{name}"]) for name in _FIELDS}
        size = len(found["state"]) if found["state"].ndim else -1
        for name, (shape, kind) in _FIELDS.items():
            array = found[name]
            if array.shape != (size, *shape) or array.dtype != np.dtype(kind) or not np.isfinite(array).all():
                raise ValueError(f"checkpoint array 'reservoir_{name}' is {array.dtype} {array.shape}; not loaded")
        final = np.asarray(arrays["reservoir_final"])
        if final.shape != self.final.shape or final.dtype != bool or size > self.capacity:
            raise ValueError(f"the checkpoint's reservoir holds {size} transitions, {self.capacity} fit; not loaded")
        self.final, self.size = final.copy(), size
        for name, array in found.items():
            self.rows[name][:size] = array
        self.count = found["near"].sum(axis=0)
