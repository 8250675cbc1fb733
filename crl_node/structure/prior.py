"""The prior over term sets: hierarchical, so that what one edge taught is expected of edges never tried.

Base rates. Every term kind has a rate rho_kind ~ Beta(a, b); each edge's prior is the posterior mean of its kind's
rate given *all other* edges of that kind (leave-one-out empirical Bayes), an edge counting for as much as its data
decided it. Which of several alternatives (contact radii, rest lengths) a group uses has a Dirichlet prior, learned
across edges in the same way.

Pushing. A thing has two hidden traits: movable (m) and solid (s). PUSH(i <- j) holds with probability .97 if m_i
and s_j, else .02; the body is solid. The arm is strong: PUSH(body <- j) holds with probability .95 if s_j and not
m_j, else .02. Given the Bayes factors of the tested edges, sum-product messages on this graph (Kschischang et al.
2001) give each edge the prior that all *other* edges imply: two movable solid things that have never met probably
push each other, and nothing probably pushes what has blocked the arm. What has been seen in two places is movable,
whoever moved it and whether or not that could be watched.

Springs are mutual: evidence for SPRING(j <- i) raises SPRING(i <- j).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from crl_node.data import BODY, MAX_SLOTS, Array, TermKind
from crl_node.mechanisms.grammar import Columns

#: Beta(a, b) of the rate of each kind (PUSH is treated apart, SPRING's is the rate of linked pairs).
RATE_PRIOR: dict[TermKind, tuple[float, float]] = {
    TermKind.INERTIA: (1.0, 1.0),
    TermKind.ACTION: (20.0, 1.0),
    TermKind.DRIFT_X: (0.3, 4.0),
    TermKind.DRIFT_Y: (0.3, 4.0),
    TermKind.DRAG: (0.5, 2.0),
    TermKind.SPRING: (0.3, 5.0),
    TermKind.WALL: (1.0, 1.0),
    TermKind.DECAY: (0.5, 2.0),
    TermKind.GLOW: (0.3, 4.0),
    TermKind.LIT_BY: (0.4, 7.0),
    TermKind.TOGGLE_BY: (0.25, 7.0),
    TermKind.TOUCH: (0.15, 7.0),
}
#: Dirichlet counts over alternatives: the nominal contact radius is twice as likely as 15 % less or more; the
#: distance at which a pair was first seen is the natural rest length.
ALTERNATIVE_PRIOR: dict[TermKind, tuple[float, ...]] = {
    TermKind.PUSH: (1.0, 2.0, 1.0),
    TermKind.SPRING: (1.0, 2.0, 1.0),
}
MOVABLE, SOLID = 0.75, 0.95
PUSH_GIVEN_TRAITS, BLOCK_GIVEN_TRAITS, PUSH_OTHERWISE = 0.97, 0.95, 0.02
SPRING_GIVEN_LINK, SPRING_OTHERWISE = 0.9, 0.003
#: nats, one edge never speaks louder than this to others: its model may be wrong.
LOUDEST = 8.0
_MESSAGES = 8


@dataclass
class Experience:
    """What the variables of one type have shown so far, per target slot and group of columns."""

    columns: Columns
    log_bayes_factor: Array = field(init=False)  # [S, G] nats, group in against out, own prior removed
    inclusion: Array = field(init=False)  # [S, F]
    own: NDArray[np.bool_] = field(init=False)  # [S, F] lengths found for one pair alone: no vote on the others'

    def __post_init__(self) -> None:
        self.log_bayes_factor = np.zeros((MAX_SLOTS, self.columns.groups))
        self.inclusion = np.zeros((MAX_SLOTS, len(self.columns)))
        self.own = np.zeros(self.inclusion.shape, bool)

    def record(self, target: int, inclusion: Array, log_prior_odds: Array) -> None:
        """Remember the outcome for one variable: `inclusion` [F] under the prior `log_prior_odds` [F]."""
        groups = self.columns.groups
        group_in = np.clip(np.bincount(self.columns.group, inclusion, groups), 1e-12, 1.0 - 1e-12)
        prior_odds = np.bincount(self.columns.group, np.exp(log_prior_odds), groups)
        known = prior_odds > 0
        factor = np.zeros(groups)
        factor[known] = logit(group_in[known]) - np.log(prior_odds[known])
        self.log_bayes_factor[target] = np.clip(factor, -LOUDEST, LOUDEST)
        self.inclusion[target] = inclusion

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse, as target and as parent."""
        self.log_bayes_factor[slot] = 0.0
        self.inclusion[slot] = 0.0
        self.log_bayes_factor[:, self.columns.group_parent == slot] = 0.0
        self.inclusion[:, self.columns.parent == slot] = 0.0

    def pairs(self, kind: TermKind) -> Array:
        """[S, S] log Bayes factors of the pair groups of `kind`, target by parent."""
        return self.log_bayes_factor[:, self.columns.group_kind == kind]


@dataclass(frozen=True)
class Traits:
    """What pushing and blocking say about each thing, and about each pair."""

    movable: Array  # [S] probability
    solid: Array  # [S] probability
    push: Array  # [S, S] prior probability of PUSH(i <- j) from all edges but itself
    both: Array  # [S, S] probability that i is movable and j solid, from all edges but PUSH(i <- j)


def traits(push: Array, spring: Array, things: NDArray[np.bool_], displaced: Array) -> Traits:
    """Sum-product on movable/solid from log Bayes factors `push`, `spring` [S, S] (target, parent); `things` [S].

    `displaced` [S] nats say that things have been moved (`Registry.note_places`).
    """
    factor = np.exp(np.where(things[:, None] | things[None], push, 0.0))
    holds = np.full((2, 2), PUSH_OTHERWISE)  # [m, s]
    holds[1, 1] = PUSH_GIVEN_TRAITS
    blocks = np.full((2, 2), PUSH_OTHERWISE)
    blocks[0, 1] = BLOCK_GIVEN_TRAITS
    edge = holds[..., None, None] * factor + 1.0 - holds[..., None, None]  # [m, s, i, j]
    block = blocks[..., None] * factor[BODY] + 1.0 - blocks[..., None]  # [m, s, j]
    real = things[:, None] & (things[None] | (np.arange(len(things)) == BODY))
    np.fill_diagonal(real, False)
    edge = np.where(real, edge, 1.0)
    block = np.where(things, block, 1.0)
    # A spring moves only what is movable: weak, one-sided evidence.
    pulled = np.log1p(RATE_PRIOR[TermKind.SPRING][0] / 5.0 * np.expm1(np.maximum(spring, 0.0))).sum(axis=1)
    movable_prior = logit(MOVABLE) + np.minimum(pulled, LOUDEST) + displaced
    solid_prior = np.full(len(things), logit(SOLID))
    solid_prior[BODY] = 40.0
    to_m, to_s = np.zeros_like(push), np.zeros_like(push)
    block_m, block_s = np.zeros(len(things)), np.zeros(len(things))
    for _ in range(_MESSAGES):
        total_m = movable_prior + to_m.sum(axis=1) + block_m
        total_s = solid_prior + to_s.sum(axis=0) + block_s
        m, s = expit(total_m[:, None] - to_m), expit(total_s[None] - to_s)
        bm, bs = expit(total_m - block_m), expit(total_s - block_s)
        to_m = _ratio(edge[1, 1] * s + edge[1, 0] * (1 - s), edge[0, 1] * s + edge[0, 0] * (1 - s))
        to_s = _ratio(edge[1, 1] * m + edge[0, 1] * (1 - m), edge[1, 0] * m + edge[0, 0] * (1 - m))
        block_m = _ratio(block[1, 1] * bs + block[1, 0] * (1 - bs), block[0, 1] * bs + block[0, 0] * (1 - bs))
        block_s = _ratio(block[1, 1] * bm + block[0, 1] * (1 - bm), block[1, 0] * bm + block[0, 0] * (1 - bm))
    both = m * s
    prior = PUSH_GIVEN_TRAITS * both + PUSH_OTHERWISE * (1.0 - both)
    blocked = (1.0 - bm) * bs
    prior[BODY] = BLOCK_GIVEN_TRAITS * blocked + PUSH_OTHERWISE * (1.0 - blocked)
    return Traits(expit(total_m), expit(total_s), prior, both)


def _ratio(one: Array, other: Array) -> Array:
    return np.asarray(np.clip(np.log(one) - np.log(other), -LOUDEST, LOUDEST))


def log_prior_odds(
    experience: Experience, allowed: NDArray[np.bool_], trait: Traits, springs: Array | None
) -> Array:
    """[S, F] log(rho pi / (1 - rho)) of every candidate; -inf where not `allowed` [S, F].

    `springs` [S, S] are the log Bayes factors of SPRING, or None when the columns have none.
    """
    columns = experience.columns
    rate = np.zeros((MAX_SLOTS, columns.groups))
    decided = 1.0 - np.exp(-np.abs(experience.log_bayes_factor))
    group_in = np.stack([np.bincount(columns.group, row, columns.groups) for row in experience.inclusion])
    group_ok = np.stack([np.bincount(columns.group, row, columns.groups) for row in allowed.astype(float)]) > 0
    decided = decided * group_ok
    share = np.zeros((MAX_SLOTS, len(columns)))
    for kind in np.unique(columns.group_kind):
        groups = columns.group_kind == kind
        share[:, columns.kind == kind] = _alternative_share(experience, TermKind(int(kind)), decided)
        if kind == TermKind.PUSH:
            rate[:, groups] = trait.push
            continue
        a, b = RATE_PRIOR[TermKind(int(kind))]
        weight, hits = decided[:, groups], decided[:, groups] * group_in[:, groups]
        base = (a + hits.sum() - hits) / (a + b + weight.sum() - weight)
        if kind == TermKind.SPRING and springs is not None:
            rate[:, groups] = _spring_rate(base, springs, trait)
        elif kind == TermKind.DRAG:
            rate[:, groups] = np.maximum(base * trait.both, 0.002)
        else:
            rate[:, groups] = base
    rho = np.clip(rate[:, columns.group], 1e-6, 1.0 - 1e-6)
    odds = np.log(rho) - np.log1p(-rho) + np.log(np.maximum(share, 1e-6))
    return np.where(allowed, odds, -np.inf)


def _alternative_share(experience: Experience, kind: TermKind, decided: Array) -> Array:
    """[S, columns of kind] pi: Dirichlet posterior mean over the alternatives, the edge itself left out."""
    columns = experience.columns
    picked = np.flatnonzero(columns.kind == kind)
    prior = np.array(ALTERNATIVE_PRIOR.get(kind, (1.0,)))
    if len(prior) == 1:
        return np.ones((MAX_SLOTS, len(picked)))
    shape = (MAX_SLOTS, -1, len(prior))
    voting = np.where(experience.own, 0.0, experience.inclusion)[:, picked]
    votes = (voting * decided[:, columns.group[picked]]).reshape(shape)
    counts = prior + votes.sum(axis=(0, 1)) - votes
    return np.asarray((counts / counts.sum(axis=-1, keepdims=True)).reshape(MAX_SLOTS, -1))


def _spring_rate(base: Array, springs: Array, trait: Traits) -> Array:
    """[S, S] prior of SPRING(i <- j): the pair's rate updated by the evidence of the other direction."""
    back = np.exp(springs.T)
    linked = SPRING_GIVEN_LINK * back + 1.0 - SPRING_GIVEN_LINK
    free = SPRING_OTHERWISE * back + 1.0 - SPRING_OTHERWISE
    link = base * linked / (base * linked + (1.0 - base) * free)
    return np.asarray(SPRING_GIVEN_LINK * link * trait.movable[:, None] + SPRING_OTHERWISE)
