"""Coefficients of determination."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def pooled_variance(values: ArrayLike) -> float:
    """Mean squared distance of points [N, D] from their common mean, summed over D."""
    points = np.atleast_2d(np.asarray(values, float))
    if points.shape[0] == 0:
        raise ValueError("the variance of no points is not defined")
    return float(((points - points.mean(0)) ** 2).sum(1).mean())


def r2_given_variance(truth: ArrayLike, estimate: ArrayLike, variance: float) -> float | None:
    """1 - MSE / `variance` for points [N, D]; MSE: mean squared distance. None without points or variance."""
    t, e = np.asarray(truth, float), np.asarray(estimate, float)
    if t.shape != e.shape:
        raise ValueError(f"truth has shape {t.shape}, estimate has {e.shape}; they must be alike")
    if t.shape[0] == 0 or variance <= 0:
        return None
    mse = float(((t - e).reshape(t.shape[0], -1) ** 2).sum(1).mean())
    return 1.0 - mse / variance


def r2(truth: ArrayLike, estimate: ArrayLike) -> float | None:
    """1 - residual sum of squares / sum of squares about the mean, columns of [N, D] pooled.

    None when the truth does not vary: nothing is to be explained then.
    """
    t = np.asarray(truth, float)
    if t.size == 0:
        return None
    t = t.reshape(len(t), -1)
    return r2_given_variance(t, np.asarray(estimate, float).reshape(t.shape), pooled_variance(t))
