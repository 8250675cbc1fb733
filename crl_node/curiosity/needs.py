"""How uncertain each edge of the posterior is: where experiments are worth proposing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array, Posterior, TermKind

#: Size of a term's feature while an experiment on it goes on: overlap or stretch [m], contact [1].
TYPICAL_MOTION, TYPICAL_LIGHT = 0.015, 0.7
#: How many steps an experiment excites its term.
TYPICAL_STEPS = 5


@dataclass(frozen=True)
class Need:
    """What is not known about one edge."""

    kind: TermKind
    target: int  # slot row
    parent: int  # slot row
    nats: float


def binary_entropy(p: NDArray[np.floating]) -> Array:
    """Entropy of Bernoulli(p) [nats], 0 at the ends."""
    q = np.clip(np.asarray(p, float), 1e-12, 1 - 1e-12)
    return np.asarray(-(q * np.log(q) + (1 - q) * np.log1p(-q)))


def edge_needs(posterior: Posterior) -> list[Need]:
    """Edges between slots, most uncertain first: inclusion entropy + 1/2 log(1 + n var(w) phi^2 / sigma^2) [nats].

    Terms of one (group of kind, target, parent) count as one edge: the most uncertain stands for them.
    """
    kinds = posterior.term_kind
    share = np.exp(posterior.particle_log_weight - posterior.particle_log_weight.max())
    share = share / share.sum()
    mean = share @ posterior.weight_sample
    variance = share @ (posterior.weight_sample - mean) ** 2  # [P]
    light = kinds >= TermKind.DECAY
    sigma = posterior.noise_std[posterior.term_target, 1, light.astype(int)]
    size = np.where(light, TYPICAL_LIGHT, TYPICAL_MOTION)
    nats = binary_entropy(posterior.term_probability)
    nats = nats + 0.5 * np.log1p(TYPICAL_STEPS * variance * size**2 / np.maximum(sigma, 1e-6) ** 2)
    best: dict[tuple[TermKind, int, int], float] = {}
    for p in np.flatnonzero(posterior.term_parent >= 0):
        kind = TermKind(int(kinds[p]))
        group = TermKind.PUSH if kind == TermKind.DRAG else kind
        key = (group, int(posterior.term_target[p]), int(posterior.term_parent[p]))
        best[key] = max(best.get(key, 0.0), float(nats[p]))
    needs = [Need(*key, value) for key, value in best.items() if value > 1e-3]
    return sorted(needs, key=lambda need: (-need.nats, need.kind, need.target, need.parent))
