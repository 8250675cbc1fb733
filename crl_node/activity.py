"""The graph now: which edges act in this state, beside the graph of which edges there are at all.

A term acts when its contribution to the change of its target in one step, |w phi|, is larger than the noise of a
target that is left alone (about 1 mm a step, or 0.03 of brightness): what is smaller could not be seen. w is the
posterior mean of its weight given that the term is in. The state is uncertain, so acting has a probability: the share
of a fixed set of draws of the belief in which it does. An edge acts when any of its terms does:

  p(now) = 1 - prod_groups (1 - sum_alternatives p(in) p(acts | in)),  at most p(ever).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from crl_node.data import ACTION_PARENT, MAX_SLOTS, STATE_SIZE, Array, Belief, Edge, TermKind
from crl_node.mechanisms import terms
from crl_node.mechanisms.statistics import FREE
from crl_node.world_model import WorldModel

#: Terms less probable than this do not count.
LEAST_TERM = 0.02
#: Draws of the state; antithetic, the same in every call: the answer is a function of belief and action.
DRAWS = 32
#: m, nothing comes nearer in one step (`ModelConfig.most_step` and the command of a fast arm).
FARTHEST_STEP = 0.12
_HALF = np.random.default_rng(20240611).standard_normal((DRAWS // 2, MAX_SLOTS, STATE_SIZE))
_NORMAL = np.concatenate([_HALF, -_HALF])


def acting(
    table: terms.TermTable, weight: Array, least: Array, states: Array, action: Array, body_step: Array,
    scene: terms.Scene,
) -> Array:  # fmt: skip
    """[P] share of `states` [N, S, 5] in which |weight phi| > `least` [P] (m or 1 per step)."""
    hits = np.zeros(len(table))
    for state in states:
        phi = terms.features(table, state, action, body_step, scene)
        hits += np.linalg.norm(weight[:, None] * phi, axis=1) > least
    return np.asarray(hits / len(states))


def _within_reach(table: terms.TermTable, mean: Array, covariance: Array) -> NDArray[np.bool_]:
    """[P] False for contact terms whose ends are too far apart in every draw: most, and they need no computing."""
    contact = np.isin(table.kind, (TermKind.PUSH, TermKind.DRAG))
    j = np.maximum(table.parent, 0)
    distance = np.linalg.norm(mean[table.target, :2] - mean[j, :2], axis=1)
    spread = np.sqrt(np.trace(covariance[:, :2, :2], axis1=1, axis2=2))
    return np.asarray(~contact | (distance < table.length + FARTHEST_STEP + 5.0 * (spread[table.target] + spread[j])))


def drawn_states(mean: Array, covariance: Array) -> Array:
    """[DRAWS, S, 5] draws of N(mean [S, 5], covariance [S, 5, 5]), slots independent of each other."""
    value, vector = np.linalg.eigh(0.5 * (covariance + covariance.transpose(0, 2, 1)))
    root = vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]
    return np.asarray(mean + np.einsum("sij,nsj->nsi", root, _NORMAL[:, : len(mean)]))


def graph_now(model: WorldModel, belief: Belief, action: Array) -> tuple[Edge, ...]:
    """`model.graph()` with `Edge.now` filled in: the probability that the edge acts in the step after `belief`.

    `action` [2] m/s is the command of that step. Slots of which the belief says nothing take part in no edge. Raises
    ValueError when belief or action are not finite.
    """
    action = np.asarray(action, float)
    if action.shape != (2,) or not np.isfinite(action).all():
        raise ValueError(f"action {action.tolist()} is not two finite numbers; which edges act is not known")
    if not (np.isfinite(belief.mean).all() and np.isfinite(belief.cov).all()):
        raise ValueError(f"belief at {belief.stamp:.3f} s is not finite; which edges act is not known")
    rows = model.registry.rows(belief)
    here = rows >= 0
    mean, covariance = np.zeros((MAX_SLOTS, STATE_SIZE)), np.zeros((MAX_SLOTS, STATE_SIZE, STATE_SIZE))
    mean[here], covariance[here] = belief.mean[rows[here]], belief.cov[rows[here]]
    scene = terms.Scene(model.registry.extent, here, np.array(model.config.wall), model.config.dt)
    states = drawn_states(mean, covariance)
    body_step = model.body_step(mean, action, scene)
    now: dict[tuple[int, int, str], float] = {}
    for variable, block, lengths in (
        ("position", model.motion, model.lengths[0]), ("brightness", model.brightness, model.lengths[1])
    ):  # fmt: skip
        columns = block.columns
        linked = (columns.parent >= 0) | (columns.parent == ACTION_PARENT)
        target, f = np.nonzero((block.inclusion > LEAST_TERM) & linked[None] & here[:, None])
        table = terms.TermTable(columns.kind[f], target.astype(np.int32), columns.parent[f], lengths[target, f])
        included = np.minimum(block.inclusion[target, f], 1.0)
        weight = block.mean[target, f] / block.inclusion[target, f]
        least, share = block.noise[target, FREE], np.zeros(len(table))
        near = _within_reach(table, mean, covariance)
        if near.any():
            picked = terms.TermTable(*(getattr(table, name)[near] for name in ("kind", "target", "parent", "length")))
            share[near] = acting(picked, weight[near], least[near], states, action, body_step, scene)
        for i, parent in {(int(i), int(columns.parent[k])) for i, k in zip(target, f, strict=True)}:
            mine = (target == i) & (columns.parent[f] == parent)
            by_group = np.bincount(columns.group[f[mine]], included[mine] * share[mine])
            silent = float(np.prod(1.0 - np.minimum(by_group, 1.0)))
            cause = ACTION_PARENT if parent == ACTION_PARENT else int(model.registry.ids[parent])
            now[cause, int(model.registry.ids[i]), variable] = 1.0 - silent
    edges = model.graph()
    found = (now.get((e.cause_slot, e.effect_slot, e.effect.rsplit(".", 1)[1]), 0.0) for e in edges)
    return tuple(replace(e, now=min(p, e.probability)) for e, p in zip(edges, found, strict=True))
