"""Which mechanisms are the same in all environments? Posterior probabilities from each environment's sums alone.

In environment e the weight of column f is w_f + sum_k D[e, k] d_fk: w is shared, d_fk is a deviation with a spike at 0
and a slab N(0, tau_f^2), tau^2 = mu^2 + s^2. Columns phi_f 1[e in k] of the deviations need no raw data: their Gram is
sum_e D[e, a] D[e, b] G_e. So "what changed?" is one more structure problem with F (1 + K) columns, and every engine
answers it. Invariant is a mechanism (a group of alternative columns) none of whose deviations is in (in the spirit of
Peters, Buehlmann & Meinshausen 2016, Causal inference using invariant prediction, as a spike-and-slab posterior).

Prior: each mechanism deviates in each further environment with probability `change_rate`, whether or not it acts in
the first: a mechanism that was absent may appear. With `tolerance` T (in prior standard deviations) every environment
also has small deviations N(0, (T s)^2) of its own that count as no change: what a term is wrong by differs from place
to place. They are integrated out in closed form: G -> (I + G T^2 S^2)^-1 G.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, logit

from crl_node.data import Array
from crl_node.structure.engine import OneVariable
from crl_node.structure.evidence import Problem, make_conjugate_problem, make_problem, weights_given
from crl_node.structure.greedy import GreedyPosterior

#: Likeliest sets over which weights are averaged.
_AVERAGED = 24


@dataclass(frozen=True)
class InvarianceConfig:
    """The prior on changes."""

    change_rate: float = 0.1  # probability that one mechanism deviates in one further environment
    noise_change_rate: float = 0.1  # probability that an environment has a noise variance of its own
    tolerance: float = 0.0  # prior standard deviations by which a weight may differ and still be the same
    onwards: bool = False  # environments are in the order of time: what changes in one stays so in the next


@dataclass(frozen=True)
class NamedChange:
    """One mechanism that differs from one environment on."""

    name: str
    environment: int
    probability: float  # that it deviates there
    before: tuple[float, float]  # mean and std of its weight in the environment it is compared with
    after: tuple[float, float]  # in this one

    def __str__(self) -> str:
        (a, _), (b, s) = self.before, self.after
        return f"{self.name} changed: {a:.2f} -> {b:.2f} +- {s:.2f} (probability {self.probability:.2f})"


@dataclass(frozen=True)
class Invariance:
    """What is known about E environments of one variable with F columns in G groups."""

    invariant: Array  # [G] probability that the mechanism is the same in all environments
    changed: Array  # [E, G] probability that it deviates from the environment it is compared with; row 0 is 0
    inclusion: Array  # [F] probability that the column acts in any environment
    weight_mean: Array  # [E, F] averaged over structures
    weight_std: Array  # [E, F]
    noise_invariant: float  # probability that all environments have one noise variance; nan where it was given
    noise_std: Array  # [E]

    def changes(self, names: Sequence[str], group: NDArray[np.int32], *, least: float = 0.5) -> list[NamedChange]:
        """The mechanisms that changed with at least probability `least`; `names` [G], `group` [F]."""
        out = []
        for e, g in np.argwhere(self.changed >= least):
            columns = np.flatnonzero(group == g)
            f = columns[np.argmax(np.abs(self.weight_mean[:, columns]).max(axis=0))]
            before, after = ((float(self.weight_mean[k, f]), float(self.weight_std[k, f])) for k in (e - 1, e))
            out.append(NamedChange(names[g], int(e), float(self.changed[e, g]), before, after))
        return sorted(out, key=lambda change: -change.probability)


def design(environments: int, *, onwards: bool) -> Array:
    """D [E, 1 + K], K = E - 1: which columns act in which environment; column 0 is shared by all."""
    apart = np.hstack([np.ones((environments, 1)), np.eye(environments)[:, 1:]])
    return np.tril(np.ones((environments, environments))) if onwards else apart


def tempered(gram: Array, cross: Array, spread: Array) -> tuple[Array, Array]:
    """Sums [F, F], [F] (noise divided out) after own small deviations N(0, spread [F]^2) of all weights."""
    scaled = np.eye(len(cross)) + gram * np.square(spread)[None]
    solved = np.linalg.solve(scaled, np.column_stack([gram, cross]))
    return 0.5 * (solved[:, :-1] + solved[:, :-1].T), np.asarray(solved[:, -1])


def extended(gram: Array, cross: Array, matrix: Array) -> tuple[Array, Array]:
    """Sums of the F (1 + K) columns, all shared ones first: gram [E, F, F], cross [E, F], matrix D [E, 1 + K]."""
    size, parts = gram.shape[1], matrix.shape[1]
    big = np.einsum("ea,eb,eij->aibj", matrix, matrix, gram).reshape(parts * size, parts * size)
    return big, np.einsum("ea,ei->ai", matrix, cross).reshape(-1)


def extended_problem(
    gram: Array, cross: Array, square: Array, rows: Array, *, prior_mean: Array, prior_std: Array,
    group: NDArray[np.int32], log_prior_odds: Array, change_odds: Array, matrix: Array,
    noise: tuple[float, float] | None,
) -> Problem:  # fmt: skip
    """The structure problem over shared columns and deviations.

    gram [E, F, F], cross [E, F], square [E], rows [E]; `change_odds` [F] nats are those of a deviation; `noise` are
    shape and rate of the noise variance's prior, None when the noise is divided out already.
    """
    size, parts = gram.shape[1], matrix.shape[1]
    big, right = extended(gram, cross, matrix)
    groups = int(group.max(initial=-1)) + 1
    mean = np.concatenate([prior_mean, np.zeros(size * (parts - 1))])
    std = np.concatenate([prior_std, np.tile(np.hypot(prior_mean, prior_std), parts - 1)])
    groups_of = np.concatenate([group + k * groups for k in range(parts)]).astype(np.int32)
    deviation_odds = np.where(np.isfinite(log_prior_odds), change_odds, -np.inf)
    odds = np.concatenate([log_prior_odds, np.tile(deviation_odds, parts - 1)])
    if noise is None:
        return make_problem(
            big[None], right[None], np.array([square.sum()]), np.array([rows.sum()]), np.ones(1),
            prior_mean=mean, prior_std=std, group=groups_of, log_prior_odds=odds,
        )  # fmt: skip
    return make_conjugate_problem(
        big, right, float(square.sum()), float(rows.sum()), prior_mean=mean, prior_std=std, group=groups_of,
        log_prior_odds=odds, shape=noise[0], rate=noise[1],
    )  # fmt: skip


def projected(
    gram: Array, cross: Array, square: Array, columns: NDArray[np.int_], *, noise_std: Array, prior_mean: Array,
    prior_std: Array,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Sums by regime with the weights of `columns` integrated out: what they still say about all other weights.

    gram [R, F, F], cross [R, F], square [R], noise_std [R]; `prior_mean`, `prior_std` [len(columns)]. Afterwards the
    sums hold no information about `columns`: their rows are 0.
    """
    if not len(columns):
        return gram, cross, square
    out = gram.copy(), cross.copy(), square.copy()
    for r in range(len(square)):
        side, inner = gram[r][:, columns], gram[r][np.ix_(columns, columns)]
        ridge = inner + np.diag(np.square(noise_std[r] / prior_std))
        # y - Phi_C mu: the nuisance weights then have mean 0.
        shifted = cross[r] - side @ prior_mean
        left = square[r] - 2.0 * cross[r][columns] @ prior_mean + prior_mean @ inner @ prior_mean
        solved = np.linalg.solve(ridge, np.column_stack([side.T, shifted[columns]]))
        out[0][r] = gram[r] - side @ solved[:, :-1]
        out[1][r] = shifted - side @ solved[:, -1]
        out[2][r] = max(left - shifted[columns] @ solved[:, -1], 0.0)
        out[0][r][columns] = out[0][r][:, columns] = 0.0
        out[1][r][columns] = 0.0
    return out


def judge(
    problem: Problem, engine: OneVariable, environments: int, matrix: Array, noise_std: Array, noise_invariant: float
) -> Invariance:
    """The posterior of an extended problem by environment and mechanism. `engine` has been updated with it."""
    parts = matrix.shape[1]
    size = len(problem.group) // parts
    group = problem.group[:size]
    groups = int(group.max(initial=-1)) + 1
    support, inclusion = engine.support(), engine.inclusion()
    probability = np.exp(support.log_probability)
    # Columns an engine judges beside its sets are independent of them (see `GreedyPosterior`).
    alone = np.maximum(inclusion - probability @ support.sets, 0.0)
    owner = np.eye(groups)[group]  # [F, G]

    def any_of(chosen: NDArray[np.int_], to: Array) -> Array:
        """Probability that any column of parts `chosen` is in, by column of `to` [F, N]."""
        inside = np.stack([support.sets[:, k * size : (k + 1) * size] for k in chosen]).any(axis=0)
        beside = np.minimum(sum((alone[k * size : (k + 1) * size] for k in chosen), np.zeros(size)) @ to, 1.0)
        hit = (inside.astype(float) @ to > 0).astype(float)
        return np.asarray(1.0 - (1.0 - probability @ hit) * (1.0 - beside))

    changed = np.zeros((environments, groups))
    for e in range(1, environments):
        changed[e] = any_of(np.array([e]), owner)
    invariant = 1.0 - any_of(np.arange(1, parts), owner) if parts > 1 else np.ones(groups)
    mean, std = _weights(problem, support.sets, probability, matrix)
    every = any_of(np.arange(parts), np.eye(size))
    return Invariance(np.clip(invariant, 0.0, 1.0), changed, every, mean, std, noise_invariant, noise_std)


def _weights(problem: Problem, sets: NDArray[np.bool_], probability: Array, matrix: Array) -> tuple[Array, Array]:
    """Mean and std [E, F] of the weights in each environment, averaged over the likeliest sets."""
    environments, parts = matrix.shape
    size = len(problem.group) // parts
    order = np.argsort(-probability)[:_AVERAGED]
    share = probability[order] / probability[order].sum()
    first, second = np.zeros((environments, size)), np.zeros((environments, size))
    for p, row in zip(share, order, strict=True):
        columns = np.flatnonzero(sets[row])
        weight, covariance = weights_given(problem, columns)
        # contrast[e]: which weights add up to the one of column f in environment e
        contrast = np.zeros((environments, size, len(columns)))
        contrast[:, columns % size, np.arange(len(columns))] = matrix[:, columns // size]
        mean = contrast @ weight
        first += p * mean
        second += p * (np.square(mean) + np.einsum("efm,mn,efn->ef", contrast, covariance, contrast))
    return first, np.sqrt(np.maximum(second - np.square(first), 0.0))


def invariance(
    gram: Array, cross: Array, square: Array, rows: Array, *, prior_mean: Array | None = None,
    prior_std: Array | None = None, group: NDArray[np.int32] | None = None, log_prior_odds: Array | None = None,
    shape: float = 1.0, rate: float | None = None, config: InvarianceConfig | None = None,
    engine: Callable[[], OneVariable] = GreedyPosterior,
) -> Invariance:  # fmt: skip
    """Posterior on what is the same in E environments, for one variable of plain arrays.

    gram [E, F, F], cross [E, F], square [E], rows [E]: sums of phi phi', phi y, y^2 and 1. Weights N(mean, sigma^2
    std^2) (default 0 and 1, so features should be scaled), noise variance InverseGamma(shape, rate) integrated out
    (default rate: a tenth of y's mean square), one for all environments unless their residuals say otherwise.
    `log_prior_odds` [F] default to a rate of 0.2. ValueError when shapes do not fit or a sum is not finite.
    """
    config = config or InvarianceConfig()
    gram, cross, square, rows = (np.asarray(a, float) for a in (gram, cross, square, rows))
    _check(gram, cross, square, rows)
    environments, size = cross.shape
    prior_mean = np.zeros(size) if prior_mean is None else prior_mean
    prior_std = np.ones(size) if prior_std is None else prior_std
    group = np.arange(size, dtype=np.int32) if group is None else group
    odds = np.full(size, logit(0.2)) if log_prior_odds is None else log_prior_odds
    total = max(float(rows.sum()), 1.0)
    rate = max(0.1 * float(square.sum()) / total, 1e-12) if rate is None else rate
    matrix = design(environments, onwards=config.onwards)
    common: dict[str, Any] = {"prior_mean": prior_mean, "prior_std": prior_std, "group": group, "log_prior_odds": odds}
    residual, free = _separate_residuals(gram, cross, square, rows, shape=shape, rate=rate, engine=engine, **common)
    noise_invariant = _noise_invariant(residual, free, shape, rate, config.noise_change_rate)
    variance = (rate + 0.5 * residual) / (shape + 0.5 * free)
    if noise_invariant < 0.5:
        scale = variance[0] / variance
        gram, cross, square = gram * scale[:, None, None], cross * scale[:, None], square * scale
    else:
        variance = np.full(environments, (rate + 0.5 * residual.sum()) / (shape + 0.5 * free.sum()))
    if config.tolerance > 0:
        # Small deviations are in units of the noise like the weights (prior N(mean, sigma^2 std^2)).
        pairs = [tempered(g, c, config.tolerance * prior_std) for g, c in zip(gram, cross, strict=True)]
        gram, cross = np.stack([g for g, _ in pairs]), np.stack([c for _, c in pairs])
    problem = extended_problem(
        gram, cross, square, rows, change_odds=np.full(size, logit(config.change_rate)) - np.log(_sizes(group)),
        matrix=matrix, noise=(shape, rate), **common,
    )  # fmt: skip
    solver = engine()
    solver.update(problem)
    return judge(problem, solver, environments, matrix, np.sqrt(variance), noise_invariant)


def _check(gram: Array, cross: Array, square: Array, rows: Array) -> None:
    environments, size = cross.shape if cross.ndim == 2 else (0, 0)
    expected = {"gram": (environments, size, size), "square": (environments,), "rows": (environments,)}
    for name, array in (("gram", gram), ("square", square), ("rows", rows)):
        if environments < 1 or array.shape != expected[name]:
            raise ValueError(
                f"statistics by environment do not fit: '{name}' has shape {array.shape}, cross {cross.shape}; "
                "wanted gram [E, F, F], cross [E, F], square [E], rows [E]"
            )
    if not all(np.isfinite(a).all() for a in (gram, cross, square, rows)):
        raise ValueError("statistics by environment hold values that are not finite; nothing can be compared")


def _sizes(group: NDArray[np.int32]) -> Array:
    """[F] number of alternatives in each column's group, which share the prior of a deviation."""
    return np.asarray(np.bincount(group)[group], float)


def _separate_residuals(
    gram: Array, cross: Array, square: Array, rows: Array, *, shape: float, rate: float,
    engine: Callable[[], OneVariable], prior_mean: Array, prior_std: Array, group: NDArray[np.int32],
    log_prior_odds: Array,
) -> tuple[Array, Array]:  # fmt: skip
    """Residual sums [E] and degrees of freedom [E] when every environment is fitted on its own."""
    residual, free = np.zeros(len(square)), np.zeros(len(square))
    for e in range(len(square)):
        problem = make_conjugate_problem(
            gram[e], cross[e], float(square[e]), float(rows[e]), prior_mean=prior_mean, prior_std=prior_std,
            group=group, log_prior_odds=log_prior_odds, shape=shape, rate=rate,
        )  # fmt: skip
        solver = engine()
        solver.update(problem)
        support = solver.support()
        columns = np.flatnonzero(support.sets[int(np.argmax(support.log_probability))])
        weight, _ = weights_given(problem, columns)
        fit = weight @ gram[e][np.ix_(columns, columns)] @ weight - 2.0 * cross[e][columns] @ weight
        residual[e] = max(square[e] + fit, 0.0)
        free[e] = max(rows[e] - len(columns), 0.0)
    return residual, free


def _noise_invariant(residual: Array, free: Array, shape: float, rate: float, change_rate: float) -> float:
    """Probability that one InverseGamma(shape, rate) variance made all residuals, against one for each."""

    def log_marginal(rss: Array, n: Array) -> Array:
        a = shape + 0.5 * n
        return np.asarray(shape * np.log(rate) - gammaln(shape) + gammaln(a) - a * np.log(rate + 0.5 * rss))

    if len(residual) < 2:
        return 1.0
    together = float(log_marginal(residual.sum(), free.sum()))
    apart = float(log_marginal(residual, free).sum())
    return float(expit(-logit(change_rate) + together - apart))
