"""Bags of the real simulator without ROS: camera, joints and executed commands, as the nodes' topics carry them.

The arm is driven from thing to thing by a script that knows where they are: these bags are for replay and learning
from recordings, not for curiosity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import get_types_from_msg

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.bags.metadata import PARAMETERS, TopicInfo
from crl_node.bags.writer import BagWriter
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import load_world
from crl_node.system import SimOptions, nodes
from tests.support.synthetic_run import Messages, definitions

TOPICS = {
    "/camera/image_raw": "sensor_msgs/msg/Image",
    "/joint_states": "sensor_msgs/msg/JointState",
    "/gate/executed": "crl_interfaces/msg/Command",
    "/sim/ground_truth": "crl_interfaces/msg/GroundTruth",
    "/learner/report": "crl_interfaces/msg/StepReport",
}


def parameters(world: str, seed: int) -> dict[str, dict[str, Any]]:
    """What the recorder finds when it asks the nodes of a lockstep run."""
    specs = nodes(SimOptions(world=world, seed=seed, lockstep=True))
    found = {f"/{spec.name}": dict(spec.parameters) for spec in specs if spec.name in ("learner", "planner")}
    found["/learner"]["checkpoint"] = ""
    return found


def record_pushes(
    folder: Path, *, world: str = "four_cubes", seed: int = 0, steps: int = 60, start: float = 100.0,
    truth: bytes | None = None, reports: Mapping[int, str] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Write a bag of `steps` control steps; `start` s is the log time of its first message.

    `truth`: bytes written as ground truth with every frame (None: that topic is left out). `reports`: notes of step
    reports by step, written with their frames (None: that topic is left out). `options` go to the writer.
    """
    m = Messages()
    for name in TOPICS.values():
        types = get_types_from_msg(definitions().text(name), name)
        m.store.register({k: v for k, v in types.items() if k not in m.store.fielddefs})
    place, profile = load_world(world), load_profile("iiwa_sim")
    writer = BagWriter(folder, definitions=definitions(), min_free_bytes=0, **options)
    for topic, kind in TOPICS.items():
        left_out = {"/sim/ground_truth": truth is None, "/learner/report": reports is None}
        if not left_out.get(topic, False):
            writer.add_topic(TopicInfo(topic, kind))
    writer.note({PARAMETERS: json.dumps(parameters(world, seed))})
    rng = np.random.default_rng(seed)

    def put(topic: str, data: bytes, now: float) -> None:
        writer.write(topic, data, log_time=round((start + now) * 1e9))

    with Simulator(place, profile, seed) as sim:
        commander = TipCommander(profile, Arm(profile))
        target = int(rng.integers(len(sim.truth().objects)))
        for step in range(steps):
            now = sim.time
            names, q, dq, _ = sim.joint_state()
            joints = dict(zip(names, map(float, q), strict=True))
            speeds = dict(zip(names, map(float, dq), strict=True))
            if step == 0:
                commander.reset(joints, now)
            image = sim.render()
            put("/joint_states", m.bytes(m.make(
                "sensor_msgs/msg/JointState", header=m.header(now), name=list(names),
                position=np.array(q, float), velocity=np.array(dq, float),
            )), now)  # fmt: skip
            put("/camera/image_raw", m.bytes(m.make(
                "sensor_msgs/msg/Image", header=m.header(now), height=image.shape[0], width=image.shape[1],
                encoding="rgb8", step=3 * image.shape[1], data=image.reshape(-1),
            )), now)  # fmt: skip
            if reports is not None and step in reports:
                put("/learner/report", m.bytes(m.make(
                    "crl_interfaces/msg/StepReport", header=m.header(now), note=reports[step],
                )), now)  # fmt: skip
            if truth is not None:
                put("/sim/ground_truth", truth, now)
            if step % 15 == 14:
                target = int(rng.integers(len(sim.truth().objects)))
            aim = np.asarray(sim.truth().objects[target].position)[:2] - np.asarray(sim.tip())[:2]
            chunk = commander.chunk(joints, speeds, 0.2 * aim / max(float(np.linalg.norm(aim)), 1e-6), start=now)
            command = m.make(
                "crl_interfaces/msg/Command", header=m.header(now), sequence=step + 1, belief_stamp=m.time(now),
                velocity=m.make("geometry_msgs/msg/Vector3", x=float(chunk.velocity[0]), y=float(chunk.velocity[1])),
                duration=m.make(
                    "builtin_interfaces/msg/Duration", sec=0, nanosec=round(profile.command_duration * 1e9)
                ),
                ramp=m.make("builtin_interfaces/msg/Duration", sec=0, nanosec=round(profile.command_ramp * 1e9)),
            )  # fmt: skip
            put("/gate/executed", m.bytes(command), now)
            sim.set_trajectory(chunk.trajectory, now)
            sim.advance(0.1)
    writer.close()
    return folder
