"""Training problems of the amortised policy, and the exact answers to their decisions.

The problems are meant to be wider than what the policy will meet: 4 to 13 columns, 3 to 400 rows, weak and strong
weights, look-alikes, noise known or integrated out, columns that exclude one another. They are small enough for the
tree to be walked whole, so every decision's exact log odds are sums over leaves: the policy learns from answers without
sampling noise (forward Kullback-Leibler divergence, decisions weighted by the probability of getting there).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import expit

from crl_node.data import Array
from crl_node.structure.draws import Draw, DrawConfig, draw
from crl_node.structure.evidence import Problem, make_problem
from crl_node.structure.tree import Features, Ints, Nodes, Tree, joined
from crl_node.structure.walk import log_flip, log_keep

#: Columns of the largest training problem.
WIDEST = 13


@dataclass(frozen=True)
class Decisions:
    """D decisions with their exact log odds."""

    row: np.ndarray  # [D, GLOBAL]
    pair: np.ndarray  # [D, WIDEST, PAIR]
    held: np.ndarray  # [D, WIDEST] which pairs are there
    logit: np.ndarray  # [D] nats, by the expansion
    exact: np.ndarray  # [D] nats
    weight: np.ndarray  # [D] of the decision in the loss

    @staticmethod
    def joined(parts: list[Decisions]) -> Decisions:
        """All of them."""
        names = ("row", "pair", "held", "logit", "exact", "weight")
        return Decisions(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def training_problem(rng: np.random.Generator) -> Problem:
    """One problem. Deterministic given the generator's state."""
    config = DrawConfig(
        columns=int(rng.integers(4, WIDEST + 1)),
        rows=(3, 400) if rng.random() < 0.5 else (3, 40),
        mean_rate=float(rng.uniform(0.05, 0.4)), strength=float(rng.uniform(2.0, 10.0)),
        weight_std=(0.1, 10.0) if rng.random() < 0.3 else (0.3, 3.0),
        shape=float(rng.uniform(1.0, 4.0)), rate=float(np.exp(rng.uniform(-3.0, 3.0))),
        factors=int(rng.integers(1, 5)), correlated=0.7, twins=0.35,
    )  # fmt: skip
    drawn = draw(rng, config)
    problem = drawn.problem if rng.random() < 0.7 else _known_noise(drawn, rng)
    if rng.random() < 0.2:
        group = np.sort(rng.integers(0, max(config.columns // 2, 1), config.columns)).astype(np.int32)
        problem = replace(problem, group=np.unique(group, return_inverse=True)[1].astype(np.int32))
    return problem


def _known_noise(drawn: Draw, rng: np.random.Generator) -> Problem:
    """The same data with a known noise level, prior means and uneven prior odds."""
    phi, y = drawn.features, drawn.change
    f = phi.shape[1]
    residual = float(np.std(y - phi @ drawn.weights)) * float(np.exp(rng.normal(0.0, 0.3))) + 1e-3
    prior_std = drawn.problem.prior_std * residual
    return make_problem(
        (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([float(len(y))]), np.array([residual]),
        prior_mean=prior_std * rng.normal(size=f) * rng.choice([0.0, 0.5]), prior_std=prior_std,
        group=drawn.problem.group, log_prior_odds=np.asarray(rng.normal(-1.5, 1.0, f)),
    )  # fmt: skip


@dataclass(frozen=True)
class Level:
    """All decisions of one column in a tree walked whole."""

    features: Features  # of the R decisions that are free
    logit: Array  # [R] by the expansion
    exact: Array  # [R]
    weight: Array  # [R] posterior probability of getting to the decision


def walked(tree: Tree) -> tuple[list[Level], Nodes, Array]:
    """Every decision of the tree of one variable with its exact log odds; all leaves, and their log posterior."""
    nodes, steps = tree.root, []
    for _ in range(tree.columns):
        step = tree.step(nodes)
        steps.append((step.features, step.logit[step.rows], step.rows, len(nodes)))
        nodes = joined([step.kept, step.flipped])
    below = nodes.score
    exact: list[Array] = []
    for _, _, rows, count in reversed(steps):
        odds = np.full(count, -np.inf)
        odds[rows] = below[count:] - below[rows]
        exact.append(odds)
        below = np.logaddexp(below[:count], below[:count] + odds)
    log_p, levels = np.zeros(1), []
    for (features, logit, rows, _), odds in zip(steps, reversed(exact), strict=True):
        levels.append(Level(features, logit, odds[rows], np.exp(log_p[rows])))
        log_p = np.concatenate([log_p + log_keep(odds), (log_p + log_flip(odds))[rows]])
    return levels, nodes, log_p


def divergence(exact: Array, logit: Array) -> Array:
    """KL between coins with log odds `exact` and `logit`, nats."""
    p = expit(exact)
    value = np.logaddexp(0.0, logit) - p * logit - np.logaddexp(0.0, exact) + p * exact
    return np.asarray(np.maximum(value, 0.0))


def decisions(problem: Problem, rng: np.random.Generator, kept: int = 200) -> Decisions:
    """About `kept` decisions of a problem, those preferred where the expansion is wrong or the outcome open.

    Weights make up for the preference.
    """
    tree = Tree([problem])
    levels, _, _ = walked(tree)
    blame = [
        v.weight * (divergence(v.exact, v.logit) + 0.02 * expit(v.exact) * expit(-v.exact) + 1e-4)
        for v in levels
    ]
    total = sum(float(b.sum()) for b in blame)
    parts = []
    for level, share in zip(levels, blame, strict=True):
        chance = np.minimum(kept * share / total, 1.0)
        rows = np.flatnonzero(rng.random(len(chance)) < chance)
        weight = np.minimum(level.weight[rows] / chance[rows], 5.0)
        parts.append(_padded(level.features, rows, level.logit, level.exact, weight))
    return Decisions.joined(parts)


def _padded(features: Features, rows: Ints, logit: Array, exact: Array, weight: Array) -> Decisions:
    n = features.pair.shape[1]
    pair = np.zeros((len(rows), WIDEST, features.pair.shape[2]), np.float32)
    held = np.zeros((len(rows), WIDEST), np.float32)
    pair[:, :n], held[:, :n] = features.pair[rows], 1.0
    single = (x.astype(np.float32) for x in (logit[rows], np.clip(exact[rows], -50.0, 50.0), weight))
    return Decisions(features.row[rows], pair, held, *single)
