"""Discovery on a stream: one rank-1 update a step, a bounded refresh of the posterior whenever it is wanted.

What a step costs does not grow with time: the statistics are sums. Hyperparameters are looked for again in every
refresh for a few variables in turn, all others keep theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from crl_node.data import Array
from crl_node.discovery.fit import Fit, FitConfig
from crl_node.discovery.library import Evaluator, SeriesTerm, linear_columns, parent_mask, polynomials
from crl_node.discovery.moments import ADAMS_BASHFORTH, Moments
from crl_node.structure.engine import Engine
from crl_node.structure.mcmc import McmcConfig, McmcEngine
from crl_node.structure.screening import ScreenedEngine

#: Rows that are kept before the scales of the columns are fixed.
WARM_UP = 32
#: Rows that are added to the statistics together: one matrix product instead of so many passes over F^2 numbers.
BLOCK = 16
#: Chains of one refresh: few and short, they start from the last posterior.
CHAINS = McmcConfig(temperatures=(1.0, 1.0, 0.6), steps=24, most_steps=24, climbs=8, kept_per_step=16, most_sets=512)


class OnlineDiscovery:
    """Posterior over which of D states and A actions drive which state, from a stream of samples."""

    def __init__(
        self, states: int, actions: int = 0, *, terms: Sequence[SeriesTerm] | None = None, degree: int = 2,
        order: int = 1, tail: bool = False, engine: Engine | None = None, config: FitConfig | None = None,
        seed: int = 0, searched_per_refresh: int = 4, most_columns: int = 32,
    ) -> None:  # fmt: skip
        """`terms` is the library (default: polynomials of `degree`); `order` how it steps (see `moments`).

        `tail` integrates a dense tail of the library's own terms out, at O(F^3) a refresh.
        """
        if order not in ADAMS_BASHFORTH:
            raise ValueError(f"order {order} is none of {sorted(ADAMS_BASHFORTH)}")
        self.states, self.actions, self.order = states, actions, order
        self.terms = tuple(terms) if terms is not None else polynomials(range(states + actions), degree)
        self._evaluate = Evaluator(self.terms)
        self.mask = parent_mask(self.terms, states + actions)
        base = config or FitConfig()
        tails = base.tail_stds if tail else (0.0,)
        self.config = FitConfig(**{**base.__dict__, "tail_stds": tails})
        self.engine = engine or ScreenedEngine(lambda: McmcEngine(seed, CHAINS), most_columns=most_columns)
        self.searched_per_refresh = searched_per_refresh
        self.moments = Moments.empty(len(self.terms), states)
        self.inclusion = np.full((states, states + actions), np.nan)  # before the first refresh nothing is said
        self.term_inclusion = np.full((states, len(self.terms)), np.nan)
        self._unit: Array | None = None
        self._pending: list[tuple[Array, Array]] = []  # rows not yet in the moments
        self._recent: list[Array] = []  # features of the last steps, newest first
        self._last: Array | None = None
        self._cursor = 0
        self._hypers: dict[int, tuple[float, float]] = {}

    def observe(self, state: ArrayLike, action: ArrayLike | None = None) -> bool:
        """Take the next sample; `action` [A] acts from it to the next one. False when nothing was learned from it.

        A sample with NaN or infinity interrupts the stream: nothing is learned into or out of it.
        """
        x = np.asarray(state, float).ravel()
        u = np.zeros(self.actions) if action is None else np.asarray(action, float).ravel()
        if x.shape != (self.states,) or u.shape != (self.actions,):
            raise ValueError(
                f"expected {self.states} states and {self.actions} actions, got {x.size} and {u.size}; not used"
            )
        row = np.concatenate([x, u])
        if not np.isfinite(row).all():
            self.interrupt()
            return False
        learned = False
        weights = ADAMS_BASHFORTH[self.order]
        if self._last is not None and len(self._recent) >= len(weights):
            phi = np.sum([w * f for w, f in zip(weights, self._recent, strict=False)], axis=0)
            self._learn(phi, x - self._last)
            learned = True
        self._recent = [self._evaluate(row[None])[0], *self._recent[: len(weights) - 1]]
        self._last = x
        return learned

    def interrupt(self) -> None:
        """The next sample does not follow the last one."""
        self._last, self._recent = None, []

    def _learn(self, phi: Array, change: Array) -> None:
        self._pending.append((phi, change))
        if self._unit is None and len(self._pending) >= WARM_UP:
            std = np.stack([features for features, _ in self._pending]).std(axis=0)
            self._unit = np.where(std > 0, std, 1.0)
        if self._unit is not None and len(self._pending) >= BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._pending and self._unit is not None:
            features, changes = (np.stack(part) for part in zip(*self._pending, strict=True))
            self.moments.add(features / self._unit, changes)
            self._pending = []

    def refresh(self) -> None:
        """The posterior as the statistics stand now; a bounded amount of work."""
        if self._unit is None:
            return
        self._flush()
        own = linear_columns(self.terms, self.states)
        scale = np.array([1.0 if k is None else self._unit[k] for k in own])
        fit = Fit({self.order: self.moments}, len(self.terms), own, scale, np.zeros(len(self.terms)), self.config)
        moving = np.flatnonzero(fit.moving).tolist()
        if not moving:
            return
        due = [moving[(self._cursor + k) % len(moving)] for k in range(min(self.searched_per_refresh, len(moving)))]
        due = sorted({*due, *(v for v in moving if v not in self._hypers)})
        self._cursor += self.searched_per_refresh
        self._hypers.update(fit.search(self.order, due))
        inclusion, edges = fit.posterior(self.order, self._hypers, self.engine, self.mask)
        for k, v in enumerate(moving):
            self.term_inclusion[v], self.inclusion[v] = inclusion[k], edges[k]
