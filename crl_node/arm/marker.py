"""Where a ball of one colour is in a picture, and what of it a camera sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crl_node.data import Array

#: A pixel belongs to the marker when its colour's direction is this close to the marker's (cosine), ...
_ALIKE = 0.975
#: ... and it is not nearly black, where every direction is noise, 0..1.
_DARK = 0.12
#: Fewer pixels than this are no marker; a second blob larger than this share of the first makes it ambiguous.
_LEAST, _RIVAL = 5, 0.5
#: Points of the disc that stands for the ball.
_DISC = 600


@dataclass(frozen=True)
class Blob:
    """The marker in a picture."""

    centre: Array  # [2] px (column, row; the first pixel's centre is .5, .5)
    pixels: int


def find_marker(image: NDArray[np.uint8], colour: tuple[float, float, float]) -> Blob | None:
    """The largest blob of `colour` in `image` [height, width, 3]; None when there is none, two, or one cut by the edge.

    Colours are compared by direction: shading changes their length only.
    """
    pixels = image.astype(float) / 255.0
    wanted = np.asarray(colour, float)
    length = np.linalg.norm(pixels, axis=2)
    alike = pixels @ (wanted / np.linalg.norm(wanted)) >= _ALIKE * np.maximum(length, 1e-9)
    labels, count = ndimage.label(alike & (length > _DARK))
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())[1:]
    order = np.argsort(sizes)[::-1]
    largest = int(order[0])
    if sizes[largest] < _LEAST or (count > 1 and sizes[order[1]] > _RIVAL * sizes[largest]):
        return None
    rows, columns = np.nonzero(labels == largest + 1)
    height, width = labels.shape
    if rows.min() == 0 or columns.min() == 0 or rows.max() == height - 1 or columns.max() == width - 1:
        return None
    return Blob(np.array([columns.mean() + 0.5, rows.mean() + 0.5]), len(rows))


def visible_centre(centre: Array, radius: float, tool: tuple[Array, Array, float], eye: Array) -> Array:
    """The point [3] m whose picture is the centroid of what `eye` [3] m sees of a ball that `tool` hides in part.

    `tool` is a capsule: ends [3] m, [3] m, radius m. The ball at `centre` [3] m of `radius` m stands for a disc across
    the line of sight; points of it that lie behind the tool are not seen.
    """
    ray = centre - eye
    distance = float(np.linalg.norm(ray))
    ray = ray / distance
    side = np.cross(ray, [0.0, 0.0, 1.0] if abs(ray[2]) < 0.9 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    up = np.cross(ray, side)
    golden = np.pi * (3 - np.sqrt(5))
    k = np.arange(_DISC)
    r, angle = radius * np.sqrt((k + 0.5) / _DISC), golden * k
    disc = centre + (r * np.cos(angle))[:, None] * side + (r * np.sin(angle))[:, None] * up
    depth = distance - np.sqrt(np.maximum(radius**2 - r**2, 0.0))  # where the ball's surface is, m from the eye
    rays = disc - eye
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    start, end, thick = tool
    axis = end - start
    # Closest approach of each ray to the tool's axis.
    offset = eye - start
    a, b, c = float(axis @ axis), rays @ axis, float(axis @ offset)
    d = rays @ offset
    along = np.clip((c - b * d) / np.maximum(a - b**2, 1e-12), 0.0, 1.0)
    nearest = start + along[:, None] * axis
    t = ((nearest - eye) * rays).sum(axis=1)
    miss = np.linalg.norm(eye + t[:, None] * rays - nearest, axis=1)
    across = np.sqrt(np.maximum(1.0 - (rays @ axis) ** 2 / a, 1e-6))  # sine between ray and tool: it enters the sooner
    enters = t - np.sqrt(np.maximum(thick**2 - miss**2, 0.0)) / across
    hidden = (miss < thick) & (enters < depth)
    seen = disc[~hidden]
    return np.asarray(seen.mean(axis=0)) if len(seen) else centre
