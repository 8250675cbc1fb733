"""Faults in the running loop, real nodes: the arm comes to rest, nothing non-finite is sent, nothing is lost.

What these pin: a planner killed in mid-motion must not leave the arm moving; a killed learner must not cost a
control tick; bad joint states, images and posteriors must not reach the controller.
"""

from __future__ import annotations

import array
import math
import signal
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from crl_interfaces.msg import Posterior
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from tests.support.loop import Loop, seconds

pytestmark = pytest.mark.ros

LATCHED = QoSProfile(
    depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL, reliability=ReliabilityPolicy.RELIABLE
)


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
    publisher = ros_domain.publisher(Posterior, "learner/posterior", LATCHED)
    planner = loop.processes["planner"]

    def refused() -> bool:
        publisher.publish(bad)  # the planner's queue holds one: a good one may take its place
        return "weight_mean" in planner.log() and "non-finite" in planner.log()

    loop.until(refused, "a sentence of the planner")
    learned, sent = loop.steps[-1].step, len(loop.executed)
    loop.until(lambda: loop.steps[-1].step > learned + 5, "learning after the faults")
    later = loop.executed[sent:]
    assert any(not command.hold for command in later)
    assert all(command.posterior_version < 1_000_000 for command in later)
    loop.assert_all_finite()
