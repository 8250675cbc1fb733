"""Greedy search for the best term set, then exact enumeration around it.

1. Climb from the previous best set by single moves (add, drop, exchange within a group) until none improves.
2. Groups whose odds around the best set are not extreme form the shortlist; all their combinations are enumerated
   exactly, everything else fixed as in the best set. When all combinations of all groups fit, that is the whole
   posterior.
3. Columns outside the shortlist get the odds of flipping them alone, averaged over the likeliest of these sets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import Array
from crl_node.structure.average import INFORMED, SetAverage
from crl_node.structure.engine import EachVariable, product_sets
from crl_node.structure.evidence import Bools, Problem, flip_odds, log_evidence, log_prior


@dataclass(frozen=True)
class GreedyConfig:
    """Bounds on the work of one update."""

    most_moves: int = 24  # greedy moves per update
    most_sets: int = 768  # sets enumerated
    most_groups: int = 12  # groups on the shortlist
    averaged: int = 6  # likeliest sets over which the odds of everything else are averaged
    decided: float = 7.0  # nats; options this far below the best are not enumerated


class GreedyPosterior(SetAverage):
    """Structure posterior of one variable; `sets` [N, F] with `probability` [N] and independent odds outside."""

    def __init__(self, config: GreedyConfig | None = None) -> None:
        self.config = config or GreedyConfig()
        self.best = np.zeros(0, int)

    def update(self, problem: Problem) -> None:
        self.problem = problem
        informed = problem.allowed & (problem.information > INFORMED)
        self.best = self._climb(problem, self.best[informed[self.best]], informed)
        odds = flip_odds(problem, self.best)
        held = problem.of_groups(problem.group[self.best])
        self._choose_shortlist(odds, informed, held)
        base = np.zeros(len(problem.group), bool)
        listed = problem.of_groups(self.shortlist)
        base[self.best[~listed[self.best]]] = True
        self.sets = product_sets(problem, self._options, base)
        score = log_evidence(problem, self.sets) + log_prior(problem, self.sets)
        score -= score.max()
        self.probability = np.exp(score) / np.exp(score).sum()
        # Groups that had no room on the shortlist are judged alone, those held by the best set among them: its member
        # stays in for the evidence of the others, but is no certainty.
        loose = problem.of_groups(self._undecided) & ~listed
        self._outside = problem.allowed & ~listed & (loose | ~held)
        self._marginal = self.sets & ~self._outside
        self._judge_alone(self.config.averaged)

    def _climb(self, problem: Problem, members: np.ndarray, informed: Bools) -> np.ndarray:
        for _ in range(self.config.most_moves):
            odds = np.where(informed, flip_odds(problem, members), -np.inf)
            holder = {int(problem.group[m]): int(m) for m in members}
            gain = odds.copy()
            for group, member in holder.items():
                siblings = problem.group == group
                gain[siblings] -= odds[member]  # exchange: sibling against member
                gain[member] = -odds[member]  # drop
            move = int(np.argmax(gain))
            if not gain[move] > 1e-9:
                break
            group = int(problem.group[move])
            if group in holder:
                members = members[members != holder[group]]
            if holder.get(group) != move:
                members = np.append(members, move)
        return np.sort(members)

    def _choose_shortlist(self, odds: Array, informed: Bools, held: Bools) -> None:
        """Groups to enumerate: the least decided first, as many as the bound on sets allows."""
        problem, config = self.problem, self.config
        candidates: list[tuple[float, int, np.ndarray]] = []
        groups, sizes = np.unique(problem.group[informed], return_counts=True)
        everything = float(np.prod(sizes + 1.0)) <= config.most_sets  # then the answer is exact
        for group in groups:
            columns = np.flatnonzero((problem.group == group) & informed)
            score = np.append(odds[columns], 0.0)  # last: none
            gap = score.max() - score
            keep = gap < (np.inf if everything else config.decided)
            if keep.sum() < 2:
                continue
            runner_up = float(np.partition(gap, 1)[1])
            candidates.append((runner_up, int(group), np.append(columns, -1)[keep]))
        candidates.sort(key=lambda c: (c[0], c[1]))
        self._undecided = [group for _, group, _ in candidates]
        self.shortlist: list[int] = []
        self._options: list[np.ndarray] = []
        count = 1
        for _, group, options in candidates if everything else candidates[: config.most_groups]:
            if count * len(options) > config.most_sets:
                continue
            count *= len(options)
            self.shortlist.append(group)
            self._options.append(options)


class GreedyEngine(EachVariable):
    """Greedy search and enumeration around it for every variable, see `GreedyPosterior`."""

    def __init__(self, config: GreedyConfig | None = None) -> None:
        super().__init__(lambda: GreedyPosterior(config))
