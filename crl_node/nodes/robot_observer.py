"""Listens to a running robot for a few seconds, for `crl robot check --live`. It publishes nothing."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from crl_node.arm.live_check import Info, Joints, Observation, Picture
from crl_node.nodes.base import stamp_to_seconds
from crl_node.nodes.listener import Listener

#: s, how long joint states and pictures are waited for before listening begins.
DISCOVERY = 6.0
#: Our own nodes may run beside the check; they are not strangers on the command topic.
_OURS = ("gate",)
#: What a topic's type cannot be told without a subscription of that type; wrong ones simply bring nothing.
_NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


def observe(topics: dict[str, str], *, seconds: float, domain_id: int | None = None) -> Observation:
    """Listen for `seconds` s once joint states and pictures come, or DISCOVERY s have passed.

    `topics`: joint, image, info and command topic, and description (see `Observation`).
    Ages are told on this machine's clock.
    """
    listener = Listener(partial(Node, "crl_robot_check"), domain_id)
    node = listener.node
    seen = Observation(
        seconds, topics["joint"], topics["image"], topics["info"], topics["command"]
    )
    try:
        _listen(node, seen, topics["description"])
        # Discovery takes up to some seconds: what is only not found yet must not be told as missing.
        deadline = time.monotonic() + DISCOVERY
        while time.monotonic() < deadline and not (seen.joints and seen.pictures):
            listener.executor.spin_once(timeout_sec=0.1)
        seen.joints.clear()
        seen.pictures.clear()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            listener.executor.spin_once(timeout_sec=0.1)
        _endpoints(node, seen)
    finally:
        listener.close()
    return seen


def _listen(node: Node, seen: Observation, description: str) -> None:
    def now() -> float:
        return float(node.get_clock().now().nanoseconds * 1e-9)

    def on_joints(message: JointState) -> None:
        seen.joints.append(
            Joints(
                stamp_to_seconds(message.header.stamp), now(), tuple(message.name), tuple(message.position),
                tuple(message.velocity),
            )  # fmt: skip
        )

    def on_image(message: Image) -> None:
        seen.pictures.append(
            Picture(
                stamp_to_seconds(message.header.stamp), now(), int(message.width), int(message.height),
                message.encoding, message.header.frame_id,
            )  # fmt: skip
        )

    def on_info(message: CameraInfo) -> None:
        matrix = np.array(message.k, float).reshape(3, 3)
        seen.infos.append(
            Info(int(message.width), int(message.height), matrix, tuple(message.d), message.header.frame_id)
        )

    def on_description(message: String) -> None:
        seen.description = message.data

    best_effort = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(JointState, seen.joint_topic, on_joints, best_effort)
    node.create_subscription(Image, seen.image_topic, on_image, _NEWEST)
    node.create_subscription(CameraInfo, seen.info_topic, on_info, _NEWEST)
    node.create_subscription(String, description, on_description, latched)


def _endpoints(node: Node, seen: Observation) -> None:
    def publishers(topic: str) -> list[tuple[str, str]]:
        return [(info.node_name, info.topic_type) for info in node.get_publishers_info_by_topic(topic)]

    name = node.resolve_topic_name
    seen.joint_publishers = publishers(name(seen.joint_topic))
    seen.image_publishers = publishers(name(seen.image_topic))
    command = name(seen.command_topic)
    seen.subscribers = [
        (info.node_name, info.topic_type)
        for info in node.get_subscriptions_info_by_topic(command)
        if info.node_name not in ("recorder", "crl_robot_check")
    ]
    seen.commanders = [entry for entry in publishers(command) if entry[0] not in _OURS]
