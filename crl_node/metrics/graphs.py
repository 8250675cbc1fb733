"""Distances between graphs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def structural_hamming_distance(truth: ArrayLike, estimate: ArrayLike) -> int:
    """Edges to add, remove or turn round to get from one directed graph to the other.

    truth, estimate: [V, V] bool, entry [i, j] is the edge i -> j; the diagonal does not count.
    An edge that only points the wrong way costs one, not two (Tsamardinos et al. 2006).
    """
    a, b = np.asarray(truth, bool).copy(), np.asarray(estimate, bool).copy()
    if a.shape != b.shape or a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise ValueError(f"adjacency matrices must be square and alike, got {a.shape} and {b.shape}")
    np.fill_diagonal(a, False)
    np.fill_diagonal(b, False)
    different = a != b
    # A pair of nodes counts once, whether one or both of its two directions differ by a mere turn.
    both = different & different.T
    turned = both & (a != a.T) & (b != b.T)
    return int(different.sum() - turned.sum() // 2)
