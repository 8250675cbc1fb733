"""The learner as a process of its own: what it publishes, in which order, and what it survives."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crl_node.arm.profile import load_profile
from crl_node.posterior import check
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import load_world

pytestmark = pytest.mark.ros

PROFILE = load_profile("iiwa_sim")
WORLD = load_world("four_cubes")


def parameters(**changes: Any) -> dict[str, Any]:
    """What `crl sim` tells the learner."""
    return {
        "lockstep": True,
        "camera_fov": WORLD.camera.fov_y,
        "camera_eye": list(WORLD.camera.eye),
        "camera_target": list(WORLD.camera.target),
        "table": [*WORLD.table.x, *WORLD.table.y],
        **changes,
    }


class Stage:
    """Plays simulator and gate for the learner: one call is one tick."""

    def __init__(self, domain: Any, simulator: Simulator) -> None:
        from crl_interfaces.msg import Belief, CausalGraph, Command, Posterior, StepReport
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from sensor_msgs.msg import Image, JointState

        self.domain, self.simulator = domain, simulator
        self.order: list[str] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.beliefs = domain.collect(Belief, "learner/belief", 10)
        self.posteriors = domain.collect(Posterior, "learner/posterior", latched)
        self.reports = domain.collect(StepReport, "learner/report", 50)
        self.graphs = domain.collect(CausalGraph, "learner/graph", 10)
        self.images = domain.publisher(Image, "camera/image_raw", 5)
        self.joints = domain.publisher(JointState, "joint_states", 10)
        self.executed = domain.publisher(Command, "gate/executed", 10)
        self.time = 0.0

    def joint_state(self, stamp: float, **changes: Any) -> Any:
        from sensor_msgs.msg import JointState

        from crl_node.nodes.convert import header

        names, q, dq, _ = self.simulator.joint_state()
        message = JointState(header=header(stamp), name=list(names), position=list(q), velocity=list(dq))
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def image(self, stamp: float, **changes: Any) -> Any:
        from array import array

        from sensor_msgs.msg import Image

        from crl_node.nodes.convert import header

        picture = self.simulator.render()
        height, width, _ = picture.shape
        message = Image(header=header(stamp), height=height, width=width, step=3 * width, encoding="rgb8")
        message.data = array("B", picture.tobytes())
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    def command(self, stamp: float, vx: float = 0.0) -> Any:
        from crl_interfaces.msg import Command

        from crl_node.nodes.convert import header, seconds_to_duration

        message = Command(header=header(stamp), duration=seconds_to_duration(0.1), ramp=seconds_to_duration(0.1))
        message.velocity.x = vx
        return message

    def tick(self, *, answered: bool = True) -> None:
        """Joint state and image of now, wait for the belief, then the command that starts now."""
        count = len(self.beliefs)
        self.joints.publish(self.joint_state(self.time))
        self.images.publish(self.image(self.time))
        if answered:
            self.domain.wait_until(lambda: len(self.beliefs) > count, f"a belief of {self.time:.1f} s")
        self.executed.publish(self.command(self.time))
        self.time = round(self.time + 0.1, 9)
        self.simulator.advance(0.1)

    def wait(self, condition: Any, what: str) -> None:
        self.domain.wait_until(condition, what)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(WORLD, PROFILE, 0) as simulator:
        yield simulator


def bring_up(domain: Any, simulator: Simulator) -> Stage:
    assert domain.transition("learner", "configure"), domain.logs()
    stage = Stage(domain, simulator)
    assert domain.transition("learner", "activate"), domain.logs()
    return stage


def test_it_publishes_belief_posterior_graph_and_report_for_every_frame(
    ros_domain: Any, node_process: Any, simulator: Simulator
) -> None:
    from crl_node.nodes.convert import belief_from_message, graph_from_message, posterior_from_message

    node_process("learner", parameters(posterior_period=0.0))
    stage = bring_up(ros_domain, simulator)
    for _ in range(18):
        stage.tick()
    stage.wait(lambda: len(stage.reports) >= 18 and len(stage.graphs) >= 2 and bool(stage.posteriors), "the rest")
    belief = belief_from_message(stage.beliefs[-1])
    assert belief.stamp == pytest.approx(1.7)
    assert len(belief.ids) == 5
    posterior = posterior_from_message(stage.posteriors[-1])
    check(posterior)
    assert (posterior.slot_ids >= 0).sum() == 5
    assert any(edge.effect.endswith("position") for edge in graph_from_message(stage.graphs[-1]))
    report = stage.reports[-1]
    assert (report.frames_received, report.frames_dropped, report.frames_rejected) == (18, 0, 0)
    assert report.step > 10
    assert report.perception_ms > 0 and report.refresh_ms > 0
    # A belief names a posterior that was on its way before it.
    assert stage.beliefs[-1].posterior_version == stage.posteriors[-1].version


def test_in_lockstep_a_frame_waits_for_the_command_before_it(
    ros_domain: Any, node_process: Any, simulator: Simulator
) -> None:
    node_process("learner", parameters(lockstep_patience=60.0))
    stage = bring_up(ros_domain, simulator)
    stage.joints.publish(stage.joint_state(0.0))
    stage.images.publish(stage.image(0.0))
    stage.wait(lambda: len(stage.beliefs) == 1, "the first belief, which waits for nothing")
    stage.joints.publish(stage.joint_state(0.1))
    stage.images.publish(stage.image(0.1))
    stage.executed.publish(stage.command(0.0))
    stage.wait(lambda: len(stage.beliefs) == 2, "the second belief")


def test_bad_input_is_named_in_the_report_and_the_node_goes_on(
    ros_domain: Any, node_process: Any, simulator: Simulator
) -> None:
    process = node_process("learner", parameters(lockstep=False))
    stage = bring_up(ros_domain, simulator)
    stage.tick()
    for changes, text in (
        ({"encoding": "mono8"}, "encoding 'mono8'"),
        ({"height": 48}, "96x48"),
    ):
        stage.images.publish(stage.image(stage.time, **changes))
        stage.wait(lambda t=text: any(t in report.note for report in stage.reports), f"a report with '{text}'")
    assert max(report.frames_rejected for report in stage.reports) == 2
    names, q, _, _ = simulator.joint_state()
    stage.joints.publish(stage.joint_state(stage.time, position=[math.nan, *q[1:]]))
    stage.joints.publish(stage.joint_state(stage.time, name=["elbow", *names[1:]]))
    stage.wait(lambda: "is absent from the joint states" in process.log(), "a sentence about the joint")
    assert "nan rad" in process.log()
    stage.tick()
    assert np.isfinite(stage.beliefs[-1].slots[0].mean).all()


def test_the_model_is_saved_loaded_and_resumed(
    ros_domain: Any, node_process: Any, simulator: Simulator, tmp_path: Path
) -> None:
    from crl_interfaces.srv import Load, Save

    checkpoint = tmp_path / "checkpoint.npz"
    process = node_process("learner", parameters(checkpoint=str(checkpoint)))
    stage = bring_up(ros_domain, simulator)
    for _ in range(14):
        stage.tick()
    other = tmp_path / "other.npz"
    saved = ros_domain.call(Save, "learner/save", Save.Request(path=str(other)))
    assert saved.success, saved.message
    loaded = ros_domain.call(Load, "learner/load", Load.Request(path=str(other)))
    assert loaded.success, loaded.message
    assert loaded.hash == saved.hash
    broken = tmp_path / "broken.npz"
    broken.write_bytes(other.read_bytes()[:1000])
    refused = ros_domain.call(Load, "learner/load", Load.Request(path=str(broken)))
    assert not refused.success
    assert "keeping the model in use" in refused.message
    assert refused.hash == saved.hash
    stage.wait(checkpoint.is_file, "the periodic checkpoint")
    assert ros_domain.transition("learner", "deactivate")
    assert process.kill(signal.SIGINT) == 0
    again = node_process("learner", parameters(checkpoint=str(checkpoint)))
    assert ros_domain.transition("learner", "configure"), ros_domain.logs()
    assert "resumed" in again.log()
    back = ros_domain.call(Save, "learner/save", Save.Request(path=str(other)))
    assert back.success


def test_an_environment_begins_by_service_and_the_graph_names_it(
    ros_domain: Any, node_process: Any, simulator: Simulator
) -> None:
    from crl_interfaces.srv import BeginEnvironment

    node_process("learner", parameters())
    stage = bring_up(ros_domain, simulator)
    for _ in range(4):
        stage.tick()
    begun = ros_domain.call(BeginEnvironment, "learner/begin_environment", BeginEnvironment.Request(name="wet"))
    assert begun.success and begun.environment == "wet", begun.message
    again = ros_domain.call(BeginEnvironment, "learner/begin_environment", BeginEnvironment.Request(name="wet"))
    assert not again.success and "first, wet" in again.message
    for _ in range(12):
        stage.tick()
    stage.wait(lambda: stage.graphs and stage.graphs[-1].environment == "wet", "a graph of the new environment")
    assert stage.graphs[0].environment == "first"
    assert all(0.0 <= edge.now <= edge.probability and edge.invariant > 0.9 for edge in stage.graphs[-1].edges)


def test_an_unusable_checkpoint_is_put_aside_and_said(ros_domain: Any, node_process: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.npz"
    checkpoint.write_bytes(b"not a checkpoint")
    process = node_process("learner", parameters(checkpoint=str(checkpoint)))
    assert ros_domain.transition("learner", "configure"), ros_domain.logs()
    assert "starting from nothing" in process.log()
    assert (tmp_path / "checkpoint.npz.unusable").read_bytes() == b"not a checkpoint"


def test_a_table_that_is_none_keeps_the_node_from_configuring(ros_domain: Any, node_process: Any) -> None:
    process = node_process("learner", parameters(table=[0.8, 0.4, -0.3, 0.3]))
    assert not ros_domain.transition("learner", "configure")
    assert "x_min < x_max" in process.log()
