"""The term library for plain time series: what may drive the change of a variable, and the grammar of new terms.

A term is a small program of one or two variables (states or actions); its variables are its parents in the causal
graph. The library starts with the polynomials up to a degree. Where the residual calls for it the grammar proposes
more (`proposals`): a term times another variable, a hinge, a term that acts only beyond a threshold (a
state-conditional edge), a saturating or periodic function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array


class Kind(StrEnum):
    """The programs of the library."""

    PRODUCT = "product"  # of all its variables
    HINGE = "hinge"  # max(0, x - c)
    GATE = "gate"  # x if y > c, else 0 (variables: x, y)
    ABSOLUTE = "absolute"  # |x|
    SINE = "sine"  # sin(x), x in the unit of the data


@dataclass(frozen=True, order=True)
class SeriesTerm:
    """One term. `variables` index states and then actions; `threshold` is in the unit of the last variable."""

    kind: Kind
    variables: tuple[int, ...]
    threshold: float = 0.0

    @property
    def parents(self) -> frozenset[int]:
        """Indices of the variables the term depends on."""
        return frozenset(self.variables)

    def values(self, data: Array) -> Array:
        """[n] of the term for `data` [n, D + A] in the unit of the data."""
        first = data[:, self.variables[0]]
        match self.kind:
            case Kind.PRODUCT:
                return np.asarray(np.prod(data[:, list(self.variables)], axis=1))
            case Kind.HINGE:
                return np.maximum(first - self.threshold, 0.0)
            case Kind.GATE:
                return np.where(data[:, self.variables[1]] > self.threshold, first, 0.0)
            case Kind.ABSOLUTE:
                return np.abs(first)
            case Kind.SINE:
                return np.asarray(np.sin(first))

    def text(self, names: Sequence[str]) -> str:
        """The term as a reader would write it, e.g. "x1*x2", "x3^2", "max(0, x1 - 0.4)"."""
        first = names[self.variables[0]]
        match self.kind:
            case Kind.PRODUCT:
                counts = {v: self.variables.count(v) for v in self.variables}
                return "*".join(names[v] if c == 1 else f"{names[v]}^{c}" for v, c in counts.items())
            case Kind.HINGE:
                return f"max(0, {first} - {self.threshold:.3g})"
            case Kind.GATE:
                return f"{first}*[{names[self.variables[1]]} > {self.threshold:.3g}]"
            case Kind.ABSOLUTE:
                return f"|{first}|"
            case Kind.SINE:
                return f"sin({first})"


def polynomials(variables: Iterable[int], degree: int) -> tuple[SeriesTerm, ...]:
    """All products of 1 to `degree` of `variables`, linear terms first."""
    chosen = sorted(variables)
    return tuple(
        SeriesTerm(Kind.PRODUCT, picked)
        for order in range(1, degree + 1)
        for picked in combinations_with_replacement(chosen, order)
    )


def proposals(
    included: Iterable[SeriesTerm], parents: Iterable[int], data: Array, known: Iterable[SeriesTerm]
) -> tuple[SeriesTerm, ...]:
    """New terms one step of the grammar away from what one variable already depends on.

    `included` terms are multiplied by one more variable of `data` [n, D + A]; for each of the `parents` and of the
    variables that vary there are hinges and gates at the quartiles, |x| and sin x. `known` ones are not proposed again.
    """
    seen, out = set(known), []

    def propose(term: SeriesTerm) -> None:
        if term not in seen:
            seen.add(term)
            out.append(term)

    width = data.shape[1]
    quartiles = np.quantile(data, (0.25, 0.5, 0.75), axis=0)  # [3, D + A]
    parents = sorted(set(parents))
    for term in sorted(included):
        if term.kind == Kind.PRODUCT and len(term.variables) < 4:
            for v in range(width):
                propose(SeriesTerm(Kind.PRODUCT, tuple(sorted((*term.variables, v)))))
    for v in range(width):
        propose(SeriesTerm(Kind.ABSOLUTE, (v,)))
        propose(SeriesTerm(Kind.SINE, (v,)))
        for q in range(3):
            propose(SeriesTerm(Kind.HINGE, (v,), _rounded(quartiles[q, v])))
    for v in parents:
        for w in range(width):
            for q in range(3):
                propose(SeriesTerm(Kind.GATE, (v, w), _rounded(quartiles[q, w])))
    return tuple(out)


def _rounded(value: float) -> float:
    """Three digits: a threshold is not known better, and laws stay readable."""
    return float(f"{value:.3g}")


def linear_columns(terms: Sequence[SeriesTerm], variables: int) -> list[int | None]:
    """Column of the linear term of each of the first `variables` variables; None where the library has none."""
    linear = {t.variables[0]: k for k, t in enumerate(terms) if t.kind == Kind.PRODUCT and len(t.variables) == 1}
    return [linear.get(v) for v in range(variables)]


def parent_mask(terms: Sequence[SeriesTerm], width: int) -> NDArray[np.bool_]:
    """[F, width] which variables are parents of each term."""
    mask = np.zeros((len(terms), width), bool)
    for row, term in enumerate(terms):
        mask[row, list(term.parents)] = True
    return mask


class Evaluator:
    """Phi of a fixed library: products of equally many variables are computed together."""

    def __init__(self, terms: Sequence[SeriesTerm]) -> None:
        self.terms = tuple(terms)
        self._products: list[tuple[NDArray[np.int_], NDArray[np.int_]]] = []
        self._others = [k for k, term in enumerate(terms) if term.kind != Kind.PRODUCT]
        for order in sorted({len(t.variables) for t in terms if t.kind == Kind.PRODUCT}):
            mine = [k for k, t in enumerate(terms) if t.kind == Kind.PRODUCT and len(t.variables) == order]
            self._products.append((np.array(mine), np.array([terms[k].variables for k in mine])))

    def __call__(self, data: Array) -> Array:
        """Phi [n, F] for `data` [n, D + A]."""
        out = np.empty((len(data), len(self.terms)))
        for columns, variables in self._products:
            part = data[:, variables[:, 0]]
            for factor in variables.T[1:]:
                part = part * data[:, factor]
            out[:, columns] = part
        for k in self._others:
            out[:, k] = self.terms[k].values(data)
        return out


def evaluate(terms: Sequence[SeriesTerm], data: Array) -> Array:
    """Phi [n, F] of all terms for `data` [n, D + A]."""
    return Evaluator(terms)(data)
