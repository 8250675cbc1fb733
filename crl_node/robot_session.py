"""A run on an arm, real or mocked, from start to end: `crl robot run` without its display."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass

from crl_node.arm.profile import profile_path
from crl_node.session import Session
from crl_node.status import Status
from crl_node.system import (
    THREAD_PINS,
    DomainLease,
    NodeSpec,
    RobotOptions,
    lease_domain,
    robot_nodes,
    robot_source,
    ros_environment,
)


@dataclass
class RobotSession(Session):
    """As a simulated run, but time is the wall's, and a real arm's network is the user's own."""

    options: RobotOptions  # type: ignore[assignment]
    running_since: float | None = None  # monotonic s

    def _specs(self) -> list[NodeSpec]:
        return robot_nodes(self.options)

    def _keep_inputs(self) -> str:
        source = robot_source(self.options)
        shutil.copyfile(profile_path(self.options.robot), self.out / "robot.yaml")
        shutil.copyfile(source.calibration.path, self.out / "camera_before.yaml")
        return "mock" if self.options.mock else "robot"

    def _environment(self, domain_id: int) -> dict[str, str]:
        """A mock stays on this machine; a real arm is spoken to the way the user's shell does."""
        if self.options.mock:
            return ros_environment(domain_id, run_dir=self.out)
        return user_environment(domain_id)

    def _lease(self) -> DomainLease:
        if self.options.mock or self.domain_id is not None or os.environ.get("ROS_DOMAIN_ID"):
            return lease_domain(self.domain_id)
        return DomainLease(0, None)

    def _mode(self) -> str:
        return "mock hardware" if self.options.mock else "real hardware"

    def _time(self, status: Status) -> float:
        if status.phase != "running":
            return 0.0
        if self.running_since is None:
            self.running_since = time.monotonic()
        status.time = time.monotonic() - self.running_since  # no /clock tells one
        return status.time


def user_environment(domain_id: int) -> dict[str, str]:
    """The user's own ROS environment, with one thread per numeric library."""
    environment = dict(os.environ)
    environment["ROS_DOMAIN_ID"] = str(domain_id)
    for name in THREAD_PINS:
        environment.setdefault(name, "1")
    environment["PYTHONUNBUFFERED"] = "1"
    return environment
