"""How an arm moved, measured from its bag: positions, velocities and accelerations against the profile's limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crl_node.arm.felt import FELT
from crl_node.arm.profile_types import RobotProfile
from crl_node.bags.reader import BagReader
from crl_node.data import Array


@dataclass(frozen=True)
class Motion:
    """Extremes of J joints over a bag."""

    seconds: float  # from the first to the last joint state
    samples: int
    lowest: Array  # [J] rad
    highest: Array  # [J] rad
    velocity: Array  # [J] rad/s, largest
    acceleration: Array  # [J] rad/s^2, largest, over FELT
    tip_path: float  # m, length of the tip's way

    def shares(self, profile: RobotProfile) -> dict[str, float]:
        """Largest share of each limit that was used; position: rad that a joint was outside (negative: inside)."""
        limits = profile.limits
        outside = np.maximum(limits.lower - self.lowest, self.highest - limits.upper)
        return {
            "position": float(outside.max()),
            "velocity": float((self.velocity / limits.velocity).max()),
            "acceleration": float((self.acceleration / limits.acceleration).max()),
        }


def motion(bag: Path, profile: RobotProfile, topic: str = "joint_states") -> Motion:
    """Read `topic` of the bag. ValueError when it holds fewer than three joint states of this arm."""
    from crl_node.arm.kinematics import Arm

    rows: list[tuple[float, Array, Array]] = []
    for decoded in BagReader(bag).messages([topic]):
        message = decoded.message
        names = list(message.name)
        if any(name not in names for name in profile.joint_names):
            continue
        order = [names.index(name) for name in profile.joint_names]
        stamp = message.header.stamp
        row = stamp.sec + stamp.nanosec * 1e-9, np.array(message.position)[order], np.array(message.velocity)[order]
        if not rows or row[0] > rows[-1][0]:
            rows.append(row)
    if len(rows) < 3:
        raise ValueError(f"{bag} holds {len(rows)} joint states of '{profile.name}' on {topic}, too few to measure")
    times = np.array([row[0] for row in rows])
    q, dq = np.array([row[1] for row in rows]), np.array([row[2] for row in rows])
    later = np.searchsorted(times, times + FELT)
    inside = later < len(times)
    ends = later[inside]
    elapsed = times[ends] - times[inside]
    near = elapsed < 2 * FELT  # not across a gap
    steps = (dq[ends] - dq[inside])[near] / elapsed[near, None]
    arm = Arm(profile)
    tips = np.array([arm.tip_at(row) for row in q[::5]])
    return Motion(
        seconds=float(times[-1] - times[0]),
        samples=len(rows),
        lowest=q.min(axis=0),
        highest=q.max(axis=0),
        velocity=np.abs(dq).max(axis=0),
        acceleration=np.abs(steps).max(axis=0) if len(steps) else np.zeros(q.shape[1]),
        tip_path=float(np.linalg.norm(np.diff(tips, axis=0), axis=1).sum()),
    )
