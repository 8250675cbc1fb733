"""Distances between posteriors over term sets. All divergences in nats: Jensen-Shannon is at most log 2 = 0.693."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray


class SetPosterior(Protocol):
    """A posterior given by name: sets [N, F], none twice, and log probability [N] nats (`structure.engine.Support`)."""

    @property
    def sets(self) -> NDArray[np.bool_]: ...

    @property
    def log_probability(self) -> NDArray[np.float64]: ...


def _aligned(one: SetPosterior, other: SetPosterior) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N] of both over the union of their sets."""
    if one.sets.shape[1] != other.sets.shape[1]:
        raise ValueError(f"posteriors over {one.sets.shape[1]} and {other.sets.shape[1]} columns cannot be compared")
    packed = np.packbits(np.concatenate([one.sets, other.sets]), axis=1)
    _, place = np.unique(packed, axis=0, return_inverse=True)
    place = place.ravel()
    size, n = int(place.max(initial=-1)) + 1, len(one.sets)
    p = np.bincount(place[:n], np.exp(one.log_probability), size)
    q = np.bincount(place[n:], np.exp(other.log_probability), size)
    for name, total in (("first", p.sum()), ("second", q.sum())):
        if not abs(total - 1.0) < 1e-6:
            raise ValueError(f"the {name} posterior sums to {total}, it must sum to 1")
    return p, q


def _relative_entropy(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """p log(p / q) by entry, 0 where p is 0. q > 0 wherever p is."""
    out = np.zeros_like(p)
    some = p > 0.0
    out[some] = p[some] * np.log(p[some] / q[some])
    return out


def jensen_shannon(one: SetPosterior, other: SetPosterior) -> float:
    """Jensen-Shannon divergence of two posteriors over sets, nats (Lin 1991).

    1/2 KL(p | m) + 1/2 KL(q | m), m = (p + q) / 2: 0 for equal posteriors, log 2 for posteriors with no set in common.
    A set that a posterior does not name has probability 0 there. ValueError unless both sum to 1 over equal columns.
    """
    p, q = _aligned(one, other)
    m = 0.5 * (p + q)
    return max(0.0, float(0.5 * (_relative_entropy(p, m) + _relative_entropy(q, m)).sum()))


def total_variation(one: SetPosterior, other: SetPosterior) -> float:
    """Total variation 1/2 sum |p - q| of two posteriors over sets, in [0, 1]. ValueError as `jensen_shannon`."""
    p, q = _aligned(one, other)
    return float(0.5 * np.abs(p - q).sum())


def inclusion_divergence(one: ArrayLike, other: ArrayLike) -> float:
    """Mean over columns [F] of the Jensen-Shannon divergence of two Bernoulli distributions, nats.

    What can be said of engines that know inclusion probabilities only. ValueError unless all are in [0, 1].
    """
    p, q = np.asarray(one, float).ravel(), np.asarray(other, float).ravel()
    if p.shape != q.shape or p.size == 0:
        raise ValueError(f"inclusion probabilities of {p.size} and {q.size} columns cannot be compared")
    both = np.concatenate([p, q])
    if not ((both >= -1e-9) & (both <= 1.0 + 1e-9)).all():
        raise ValueError(f"an inclusion probability is outside [0, 1]: from {both.min()} to {both.max()}")
    p, q = np.clip(p, 0.0, 1.0), np.clip(q, 0.0, 1.0)
    total = np.zeros_like(p)
    for a, b in ((p, q), (1.0 - p, 1.0 - q)):
        m = 0.5 * (a + b)
        total += 0.5 * (_relative_entropy(a, m) + _relative_entropy(b, m))
    return max(0.0, float(total.mean()))
