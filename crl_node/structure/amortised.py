"""Amortised posterior over term sets: a policy trained beforehand on problems from the prior, run by ONNX Runtime.

The same tree of decisions and the same kind of network as the GFlowNet's, but the network is fixed: an update costs one
walk down the tree. Inclusion probabilities average the decisions' probabilities over the prefixes drawn. With
`corrected` the likeliest sets get their probability from the exact evidence: within them ratios are exact, and only how
much lies outside of them is the policy's word. Joint samples then carry importance weights
(self-normalised; Owen 2013, Monte Carlo theory, methods and examples, ch. 9.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.structure.amortised_file import load_policy, session_of
from crl_node.structure.engine import Particles, Support
from crl_node.structure.evidence import Bools, Problem, log_evidence
from crl_node.structure.tree import Tree
from crl_node.structure.walk import Leaves, draw_leaves, enumerate_leaves

#: Probability of the least likely set that `support` lists, and most sets listed.
_LEAST, _MOST = 1e-7, 16384


class AmortisedEngine:
    """Posterior over the term sets of V variables without search or training; see `engine.Engine`."""

    def __init__(self, model: str | Path | None = None, corrected: bool = True, samples: int = 32) -> None:
        """`model`: an ONNX file (None: the shipped one), checked before use: ModelError is a sentence.

        `samples`: draws of a variable from which inclusion probabilities are taken, and, with `corrected`, number of
        sets whose exact evidence corrects the answer. ValueError unless >= 1.
        """
        if samples < 1:
            raise ValueError(f"the correction needs at least 1 set, {samples} were asked for")
        data, self.info = load_policy(model)
        self._correct = session_of(data)
        self.corrected, self.samples = corrected, samples
        self.problems: list[Problem] = []

    def update(self, problems: Sequence[Problem]) -> None:
        """Take the problems [V]. ValueError with more columns than the model is for, or unlike columns or groups."""
        f = len(problems[0].group)
        if f > self.info.columns:
            raise ValueError(
                f"the amortised engine was given {f} candidate columns, its model {self.info.path.name} is for at most "
                f"{self.info.columns}; use the MCMC engine"
            )
        self.problems = list(problems)
        self.tree = Tree(problems)
        self._leaves: Leaves | None = None

    def log_evidence(self, variable: int, sets: Bools) -> Array:
        """See `Engine`."""
        return log_evidence(self.problems[variable], sets)

    def inclusion(self) -> Array:
        """See `Engine`. From `samples` draws, the same for the same problems."""
        counts = np.full(self.tree.variables, self.samples)
        leaves, _ = draw_leaves(self.tree, self._correct, counts, np.random.default_rng(0))
        out = leaves.inclusion
        if self.corrected:
            # The policy's sum over all sets, with the share of those drawn replaced.
            change = np.exp(self._corrected(leaves, self.samples)) - np.exp(leaves.log_probability)
            np.add.at(out, leaves.owner, change[:, None] * leaves.sets)
        return np.clip(out, 0.0, 1.0)

    def _corrected(self, leaves: Leaves, most: int) -> Array:
        """[N] log probabilities: the `most` likeliest sets of a variable share their mass as their scores say."""
        out = leaves.log_probability.copy()
        for v in range(self.tree.variables):
            mine = leaves.of(v)
            head = mine[np.argsort(-out[mine], kind="stable")[:most]]
            if not head.size:
                continue
            # Scores kept up to date along the walk are exact up to rounding, so no determinant is computed again.
            out[head] = leaves.score[head] - logsumexp(leaves.score[head]) + logsumexp(out[head])
        return out

    def sample(self, count: int, rng: np.random.Generator) -> list[Particles]:
        """See `Engine`: draws from the policy, weighted by exact over policy probability if `corrected`."""
        leaves, _ = draw_leaves(self.tree, self._correct, np.full(self.tree.variables, count), rng)
        out = []
        for v in range(self.tree.variables):
            mine = leaves.of(v)
            rows = rng.permutation(np.repeat(mine, leaves.count[mine]))
            weight = leaves.score[rows] - leaves.log_probability[rows] if self.corrected else np.zeros(count)
            out.append(Particles(leaves.sets[rows], weight - logsumexp(weight)))
        return out

    def support(self, variable: int) -> Support:
        """See `Engine`: every set of probability >= 1e-7 (16,384 at most), the likeliest `samples` corrected."""
        if self._leaves is None:
            self._leaves = enumerate_leaves(self.tree, self._correct, least=_LEAST, most=_MOST)
            self._log_p = self._corrected(self._leaves, self.samples if self.corrected else 0)
        mine = self._leaves.of(variable)
        mine = mine[np.argsort(-self._log_p[mine], kind="stable")]
        log_p = self._log_p[mine]
        missed = float(np.clip(self._leaves.missed[variable], 0.0, 1.0))
        evidence = float(logsumexp(self._leaves.score[mine]))
        return Support(self._leaves.sets[mine], log_p - logsumexp(log_p), missed, evidence)
