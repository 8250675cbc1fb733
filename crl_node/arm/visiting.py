"""Which places a calibration visits and what it asks of the arm there: no ROS, no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from crl_node.arm.commander import Chunk, TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile_types import RobotProfile
from crl_node.data import Array

#: The tip is there when it is this close, m.
_THERE = 0.003
#: Speed towards a place per metre of distance, 1/s; and while feeling for the table, m/s.
_APPROACH, _FEEL = 3.0, 0.01
#: The tip has met something when it stays this far above where it is sent, m, for so many ticks.
_MET, _TICKS = 0.002, 4
#: A tip that moves less than this in a tick stands still, m.
_STILL = 0.0003
#: Height above the expected table at which feeling begins, m, and how far from the workspace's edge, as a share.
_HOVER, _INSET = 0.012, 0.15


@dataclass(frozen=True)
class Place:
    """A place to visit."""

    tip: Array  # [3] m
    touch: bool  # feel for the table below it, instead of having a picture taken


@dataclass
class Measurements:
    """What was measured so far."""

    joints: list[Array] = field(default_factory=list)  # [J] rad at each picture
    pixels: list[Array] = field(default_factory=list)  # [2] px of the marker
    touches: list[Array] = field(default_factory=list)  # [3] m, where the tip met the table
    missed: list[str] = field(default_factory=list)  # a sentence for each place without a result


def places(profile: RobotProfile, columns: int, touch: bool) -> list[Place]:
    """A grid at three heights, to and fro; then, with `touch`, five places on the table."""
    box = profile.workspace
    found = []
    for level, z in enumerate(np.linspace(profile.tip_height + 0.005, box.z[1] - 0.003, 3)):
        for i, x in enumerate(np.linspace(box.x[0] + 0.01, box.x[1] - 0.01, columns)):
            ys = np.linspace(box.y[0] + 0.01, box.y[1] - 0.01, columns)
            found += [Place(np.array([x, y, z]), False) for y in (ys if (i + level) % 2 == 0 else ys[::-1])]
    if touch:
        inset = [_INSET * (high - low) for low, high in (box.x, box.y)]
        near, far, right, left = box.x[0] + inset[0], box.x[1] - inset[0], box.y[0] + inset[1], box.y[1] - inset[1]
        corners = [(near, right), (near, left), (far, left), (far, right), (0.5 * (near + far), 0.5 * (right + left))]
        found += [Place(np.array([x, y, profile.tip_height]), True) for x, y in corners]
    return found


class Visitor:
    """Moves the tip from place to place by chunks of the commander, and says when it is there."""

    def __init__(self, profile: RobotProfile, targets: list[Place], depth: float, patience: float) -> None:
        self.profile = profile
        self.arm = Arm(profile)
        self.commander = TipCommander(profile, self.arm)
        self.targets = targets
        self.at = 0  # index of the place that is visited
        self.measurements = Measurements()
        self._depth, self._patience = depth, patience
        self._since: float | None = None  # s, when the way to this place began
        self._arrived: float | None = None
        self._height = profile.tip_height
        self._met = 0
        self._last: float | None = None  # m, the tip's height a tick ago

    @property
    def place(self) -> Place | None:
        """The place that is visited; None when all were."""
        return self.targets[self.at] if self.at < len(self.targets) else None

    def resting(self, now: float, settle: float) -> bool:
        """It has been at a place for pictures for `settle` s."""
        place = self.place
        return place is not None and not place.touch and self._arrived is not None and now - self._arrived >= settle

    def record(self, joints: Array, pixel: Array | None) -> None:
        """The picture of this place was looked at; None: no marker in it. On to the next."""
        assert self.place is not None
        if pixel is None:
            self._miss("the marker was not seen")
        else:
            self.measurements.joints.append(joints)
            self.measurements.pixels.append(pixel)
            self._next()

    def chunk(self, now: float, start: float, measured_at: float, q: Array, dq: Array) -> Chunk:
        """The command that begins at `start` s, for joints q [J] rad, dq [J] rad/s measured at `measured_at` s."""
        self._since = now if self._since is None else self._since
        if self.place is not None and now - self._since > self._patience:
            self._miss(f"the tip did not get there within {self._patience:g} s")
        velocity = np.zeros(2)
        place = self.place
        if place is not None:
            tip = self.arm.tip_at(q)
            velocity = self._towards(place, tip)
            near = bool(np.linalg.norm((place.tip - tip)[:2]) < _THERE)
            if place.touch:
                self._feel(place, tip, near)
            else:
                self._height = float(place.tip[2])
                there = near and abs(place.tip[2] - tip[2]) < _THERE and np.abs(dq).max() < 0.02
                self._arrived = (self._arrived or now) if there else None
        self.commander.profile = replace(self.profile, tip_height=self._height)
        named, rates = self.profile.named(q), self.profile.named(dq)
        return self.commander.chunk(named, rates, velocity, start=start, measured_at=measured_at)

    def _towards(self, place: Place, tip: Array) -> Array:
        way = (place.tip - tip)[:2]
        speed = _APPROACH * float(np.linalg.norm(way))
        most = 0.6 * self.profile.max_tip_speed
        return np.asarray(_APPROACH * way * min(1.0, most / max(speed, 1e-9)))

    def _feel(self, place: Place, tip: Array, near: bool) -> None:
        """Lower the tip until it stays behind."""
        if not near:
            self._height = float(place.tip[2])
            return
        if self._height > _HOVER:
            self._height = max(_HOVER, self._height - 0.004)
            return
        still = self._last is not None and abs(tip[2] - self._last) < _STILL
        self._last = float(tip[2])
        behind = tip[2] - self._height > _MET
        self._met = self._met + 1 if behind and still and tip[2] < _HOVER + _MET else 0
        if behind and self._met < _TICKS:
            return  # it comes, or it has met something
        if self._met >= _TICKS:
            self.measurements.touches.append(tip)
            self._next()
        elif self._height < -self._depth:
            self._miss(f"no table down to {-self._depth * 1e3:.0f} mm")
        else:
            self._height -= _FEEL * self.profile.command_duration

    def disturbed(self) -> None:
        """The gate held: a tip that did not move then has not met anything for it."""
        self._met = 0

    def _miss(self, why: str) -> None:
        place = self.place
        assert place is not None
        self.measurements.missed.append(f"at [{', '.join(f'{v:.3f}' for v in place.tip)}] m {why}")
        self._next()

    def _next(self) -> None:
        self.at += 1
        self._since = self._arrived = None
        self._met = 0
        self._height = max(self._height, self.profile.tip_height)
