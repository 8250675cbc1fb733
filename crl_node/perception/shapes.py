"""Silhouettes: what each slot looks like, learned from views in full, and where one fits a partial view."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array

CELLS = 33
CELL = 0.004  # m
_HALF = CELLS // 2
_SEARCH = 4  # px, coarse search around the prediction
_AXIS = (np.arange(CELLS) - _HALF) * CELL


class Shapes:
    """A template per slot: how likely the slot covers a point at an offset [m] from its centre, facing the camera."""

    def __init__(self, capacity: int) -> None:
        self.template: Array = np.zeros((capacity, CELLS, CELLS))
        self.shade: Array = np.zeros(
            (capacity, CELLS, CELLS)
        )  # brightness of each point over that of the slot
        self.views: Array = np.zeros(capacity)  # views in full that went into the template
        #: [M, 2, 2] m^2 second moment of the silhouette
        self.spread: Array = np.tile(np.eye(2) * 2e-4, (capacity, 1, 1))

    def sample(self, row: int, offsets: Array) -> Array:
        """Template values [...] at `offsets` [..., 2] m (right, down) from the centre; 0 outside."""
        return np.asarray(_interpolate(self.template[row][None], offsets)[0])

    def learn(
        self, row: int, mask: Array, light: Array, centre: Array, scale: float, spread: Array, rate: float
    ) -> None:
        """Blend in a view in full around `centre` [2] px at `scale` px/m: the slot's `mask` [h, w] and its `light`.

        `light` [h, w] is each pixel's brightness over the slot's; `spread` [2, 2] m^2 the mask's second moment.
        """
        columns = centre[0] + _AXIS * scale - 0.5
        rows = centre[1] + _AXIS * scale - 0.5
        for pattern, image in ((self.template, mask), (self.shade, light * mask)):
            pattern[row] += rate * (_bilinear(image, rows, columns) - pattern[row])
        self.spread[row] += rate * (spread - self.spread[row])
        self.views[row] += 1.0

    def brightness(self, row: int, value: Array, own: NDArray[np.bool_], offsets: Array) -> float:
        """Brightness of the slot from the part of it that is seen: `value` [h, w] of the pixels `own` [h, w].

        Least squares against the learned shades at `offsets` [h, w, 2] m from the centre, so that hiding the
        bright side of a thing does not make it dark.
        """
        part = offsets[own]
        covered, light = _interpolate(np.stack([self.template[row], self.shade[row]]), part)
        usual = np.where(covered > 0.3, light / np.maximum(covered, 0.3), 0.0)
        energy = float(usual @ usual)
        return float(usual @ value[own]) / energy if energy > 0.5 else float("nan")

    def align(
        self,
        row: int,
        mask: Array,
        seen: Array,
        pixels: Array,
        guess: Array,
        guess_std: float,
        scale: float,
        edge_std: float,
    ) -> tuple[Array, Array]:
        """Centre [2] px of the template that explains the visible part of a mask, and its information [2, 2] 1/px^2.

        `mask` [h, w] is the slot's share of each pixel, `seen` [h, w] is 1 where nothing hides it, `pixels`
        [h, w, 2] their coordinates. Least squares (coarse search, then Gauss-Newton) around `guess` [2] px; what
        the visible part does not determine stays at the guess and gets no information.
        """
        prior = 1.0 / max(guess_std, 0.3) ** 2 * edge_std**2
        centre = self._search(row, mask * seen, seen, pixels, guess, prior, scale)
        down, right = np.gradient(self.template[row], CELL)
        stack = np.stack([self.template[row], right, down])
        information = np.zeros((2, 2))
        weight = np.sqrt(seen).ravel()
        for _ in range(3):
            value, slope_x, slope_y = _interpolate(stack, (pixels - centre) / scale).reshape(3, -1)
            jacobian = -np.column_stack([slope_x, slope_y]) * (weight / scale)[:, None]
            residual = (mask.ravel() - value) * weight
            information = jacobian.T @ jacobian
            force = jacobian.T @ residual - prior * (centre - guess)
            centre = centre + np.clip(np.linalg.solve(information + prior * np.eye(2), force), -1.0, 1.0)
        return centre, information / edge_std**2

    def _search(
        self, row: int, mask: Array, seen: Array, pixels: Array, guess: Array, prior: float, scale: float
    ) -> Array:
        """The shift of `guess` by whole pixels with the least squared mismatch."""
        height, width = mask.shape
        columns = np.arange(-_SEARCH, width + _SEARCH) + pixels[0, 0, 0]
        rows = np.arange(-_SEARCH, height + _SEARCH) + pixels[0, 0, 1]
        grid = np.stack(np.meshgrid(columns, rows), axis=-1)
        value = self.sample(row, (grid - guess) / scale)
        moved = np.lib.stride_tricks.sliding_window_view(value, (height, width))  # [2R+1, 2R+1, h, w]
        flat = moved.reshape(-1, height * width)
        cost = flat**2 @ seen.ravel() - 2.0 * flat @ mask.ravel()
        # the window that starts s pixels earlier shows the template moved s pixels on
        reach = np.arange(_SEARCH, -_SEARCH - 1, -1.0)
        shifts = np.stack(np.meshgrid(reach, reach), axis=-1).reshape(-1, 2)
        cost += prior * np.sum(shifts**2, axis=1)
        return np.asarray(guess + shifts[int(np.argmin(cost))])


def _interpolate(stack: Array, offsets: Array) -> Array:
    """Bilinear values [T, ...] of templates `stack` [T, CELLS, CELLS] at `offsets` [..., 2] m; 0 outside."""
    position = offsets.reshape(-1, 2) / CELL + _HALF
    base = np.floor(position).astype(np.int64)
    inside = ((base >= 0) & (base < CELLS - 1)).all(axis=1)
    corner = base[inside]
    u, v = (position[inside] - corner).T
    index = corner[:, 1] * CELLS + corner[:, 0]
    flat = stack.reshape(len(stack), -1)
    upper = flat[:, index] * (1 - u) + flat[:, index + 1] * u
    lower = flat[:, index + CELLS] * (1 - u) + flat[:, index + CELLS + 1] * u
    found = np.zeros((len(stack), len(position)))
    found[:, inside] = upper * (1 - v) + lower * v
    return found.reshape(len(stack), *offsets.shape[:-1])


def _bilinear(image: Array, rows: Array, columns: Array) -> Array:
    """`image` [h, w] at the grid rows [R] x columns [C] (indices, fractional); 0 outside."""
    height, width = image.shape
    padded = np.pad(image, 1)
    rows, columns = np.clip(rows + 1, 0, height + 0.999), np.clip(columns + 1, 0, width + 0.999)
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    v, u = (rows - top)[:, None], (columns - left)[None, :]
    upper = padded[np.ix_(top, left)] * (1 - u) + padded[np.ix_(top, left + 1)] * u
    lower = padded[np.ix_(top + 1, left)] * (1 - u) + padded[np.ix_(top + 1, left + 1)] * u
    return np.asarray(upper * (1 - v) + lower * v)


def top_brightness(value: Array) -> float:
    """Brightness of a thing in full view from its pixels' values [n]: the level that a tenth of them exceed."""
    return float(np.quantile(value, 0.9))


def moments(weights: Array, pixels: Array) -> tuple[Array, Array]:
    """Centroid [2] px and second central moment [2, 2] px^2 of `pixels` [..., 2] with `weights` [...]."""
    total = weights.sum()
    centre = np.tensordot(weights, pixels, axes=weights.ndim) / total
    off = (pixels - centre).reshape(-1, 2)
    return centre, (off * weights.reshape(-1, 1)).T @ off / total


def hull_touches(support: NDArray[np.bool_], hidden: NDArray[np.bool_]) -> bool:
    """Whether `hidden` [h, w] overlaps or borders `support` [h, w]."""
    grown = support.copy()
    grown[1:] |= support[:-1]
    grown[:-1] |= support[1:]
    grown[:, 1:] |= support[:, :-1]
    grown[:, :-1] |= support[:, 1:]
    return bool(np.any(grown & hidden))
