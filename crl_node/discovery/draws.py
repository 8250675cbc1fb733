"""Joint draws of law, noise and tail of one variable from its posterior: for laws, shares and predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import Array
from crl_node.discovery.fit import Fit, Fitted
from crl_node.structure.engine import systematic
from crl_node.structure.evidence import Bools, submatrix


@dataclass(frozen=True)
class LawDraws:
    """N joint draws for one variable. Weights are per step, in the unit of the change per unit of the feature."""

    sets: Bools  # [N, F] terms of the core
    weights: Array  # [N, F], 0 outside the set
    intercept: Array  # [N] unit of the change per step
    noise_std: Array  # [N] unit of the change per step
    shares: Array  # [N, 3] core, tail, noise; sum 1
    next_value: Bools  # [N] the law is about x(t + 1)


def draw_laws(fit: Fit, variable: int, count: int, rng: np.random.Generator) -> LawDraws:
    """`count` draws; deterministic given the generator's state. Prior-free zeros for a variable that never changes."""
    f = fit.terms
    out = LawDraws(
        np.zeros((count, f), bool), np.zeros((count, f)), np.zeros(count), np.zeros(count),
        np.tile([0.0, 0.0, 1.0], (count, 1)), np.zeros(count, bool),
    )  # fmt: skip
    options = fit.fitted[variable]
    if not options:
        return out
    which = systematic(np.exp([o.log_weight for o in options]), count, rng)
    for k, option in enumerate(options):
        rows = np.flatnonzero(which == k)
        if rows.size:
            picks = systematic(np.exp(option.support.log_probability), len(rows), rng)
            for s in np.unique(picks):
                mine = rows[picks == s]
                _draw_given(fit, variable, option, option.support.sets[s], mine, rng, out)
    return out


def _draw_given(
    fit: Fit, variable: int, option: Fitted, chosen: Bools, rows: np.ndarray, rng: np.random.Generator, out: LawDraws
) -> None:
    """Fill `rows` of `out` with draws given one hyperparameter point and one term set."""
    problem, hyper, reduced = option.problem, option.hyper, fit.reduced[option.hyper.order]
    data, f = reduced.data, fit.terms
    members = np.flatnonzero(chosen)
    n = len(rows)
    covariance = np.linalg.inv(submatrix(problem.precision, members))
    mean = covariance @ problem.linear[members]
    quadratic = float(problem.linear[members] @ mean)
    left = max(problem.rate - 0.5 * quadratic, 1e-13 * problem.rate)
    variance = left / rng.gamma(problem.shape, size=n)  # sigma^2 | M
    spread = np.linalg.cholesky(covariance) if members.size else np.zeros((0, 0))
    scaled = mean + np.sqrt(variance)[:, None] * (rng.standard_normal((n, members.size)) @ spread.T)
    weights = np.zeros((n, f))
    weights[:, members] = scaled * hyper.weight_std  # per standard deviation of the feature
    # The tail given the core, in the eigenbasis of its Gram matrix (see fit.py); y' for laws of the next value.
    shrink = reduced.shrink(hyper.tail_std)
    target = reduced.tail_cross[:, variable]
    own, total = fit.own[variable], float(data.square[variable])
    scale = reduced.own_scale[variable]
    if hyper.next_value and own is not None:
        target = target + scale * data.std[own] * reduced.tail_gram[:, own]
    residual = target[None] - weights @ reduced.tail_gram.T  # [n, P]
    tail = shrink * residual + np.sqrt(variance[:, None] * shrink) * rng.standard_normal(residual.shape)
    gram = data.gram[:f, :f]
    effective = weights.copy()
    if hyper.next_value and own is not None:
        effective[:, own] -= scale * data.std[own]  # as a law of the change
    rows_seen = max(data.rows, 1.0)
    used = np.flatnonzero(effective.any(axis=0))
    by_core = np.einsum("ni,ij,nj->n", effective[:, used], submatrix(gram, used), effective[:, used]) / rows_seen
    by_tail = np.square(tail) @ reduced.eigenvalues / rows_seen
    parts = np.stack([by_core, by_tail, variance], axis=1)
    out.shares[rows] = parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-300 + 1e-12 * total)
    out.sets[rows] = chosen
    out.weights[rows] = weights / data.std[:f]
    shift = data.centre[variable] + (scale * data.mean[own] if hyper.next_value and own is not None else 0.0)
    out.intercept[rows] = shift - out.weights[rows] @ data.mean[:f]
    out.noise_std[rows] = np.sqrt(variance)
    out.next_value[rows] = hyper.next_value
