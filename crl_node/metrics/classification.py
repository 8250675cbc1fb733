"""How good probabilities are: ranking (AUROC, AUPRC) and calibration (Brier, ECE)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
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


@dataclass(frozen=True)
class Reliability:
    """Bins of equal width over [0, 1]; nan in bins without entries."""

    stated: NDArray[np.float64]  # [B] mean probability
    true: NDArray[np.float64]  # [B] share of positives
    count: NDArray[np.int64]  # [B]


def reliability(truth: ArrayLike, probability: ArrayLike, *, bins: int = 10) -> Reliability:
    """What a reliability diagram shows. `bins` of equal width; 1.0 falls into the last."""
    label, value = _pair(truth, probability)
    index = np.clip((value * bins).astype(int), 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        stated = np.bincount(index, value, bins) / count
        true = np.bincount(index, label.astype(float), bins) / count
    return Reliability(stated, true, count)


def calibration_error(truth: ArrayLike, probability: ArrayLike, *, bins: int = 10) -> float | None:
    """Expected calibration error: |mean probability - share of positives| per bin, weighted by its entries.

    Naeini et al. 2015. `bins` as in `reliability`. None without entries.
    """
    found = reliability(truth, probability, bins=bins)
    total = found.count.sum()
    if total == 0:
        return None
    some = found.count > 0
    return float((found.count[some] * np.abs(found.stated - found.true)[some]).sum() / total)
