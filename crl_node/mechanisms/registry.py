"""Which slot identity has which row of the model's fixed arrays, since when, and whether it was seen elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crl_node.data import BODY, MAX_SLOTS, Array, Belief

#: m, how far what was moved may be from where it was: the standard deviation of an axis.
CARRIED = 0.06
#: nats, so much at most speaks for a thing's having been moved: the tracker may be wrong.
MOST_DISPLACED = 5.0
#: s without a belief in which somebody may have put things elsewhere.
UNWATCHED = 2.0
#: Arrays of a checkpoint; those of the second line came later, and are as new where they are missing.
_STATE = ("ids", "extent", "absent", "age", "distance")
_LATER = ("place", "place_variance", "displaced")


class Registry:
    """Stable model indices for slot identities. Index 0 is the body; a free index is taken by the next thing that
    has been believed in for `confirm` beliefs; when all are taken, one absent for `absent_after` beliefs makes room.
    """

    def __init__(self, *, confirm: int, certainty: float, absent_after: int) -> None:
        self.confirm, self.certainty, self.absent_after = confirm, certainty, absent_after
        self.ids = np.full(MAX_SLOTS, -1, np.int64)  # [S], -1 where empty
        self.extent = np.zeros(MAX_SLOTS)  # [S] m, frozen at registration: candidate radii depend on it
        self.absent = np.zeros(MAX_SLOTS, np.int64)  # [S] beliefs since last seen
        self.age = np.zeros(MAX_SLOTS, np.int64)  # [S] beliefs since registration
        self.distance = np.zeros((MAX_SLOTS, MAX_SLOTS))  # [S, S] m, when both were first there
        self.place = np.zeros((MAX_SLOTS, 2))  # [S, 2] m, where it was first seen for sure
        self.place_variance = np.zeros(MAX_SLOTS)  # [S] m^2 of an axis, 0: nowhere yet
        self.displaced = np.zeros(MAX_SLOTS)  # [S] nats, that it has been moved from there, whoever did it
        self._candidates: dict[int, list[float]] = {}  # id -> extents seen

    @property
    def used(self) -> np.ndarray:
        """[S] indices that hold an identity."""
        return self.ids >= 0

    @property
    def present(self) -> np.ndarray:
        """[S] used and seen lately."""
        return self.used & (self.absent <= self.absent_after)

    def index(self, slot_id: int) -> int | None:
        """Model index of an identity, None when it has none."""
        hits = np.flatnonzero(self.ids == slot_id)
        return int(hits[0]) if hits.size else None

    def rows(self, belief: Belief) -> np.ndarray:
        """[S] row of the belief for every model index, -1 where the belief lacks it."""
        out = np.full(MAX_SLOTS, -1)
        for row, slot_id in enumerate(belief.ids):
            index = self.index(int(slot_id))
            if index is not None:
                out[index] = row
        return out

    def update(self, belief: Belief) -> tuple[list[int], list[int]]:
        """Take note of a belief; returns (indices newly registered, those of them taken from another identity)."""
        if self.ids[BODY] < 0:
            self.ids[BODY], self.extent[BODY] = belief.ids[BODY], belief.extent[BODY]
        new, recycled = [], []
        seen: dict[int, list[float]] = {}
        for row in range(1, len(belief.ids)):
            slot_id = int(belief.ids[row])
            if self.index(slot_id) is None and belief.existence[row] > self.certainty and belief.visible[row] > 0.5:
                seen[slot_id] = [*self._candidates.get(slot_id, []), float(belief.extent[row])]
            elif self.index(slot_id) is None and slot_id in self._candidates:
                seen[slot_id] = self._candidates[slot_id]  # hidden or in doubt for now: no progress, no reset
        for slot_id, extents in list(seen.items()):
            if len(extents) < self.confirm:
                continue
            index = self._room()
            if index is None:
                seen[slot_id] = extents[-self.confirm :]
                continue
            if self.ids[index] >= 0:
                recycled.append(index)
            self.ids[index], self.extent[index] = slot_id, float(np.median(extents))
            self.absent[index] = self.age[index] = 0
            self.distance[index] = self.distance[:, index] = 0.0
            self.place_variance[index] = self.displaced[index] = 0.0
            new.append(index)
            del seen[slot_id]
        self._candidates = seen
        rows = self.rows(belief)
        self.absent = np.where(self.used, np.where(rows >= 0, 0, self.absent + 1), 0)
        self.age += self.used
        self._note_distances(belief, rows)
        return new, recycled

    def _room(self) -> int | None:
        free = np.flatnonzero(~self.used[1:]) + 1
        if free.size:
            return int(free[0])
        longest = int(np.argmax(self.absent[1:])) + 1
        return longest if self.absent[longest] > self.absent_after else None

    def _note_distances(self, belief: Belief, rows: np.ndarray) -> None:
        here = np.flatnonzero(rows >= 0)
        here = here[here != BODY]
        position = belief.mean[rows[here], :2]
        distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
        old = self.distance[np.ix_(here, here)]
        self.distance[np.ix_(here, here)] = np.where(old > 0, old, distance)

    def note_places(self, position: Array, variance: Array, sure: np.ndarray, lost: np.ndarray) -> None:
        """Compare where things are seen, `position` [S, 2] m known to `variance` [S] m^2, with where they first were.

        Only what is `sure` [S] counts, and not from where it was before it was `lost` [S]. The evidence is one-sided
        (what stands still may not have been pushed): the log ratio of two Gaussians of the offset d, with and without
        the spread of what was moved, ln(v / (v + c^2)) + d^2 / 2 (1 / v - 1 / (v + c^2)), v the sum of both variances.
        """
        self.place_variance[lost] = 0.0
        first = sure & (self.place_variance == 0.0)
        self.place[first], self.place_variance[first] = position[first], variance[first]
        still = np.maximum(variance + self.place_variance, 1e-12)
        moved = still + CARRIED**2
        offset = np.square(position - self.place).sum(axis=1)
        nats = np.log(still / moved) + 0.5 * offset * (1.0 / still - 1.0 / moved)
        self.displaced = np.maximum(self.displaced, np.where(sure, np.clip(nats, 0.0, MOST_DISPLACED), 0.0))
        self.displaced[BODY] = 0.0

    def note_pause(self, seconds: float) -> None:
        """So long ago was the last belief [s]. After a long pause, or when the clock went back, places begin anew."""
        if not 0.0 <= seconds < UNWATCHED:
            self.place_variance[:] = 0.0

    def state(self) -> dict[str, Array]:
        """Arrays by name, for a checkpoint."""
        return {f"registry_{name}": getattr(self, name) for name in (*_STATE, *_LATER)}

    def restore(self, arrays: Mapping[str, Array]) -> None:
        """Take over arrays written by `state`; ValueError when one does not fit."""
        new = {}
        for name in (*_STATE, *(name for name in _LATER if f"registry_{name}" in arrays)):
            array, old = np.asarray(arrays[f"registry_{name}"]), getattr(self, name)
            if array.shape != old.shape or array.dtype != old.dtype or not np.isfinite(array).all():
                raise ValueError(f"checkpoint array 'registry_{name}' is {array.dtype} {array.shape}; not loaded")
            new[name] = array.copy()
        self.__dict__.update(new)
        self._candidates = {}
