"""Did a mechanism of one variable change between two bodies of data? Used between environments and within one.

The statistics come with a noise level per regime, the terms are simplifications: what a term is wrong by differs from
one half minute to the next. `ChangeConfig.tolerance` says how much of that counts as no change.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from crl_node.data import Array
from crl_node.mechanisms.environments import Sums
from crl_node.mechanisms.grammar import Columns
from crl_node.structure.environments import Invariance, design, extended_problem, judge, tempered
from crl_node.structure.greedy import GreedyConfig, GreedyPosterior


@dataclass(frozen=True)
class ChangeConfig:
    """The prior on changes of mechanisms between two environments."""

    change_rate: float = 0.05  # probability that a mechanism that acts differs in a new environment
    #: Prior standard deviations by which a weight may differ and still be the same: for a spring 0.3 x 0.3 = 0.09.
    #: Between half minutes of simulated runs in which nothing changed weights differed by up to about that much.
    tolerance: float = 0.3
    informed: float = 1e-3  # weight information (in prior precisions) below which a column has seen no data


@dataclass(frozen=True)
class Comparison:
    """One variable in two environments."""

    changed: Array  # [G] probability that the mechanism differs
    before: Array  # [F] mean weight in the earlier one
    after: Array  # [F] mean weight in the later one
    after_std: Array  # [F]
    start: NDArray[np.bool_]  # [2 F] best set, from which the next comparison starts


_MATRIX = design(2, onwards=True)


def compare(
    columns: Columns, earlier: Sums, later: Sums, noise_std: Array, log_prior_odds: Array, inclusion: Array,
    config: ChangeConfig, start: NDArray[np.bool_] | None = None,
) -> Comparison:  # fmt: skip
    """Compare two bodies of data of one variable. `noise_std` [R], `log_prior_odds` [F], `inclusion` [F] from before.

    A mechanism that acted before changes with `change_rate`; one that did not may appear with `change_rate` times the
    probability that it acts at all.
    """
    size = len(columns)
    inverse = 1.0 / np.square(noise_std)
    gram = np.stack([np.tensordot(inverse, s.gram[:, :size, :size], 1) for s in (earlier, later)])
    cross = np.stack([inverse @ s.cross[:, :size] for s in (earlier, later)])
    information = np.diagonal(gram, axis1=1, axis2=2) * np.square(columns.prior_std)
    picked = np.flatnonzero(np.isfinite(log_prior_odds) & (information.max(axis=0) > config.informed))
    out = Comparison(
        np.zeros(columns.groups), np.zeros(size), np.zeros(size), columns.prior_std.copy(), np.zeros(2 * size, bool)
    )
    if not picked.size or not (earlier.rows.any() and later.rows.any()):
        return out
    std = columns.prior_std[picked]
    pairs = [
        tempered(g[np.ix_(picked, picked)], c[picked], config.tolerance * std) for g, c in zip(gram, cross, strict=True)
    ]
    groups, group = np.unique(columns.group[picked], return_inverse=True)
    odds = log_prior_odds[picked]
    in_prior = np.exp(odds) / (1.0 + np.exp(odds))
    known = inclusion[picked]
    rate = config.change_rate * np.maximum(known, (1.0 - known) * in_prior)
    # A column of which one environment has seen nothing cannot have changed for all we know.
    seen = information[:, picked].min(axis=0) > config.informed
    problem = extended_problem(
        np.stack([g for g, _ in pairs]), np.stack([c for _, c in pairs]), np.zeros(2), np.zeros(2),
        prior_mean=columns.prior_mean[picked], prior_std=std, group=group.astype(np.int32), log_prior_odds=odds,
        change_odds=np.where(seen, logit(np.clip(rate, 1e-9, 0.5)), -np.inf), matrix=_MATRIX, noise=None,
    )  # fmt: skip
    both = np.concatenate([picked, size + picked])
    engine = GreedyPosterior(GreedyConfig(most_sets=256, averaged=3))
    if start is not None:
        engine.best = np.flatnonzero(start[both] & problem.allowed)
    engine.update(problem)
    found: Invariance = judge(problem, engine, 2, _MATRIX, noise_std, float("nan"))
    out.changed[groups] = found.changed[1]
    out.before[picked], out.after[picked] = found.weight_mean
    out.after_std[picked] = found.weight_std[1]
    out.start[both[engine.best]] = True
    return out
