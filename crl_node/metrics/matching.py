"""One-to-one matching of estimated to true things."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment


def match(cost: ArrayLike, *, limit: float = np.inf) -> dict[int, int]:
    """Hungarian matching {row: column} of least total cost [R, C]; pairs dearer than `limit` stay apart.

    Costs above the limit are cut to it before matching, so that a hopeless pair does not spoil a good one.
    """
    matrix = np.asarray(cost, float)
    if matrix.size == 0:
        return {}
    if np.isnan(matrix).any():
        raise ValueError(f"the cost matrix {matrix.shape} holds {int(np.isnan(matrix).sum())} NaN")
    finite = np.isfinite(matrix)
    ceiling = limit if np.isfinite(limit) else max(1.0, float(matrix[finite].max(initial=0.0))) * 1e3
    rows, columns = linear_sum_assignment(np.minimum(matrix, ceiling))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return {r: c for r, c in pairs if finite[r, c] and matrix[r, c] <= limit}
