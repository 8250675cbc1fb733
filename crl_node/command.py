"""A motor command with its provenance, as a dataclass (mirrors `crl_interfaces/Command`)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array


@dataclass(frozen=True)
class Command:
    """planner -> gate: proposed; gate -> learner: executed, with `stamp` = when it starts to act."""

    stamp: float  # s
    sequence: int  # counts the planner's commands
    belief_stamp: float  # s, camera stamp of the belief it answers
    posterior_version: int  # model that chose it
    hold: bool  # stay where you are; velocity is zero
    velocity: Array  # [2] m/s, planar tip velocity commanded for `duration`
    duration: float  # s at `velocity`
    ramp: float  # s of the ramp down to rest
    trajectory: JointTrajectory | None  # None: an empty one


class CommandedVelocities:
    """Which velocity was last commanded by some time. Commands may be sent ahead of when they begin to act."""

    def __init__(self) -> None:
        self._begun: deque[tuple[float, Array]] = deque(maxlen=20)

    def add(self, start: float, velocity: Array) -> None:
        """A command with `velocity` [2] m/s begins to act at `start` s."""
        self._begun.append((start, velocity))

    def at(self, time: float) -> Array | None:
        """Velocity [2] m/s of the newest command that had begun by `time` s; None before the first."""
        return next((velocity for start, velocity in reversed(self._begun) if start <= time), None)
