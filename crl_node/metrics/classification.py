"""How good probabilities are: ranking (AUROC, AUPRC) and calibration (Brier, ECE)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def _pair(truth: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    label, value = np.asarray(truth, bool).ravel(), np.asarray(score, float).ravel()
    if label.shape != value.shape:
        raise ValueError(f"truth has {label.size} entries, score has {value.size}; they must be as many")
    if not np.isfinite(value).all():
        raise ValueError(f"score holds {int((~np.isfinite(value)).sum())} non-finite entries")
    return label, value


def auroc(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Area under the ROC curve: P(score of a positive > score of a negative), ties count half.

    truth: [N] bool, score: [N]. None when one of the classes is empty: the area is not defined then.
    """
    label, value = _pair(truth, score)
    positives, negatives = int(label.sum()), int((~label).sum())
    if positives == 0 or negatives == 0:
        return None
    # Mann-Whitney U: rank sum of the positives less its minimum.
    rank_sum = float(rankdata(value)[label].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def auprc(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Average precision: sum over thresholds of (recall gained) x precision, tied scores as one threshold.

    truth: [N] bool, score: [N]. None when nothing is positive.
    """
    label, value = _pair(truth, score)
    positives = int(label.sum())
    if positives == 0:
        return None
    order = np.argsort(-value, kind="stable")
    label, value = label[order], value[order]
    last_of_tie = np.append(np.diff(value) != 0, True)
    hits = np.cumsum(label)[last_of_tie]
    taken = (np.arange(label.size) + 1)[last_of_tie]
    gained = np.diff(np.concatenate([[0], hits])) / positives
    return float((gained * hits / taken).sum())


def brier(truth: ArrayLike, probability: ArrayLike) -> float | None:
    """Mean squared difference between probability and outcome, 0 best. None without entries."""
    label, value = _pair(truth, probability)
    return float(np.mean((value - label) ** 2)) if value.size else None


def calibration_error(truth: ArrayLike, probability: ArrayLike, *, bins: int = 10) -> float | None:
    """Expected calibration error: |mean probability - share of positives| per bin, weighted by its entries.

    `bins` of equal width over [0, 1]; 1.0 falls into the last. None without entries.
    """
    label, value = _pair(truth, probability)
    if value.size == 0:
        return None
    index = np.clip((value * bins).astype(int), 0, bins - 1)
    error = 0.0
    for b in range(bins):
        inside = index == b
        if inside.any():
            error += inside.mean() * abs(value[inside].mean() - label[inside].mean())
    return float(error)
