"""Ways for the tip: around things, as waypoints, and waypoints as tip velocities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array

#: Air kept between the tool and things that are not to be touched [m].
CLEARANCE = 0.012
#: Points around each thing over which ways may lead, and how far out they are, as a multiple of its radius.
CORNERS, OUTSIDE = 8, 1.12


@dataclass(frozen=True)
class Leg:
    """Go straight to `to` [2] m at `speed` m/s, then stay for `stay` s."""

    to: Array
    speed: float
    stay: float = 0.0


def inside(point: Array, box: Array) -> bool:
    """Whether `point` [2] m is in `box` (x_min, x_max, y_min, y_max) m."""
    return bool(box[0] <= point[0] <= box[1] and box[2] <= point[1] <= box[3])


def clear(starts: Array, ends: Array, centres: Array, radii: Array) -> NDArray[np.bool_]:
    """Which straight ways from `starts` [A, 2] to `ends` [B, 2] m miss all discs [M] m: [A, B].

    From inside a disc one may go outwards: it must be possible to leave what one touches.
    """
    way = ends[None] - starts[:, None]  # [A, B, 2]
    to = centres[None] - starts[:, None]  # [A, M, 2]
    length2 = np.maximum((way**2).sum(2), 1e-12)
    along = np.einsum("abk,amk->abm", way, to) / length2[:, :, None]
    away2 = (to**2).sum(2)[:, None]  # [A, 1, M]
    share = np.clip(along, 0.0, 1.0)
    off2 = away2 - 2 * share * along * length2[:, :, None] + share**2 * length2[:, :, None]
    leaving = (away2 < radii**2) & (along <= 1e-9)
    return np.asarray(((off2 >= (radii - 1e-6) ** 2) | leaving).all(2))


class Ways:
    """Shortest ways from one start around discs, inside a box: a visibility graph, made once for many ends."""

    def __init__(self, start: Array, centres: Array, radii: Array, box: Array) -> None:
        """`start` [2] m, discs `centres` [M, 2] and `radii` [M] m, `box` [4] m."""
        self.centres, self.radii, self.box = centres, radii, box
        angles = np.arange(CORNERS) * 2 * np.pi / CORNERS
        ring = np.stack([np.cos(angles), np.sin(angles)], 1)
        corners = (centres[:, None] + OUTSIDE * radii[:, None, None] * ring).reshape(-1, 2)
        gap = np.linalg.norm(corners[:, None] - centres[None], axis=2) - radii
        ok = (gap > -1e-9).all(1) & (corners >= box[0::2]).all(1) & (corners <= box[1::2]).all(1)
        self.points = np.vstack([start, corners[ok]])  # [Q, 2], the start first
        lengths = np.linalg.norm(self.points[:, None] - self.points[None], axis=2)
        lengths[~clear(self.points, self.points, centres, radii)] = np.inf
        self.distance, self.before = _shortest(lengths)

    def to(self, end: Array, radii: Array | None = None) -> list[Array] | None:
        """Waypoints to `end` [2] m (included; the start is not), or None. `radii` [M] m holds for the last leg."""
        radii = self.radii if radii is None else radii
        if not inside(end, self.box) or (np.linalg.norm(self.centres - end, axis=1) < radii - 1e-6).any():
            return None
        last = np.linalg.norm(self.points - end, axis=1)
        total = np.where(clear(self.points, end[None], self.centres, radii)[:, 0], self.distance + last, np.inf)
        node = int(np.argmin(total))
        if not np.isfinite(total[node]):
            return None
        way = [np.asarray(end, float)]
        while node != 0:
            way.append(self.points[node])
            node = int(self.before[node])
        return way[::-1]


def _shortest(lengths: Array) -> tuple[Array, NDArray[np.int64]]:
    """Dijkstra from node 0 over a dense matrix of `lengths` [Q, Q]: distances and predecessors [Q]."""
    count = len(lengths)
    distance, before = np.full(count, np.inf), np.zeros(count, np.int64)
    distance[0] = 0.0
    open_ = np.ones(count, bool)
    for _ in range(count):
        node = int(np.argmin(np.where(open_, distance, np.inf)))
        if not open_[node] or not np.isfinite(distance[node]):
            break
        open_[node] = False
        through = distance[node] + lengths[node]
        better = through < distance
        distance[better], before[better] = through[better], node
    return distance, before


def velocities(start: Array, legs: Sequence[Leg], horizon: int, dt: float) -> NDArray[np.float32]:
    """Mean tip velocities [H, 2] m/s of each step that follow `legs` from `start` [2] m; zero when all are done."""
    points, times = [np.asarray(start, float)], [0.0]
    for leg in legs:
        times.append(times[-1] + float(np.linalg.norm(leg.to - points[-1])) / leg.speed)
        points.append(np.asarray(leg.to, float))
        if leg.stay > 0:
            times.append(times[-1] + leg.stay)
            points.append(points[-1])
    way, ticks = np.array(points), np.arange(horizon + 1) * dt
    at = np.stack([np.interp(ticks, times, way[:, axis]) for axis in range(2)], 1)
    return np.asarray(np.diff(at, axis=0) / dt, np.float32)
