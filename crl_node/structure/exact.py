"""Exact posterior over term sets: every set, or every set but a stated mass (`branch`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.structure.branch import Search
from crl_node.structure.engine import EachVariable, Particles, Support, systematic
from crl_node.structure.evidence import Bools, Problem, flip_odds, log_evidence, log_score
from crl_node.structure.greedy import GreedyPosterior

#: Problems with at most this many sets are enumerated without bounds: nothing is missed.
_SMALL = 1 << 17
#: A prefix is dropped when its bound is below this part of what is certain, in one pass after the other.
_PARTS = (1e-6, 1e-8, 1e-10, 1e-12)
#: Sets are coded as bits of a 64-bit number.
_MOST_COLUMNS = 63


@dataclass(frozen=True)
class ExactConfig:
    """How exact, and how much work."""

    most_sets: int = 1 << 26  # prefixes looked at in one pass, at most
    missed: float = 1e-4  # posterior mass that may be outside what was enumerated
    kept: int = 1 << 20  # sets that `support` holds; what the others weigh is counted as missed there


class ExactPosterior:
    """The posterior of one variable. After `update`: `missed`, the bound reached; `visited`, prefixes looked at."""

    def __init__(self, config: ExactConfig | None = None) -> None:
        self.config = config or ExactConfig()

    def update(self, problem: Problem) -> None:
        """Enumerate. ValueError when `config.missed` cannot be reached within `config.most_sets`."""
        config = self.config
        columns = np.flatnonzero(problem.allowed)
        if len(columns) > _MOST_COLUMNS:
            raise ValueError(f"exact enumeration takes {_MOST_COLUMNS} candidate columns at most, got {len(columns)}")
        sets = float(np.prod(np.unique(problem.group[columns], return_counts=True)[1] + 1.0))
        # A tree has twice as many prefixes as leaves, alternatives of a group less than that.
        fits = 2.0 * sets <= config.most_sets
        passes = [0.0] if fits and sets <= _SMALL else [*_PARTS, 0.0]
        if passes == [0.0]:  # order is of no consequence then
            columns = columns[np.argsort(problem.group[columns], kind="stable")]
            certain = float(log_score(problem, np.zeros((1, len(problem.group)), bool))[0])
        else:
            columns, certain = _order(problem)
        ordered = problem.restricted(columns)
        self.visited, self.missed = 0, 1.0
        for number, negligible in enumerate(passes):
            if negligible == 0.0 and not fits:
                break
            most = config.most_sets if negligible else np.inf
            found = Search(ordered, certain=certain, negligible=negligible, most=most, kept=config.kept).run()
            self.visited += found.visited
            self.missed = float(np.exp(found.log_missed))
            certain = max(certain, found.log_total)
            if self.missed <= config.missed or found.visited > most:
                break
            if fits and found.visited > sets / 4 and number < len(passes) - 1:
                passes[number + 1] = 0.0  # a pass that leaves out next to nothing: all at once is as quick
        if self.missed > config.missed:
            raise ValueError(
                f"exact enumeration over {len(columns)} candidate columns ({sets:.3g} sets) may still miss "
                f"{self.missed:.2g} of the posterior after {self.visited} prefixes, and {config.missed:.2g} is "
                f"accepted (at most {config.most_sets} prefixes a pass); use another engine, or allow more"
            )
        self.problem = problem
        self.log_total = found.log_total
        self._inclusion = np.zeros(len(problem.group))
        self._inclusion[columns] = found.inclusion
        self._support = self._named(columns, found.code, found.score)

    def _named(self, columns: NDArray[np.int_], code: NDArray[np.uint64], score: Array) -> Support:
        """The kept sets, likeliest first."""
        order = np.argsort(-score, kind="stable")
        sets = np.zeros((len(order), len(self.problem.group)), bool)
        for place, column in enumerate(columns):
            sets[:, column] = (code[order] >> np.uint64(place)) & np.uint64(1)
        total = float(logsumexp(score))
        unkept = max(0.0, -float(np.expm1(total - self.log_total)))
        if len(score) < self.config.kept:
            unkept = 0.0  # all that were reached are kept: the difference is rounding
        return Support(sets, score[order] - total, min(1.0, self.missed + unkept), total)

    def log_evidence(self, sets: Bools) -> Array:
        """See `Engine`."""
        return log_evidence(self.problem, sets)

    def inclusion(self) -> Array:
        """[F], over all sets that were reached, kept or not."""
        return self._inclusion

    def sample(self, count: int, rng: np.random.Generator) -> Particles:
        """See `Engine`."""
        chosen = rng.permutation(systematic(np.exp(self._support.log_probability), count, rng))
        return Particles(self._support.sets[chosen], np.full(count, -np.log(count)))

    def support(self) -> Support:
        """See `Engine`. `missed` bounds the mass never reached plus that of sets not kept."""
        return self._support


class ExactEngine(EachVariable):
    """Exact posterior of every variable, see `ExactPosterior`."""

    def __init__(self, config: ExactConfig | None = None) -> None:
        super().__init__(lambda: ExactPosterior(config))


def _order(problem: Problem) -> tuple[NDArray[np.int_], float]:
    """The allowed columns in the order of decision, alternatives of a group side by side, and a certain mass, nats.

    First what a greedy search holds, what is missed most first: leaving it out is then soon seen to be hopeless. Then
    the others, what would explain most first: what is left can soon explain little. The sets that the search found
    are the mass that is certain from the start.
    """
    greedy = GreedyPosterior()
    greedy.update(problem)
    allowed = np.flatnonzero(problem.allowed)
    odds = flip_odds(problem, greedy.best)
    in_best = np.zeros(len(problem.group), bool)
    in_best[greedy.best] = True
    worth = np.where(in_best, 1e9 + odds, odds - np.where(problem.allowed, problem.log_prior_odds, 0.0))
    of_group = np.full(int(problem.group.max()) + 1, -np.inf)
    np.maximum.at(of_group, problem.group[allowed], worth[allowed])
    order = np.lexsort((-worth[allowed], problem.group[allowed], -of_group[problem.group[allowed]]))
    return allowed[order], float(logsumexp(log_score(problem, greedy.sets)))
