"""Any engine in the world model's place: on the columns of one variable that matter, the others judged alone.

The world model has some ninety candidate columns a variable, of which most have seen no data or are decided. A climb
from the last best set finds the groups around it; the least decided of them, as many as the engine takes, are its
problem.
"""

from __future__ import annotations

import numpy as np

from crl_node.data import Array
from crl_node.structure.average import INFORMED, SetAverage
from crl_node.structure.engine import Engine
from crl_node.structure.engines import make_engine
from crl_node.structure.evidence import Problem, flip_odds, log_score
from crl_node.structure.mcmc import McmcConfig, McmcEngine
from crl_node.structure.neighbours import Batch, climb

#: Columns an engine is given at most. Enumeration and networks grow with them, chains hardly.
MOST_COLUMNS = {"exact": 16, "mcmc": 48, "particles": 32, "gflownet": 14, "amortised": 20, "amortised_raw": 20}
#: Chains beside a running arm: a step has 100 ms.
_CHAINS = McmcConfig(temperatures=(1.0, 1.0, 0.6), steps=20, most_steps=20, climbs=8, kept_per_step=24, most_sets=2048)
#: Likeliest sets that are kept.
_KEPT = 2048
_MOVES = 24
_AVERAGED = 6


def engine_for(name: str, seed: int) -> Engine:
    """The engine called `name`, in a size that suits one variable of a running model."""
    return McmcEngine(seed, _CHAINS) if name == "mcmc" else make_engine(name, seed)


class EnginePosterior(SetAverage):
    """Posterior of one variable by the engine called `name`; the same seed and problem give the same answer."""

    def __init__(self, name: str, seed: int) -> None:
        """ValueError for a name that is no engine's."""
        if name not in MOST_COLUMNS:
            known = ", ".join(["greedy", *MOST_COLUMNS])
            raise ValueError(f"there is no structure engine '{name}' for a world model; there are {known}")
        self.name, self.seed = name, seed
        self.best = np.zeros(0, int)

    def update(self, problem: Problem) -> None:
        """Climb from `best`, choose columns, run the engine on them."""
        self.problem = problem
        size = len(problem.group)
        informed = np.flatnonzero(problem.allowed & (problem.information > INFORMED))
        start = np.isin(informed, self.best)[None]
        inner = problem.restricted(informed)
        if informed.size:
            sets, _ = climb(Batch([inner]), np.zeros(1, int), start, log_score(inner, start), most_moves=_MOVES)
            self.best = informed[sets[0]]
        else:
            self.best = informed
        odds = flip_odds(problem, self.best)
        chosen = self._choose(problem, informed, odds)
        inside = np.flatnonzero(problem.of_groups(chosen) & problem.allowed)
        if inside.size:
            engine = engine_for(self.name, self.seed)
            engine.update([problem.restricted(inside)])
            support = engine.support(0)
            order = np.argsort(-support.log_probability, kind="stable")[:_KEPT]
            self.probability = np.exp(support.log_probability[order])
            self.sets = np.zeros((len(order), size), bool)
            self.sets[:, inside] = support.sets[order]
            self._inside = np.zeros(size)
            self._inside[inside] = engine.inclusion()[0]
        else:
            self._inside = np.zeros(size)
            self.probability, self.sets = np.ones(1), np.zeros((1, size), bool)
        self.probability = self.probability / self.probability.sum()
        self.best = np.flatnonzero(self.sets[int(np.argmax(self.probability))])
        self._outside = problem.allowed & ~problem.of_groups(chosen)
        self._marginal = self.sets
        self._judge_alone(_AVERAGED)

    def inclusion(self) -> Array:
        """[F] as the engine says it, which may know more than its sets (particles average over neighbours too)."""
        return np.asarray(self._inside + self._alone)

    def _choose(self, problem: Problem, informed: np.ndarray, odds: np.ndarray) -> list[int]:
        """Groups that go to the engine: those of the best set, then the least decided."""
        held = {int(g) for g in problem.group[self.best]}
        score = {}
        for group in np.unique(problem.group[informed]):
            columns = informed[problem.group[informed] == group]
            score[int(group)] = np.inf if int(group) in held else float(odds[columns].max())
        chosen: list[int] = []
        room = MOST_COLUMNS[self.name]
        for group in sorted(score, key=lambda g: (-score[g], g)):
            columns = int((problem.allowed & (problem.group == group)).sum())
            if columns <= room:
                chosen.append(group)
                room -= columns
        return chosen
