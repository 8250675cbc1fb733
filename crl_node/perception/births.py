"""From pixels that no slot explains to slots: born, recognised again, joined or taken for furniture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crl_node.data import Array
from crl_node.perception.components import label_regions
from crl_node.perception.config import SlotConfig
from crl_node.perception.geometry import Geometry
from crl_node.perception.register import Register
from crl_node.perception.shapes import moments, top_brightness


@dataclass(frozen=True)
class Taken:
    """What became of the unexplained pixels of a frame."""

    furniture: NDArray[np.bool_]  # [h, w] belongs to the background after all


class Births:
    """Keeps for each pixel how many frames in a row it has gone unexplained."""

    def __init__(self, geometry: Geometry, register: Register, config: SlotConfig) -> None:
        self._geometry = geometry
        self._register = register
        self._config = config
        self.waiting: NDArray[np.int64] = np.zeros(geometry.roi.shape, np.int64)
        self.close: Array = np.zeros((register.used.size,) * 2)  # frames two slots have been in one place

    def step(self, rgb: Array, unexplained: NDArray[np.bool_], arm: NDArray[np.bool_], noise: float) -> Taken:
        """Look at the regions of `unexplained` [h, w] beside the `arm` [h, w]; `noise` is a pixel's, in rgb."""
        self.waiting = np.where(unexplained, self.waiting + 1, np.where(arm, self.waiting, 0))
        furniture = np.zeros_like(unexplained)
        if unexplained.sum() >= 4:
            beside_arm = ndimage.binary_dilation(arm, iterations=2)
            tolerance = max(self._config.hue_tolerance, 4.0 * noise)
            labels, _ = label_regions(rgb, unexplained, tolerance, ratio=self._config.shade_ratio)
            boxes = ndimage.find_objects(labels)
            for part, box in enumerate(boxes, start=1):
                region = np.zeros_like(unexplained)
                region[box] = labels[box] == part
                self._judge(rgb, region, beside_arm, furniture)
        self._join()
        return Taken(furniture)

    def _judge(
        self,
        rgb: Array,
        region: NDArray[np.bool_],
        beside_arm: NDArray[np.bool_],
        furniture: NDArray[np.bool_],
    ) -> None:
        config, geometry = self._config, self._geometry
        pixels = geometry.pixels[region]
        scale = float(geometry.pixel_scale[region].mean())
        if region.sum() < config.birth_area * scale**2:
            return
        touching = float((region & beside_arm).sum() / region.sum())
        if touching > 0.7:
            return  # the edge of the arm, most likely
        colour = rgb[region].mean(0)
        row = self._recognise(pixels.mean(0), colour)
        if row is not None:
            self._register.used[row], self._register.dormant[row] = True, False
            self._register.existence[row] = max(self._register.existence[row], 0.6)
            point = geometry.to_table(pixels.mean(0), 0.5 * self._register.height[row])[0]
            self._register.motion.start(row, point, 0.01)
            return
        # a new thing must last; beside the arm (whose outline is not exact) longer, and show more of itself
        wait = config.birth_frames if touching == 0.0 else config.birth_frames_near_arm
        if touching > 0.35 or np.median(self.waiting[region]) < wait:
            return
        if max(np.ptp(pixels[:, 0]), np.ptp(pixels[:, 1])) + 1 > config.thing_size * scale:
            furniture |= region
            return
        point = geometry.to_table(pixels.mean(0), 0.02)[0]
        x_min, x_max, y_min, y_max = geometry.table
        inset = config.rim_inset
        if not (x_min + inset < point[0] < x_max - inset and y_min + inset < point[1] < y_max - inset):
            if np.median(self.waiting[region]) >= 5 * wait:
                furniture |= region  # a bit of rim, or a thing that has left the table
            return
        row = self._register.free_row()
        if row is not None:
            self._register.claim(row)
            self._begin(row, rgb, region, colour)

    def _begin(self, row: int, rgb: Array, region: NDArray[np.bool_], colour: Array) -> None:
        """A new slot from the pixels of `region`."""
        register, geometry = self._register, self._geometry
        weights = region.astype(float)
        centre, spread = moments(weights, geometry.pixels)
        ground = geometry.to_table(centre, 0.0)[0]
        scale = float(geometry.scale(np.array([[*ground, 0.02]]))[0])
        height, extent = self.size(spread / scale**2, ground)
        register.height[row], register.extent[row] = height, extent
        point = geometry.to_table(centre, 0.5 * height)[0]
        register.motion.start(row, point, 0.004)
        length = max(float(np.linalg.norm(colour)), 1e-3)
        register.hue[row], register.shade[row] = colour / length, length
        value = rgb.max(axis=2)
        bright = max(top_brightness(value[region]), 0.01)
        register.brightness[row], register.brightness_var[row] = bright, self._config.brightness_std**2
        register.shapes.learn(row, weights, value / bright, centre, scale, spread / scale**2, 1.0)
        register.shapes.views[row] = 0.0

    def size(self, spread: Array, position: Array) -> tuple[float, float]:
        """Height and footprint radius, m, of a thing with silhouette moment `spread` [2, 2] m^2 at `position` [2] m.

        Seen at slant e, a footprint of depth d and a height h make a silhouette of length d sin e + h cos e;
        a footprint is taken to be as deep as wide. 3.6 is the length of a rectangle (3.5) or disc (4) in its
        standard deviations, 1.9 likewise the radius of the disc of equal area. A ball's silhouette is that of a
        flat disc and a turned box hides some of its height, so the estimate meets the prior that things are
        about as tall as wide half-way (both are off by about 1.5 cm).
        """
        sine, cosine = self._geometry.slant(np.array([*position, 0.02]))
        across, down = np.sqrt(max(spread[0, 0], 1e-8)), np.sqrt(max(spread[1, 1], 1e-8))
        seen = 3.6 * (down - across * sine) / cosine
        extent = 1.9 * across
        height = 0.5 * (np.clip(seen, 0.0, self._config.thing_height) + 1.8 * extent)
        return float(min(height, self._config.thing_height)), float(extent)

    def _recognise(self, pixel: Array, colour: Array) -> int | None:
        """A slot of that hue that could be here; the nearest one, or None.

        One that is hidden may have been carried `reidentify_distance`; one that is missing from where it should
        be seen may be anywhere.
        """
        register, config = self._register, self._config
        length = float(np.linalg.norm(colour))
        best, nearest = None, np.inf
        mean = register.motion.moments()[0][:, :2]
        for row in np.flatnonzero(register.used | register.dormant):
            missing = register.dormant[row] or register.existence[row] < 0.7
            if not missing and register.visible[row] >= 0.5:
                continue
            along = float(colour @ register.hue[row])
            if np.sqrt(max(length**2 - along**2, 0.0)) > config.hue_tolerance:
                continue
            point = self._geometry.to_table(pixel, 0.5 * register.height[row])[0]
            distance = float(np.linalg.norm(point - mean[row]))
            if distance < nearest and (missing or distance < config.reidentify_distance):
                best, nearest = int(row), distance
        return best

    def _join(self) -> None:
        """Two slots of one hue in one place for some frames are one thing: the older identity stays."""
        register = self._register
        mean = register.motion.moments()[0][:, :2]
        rows = register.rows()
        for i, first in enumerate(rows):
            for second in rows[i + 1 :]:
                apart = np.linalg.norm(mean[first] - mean[second])
                same = apart < 0.45 * (register.extent[first] + register.extent[second])
                turned = 1.0 - float(register.hue[first] @ register.hue[second]) ** 2
                if same and turned < 0.02:
                    self.close[first, second] += 1
                    if self.close[first, second] >= 3:
                        register.retire(int(second), remember=False)
                else:
                    self.close[first, second] = 0
