"""Words for colours, and which of several colours a word means. Light scales a colour but does not turn it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crl_node.data import Array

#: What a word looks like, rgb 0..1.
WORDS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.05, 0.08),
    "orange": (1.0, 0.45, 0.05),
    "brown": (0.45, 0.25, 0.10),
    "yellow": (0.98, 0.90, 0.05),
    "lime": (0.55, 0.95, 0.10),
    "green": (0.05, 0.60, 0.12),
    "mint": (0.20, 0.90, 0.55),
    "cyan": (0.10, 0.92, 0.90),
    "blue": (0.06, 0.15, 0.75),
    "azure": (0.10, 0.50, 0.95),
    "violet": (0.40, 0.20, 0.90),
    "purple": (0.45, 0.08, 0.62),
    "magenta": (0.90, 0.10, 0.80),
    "pink": (1.0, 0.35, 0.70),
    "white": (1.0, 1.0, 1.0),
}


def angles(colours: Array, other: Array) -> Array:
    """Angles [N] degrees between `colours` [N, 3] and `other` [3] as directions in rgb: what light does not change."""
    colours, other = np.atleast_2d(np.asarray(colours, float)), np.asarray(other, float)
    lengths = np.linalg.norm(colours, axis=1) * np.linalg.norm(other)
    return np.asarray(np.degrees(np.arccos(np.clip(colours @ other / np.maximum(lengths, 1e-9), -1.0, 1.0))))


def word(colour: Array | Sequence[float]) -> str:
    """The word nearest to `colour` [3] rgb 0..1."""
    names = list(WORDS)
    return names[int(np.argmin(angles(np.array([WORDS[name] for name in names]), np.asarray(colour, float))))]
