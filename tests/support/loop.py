"""All nodes of a run as processes of a test, with what they say."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

from crl_node.system import SimOptions, nodes


def seconds(stamp: Any) -> float:
    """Seconds of a ROS stamp."""
    return float(stamp.sec + stamp.nanosec / 1e9)


class Loop:
    """All nodes of a run, at a quarter of real time, slower on a busy machine: what is asserted is simulated time."""

    def __init__(
        self,
        domain: Any,
        start: Callable[..., Any],
        remapped: dict[str, dict[str, str]] | None = None,
        rtf: float = 0.25,
        parameters: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """`remapped`: remappings by node, to put a relay into a topic's way. `rtf` holds for an idle machine.

        `parameters`: further parameters by node.
        """
        from crl_interfaces.msg import Command, GroundTruth, StepReport
        from rosgraph_msgs.msg import Clock
        from trajectory_msgs.msg import JointTrajectory

        self.domain, self._start = domain, start
        self._remapped = remapped or {}
        #: How busy the machine is with other things; 1 when it is not.
        self.slow = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1) / 1.5)
        self.options = SimOptions(out=domain.folder / "run", world="four_cubes", seconds=0.0, rtf=rtf / self.slow)
        self._specs = {spec.name: spec for spec in nodes(self.options)}
        for name, values in (parameters or {}).items():
            self._specs[name].parameters.update(values)
        self.processes = {name: self.start(name) for name in self._specs}
        self._clock = domain.collect(Clock, "/clock")
        self.truth = domain.collect(GroundTruth, "sim/ground_truth")
        self.trajectories = domain.collect(JointTrajectory, "arm_controller/joint_trajectory")
        self.executed = domain.collect(Command, "gate/executed")
        self.steps = domain.collect(StepReport, "learner/report")

    def start(self, name: str) -> Any:
        spec = self._specs[name]
        process = self._start(
            spec.executable, spec.parameters, name=name,
            remappings={**spec.remappings, **self._remapped.get(name, {})},
        )  # fmt: skip
        if hasattr(self, "processes"):
            self.processes[name] = process
        return process

    def until(self, condition: Callable[[], bool], what: str) -> None:
        self.domain.wait_until(condition, what, 120.0 * self.slow)

    def time(self) -> float:
        return seconds(self.truth[-1].header.stamp) if self.truth else 0.0

    def now(self) -> float:
        """Simulated time when this was called: all that has arrived is taken first.

        By the clock: what `time` says is as old as the last picture, and a fault's 0.3 s would begin before the fault.
        """
        for _ in range(200):
            self.domain.spin_once()
        return seconds(self._clock[-1].clock) if self._clock else 0.0

    def until_moving(self) -> None:
        """At least a second of learning, and the tip in motion now."""
        self.until(lambda: len(self.steps) > 10 and self.steps[-1].step > 5, "learned steps")
        self.until(lambda: self.speed(self.truth[-2:]) > 0.1, "a tip that moves")

    @staticmethod
    def speed(truth: list[Any]) -> float:
        """Largest tip speed, m/s, between consecutive truths."""
        return max(
            (
                math.dist((a.tip.x, a.tip.y, a.tip.z), (b.tip.x, b.tip.y, b.tip.z))
                / max(seconds(b.header.stamp) - seconds(a.header.stamp), 1e-3)
                for a, b in zip(truth[:-1], truth[1:], strict=True)
            ),
            default=0.0,
        )

    def assert_all_finite(self) -> None:
        for trajectory in self.trajectories:
            for point in trajectory.points:
                assert all(map(math.isfinite, (*point.positions, *point.velocities)))
