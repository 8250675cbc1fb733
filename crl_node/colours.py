"""Words for colours, and which of several colours a word means. Light scales a colour but does not turn it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crl_node.data import Array

#: What a word looks like, rgb 0..1.
WORDS: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.1, 0.1), "green": (0.1, 0.6, 0.15), "blue": (0.1, 0.2, 0.75), "yellow": (0.95, 0.88, 0.1),
    "purple": (0.5, 0.1, 0.6), "pink": (1.0, 0.45, 0.7), "cyan": (0.1, 0.85, 0.85), "orange": (0.95, 0.5, 0.1),
    "white": (0.95, 0.95, 0.95), "grey": (0.5, 0.5, 0.5), "black": (0.08, 0.08, 0.08), "brown": (0.45, 0.28, 0.12),
    "lime": (0.55, 0.9, 0.1), "mint": (0.2, 0.9, 0.55), "azure": (0.1, 0.5, 0.95), "violet": (0.4, 0.2, 0.9),
    "magenta": (0.85, 0.1, 0.75),
}  # fmt: skip


def distance(colour: Sequence[float] | Array, word: str) -> float:
    """How unlike `colour` [3] rgb 0..1 is to a word of WORDS: by hue and shade rather than brightness."""
    rgb, other = np.clip(np.asarray(colour, float), 0, 1), np.asarray(WORDS[word])
    chroma = (rgb - rgb.mean()) / (rgb.max() + 0.15) - (other - other.mean()) / (other.max() + 0.15)
    return float(np.sum(chroma**2) + 0.15 * (rgb.mean() - other.mean()) ** 2)


def colour_name(colour: Sequence[float] | Array) -> str:
    """The nearest everyday word for an rgb colour in 0..1."""
    return min(WORDS, key=lambda word: distance(colour, word))


def angles(colours: Array, other: Array) -> Array:
    """Angles [N] degrees between `colours` [N, 3] and `other` [3] as directions in rgb: what light does not change."""
    colours, other = np.atleast_2d(np.asarray(colours, float)), np.asarray(other, float)
    lengths = np.linalg.norm(colours, axis=1) * np.linalg.norm(other)
    return np.asarray(np.degrees(np.arccos(np.clip(colours @ other / np.maximum(lengths, 1e-9), -1.0, 1.0))))
