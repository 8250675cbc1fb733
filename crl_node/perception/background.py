"""The still part of the picture: table, rim, whatever stands behind. Learned online, pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crl_node.data import Array
from crl_node.perception.components import label_regions
from crl_node.perception.config import SlotConfig

_PALETTE = 8
_REACH = 10  # px, how far a surface seen once may continue behind what hides it


class Background:
    """Mean colour of each pixel without things. Pixels with `views` have been seen bare; others are guessed.

    A guess is good when the pixel shows one of the surfaces known within a few pixels of it (`palette`), unless
    it still shows what stood there at first: a white thing before a white wall is not the wall.
    """

    def __init__(self, height: int, width: int, config: SlotConfig) -> None:
        self._config = config
        self.mean: Array = np.zeros((height, width, 3))
        self.views: NDArray[np.int64] = np.zeros((height, width), np.int64)  # times each pixel was seen bare
        #: what stood there at first, 9 where the arm hid it
        self.first: Array = np.full((height, width, 3), 9.0)
        self.palette: Array = np.full((_PALETTE, 3), 9.0)  # 9: empty entry, far from every colour
        self.support: NDArray[np.bool_] = np.zeros((_PALETTE, height, width), bool)
        self.ready: NDArray[np.bool_] = np.zeros(1, bool)
        self.noise: Array = np.zeros(1)  # rgb, standard deviation of a channel from pixel noise

    def initialise(self, rgb: Array, valid: NDArray[np.bool_], too_large: Array) -> None:
        """Take regions of even colour larger than a thing for background.

        `valid` [h, w] marks pixels of interest not hidden by the arm, `too_large` [h, w] px the size from which
        a region at that pixel is no thing.
        """
        self.noise[0] = _pixel_noise(rgb, valid)
        # the distance of two noisy colours exceeds 4.8 standard deviations of a channel in 1 of 100 pairs
        tolerance = max(self._config.region_tolerance, 4.8 * float(self.noise[0]))
        even = max(2.0 * self._config.background_tolerance, 6.0 * float(self.noise[0]))
        labels, count = label_regions(rgb, valid, tolerance)
        known = np.zeros_like(valid)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        entries: list[tuple[int, Array, NDArray[np.bool_]]] = []
        boxes = ndimage.find_objects(labels)
        for part, box in enumerate(boxes, start=1):
            if box is None or sizes[part] < 20:
                continue
            rows, columns = box
            limit = too_large[box][labels[box] == part].mean()
            if max(rows.stop - rows.start, columns.stop - columns.start) < limit:
                continue
            region = _one_surface(rgb, labels == part, even)
            known |= region
            entries.append((int(sizes[part]), rgb[region].mean(0), region))
        self.mean[known] = rgb[known]
        self.views[:] = known
        self.first[:] = np.where((valid & ~known)[..., None], rgb, 9.0)
        if known.any():
            nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
            self.mean[:] = self.mean[nearest[0], nearest[1]]
        self._set_palette(entries)
        self.ready[0] = True

    def _set_palette(self, entries: list[tuple[int, Array, NDArray[np.bool_]]]) -> None:
        self.palette[:] = 9.0
        self.support[:] = False
        used = 0
        for _, colour, region in sorted(entries, key=lambda e: -e[0]):
            apart = np.linalg.norm(self.palette[:used] - colour, axis=1)
            near = np.flatnonzero(apart < self._config.region_tolerance)
            slot = int(near[0]) if near.size else used
            if slot >= _PALETTE:
                continue
            self.palette[slot] = colour if not near.size else self.palette[slot]
            self.support[slot] |= ndimage.distance_transform_edt(~region) <= _REACH
            used = max(used, slot + 1)

    def foreground(self, rgb: Array) -> NDArray[np.bool_]:
        """Pixels [h, w] that the background does not explain."""
        limit = max(self._config.background_tolerance, 4.5 * float(self.noise[0])) ** 2
        off = np.sum((rgb - self.mean) ** 2, axis=2) > limit
        doubtful = off & (self.views == 0)
        if doubtful.any():
            distance = np.sum((rgb[doubtful][:, None] - self.palette[None]) ** 2, axis=2)  # [n, P]
            like = (distance < limit) & self.support[:, doubtful].T
            moved = np.sum((rgb[doubtful] - self.first[doubtful]) ** 2, axis=1) > limit
            off[doubtful] = ~(like.any(axis=1) & moved)
        return np.asarray(off)

    def exposure(self, rgb: Array, valid: NDArray[np.bool_]) -> Array:
        """How much brighter [3] the background is than it was learned, by channel: lamps age, cameras adapt."""
        known = valid & (self.views > 0)
        if not self.ready[0] or known.sum() < 100:
            return np.ones(3)
        gain = np.median(rgb[known] / np.maximum(self.mean[known], 0.02), axis=0)
        return np.asarray(np.clip(gain, 0.5, 2.0))

    def absorb(self, rgb: Array, bare: NDArray[np.bool_]) -> None:
        """Learn from pixels [h, w] that show background now."""
        rate = np.maximum(1.0 / (self.views + 1.0), self._config.background_rate)
        self.mean += np.where(bare, rate, 0.0)[..., None] * (rgb - self.mean)
        self.views += bare


def _one_surface(rgb: Array, region: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    """Pixels of `region` [h, w] whose colour is within `tolerance` of one that varies linearly over the picture.

    A round white thing shades into a grey table without an edge; it is still not the table.
    """
    v, u = np.nonzero(region)
    colours = rgb[v, u]
    design = np.column_stack([np.ones(len(v)), v / rgb.shape[0], u / rgb.shape[1]])
    fits = np.sum((colours - np.median(colours, axis=0)) ** 2, axis=1) < (2.0 * tolerance) ** 2
    for _ in range(3):
        if fits.sum() < 10:
            break
        plane = np.linalg.lstsq(design[fits], colours[fits], rcond=None)[0]
        fits = np.sum((colours - design @ plane) ** 2, axis=1) < tolerance**2
    found = np.zeros_like(region)
    found[v[fits], u[fits]] = True
    return found


def _pixel_noise(rgb: Array, valid: NDArray[np.bool_]) -> float:
    """Standard deviation of a channel, from the median difference of neighbours (most lie on one surface)."""
    pair = valid[:, 1:] & valid[:, :-1]
    if not pair.any():
        return 0.0
    square = np.sum((rgb[:, 1:] - rgb[:, :-1]) ** 2, axis=2)[pair]
    return float(np.sqrt(np.median(square) / (2 * 2.366)))  # 2.366: median of chi-square with 3 degrees
