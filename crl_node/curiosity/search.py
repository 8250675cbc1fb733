"""The planning graph's search for scores that are not in the graph: iCEM (Pinneri et al. 2020), the same step by step.

`export/plan_graph.PlanGraph.forward` is the original; a test compares the two. N candidates, H steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crl_node.data import Floats


@dataclass(frozen=True)
class Budget:
    """How much is searched, and what going about costs: the planning graph's own numbers."""

    iterations: int = 2
    elites: int = 8
    spread: tuple[float, ...] = (0.06,)  # m/s, resampling noise of each refinement
    effort: tuple[float, float] = (0.3, 0.02)  # nats/m of way, nats/(m/s)^2 of change
    discount: float = 0.975  # per step
    max_speed: float = 0.25  # m/s


@dataclass(frozen=True)
class Found:
    """What came of a search."""

    actions: Floats  # [H, 2] m/s
    score: float
    origin: int  # proposal from which it descends
    proposal_scores: Floats  # [N], bonus included


def clip_speed(actions: Floats, limit: float) -> Floats:
    """The same directions, no faster than `limit` m/s."""
    speed = np.sqrt(np.maximum(np.square(actions).sum(-1, keepdims=True), 1e-12))
    return np.asarray(actions * np.minimum(limit / speed, 1.0), np.float32)


def effort(actions: Floats, path: Floats, budget: Budget) -> Floats:
    """[N] nats: what a way costs. `actions` [N, H, 2] m/s, `path` [N, H + 1, 2] m."""
    way = np.sqrt(np.maximum(np.square(np.diff(path, axis=1)).sum(2), 1e-12)).sum(1)
    change = np.square(np.diff(actions, axis=1)).sum((1, 2))
    return np.asarray(budget.effort[0] * way + budget.effort[1] * change, np.float32)


def search(value: Callable[[Floats], Floats], proposals: Floats, bonus: Floats, noise: Floats, budget: Budget) -> Found:
    """The best of what descends from `proposals` [N, H, 2] m/s by `value` ([N, H, 2] -> [N]) plus `bonus` [N].

    `noise` [iterations - 1, N, H, 2] of unit variance.
    """
    n, elites = len(proposals), budget.elites
    if not 1 <= elites < n:
        raise ValueError(f"search: {elites} elites of {n} candidates; there must be fewer elites than candidates")
    around = n - elites - n // 6
    actions, origin = clip_speed(proposals, budget.max_speed), np.arange(n)
    scores = value(actions) + bonus
    first = scores
    for i in range(1, budget.iterations):
        best = np.argsort(-scores, kind="stable")[:elites]
        family = np.tile(best, -(-n // elites))[:n]
        chosen = actions[best]
        mean, std = chosen.mean(0), np.sqrt(np.maximum(chosen.var(0), 1e-8))
        near = actions[family[elites : elites + around]] + budget.spread[i - 1] * noise[i - 1, elites : elites + around]
        fitted = mean + std * noise[i - 1, elites + around :]
        actions = clip_speed(np.concatenate([chosen, near, fitted]), budget.max_speed)
        bonus, origin = bonus[family], origin[family]
        scores = value(actions) + bonus
    top = int(np.argmax(scores))
    return Found(actions[top], float(scores[top]), int(origin[top]), np.asarray(first, np.float32))
