"""The sim node as a process of its own: lockstep bytes, real time, lifecycle, bad commands and parameters."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pytest

from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import load_world

pytestmark = pytest.mark.ros

PROFILE = load_profile("iiwa_sim")
HOME = PROFILE.vector(PROFILE.home)
FIRST = PROFILE.joint_names[0]


def wiggle(tick: int, position: np.ndarray) -> JointTrajectory:
    """A small motion of the first joint, another one each tick."""
    goal = HOME.copy()
    goal[0] += 0.03 * math.sin(0.7 * (tick + 1))
    points = np.stack([position, goal])
    return JointTrajectory(PROFILE.joint_names, np.array([0.0, 0.15]), points, np.zeros_like(points))


class Probe:
    """Sees what the node publishes; in lockstep answers every frame."""

    def __init__(self, domain: Any) -> None:
        from crl_interfaces.msg import GroundTruth
        from rosgraph_msgs.msg import Clock
        from sensor_msgs.msg import CameraInfo, Image, JointState
        from trajectory_msgs.msg import JointTrajectory as Message

        self.domain = domain
        self.images = domain.collect(Image, "camera/image_raw", 10, matched=False)
        self.infos = domain.collect(CameraInfo, "camera/camera_info", 10, matched=False)
        self.joints = domain.collect(JointState, "joint_states", 100, matched=False)
        self.truths = domain.collect(GroundTruth, "sim/ground_truth", 10, matched=False)
        self.clocks = domain.collect(Clock, "/clock", 100, matched=False)
        self.out = domain.node.create_publisher(Message, "arm_controller/joint_trajectory", 10)

    def seconds(self, message: Any) -> float:
        from crl_node.nodes.base import stamp_to_seconds

        return stamp_to_seconds(message.header.stamp)

    def send(self, trajectory: JointTrajectory, stamp: float) -> None:
        from crl_node.nodes.convert import trajectory_to_message

        self.out.publish(trajectory_to_message(trajectory, stamp))

    def wait(self, condition: Any, what: str) -> None:
        self.domain.wait_until(condition, what)

    def bring_up(self) -> None:
        assert self.domain.transition("sim", "configure"), self.domain.logs()
        assert self.domain.transition("sim", "activate"), self.domain.logs()


def digest(*arrays: Any) -> str:
    """Hash of the bytes."""
    return hashlib.sha256(b"".join(bytes(array) for array in arrays)).hexdigest()


def lockstep(domain: Any, start: Any, ticks: int, world: str) -> list[str]:
    """Hash of image, joint positions and true positions of each frame of a lockstep run."""
    process = start("sim", {"world": world, "seed": 5, "lockstep": True, "duration": ticks / 10})
    probe = Probe(domain)
    probe.bring_up()
    for tick in range(ticks):
        probe.wait(lambda n=tick: len(probe.images) > n and len(probe.joints) > n, f"frame {tick}")
        joints = probe.joints[tick]
        probe.send(wiggle(tick, np.array(joints.position)), probe.seconds(joints))
    probe.wait(
        lambda: len(probe.images) == len(probe.joints) == len(probe.truths) == ticks + 1, "the last frame"
    )
    probe.wait(lambda: "nothing more is published" in process.log(), "the end")
    assert [round(probe.seconds(image), 9) for image in probe.images] == [
        round(0.1 * n, 9) for n in range(ticks + 1)
    ]
    assert process.kill(2) == 0
    return [
        digest(
            image.data,
            np.array(joints.position),
            np.array([[o.pose.position.x, o.pose.position.y] for o in truth.objects]),
        )
        for image, joints, truth in zip(probe.images, probe.joints, probe.truths, strict=True)
    ]


@pytest.mark.parametrize("world", ["tabletop", "noisy_tv", "random:7"])
def test_lockstep_gives_the_bytes_of_the_simulator_in_this_process(
    ros_domain: Any, node_process: Any, world: str
) -> None:
    ticks = 8
    received = lockstep(ros_domain, node_process, ticks, world)
    expected = []
    with Simulator(load_world(world), PROFILE, 5) as simulator:
        for tick in range(ticks + 1):
            _, q, _, _ = simulator.joint_state()
            expected.append(digest(simulator.render(), q, simulator.truth().positions))
            simulator.set_trajectory(wiggle(tick, q), simulator.time)
            simulator.advance(0.1)
    assert received == expected


def test_a_lockstep_command_for_another_frame_is_not_answered(ros_domain: Any, node_process: Any) -> None:
    process = node_process("sim", {"world": "four_cubes", "lockstep": True})
    probe = Probe(ros_domain)
    probe.bring_up()
    probe.wait(lambda: len(probe.images) == 1, "the first frame")
    probe.send(wiggle(0, HOME), 0.7)
    probe.wait(lambda: "answers no frame" in process.log(), "the warning")
    assert len(probe.images) == 1
    probe.send(wiggle(0, HOME), 0.0)
    probe.wait(lambda: len(probe.images) == 2, "the frame after the right command")


def test_a_command_with_a_wrong_joint_or_nan_is_refused_with_a_sentence_and_the_loop_goes_on(
    ros_domain: Any, node_process: Any
) -> None:
    process = node_process("sim", {"world": "four_cubes", "lockstep": True})
    probe = Probe(ros_domain)
    probe.bring_up()
    probe.wait(lambda: len(probe.images) == 1, "the first frame")
    good = wiggle(0, HOME)
    names = ("elbow", *PROFILE.joint_names[1:])
    probe.send(JointTrajectory(names, good.times, good.positions, good.velocities), 0.0)
    probe.wait(lambda: len(probe.images) == 2, "the frame after the wrong joint")
    probe.wait(lambda: f"missing: {FIRST}; unknown: elbow" in process.log(), "the sentence")
    probe.send(JointTrajectory(good.joint_names, good.times, good.positions * np.nan, good.velocities), 0.1)
    probe.wait(lambda: len(probe.images) == 3 and len(probe.joints) == 3, "the frame after the NaN")
    np.testing.assert_allclose(probe.joints[-1].position, HOME, atol=1e-3)


def test_real_time_moves_only_while_active_and_every_image_has_joints_of_its_stamp(
    ros_domain: Any, node_process: Any
) -> None:
    node_process("sim", {"world": "four_cubes", "rtf": 2.0})
    probe = Probe(ros_domain)
    assert ros_domain.transition("sim", "configure"), ros_domain.logs()
    probe.wait(lambda: len(probe.joints) >= 3, "joints while inactive")
    assert not probe.images
    assert {probe.seconds(message) for message in probe.joints} == {0.0}
    assert ros_domain.transition("sim", "activate"), ros_domain.logs()
    probe.wait(lambda: len(probe.images) >= 5, "frames")
    goal = HOME.copy()
    goal[0] += 0.05
    # One point, joints in another order, stamp zero: start at once.
    probe.send(
        JointTrajectory(PROFILE.joint_names[::-1], np.array([0.2]), goal[None, ::-1], np.zeros((1, 7))), 0.0
    )
    probe.wait(lambda: abs(probe.joints[-1].position[0] - goal[0]) < 1e-3, "the goal")
    stamps = {probe.seconds(message) for message in probe.joints}
    frames = [probe.seconds(message) for message in probe.images]
    assert set(frames[:-1]) <= stamps
    np.testing.assert_allclose(np.diff(frames), 0.1, atol=1e-9)
    assert probe.infos[0].k[2] == 48.0 and probe.images[0].encoding == "rgb8"
    assert ros_domain.transition("sim", "deactivate"), ros_domain.logs()
    seen = len(probe.joints)
    # Some from before may still be on their way; time that went on would never be told twice.
    probe.wait(
        lambda: len(probe.joints) >= seen + 3 and len({probe.seconds(m) for m in probe.joints[-2:]}) == 1,
        "joints of one and the same instant while inactive again",
    )
    assert ros_domain.transition("sim", "activate"), ros_domain.logs()
    frozen = probe.seconds(probe.joints[-1])
    probe.wait(lambda: probe.seconds(probe.joints[-1]) > frozen + 0.3, "time going on")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"world": "atlantis"}, "there is no world 'atlantis'"),
        ({"world": "missing.yaml"}, "there is no such world file"),
        ({"camera_rate": 7.0}, "allowed: divisors of 240"),
        ({"robot": "r2d2"}, "r2d2"),
    ],
)
def test_a_wrong_parameter_fails_configure_with_a_sentence_and_a_right_one_can_follow(
    ros_domain: Any, node_process: Any, parameters: dict[str, Any], sentence: str
) -> None:
    process = node_process("sim", parameters)
    assert not ros_domain.transition("sim", "configure")
    ros_domain.wait_until(lambda: sentence in process.log(), "the sentence")
    assert ros_domain.state("sim") == "unconfigured"
    assert process.kill(2) == 0
