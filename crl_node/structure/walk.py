"""Walks down the tree of decisions under a policy: all likely leaves, draws of leaves, and paths for training.

A set has one path, so its probability is the product of its decisions' probabilities: exact, not estimated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from crl_node.data import Array
from crl_node.structure.evidence import Bools
from crl_node.structure.tree import Features, Ints, Nodes, Step, Tree, joined

#: Correction of decisions' log odds [B] from their features.
Correct = Callable[[Features], Array]


def _decide(tree: Tree, nodes: Nodes, correct: Correct | None) -> tuple[Step, Array]:
    """Children, and the corrected log odds of flipping [B]."""
    step = tree.step(nodes)
    logit = step.logit.copy()
    if correct is not None and len(step.rows):
        logit[step.rows] += correct(step.features)
    return step, logit


def log_keep(logit: Array) -> Array:
    """log probability of not flipping."""
    return np.asarray(-np.logaddexp(0.0, logit))


def log_flip(logit: Array) -> Array:
    """log probability of flipping."""
    return np.asarray(-np.logaddexp(0.0, -logit))


@dataclass(frozen=True)
class Leaves:
    """Term sets of V variables with the policy's probabilities."""

    owner: Ints  # [N] variable
    sets: Bools  # [N, F] columns in their own order
    score: Array  # [N] nats, log p(y, M)
    log_probability: Array  # [N] nats, of the policy
    count: Ints  # [N] how often it was drawn (enumeration: 0)
    missed: Array  # [V] the policy's probability of all other sets; nan for draws
    inclusion: Array  # [V, F] the policy's inclusion probabilities

    def of(self, variable: int) -> Ints:
        """Rows of one variable."""
        return np.flatnonzero(self.owner == variable)


def unordered(tree: Tree, nodes: Nodes) -> Bools:
    """[B, F] the completions with columns in their own order."""
    out = np.zeros_like(nodes.sets)
    np.put_along_axis(out, tree.order[nodes.owner], nodes.sets, axis=1)
    return out


def enumerate_leaves(tree: Tree, correct: Correct | None, *, least: float, most: int) -> Leaves:
    """All sets of probability >= `least`, at most the `most` likeliest prefixes of a variable kept at a time.

    What lies below prefixes that are not kept enters `inclusion` by the expansion.
    """
    nodes, log_p = tree.root, np.zeros(tree.variables)
    missed = np.zeros(tree.variables)
    rest = np.zeros((tree.variables, tree.columns))
    for _ in range(tree.columns):
        step, logit = _decide(tree, nodes, correct)
        both = joined([step.kept, step.flipped])
        log_p = np.concatenate([log_p + log_keep(logit), (log_p + log_flip(logit))[step.rows]])
        keep = log_p >= np.log(least)
        crowd = np.bincount(both.owner[keep], minlength=tree.variables)
        for v in np.flatnonzero(crowd > most):
            mine = np.flatnonzero(keep & (both.owner == v))
            keep[mine[np.argsort(-log_p[mine], kind="stable")[most:]]] = False
        lost = np.flatnonzero(~keep & (log_p > -60.0))
        if lost.size:
            mass = np.exp(log_p[lost])
            np.add.at(missed, both.owner[lost], mass)
            np.add.at(rest, both.owner[lost], mass[:, None] * _expected(tree, both.take(lost)))
        nodes, log_p = both.take(keep), log_p[keep]
    np.add.at(rest, nodes.owner, np.exp(log_p)[:, None] * nodes.sets)
    zero = np.zeros(len(nodes), int)
    return Leaves(nodes.owner, unordered(tree, nodes), nodes.score, log_p, zero, missed, _by_column(tree, rest))


def _by_column(tree: Tree, value: Array) -> Array:
    """[V, F] in the order of decision -> in the columns' own order."""
    out = np.empty_like(value)
    np.put_along_axis(out, tree.order, value, axis=1)
    return out


def _expected(tree: Tree, nodes: Nodes) -> Array:
    """[B, F] inclusion below nodes: decided columns as decided, others by their odds next to the completion."""
    out = nodes.sets.astype(float)
    out[:, nodes.start :] = expit(tree.odds_in(nodes) + tree.size_steps(nodes)[0][:, None])
    return out


@dataclass(frozen=True)
class Record:
    """Decisions on the way to N leaves, for training."""

    row: np.ndarray  # [D, GLOBAL] features of D decisions
    pair: np.ndarray  # [D, F, PAIR]
    held: np.ndarray  # [D, F] which of the pairs are there
    logit: Array  # [D] log odds by the expansion
    path: Ints  # [N, F] the decision of each leaf at each column, -1 where it was forced
    flips: Bools  # [N, F]


def draw_leaves(
    tree: Tree,
    correct: Correct | None,
    counts: Ints,
    rng: np.random.Generator,
    *,
    temper: float = 1.0,
    explore: float = 0.0,
    guides: tuple[Ints, Bools] | None = None,
    record: bool = False,
) -> tuple[Leaves, Record | None]:
    """Draw `counts` [V] leaves; draws that share a prefix share its node (so a leaf has a count).

    At every node its draws are split as their probabilities say, up to rounding at random: unbiased, with less variance
    than independent draws. `temper` divides log odds, `explore` mixes in fair coins, `guides` (owner [N], sets [N, F])
    are leaves that are visited whatever the policy says (with count 0 unless drawn).
    `inclusion` averages each decision's probability over the prefixes drawn, not its outcome (Rao-Blackwell), and means
    something only without `temper` and `explore`.
    """
    nodes, log_p, count = tree.root, np.zeros(tree.variables), np.asarray(counts).copy()
    owner, sets = guides if guides is not None else (np.zeros(0, int), np.zeros((0, tree.columns), bool))
    wanted = np.take_along_axis(sets, tree.order[owner], 1)
    place = owner.copy()  # node of each guide
    path = np.zeros((tree.variables, 0), int)
    flips = np.zeros((tree.variables, 0), bool)
    seen: list[tuple[Features, Array]] = []
    total = 0
    drawn = np.maximum(np.asarray(counts, float), 1.0)
    inclusion = np.zeros((tree.variables, tree.columns))
    for t in range(tree.columns):
        step, logit = _decide(tree, nodes, correct)
        able = step.rows
        inside = np.where(nodes.sets[:, t], expit(-logit), expit(logit))
        np.add.at(inclusion[:, t], nodes.owner, inside * count / drawn[nodes.owner])
        behaviour = np.zeros(len(nodes))
        behaviour[able] = (1.0 - explore) * expit(logit[able] / temper) + 0.5 * explore
        go = np.clip(np.floor(count * behaviour + rng.random(len(nodes))).astype(int), 0, count)
        b = len(nodes)
        flipped_at = np.full(b, -1)
        flipped_at[able] = b + np.arange(len(able))
        turn = (wanted[:, t] != nodes.sets[place, t]) & (flipped_at[place] >= 0)
        there = np.where(turn, flipped_at[place], place)
        both = joined([step.kept, step.flipped])
        visits = np.concatenate([count - go, go[able]])
        keep = visits > 0
        keep[there] = True
        if record:
            number = np.full(b, -1)
            number[able] = total + np.arange(len(able))
            seen.append((step.features, step.logit[able]))
            total += len(able)
            parent = np.concatenate([np.arange(b), able])[keep]
            path = np.concatenate([path[parent], number[parent][:, None]], axis=1)
            side = (np.arange(len(both)) >= b)[keep]
            flips = np.concatenate([flips[parent], side[:, None]], axis=1)
        log_p = np.concatenate([log_p + log_keep(logit), (log_p + log_flip(logit))[able]])[keep]
        nodes, count = both.take(keep), visits[keep]
        place = (np.cumsum(keep) - 1)[there]
    missed = np.full(tree.variables, np.nan)
    inclusion = _by_column(tree, inclusion)
    leaves = Leaves(nodes.owner, unordered(tree, nodes), nodes.score, log_p, count, missed, inclusion)
    return leaves, _record(seen, path, flips, tree.columns) if record else None


def _record(seen: list[tuple[Features, Array]], path: Ints, flips: Bools, columns: int) -> Record:
    total = sum(len(base) for _, base in seen)
    row = np.concatenate([features.row for features, _ in seen])
    pair = np.zeros((total, columns, seen[0][0].pair.shape[2]), np.float32)
    held = np.zeros((total, columns), np.float32)
    at = 0
    for features, base in seen:
        n = features.pair.shape[1]
        pair[at : at + len(base), :n] = features.pair
        held[at : at + len(base), :n] = 1.0
        at += len(base)
    logit = np.concatenate([base for _, base in seen])
    return Record(row, pair, held, logit, path, flips)
