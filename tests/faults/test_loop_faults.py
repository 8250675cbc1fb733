"""Faults in the running loop, real nodes: the arm comes to rest, nothing non-finite is sent, nothing is lost.

What these pin: a planner killed in mid-motion must not leave the arm moving; a killed learner must not cost a
control tick; bad joint states, images and posteriors must not reach the controller.
"""

from __future__ import annotations

import array
import math
import signal
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from crl_interfaces.msg import Command, GroundTruth, Posterior, StepReport
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from crl_node.system import SimOptions, nodes

pytestmark = pytest.mark.ros

LATCHED = QoSProfile(
    depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
)


def seconds(stamp: Any) -> float:
    return float(stamp.sec + stamp.nanosec / 1e9)


class Loop:
    """All nodes of a run, at a quarter of real time so that a busy machine changes nothing."""

    def __init__(self, domain: Any, start: Callable[..., Any]) -> None:
        self.domain, self._start = domain, start
        self.options = SimOptions(out=domain.folder / "run", world="four_cubes", seconds=0.0, rtf=0.25)
        self._specs = {spec.name: spec for spec in nodes(self.options)}
        self.processes = {name: self.start(name) for name in self._specs}
        self.truth = domain.collect(GroundTruth, "sim/ground_truth")
        self.trajectories = domain.collect(JointTrajectory, "arm_controller/joint_trajectory")
        self.executed = domain.collect(Command, "gate/executed")
        self.steps = domain.collect(StepReport, "learner/report")

    def start(self, name: str) -> Any:
        spec = self._specs[name]
        process = self._start(spec.executable, spec.parameters, name=name, remappings=spec.remappings)
        if hasattr(self, "processes"):
            self.processes[name] = process
        return process

    def until(self, condition: Callable[[], bool], what: str) -> None:
        self.domain.wait_until(condition, what, 120.0)

    def time(self) -> float:
        return seconds(self.truth[-1].header.stamp) if self.truth else 0.0

    def now(self) -> float:
        """Simulated time when this was called: all that has arrived is taken first."""
        for _ in range(200):
            self.domain.spin_once()
        return self.time()

    def until_moving(self) -> None:
        """At least a second of learning, and the tip in motion now."""
        self.until(lambda: len(self.steps) > 10 and self.steps[-1].step > 5, "learned steps")
        self.until(lambda: self.speed(self.truth[-2:]) > 0.1, "a tip that moves")

    @staticmethod
    def speed(truth: list[GroundTruth]) -> float:
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


@pytest.fixture
def loop(ros_domain: Any, node_process: Any) -> Loop:
    loop = Loop(ros_domain, node_process)
    loop.until_moving()
    return loop


def test_when_the_planner_is_killed_in_mid_motion_the_arm_is_at_rest_within_300_ms(loop: Loop) -> None:
    loop.processes["planner"].kill(signal.SIGKILL)
    killed = loop.now()
    loop.until(lambda: loop.time() > killed + 1.5, "a second and a half after the kill")
    after = [t for t in loop.truth if seconds(t.header.stamp) >= killed + 0.3]
    assert len(after) > 5
    assert loop.speed(after) < 0.002
    loop.assert_all_finite()


def test_when_the_learner_is_killed_no_control_tick_is_missed_and_it_resumes_from_its_checkpoint(
    loop: Loop,
) -> None:
    loop.until(lambda: loop.steps[-1].step > 25, "more than a checkpoint's worth of steps")
    known = loop.steps[-1].step
    loop.processes["learner"].kill(signal.SIGKILL)
    killed = loop.now()
    loop.until(lambda: loop.time() > killed + 1.5, "time without a learner")
    stamps = [seconds(command.header.stamp) for command in loop.executed]
    near = [s for s in stamps if s > killed - 0.5]
    # A period is 0.1 s and the planner's timer waits half a period more: two in a row without a command is a miss.
    gaps = [b - a for a, b in zip(near[:-1], near[1:], strict=True)]
    assert near[-1] > killed + 1.2 and max(gaps) < 0.2, gaps
    loop.start("learner")
    before = len(loop.steps)
    loop.until(lambda: len(loop.steps) > before + 5, "the learner's reports after its restart")
    resumed = loop.steps[before].step
    # Checkpoints are a second apart: at most that much experience is lost, and it goes on from there.
    assert known - 15 <= resumed
    loop.until(lambda: loop.steps[-1].step > resumed, "new steps learned")


def test_nan_joint_states_never_reach_the_controller(loop: Loop, ros_domain: Any) -> None:
    publisher = ros_domain.publisher(JointState, "joint_states")
    names = [f"lbr_iiwa_joint_{i}" for i in range(1, 8)]
    start = len(loop.executed)
    for _ in range(50):
        message = JointState(
            name=names, position=array.array("d", [math.nan] * 7), velocity=array.array("d", [math.nan] * 7)
        )
        message.header.stamp = loop.truth[-1].header.stamp
        publisher.publish(message)
        seen = len(loop.truth)
        loop.until(lambda seen=seen: len(loop.truth) > seen, "the simulation going on")
    loop.assert_all_finite()
    sent = len(loop.executed)
    loop.until(lambda: any(not c.hold for c in loop.executed[sent:]), "motion after the fault")
    assert sent > start
    loop.assert_all_finite()


def test_a_nan_image_or_posterior_is_refused_in_words_and_the_loop_goes_on(
    loop: Loop, ros_domain: Any
) -> None:
    images = ros_domain.publisher(Image, "camera/image_raw")
    nan = Image(height=96, width=96, encoding="32FC3", step=96 * 12)
    nan.data = array.array("B", array.array("f", [math.nan] * (96 * 96 * 3)).tobytes())
    nan.header.stamp = loop.truth[-1].header.stamp
    rejected = loop.steps[-1].frames_rejected
    images.publish(nan)
    loop.until(lambda: loop.steps[-1].frames_rejected > rejected, "the image counted as rejected")
    posteriors = ros_domain.collect(Posterior, "learner/posterior", LATCHED)
    loop.until(lambda: bool(posteriors), "a posterior")
    bad = posteriors[-1]
    bad.weight_mean = array.array("f", [math.nan] * len(bad.weight_mean))
    bad.version += 1_000_000
    ros_domain.publisher(Posterior, "learner/posterior", LATCHED).publish(bad)
    planner = loop.processes["planner"]
    loop.until(
        lambda: "weight_mean" in planner.log() and "non-finite" in planner.log(), "a sentence of the planner"
    )
    learned, sent = loop.steps[-1].step, len(loop.executed)
    loop.until(lambda: loop.steps[-1].step > learned + 5, "learning after the faults")
    later = loop.executed[sent:]
    assert any(not command.hold for command in later)
    assert all(command.posterior_version < 1_000_000 for command in later)
    loop.assert_all_finite()
