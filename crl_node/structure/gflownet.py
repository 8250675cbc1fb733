"""GFlowNet over term sets: a policy that decides columns one by one, trained by trajectory balance.

The policy's log odds are the tree's expansion (`tree.py`) plus a learned correction (`nets.py`). A set has one
trajectory, so the backward policy is 1 and trajectory balance reads log Z + log P(M) = log p(y, M) (Malkin et al.
2022, Trajectory balance, eq. 14); log Z is not learned but the weighted mean over the sets at hand, which makes the
loss their variance (VarGrad: Richter et al. 2020; Zhang et al. 2023, Robust scheduling with GFlowNets). One network
serves all V variables. Each round draws sets from the policy, made bolder by a temperature and fair coins, and replays
the best sets found so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor, nn

from crl_node.data import Array
from crl_node.structure.engine import Particles, Support
from crl_node.structure.evidence import Bools, Problem, log_evidence
from crl_node.structure.nets import Correction, as_correct
from crl_node.structure.tree import Ints, Tree
from crl_node.structure.walk import Leaves, Record, draw_leaves, enumerate_leaves


@dataclass(frozen=True)
class GFlowNetConfig:
    """Work of one update and what is kept. Numbers of sets are per variable."""

    width: int = 32  # of the network
    rounds: int = 12  # of drawing and training, from scratch
    warm_rounds: int = 2  # the same when statistics have only grown
    steps: int = 8  # of the optimiser in a round
    draws: int = 192  # sets drawn in a round
    replayed: int = 64  # best sets that are visited in every round
    decisions: int = 6000  # of all variables together that one step of the optimiser looks at, about
    temper: float = 1.5  # exploration: log odds are divided by this...
    explore: float = 0.02  # ...and fair coins mixed in
    rate: float = 3e-3  # of Adam
    regret: float = 5.0  # nats of imbalance beyond which the loss grows linearly
    least: float = 1e-7  # probability of the least likely set that `support` lists
    most_sets: int = 16384  # in `support`
    most_columns: int = 64  # refused beyond


class GFlowNetEngine:
    """Posterior over the term sets of V variables by a GFlowNet; see `engine.Engine`.

    `support` gives the policy's own probabilities, not the exact evidence renormalised over the sets found.
    """

    def __init__(self, seed: int = 0, config: GFlowNetConfig | None = None) -> None:
        self.seed, self.config = seed, config or GFlowNetConfig()
        self._updates = 0
        self._best: tuple[Ints, Bools] | None = None
        self.network = _network(self.config.width, seed)
        self.tree: Tree
        #: Imbalance [nats], root of the weighted mean square, before the first step of every round of the last update.
        self.losses: list[float] = []

    def update(self, problems: Sequence[Problem]) -> None:
        """Train on the problems [V]; with as many variables and columns as before, go on from network and best sets.

        ValueError where variables differ in columns or groups, or there are more columns than `most_columns`.
        """
        f = len(problems[0].group)
        if f > self.config.most_columns:
            raise ValueError(
                f"the GFlowNet was given {f} candidate columns, more than the {self.config.most_columns} allowed; "
                f"leave out columns that cannot matter, or use the MCMC engine"
            )
        warm = self._best is not None and (len(problems), f) == self.tree.order.shape
        rng = np.random.default_rng([self.seed, self._updates])
        self._updates += 1
        starts = None
        if warm and self._best is not None:
            owner, sets = self._best
            sets = sets & np.stack([p.allowed for p in problems])[owner]
            self._best = (owner, sets)
            first = np.unique(owner, return_index=True)[1]
            starts = sets[first]
        else:
            self.network, self._best = _network(self.config.width, self.seed), None
        self.problems = list(problems)
        self.tree = Tree(problems, starts)
        self._correct = as_correct(self.network)
        self._train(self.config.warm_rounds if warm else self.config.rounds, rng)
        self._leaves: Leaves | None = None

    def _train(self, rounds: int, rng: np.random.Generator) -> None:
        counts = np.full(self.tree.variables, self.config.draws)
        optimiser = torch.optim.Adam(self.network.parameters(), self.config.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, max(rounds * self.config.steps, 1), eta_min=0.1 * self.config.rate
        )
        memory: list[tuple[Leaves, Record]] = []
        self.losses = []
        for number in range(rounds):
            bold = number % 2 == 0  # bold rounds find sets, the others are on policy
            leaves, record = draw_leaves(
                self.tree, self._correct, counts, rng, temper=self.config.temper if bold else 1.0,
                explore=self.config.explore if bold else 0.0, guides=self._best, record=True,
            )  # fmt: skip
            assert record is not None
            self._remember(leaves)
            memory = [*memory[-5:], (leaves, record)]
            for k in range(self.config.steps):
                chosen = memory[-1] if k % 2 == 0 else memory[int(rng.integers(len(memory)))]
                loss = self._imbalance(*chosen, rng)
                if k == 0:
                    self.losses.append(float(loss.detach()) ** 0.5)
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimiser.step()
                schedule.step()

    def _imbalance(self, leaves: Leaves, record: Record, rng: np.random.Generator) -> Tensor:
        """Weighted variance of log p(y, M) - log P(M) over the leaves of each variable, averaged over variables."""
        # Whole leaves are left out where the decisions would be too many for one step.
        share = self.config.decisions / max(len(record.logit), 1)
        rows = np.arange(len(leaves.owner))
        if share < 1.0:
            rows = np.flatnonzero(rng.random(len(rows)) < share)
        path, flips, owner = record.path[rows], record.flips[rows], leaves.owner[rows]
        used, place = np.unique(path, return_inverse=True)
        place = place.reshape(path.shape)
        forced = path < 0
        used = np.maximum(used, 0)
        correction = self.network(
            torch.from_numpy(record.row[used]),
            torch.from_numpy(record.pair[used]),
            torch.from_numpy(record.held[used]),
        )
        logit = torch.from_numpy(record.logit[used].astype(np.float32)) + correction
        signed = logit[torch.from_numpy(place)] * torch.from_numpy(
            np.where(flips, 1.0, -1.0).astype(np.float32)
        )
        log_p = (nn.functional.logsigmoid(signed) * torch.from_numpy((~forced).astype(np.float32))).sum(dim=1)
        score = leaves.score[rows].copy()
        weight = np.zeros(len(rows))
        current = log_p.detach().numpy().astype(float)
        variables = np.unique(owner)
        for v in variables:
            mine = owner == v
            score[mine] -= score[mine].max()
            # What matters under the target or under the policy: the aim is probabilities, not all log ratios alike.
            weight[mine] = 0.5 * _normal(score[mine]) + 0.5 * _normal(current[mine])
        w = torch.from_numpy(weight.astype(np.float32))
        index = torch.from_numpy(owner)
        gap = torch.from_numpy(score.astype(np.float32)) - log_p
        mean = torch.zeros(self.tree.variables).index_add(0, index, w * gap.detach())
        return (w * _huber(gap - mean[index], self.config.regret)).sum() / len(variables)

    def _remember(self, leaves: Leaves) -> None:
        """Keep the best sets of every variable, for the next rounds and the next update."""
        owner, sets, score = leaves.owner, leaves.sets, leaves.score
        kept = []
        for v in range(self.tree.variables):
            mine = np.flatnonzero(owner == v)
            kept.append(mine[np.argsort(-score[mine], kind="stable")[: self.config.replayed]])
        rows = np.concatenate(kept)
        self._best = (owner[rows], sets[rows])

    def _listed(self) -> Leaves:
        if self._leaves is None:
            self._leaves = enumerate_leaves(
                self.tree, self._correct, least=self.config.least, most=self.config.most_sets
            )
        return self._leaves

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """See `Engine`."""
        return log_evidence(self.problems[variable], sets)

    def inclusion(self) -> Array:
        """See `Engine`."""
        return np.clip(self._listed().inclusion, 0.0, 1.0)

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """See `Engine`: draws from the policy, in random order, of equal weight."""
        counts = np.full(self.tree.variables, count)
        leaves, _ = draw_leaves(self.tree, self._correct, counts, rng)
        out = []
        for v in range(self.tree.variables):
            mine = leaves.of(v)
            rows = rng.permutation(np.repeat(mine, leaves.count[mine]))
            out.append(Particles(leaves.sets[rows], np.full(count, -np.log(count))))
        return out

    def support(self, variable: int) -> Support:
        """See `Engine`: the sets the policy gives probability to, and how much it gives to others."""
        leaves = self._listed()
        mine = leaves.of(variable)
        log_p = leaves.log_probability[mine]
        total = float(logsumexp(log_p))
        order = np.argsort(-log_p, kind="stable")
        evidence = float(logsumexp(leaves.score[mine]))
        return Support(
            leaves.sets[mine][order],
            log_p[order] - total,
            float(np.clip(leaves.missed[variable], 0.0, 1.0)),
            evidence,
        )


def _network(width: int, seed: int) -> Correction:
    """Random weights, the same for the same seed, whatever torch's own generator is at."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Correction(width)


def _normal(log_value: Array) -> Array:
    return np.asarray(np.exp(log_value - logsumexp(log_value)))


def _huber(value: Tensor, edge: float) -> Tensor:
    return torch.where(value.abs() < edge, value.square(), edge * (2.0 * value.abs() - edge))
