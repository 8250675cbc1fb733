"""The information a stretch of a run really brought, beside what was expected of it. See docs/information.md.

`Snapshot` keeps what the model knew at one moment: the sums of every variable, its noise, its set prior. Between two
snapshots `gained` is the divergence of the later posterior from the earlier one over term sets M and weights w,

  KL(q' || q) = sum_M q'(M) log q'(M) / q(M)  +  sum_M q'(M) KL(q'(w | M) || q(w | M))
                structure                        parameters,

whose expectation under the earlier posterior's own predictions is the mutual information that a plan is scored by
(Lindley 1956; MacKay 1992, section 2). `designed` is that expectation for the features that were really met: the
difference of two snapshots' sums is the information matrix of what lay between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from crl_node.curiosity.mixtures import gaussian_kl, set_gain_bounds, weights_gain
from crl_node.data import BODY, Array, Belief, InformationGain, Posterior
from crl_node.export.spec import LOOK_SERVES
from crl_node.mechanisms.environments import Sums
from crl_node.structure.evidence import Bools, Problem, log_score, make_problem, weights_given
from crl_node.structure.greedy import GreedyPosterior
from crl_node.structure.variables import Variables
from crl_node.world_model import WorldModel

#: Sets less probable than this at both ends are left out, and at most so many are kept.
LEAST_SET, MOST_SETS = 1e-4, 256
#: Sets over which the expectation is taken.
EXPECTED_SETS = 24
#: m^2, a slot's position is never known better than this (see `scene.VARIANCE_RANGE`).
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class Known:
    """One variable at one moment."""

    sums: Sums
    noise: Array  # [R] m or 1 per step
    odds: Array  # [F] nats, set prior
    best: np.ndarray  # columns of the best set
    prior_mean: Array  # [F] of the weights
    prior_std: Array  # [F]


@dataclass(frozen=True)
class Snapshot:
    """What the model knew at one moment, copied."""

    step: int  # transitions absorbed
    belief: Belief
    posterior: Posterior  # the one plans are made from
    motion: dict[int, Known]  # by slot index
    brightness: dict[int, Known]

    @classmethod
    def of(cls, model: WorldModel, belief: Belief) -> Snapshot:
        """Copy what `model` knows now; `belief` is the last one it saw."""
        odds = model.log_prior_odds()
        slots = [int(i) for i in np.flatnonzero(model.registry.present)]
        motion, brightness = (
            {i: _known(block, i, odds[number][i]) for i in slots if number == 0 or i != BODY}
            for number, block in enumerate((model.motion, model.brightness))
        )
        return cls(model.step, belief, model.posterior(), motion, brightness)


def _known(block: Variables, slot: int, odds: Array) -> Known:
    sums, size = block.sums(slot), len(block.columns)
    copied = Sums(
        sums.gram[:, :size, :size].copy(), sums.cross[:, :size].copy(), sums.square.copy(), sums.rows.copy()
    )
    return Known(
        copied, block.noise[slot].copy(), odds.copy(), np.flatnonzero(block.best[slot]),
        block.prior_mean[slot].copy(), block.prior_std[slot].copy(),
    )  # fmt: skip


@dataclass(frozen=True)
class Gained:
    """Information about one variable between two snapshots, nats."""

    slot: int  # slot index
    motion: bool  # or brightness
    structure: float  # divergence over term sets
    parameters: float  # divergence over weights given the set
    designed_structure: float  # expected of the features that were met
    designed_parameters: float
    surprise: (
        float  # mean of (residual / predicted std)^2 of the rows between, 1 when calibrated; nan without rows
    )
    rows: float  # rows of this variable that were learned from in contact or motion


def gained(before: Snapshot, after: Snapshot, model: WorldModel) -> list[Gained]:
    """What was gained about every variable that both snapshots hold; `model` has their columns."""
    found = []
    for block, first, last in (
        (model.motion, before.motion, after.motion), (model.brightness, before.brightness, after.brightness)
    ):  # fmt: skip
        for slot in sorted(set(first) & set(last)):
            found.append(gained_about(block, slot, first[slot], last[slot], motion=block is model.motion))
    return found


def states_gained(before: Snapshot, after: Snapshot) -> float:
    """nats, log of the ratio of position variances of the things that were hidden before and are seen after.

    Of where they are `LOOK_SERVES` s later, as a plan counts looks (`InformationGraph.look`).
    """
    total = 0.0
    posterior = before.posterior
    for i, identity in enumerate(before.belief.ids.tolist()):
        j = after.belief.index_of(identity)
        if identity == BODY or j is None or before.belief.visible[i] >= 0.5 or after.belief.visible[j] < 0.5:
            continue
        known = np.flatnonzero(posterior.slot_ids == identity)
        wanders = float(posterior.noise_std[known[0], 0, 0] ** 2) * LOOK_SERVES / posterior.dt if known.size else 0.0
        was, now = (
            max(float(max(b.cov[k, 0, 0], b.cov[k, 1, 1])), LEAST_VARIANCE) + wanders
            for b, k in ((before.belief, i), (after.belief, j))
        )
        total += max(np.log(was / now), 0.0)
    return float(total)


def total(parts: list[Gained], states: float = 0.0) -> InformationGain:
    """Sum over variables."""
    return InformationGain(sum(p.structure for p in parts), sum(p.parameters for p in parts), states)


def gained_about(block: Variables, slot: int, before: Known, after: Known, *, motion: bool) -> Gained:
    """What was gained about one variable."""
    # The priors of the earlier moment hold for both: what other variables taught meanwhile is not counted here.
    problems = [_problem(block, known, before) for known in (before, after)]
    engines = []
    for problem, known in zip(problems, (before, after), strict=True):
        engine = GreedyPosterior(block.greedy)
        engine.best = known.best[np.isfinite(before.odds[known.best])]
        engine.update(problem)
        engines.append(engine)
    sets = _union(engines)
    old, new = (log_score(problem, sets) for problem in problems)
    old, new = old - logsumexp(old), new - logsumexp(new)
    structure = float(np.exp(new) @ (new - old)) + _alone(engines, problems[0])
    order = np.argsort(-new)[:MOST_SETS]
    order = order[new[order] > np.log(LEAST_SET)]
    share = np.exp(new[order] - logsumexp(new[order]))
    divergences = [_weights_divergence(problems, np.flatnonzero(sets[row])) for row in order]
    parameters = float(share @ np.array(divergences))
    designed = _designed(problems[0], sets, old, before, after)
    return Gained(
        slot, motion, structure, parameters, *designed, *_surprise(problems[0], engines[0], before, after)
    )


def _problem(block: Variables, known: Known, prior: Known) -> Problem:
    sums = known.sums
    return make_problem(
        sums.gram, sums.cross, sums.square, sums.rows, known.noise, prior_mean=prior.prior_mean,
        prior_std=prior.prior_std, group=block.columns.group, log_prior_odds=prior.odds,
    )  # fmt: skip


def _union(engines: list[GreedyPosterior]) -> Bools:
    """[N, F] the sets that either end gives probability to."""
    rows = np.concatenate([engine.sets[engine.probability > LEAST_SET] for engine in engines])
    return np.unique(rows, axis=0)


def _alone(engines: list[GreedyPosterior], problem: Problem) -> float:
    """nats, divergence of the groups that both ends judge outside their sets."""
    both = engines[0]._outside & engines[1]._outside
    total = 0.0
    for group in np.unique(problem.group[both]):
        columns = np.flatnonzero((problem.group == group) & both)
        old, new = (np.append(e._alone[columns], 1.0 - min(e._alone[columns].sum(), 1.0)) for e in engines)
        old, new = np.maximum(old, 1e-12), np.maximum(new, 1e-12)
        total += float((new * np.log(new / old)).sum())
    return total


def _weights_divergence(problems: list[Problem], members: np.ndarray) -> float:
    old, new = (weights_given(problem, members) for problem in problems)
    return gaussian_kl(*new, *old)


def _designed(
    problem: Problem, sets: Bools, log_probability: Array, before: Known, after: Known
) -> tuple[float, float]:
    """Structure and parameters [nats] expected of the information that came, under the earlier posterior."""
    information = np.tensordot(1.0 / np.square(before.noise), after.sums.gram - before.sums.gram, 1)
    order = np.argsort(-log_probability)[:EXPECTED_SETS]
    used = np.flatnonzero(sets[order].any(axis=0))
    if not used.size or not information[used, used].any():
        return 0.0, 0.0
    mean, covariance = np.zeros((len(order), len(used))), np.zeros((len(order), len(used), len(used)))
    for k, row in enumerate(order):
        inside = sets[row, used]
        mean[k, inside], covariance[k][np.ix_(inside, inside)] = weights_given(problem, used[inside])
    p = log_probability[order] - logsumexp(log_probability[order])
    part = information[np.ix_(used, used)]
    lower, upper = set_gain_bounds(p, mean, covariance, part)
    return float(np.sqrt(lower * upper)), float(np.exp(p) @ weights_gain(covariance, part))


def _surprise(problem: Problem, engine: GreedyPosterior, before: Known, after: Known) -> tuple[float, float]:
    """Mean squared residual of the rows in between in units of what was predicted, and how many rows of contact."""
    rows = after.sums.rows - before.sums.rows
    if rows.sum() < 0.5:
        return float("nan"), 0.0
    members = engine.best
    mean, covariance = weights_given(problem, members)
    gram = (after.sums.gram - before.sums.gram)[:, members[:, None], members[None]]
    cross, square = (after.sums.cross - before.sums.cross)[:, members], after.sums.square - before.sums.square
    residual = square - 2.0 * cross @ mean + np.einsum("rij,i,j->r", gram, mean, mean)
    predicted = rows * np.square(before.noise) + np.einsum("rij,ij->r", gram, covariance)
    return float(residual[1] / predicted[1]) if rows[1] > 0.5 else float("nan"), float(rows[1])
