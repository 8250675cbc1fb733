"""Sufficient statistics by environment, for the variables of one type.

The live environment's sums are an ordinary `Statistics`; this object keeps those of earlier ones, what changed from one
to the next, and what the earlier ones together still say about the live one: sums in which the weights of changed
mechanisms are integrated out (`projected`), so that only these are learned anew. At most `MOST_ENVIRONMENTS` are kept
apart; when one more begins, the two oldest become one in the same way. Everything stays additive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import MAX_SLOTS, Array
from crl_node.mechanisms.grammar import Columns
from crl_node.mechanisms.statistics import REGIMES, Statistics
from crl_node.structure.environments import projected

#: Environments whose statistics are kept apart, the live one among them.
MOST_ENVIRONMENTS = 4
_FIELDS = ("gram", "cross", "square", "rows")


def renamed(names: Sequence[str], name: str) -> list[str]:
    """Names of the environments kept apart after `name` has begun: when all places are taken the two oldest are one.

    ValueError when the name is taken or empty.
    """
    if not name.strip() or name in names:
        raise ValueError(f"an environment cannot be called '{name}': there are {', '.join(names)} already")
    out = [*names, name]
    return [f"{out[0]} + {out[1]}", *out[2:]] if len(out) > MOST_ENVIRONMENTS else out


@dataclass
class Begun:
    """What was known when an environment began, and what has changed in it."""

    changed: NDArray[np.bool_]  # [S, G] mechanisms that differ from the environments before
    noise: Array  # [S, R] m or 1 per step
    inclusion: Array  # [S, F] of each column before


@dataclass(frozen=True)
class Sums:
    """Statistics of one variable."""

    gram: Array  # [R, F, F]
    cross: Array  # [R, F]
    square: Array  # [R]
    rows: Array  # [R]

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in _FIELDS))

    def __sub__(self, other: Sums) -> Sums:
        """What is left without `other`, which must be a part."""
        return Sums(*(getattr(self, name) - getattr(other, name) for name in _FIELDS))


def sums_of(statistics: Statistics, slot: int) -> Sums:
    """One variable of `statistics`; no copy."""
    return Sums(*(getattr(statistics, name)[slot] for name in _FIELDS))


class Environments:
    """Earlier environments of S variables with F candidate columns (and T of a tail)."""

    def __init__(self, columns: Columns, tail: int) -> None:
        self.columns, self.size = columns, len(columns) + tail
        self.past: list[Statistics] = []
        self.begun: list[Begun] = []  # one for each environment but the first; the last is the live one's
        self.carried: Statistics | None = None  # of all past ones, for what is unchanged in the last past one

    @property
    def live(self) -> Begun | None:
        """The live environment's record, None while there is only one environment."""
        return self.begun[-1] if self.begun else None

    def begin(self, finished: Statistics, noise: Array, inclusion: Array) -> None:
        """`finished` is over. `noise` [S, R] and `inclusion` [S, F] are what was learned by now."""
        self.carried = self._joined(self.carried, finished)
        self.past.append(finished)
        shape = MAX_SLOTS, self.columns.groups
        self.begun.append(Begun(np.zeros(shape, bool), noise.copy(), inclusion.copy()))
        if len(self.past) == MOST_ENVIRONMENTS:
            self.past[:2] = [self._joined(self.past[0], self.past[1], self.begun[0])]
            del self.begun[0]

    def _joined(self, earlier: Statistics | None, later: Statistics, begun: Begun | None = None) -> Statistics:
        """`later` plus what `earlier` says about mechanisms that did not change between the two."""
        out = Statistics(MAX_SLOTS, self.size)
        for name in _FIELDS:
            getattr(out, name)[...] = getattr(later, name)
        begun = begun or self.live
        if earlier is not None and begun is not None:
            for slot in range(MAX_SLOTS):
                kept = self._kept(sums_of(earlier, slot), slot, begun)
                for name in _FIELDS:
                    getattr(out, name)[slot] += getattr(kept, name)
        return out

    def _kept(self, sums: Sums, slot: int, begun: Begun) -> Sums:
        columns = np.flatnonzero(begun.changed[slot][self.columns.group])
        if not columns.size or not sums.rows.any():
            return sums
        gram, cross, square = projected(
            sums.gram, sums.cross, sums.square, columns, noise_std=begun.noise[slot],
            prior_mean=self.columns.prior_mean[columns], prior_std=self.columns.prior_std[columns],
        )  # fmt: skip
        return Sums(gram, cross, square, sums.rows)

    def earlier(self, slot: int) -> Sums | None:
        """Everything from before the live environment, changed mechanisms included; None when it is the first."""
        return None if self.carried is None else sums_of(self.carried, slot)

    def effective(self, live: Statistics, slot: int) -> Sums:
        """What one variable's posterior is to be computed from now: live sums and all that still holds of others."""
        now = sums_of(live, slot)
        earlier, begun = self.earlier(slot), self.live
        return now if earlier is None or begun is None else now + self._kept(earlier, slot, begun)

    def merge(self, other: Environments) -> None:
        """Add another robot's earlier environments, which must be the same ones in the same order."""
        if len(other.past) != len(self.past):
            raise ValueError(
                f"the other model has {len(other.past)} earlier environments, this one {len(self.past)}; not merged"
            )
        for mine, theirs in zip(self.past, other.past, strict=True):
            mine.merge(theirs)
        for own, foreign in zip(self.begun, other.begun, strict=True):
            own.changed |= foreign.changed
        self._carry()

    def _carry(self) -> None:
        self.carried = None
        for k, statistics in enumerate(self.past):
            self.carried = self._joined(self.carried, statistics, self.begun[k - 1] if k else None)

    def forget(self, slot: int, parent_columns: NDArray[np.bool_]) -> None:
        """Clear a slot for reuse, see `Statistics.forget`."""
        for statistics in [*self.past, *([self.carried] if self.carried is not None else [])]:
            statistics.forget(slot, parent_columns)
        own = parent_columns[: len(self.columns)]
        groups = np.unique(self.columns.group[own])
        for begun in self.begun:
            begun.changed[slot] = False
            begun.changed[:, groups] = False
            begun.inclusion[slot] = 0.0
            begun.inclusion[:, own] = 0.0

    def silence(self, slot: int, column: int) -> None:
        """One variable's column has become another term, of which nothing was felt in the earlier environments."""
        for statistics in [*self.past, *([self.carried] if self.carried is not None else [])]:
            statistics.gram[slot, :, column] = 0.0
            statistics.gram[slot, :, :, column] = 0.0
            statistics.cross[slot, :, column] = 0.0

    def state(self, prefix: str) -> dict[str, Array]:
        """Arrays by name, for a checkpoint; none while there is only one environment."""
        out: dict[str, Array] = {}
        for k, statistics in enumerate(self.past):
            out |= statistics.state(f"{prefix}_past{k}")
        for k, begun in enumerate(self.begun):
            out[f"{prefix}_changed{k}"] = begun.changed.astype(float)
            out[f"{prefix}_noise{k}"] = begun.noise
            out[f"{prefix}_before{k}"] = begun.inclusion
        return out

    def restore(self, arrays: Mapping[str, Array], prefix: str, count: int) -> None:
        """Take over `count` earlier environments written by `state`; ValueError when an array does not fit."""
        past, begun = [], []
        shapes = {
            "changed": (MAX_SLOTS, self.columns.groups), "noise": (MAX_SLOTS, REGIMES),
            "before": (MAX_SLOTS, len(self.columns)),
        }  # fmt: skip
        for k in range(count):
            statistics = Statistics(MAX_SLOTS, self.size)
            statistics.restore(arrays, f"{prefix}_past{k}")
            past.append(statistics)
            found = {}
            for name, shape in shapes.items():
                found[name] = np.asarray(arrays[f"{prefix}_{name}{k}"], float).copy()
                if found[name].shape != shape or not np.isfinite(found[name]).all():
                    raise ValueError(f"checkpoint array '{prefix}_{name}{k}' is not {shape} finite values; not loaded")
            begun.append(Begun(found["changed"] > 0.5, found["noise"], found["before"]))
        self.past, self.begun = past, begun
        self._carry()
