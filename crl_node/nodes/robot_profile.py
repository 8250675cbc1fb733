"""A node's robot profile, also when its URDF comes from a topic."""

from __future__ import annotations

import time
from functools import partial

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from crl_node.arm.profile import DescriptionNeededError, RobotProfile, load_profile
from crl_node.nodes.listener import Listener

#: How long robot_state_publisher is waited for, s.
PATIENCE = 10.0


def robot_profile(node: Node, name: str) -> RobotProfile:
    """`load_profile(name)`; a URDF on a topic is heard first, by the name that `node` knows the topic by.

    ProfileError when the profile is wrong or nothing comes within PATIENCE.
    """
    try:
        return load_profile(name)
    except DescriptionNeededError as needed:
        topic = node.resolve_topic_name(needed.topic)
        text = hear(topic, node.context.get_domain_id())
        if text is None:
            raise DescriptionNeededError(
                f"no URDF came on {topic} within {PATIENCE:g} s; is robot_state_publisher running?", topic
            ) from None
        return load_profile(name, text)


def hear(topic: str, domain_id: int, patience: float = PATIENCE) -> str | None:
    """The latched text on `topic`, or None. In a context of its own: a node's executor cannot wait for its node."""
    listener = Listener(partial(Node, "crl_description_listener"), domain_id)
    heard: list[str] = []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    listener.node.create_subscription(String, topic, lambda message: heard.append(message.data), latched)
    deadline = time.monotonic() + patience
    try:
        while not heard and time.monotonic() < deadline:
            listener.executor.spin_once(timeout_sec=0.1)
    finally:
        listener.close()
    return heard[0] if heard else None
