"""Connected regions of like colour."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from crl_node.data import Array

_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))


def _pairs(mask: NDArray[np.bool_], shift: tuple[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat indices of the pixels in `mask` whose neighbour at `shift` is in it too, and of that neighbour."""
    height, width = mask.shape
    down, right = shift
    rows, columns = np.nonzero(mask)
    keep = (rows + down < height) & (columns + right >= 0) & (columns + right < width)
    first = rows[keep] * width + columns[keep]
    second = first + down * width + right
    both = mask.ravel()[second]
    return first[both], second[both]


def same_colour(a: Array, b: Array, tolerance: float) -> NDArray[np.bool_]:
    """Whether rgb colours [N, 3] differ by less than `tolerance` (0..1 units)."""
    return np.asarray(np.sum((a - b) ** 2, axis=-1) < tolerance**2)


def same_hue(a: Array, b: Array, tolerance: float, ratio: float) -> NDArray[np.bool_]:
    """Whether [N, 3] rgb colours can be one surface in different light.

    The part of one colour that is no multiple of the other must be below `tolerance`, and neither may be more
    than `ratio` times as bright: light scales a colour, it does not turn it.
    """
    length_a, length_b = np.linalg.norm(a, axis=-1), np.linalg.norm(b, axis=-1)
    turned = np.linalg.norm(np.cross(a, b), axis=-1) / np.maximum(np.maximum(length_a, length_b), 1e-6)
    small, large = np.minimum(length_a, length_b), np.maximum(length_a, length_b)
    return np.asarray((turned < tolerance) & (large < ratio * small + 0.02))


def label_regions(
    rgb: Array,
    mask: NDArray[np.bool_],
    tolerance: float,
    *,
    ratio: float | None = None,
) -> tuple[NDArray[np.int64], int]:
    """Regions of `mask` [h, w] whose neighbouring pixels have like colours in `rgb` [h, w, 3].

    Neighbours (8-connected) are joined when `same_hue` (with `ratio`) or `same_colour` (without) holds.
    Returns labels [h, w] (0 outside the mask, then 1..n) and n.
    """
    labels = np.zeros(mask.shape, np.int64)
    inside = np.flatnonzero(mask)
    if not inside.size:
        return labels, 0
    flat = rgb.reshape(-1, 3)
    firsts, seconds = [], []
    for shift in _SHIFTS:
        first, second = _pairs(mask, shift)
        if ratio is None:
            like = same_colour(flat[first], flat[second], tolerance)
        else:
            like = same_hue(flat[first], flat[second], tolerance, ratio)
        firsts.append(first[like])
        seconds.append(second[like])
    row, column = np.concatenate(firsts), np.concatenate(seconds)
    index = np.full(mask.size, -1, np.int64)
    index[inside] = np.arange(inside.size)
    graph = coo_matrix((np.ones(row.size, np.int8), (index[row], index[column])), shape=(inside.size,) * 2)
    count, part = connected_components(graph, directed=False)
    labels.ravel()[inside] = part + 1
    return labels, int(count)
