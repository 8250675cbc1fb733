"""From a series to the rows of a regression: scales, the library's columns, steps within stretches, statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array
from crl_node.discovery.library import SeriesTerm, evaluate, linear_columns, polynomials
from crl_node.discovery.moments import ADAMS_BASHFORTH, Moments, multistep
from crl_node.discovery.table import CONSTANT, Series, SeriesError

#: Library terms that are listed at most; beyond this products are proposed by the grammar instead.
MOST_TERMS = 1500


class Design:
    """One series with a library of terms: everything that is done before anything is inferred."""

    def __init__(self, series: Series, *, degree: int, orders: Sequence[int], waves: int) -> None:
        """SeriesError when no two usable rows follow one another."""
        self.series, self.degree, self.waves = series, degree, waves
        self.notes: list[str] = []
        self.prescale = self._prescale()
        self.data = series.data / self.prescale  # [T, D + A]
        self.states = self.data[:, : len(series.state_names)]
        self.width = self.data.shape[1]
        good = self.data[series.stretch >= 0]
        centre, spread = good.mean(axis=0), good.std(axis=0)
        self.varies = spread > CONSTANT * np.maximum(np.abs(good).max(axis=0), 1e-300)  # [D + A]
        # Products of columns far from 0 are linear terms in disguise: such columns are taken about their mean.
        self.shift = np.where(np.abs(centre) > 10.0 * spread, centre, 0.0) * self.varies
        self.scale = np.where(self.varies, spread, 1.0)
        for name, shift in zip(series.names, self.shift, strict=True):
            if shift:
                self.notes.append(f"'{name}' stays far from 0: its terms are about its mean {shift:.6g}")
        self.lengths = np.bincount(series.stretch[series.stretch >= 0])
        self.orders = self._usable_orders(orders)
        self.terms: list[SeriesTerm] = list(self._library())
        self.unit = np.ones(0)  # [F + R] by which the columns of the last moments were divided

    @property
    def names(self) -> tuple[str, ...]:
        """Columns as they are spelled in laws."""
        return tuple(
            spelled(name, shift, power)
            for name, shift, power in zip(self.series.names, self.shift, self.prescale, strict=True)
        )

    def _prescale(self) -> Array:
        """[D + A] powers of ten that columns of extreme size are divided by (else 1): squares must not overflow."""
        most = np.abs(self.series.data[self.series.stretch >= 0]).max(axis=0)
        extreme = (most > 1e9) | ((most < 1e-9) & (most > 0.0))
        scale = np.where(extreme, 10.0 ** np.floor(np.log10(np.where(most > 0, most, 1.0))), 1.0)
        for name, power in zip(self.series.names, scale, strict=True):
            if power != 1.0:
                self.notes.append(f"'{name}' is taken in units of {power:.0e}")
        return np.asarray(scale)

    def _usable_orders(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """Orders for which the stretches are long enough: the longest costs its length at each stretch's beginning."""
        orders = [o for o in wanted if o in ADAMS_BASHFORTH]
        if not orders:
            raise ValueError(f"orders {list(wanted)} are none of {sorted(ADAMS_BASHFORTH)}")
        steps = {o: int(np.maximum(self.lengths - o, 0).sum()) for o in orders}
        usable = [o for o in orders if steps[o] >= 0.9 * steps[min(orders)] and steps[o] > 0]
        if not usable:
            raise SeriesError(
                f"no two consecutive usable rows: {len(self.lengths)} stretches of at most {self.lengths.max()} rows"
            )
        return tuple(usable)

    def _library(self) -> tuple[SeriesTerm, ...]:
        variables = np.flatnonzero(self.varies) if self.varies.any() else np.arange(self.width)
        for degree in range(self.degree, 0, -1):
            terms = polynomials(variables.tolist(), degree)
            if len(terms) <= MOST_TERMS:
                break
            self.notes.append(
                f"polynomials of degree {degree} in {len(variables)} variables are {len(terms)} terms, more than "
                f"{MOST_TERMS}: starting from degree {degree - 1}, products are proposed where the residual calls for "
                "them"
            )
        return terms

    def columns(self, terms: Sequence[SeriesTerm]) -> Array:
        """[T, F] of the terms over all rows (bad rows give what zeros give and are not used)."""
        return evaluate(terms, self.data - self.shift)

    def _waves(self) -> Array:
        """[T, R] random Fourier features of all variables (Rahimi & Recht 2007), for the tail."""
        rng = np.random.default_rng(19)
        z = (self.data - self.data.mean(axis=0)) / self.scale * self.varies
        width = max(int(self.varies.sum()), 1)
        frequency = rng.standard_normal((self.width, self.waves)) / np.sqrt(width)
        return np.asarray(np.cos(z @ frequency + rng.uniform(0.0, 2.0 * np.pi, self.waves)))

    def steps(self, columns: Array, order: int) -> Array:
        """[N, P] the columns [T, P] averaged over every step by the multistep formula, stretch by stretch."""
        longest = max(self.orders)
        parts = [multistep(columns[rows], order, longest) for rows in self._stretches()]
        return np.concatenate(parts) if parts else np.zeros((0, columns.shape[1]))

    def _stretches(self) -> list[NDArray[np.int_]]:
        order = np.argsort(self.series.stretch, kind="stable")
        order = order[self.series.stretch[order] >= 0]
        return np.split(order, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []

    def changes(self) -> Array:
        longest = max(self.orders)
        states = self.states
        parts = [np.diff(states[rows], axis=0)[longest - 1 :] for rows in self._stretches()]
        return np.concatenate(parts) if parts else np.zeros((0, states.shape[1]))

    def step_rows(self) -> NDArray[np.int_]:
        """[N] row of the sample at which every step begins."""
        longest = max(self.orders)
        return np.concatenate([rows[longest - 1 : -1] for rows in self._stretches()])

    def moments(self, orders: Sequence[int], environment: int | None = None) -> dict[int, Moments]:
        """Statistics of library and tail by stepping order; of one environment alone, in the units of the last call."""
        columns = np.hstack([self.columns(self.terms), self._waves()])
        changes, chosen = self.changes(), slice(None)
        if environment is not None:
            chosen = self.series.environment[self.step_rows()] == environment
        else:
            # In units of each column's spread: sums of squares of very different size would lose digits.
            self.unit = np.maximum(columns[self.series.stretch >= 0].std(axis=0), 1e-300)
            self.unit[~(self.unit > 1e-300)] = 1.0
        if len(changes) == 0:
            raise SeriesError(f"no stretch of the series is longer than {max(self.orders)} rows: nothing to learn from")
        out = {}
        for order in orders:
            moments = Moments.empty(columns.shape[1], changes.shape[1])
            moments.add(self.steps(columns / self.unit, order)[chosen], changes[chosen])
            out[order] = moments
        return out

    def own(self) -> list[int | None]:
        """Column of each state's own linear term."""
        return linear_columns(self.terms, len(self.series.state_names))


def spelled(name: str, shift: float, power: float) -> str:
    """A column as it stands in the laws."""
    scaled = name if power == 1.0 else f"({name}/{power:.0e})"
    return f"({scaled} - {shift:.4g})" if shift else scaled
