"""What the weights of a kind have in common: how hard one push moved a thing is expected of pushes never tried.

w = m + d for every edge of a kind, m ~ N(mu, (1 - c) s^2) common to all of them and d ~ N(0, c s^2) each edge's own:
the prior of one edge alone stays N(mu, s^2). Each edge gets the prior that all *other* edges imply, as with set priors
(`prior.py`): Gaussian messages on a star (Kschischang et al. 2001; Bishop 2006, PRML, section 8.4), exact given the
term sets. Terms that are in with probability r speak with r of their precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import BODY, Array, TermKind
from crl_node.mechanisms.grammar import Columns

#: Kinds that one table and one sort of things make alike; how stiff a spring is or how bright a lamp is each one's own.
SHARED = (TermKind.INERTIA, TermKind.PUSH, TermKind.DRAG, TermKind.WALL)
#: c, the share of a weight's prior variance that is each edge's own.
OWN = 0.25
#: An edge whose data say less than this share of what its prior says is not heard.
HEARD = 0.02
#: Prior standard deviations; no edge says that its weight is further than this from the prior mean.
FURTHEST = 4.0


@dataclass(frozen=True)
class Weights:
    """What is believed of the weights of all variables, each [S, F], and the priors under which it came about."""

    inclusion: Array  # probability that the term is in
    mean: Array  # averaged over structures
    std: Array  # given that the term is in
    prior_mean: Array
    prior_std: Array


def prior_from_others(columns: Columns, target: int, weights: Weights) -> tuple[Array, Array]:
    """Mean and std [F] of the weights of one variable, given that their terms are in, from all other edges.

    Only their data speak: the prior that an edge's own belief rests on is taken out of it again. The arm's weights
    neither tell nor are told: its drive is no push.
    """
    mean, std = columns.prior_mean.copy(), columns.prior_std.copy()
    if target == BODY:
        return mean, std
    for kind in SHARED:
        own_kind = np.flatnonzero(columns.kind == kind)
        if not own_kind.size:
            continue
        base_mean, base_std = mean[own_kind[0]], std[own_kind[0]]
        own, common = OWN * base_std**2, (1.0 - OWN) * base_std**2
        weight, pull = _messages(weights, own_kind, base_mean, base_std, own)
        group = columns.group[own_kind] - columns.group[own_kind].min()
        mine = target - 1
        others = weight.sum() - np.bincount(group, weight[mine])[group]
        shift = pull.sum() - np.bincount(group, pull[mine])[group]
        left = 1.0 / (1.0 / common + others)
        mean[own_kind] = base_mean + left * shift
        std[own_kind] = np.sqrt(left + own)
    return mean, std


def _messages(
    weights: Weights, columns: np.ndarray, base_mean: float, base_std: float, own: float
) -> tuple[Array, Array]:
    """What each edge of a kind says of the common mean [S - 1, C]: precision, and precision times deviation."""
    at = np.s_[BODY + 1 :, columns]
    inclusion, prior_mean = weights.inclusion[at], weights.prior_mean[at]
    before, after = 1.0 / np.square(weights.prior_std[at]), 1.0 / np.square(np.maximum(weights.std[at], 1e-9))
    precision = after - before
    heard = (inclusion > 1e-6) & (precision > HEARD * before)
    given = weights.mean[at] / np.maximum(inclusion, 1e-6)
    deviation = (given * after - prior_mean * before) / np.where(heard, precision, 1.0) - base_mean
    deviation = np.clip(deviation, -FURTHEST * base_std, FURTHEST * base_std)
    said = np.where(heard, inclusion * precision / (1.0 + own * precision), 0.0)
    return said, said * deviation
