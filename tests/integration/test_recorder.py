"""The recorder node with real rclpy: raw subscriptions, counts, late and weaker publishers, a full disk, kill -9."""

import array
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rosbags.rosbag2 import Reader

from crl_node.bags.reader import BagReader

pytestmark = pytest.mark.ros
TOPICS = [
    "camera/image_raw sensor_msgs/msg/Image",
    "joint_states sensor_msgs/msg/JointState",
    "learner/posterior crl_interfaces/msg/Posterior transient_local",
]


def counts(bag: Path) -> dict[str, Any]:
    return dict(json.loads((bag / "recorder.json").read_text())["topics"])


def camera_frame(n: int) -> Any:
    from sensor_msgs.msg import Image

    message = Image(
        height=96, width=96, encoding="rgb8", step=288, data=array.array("B", bytes([n % 256]) * 27648)
    )
    message.header.stamp.sec = n
    return message


def recorded(bag: Path, topic: str) -> int:
    return counts(bag).get(topic, {}).get("recorded", 0) if (bag / "recorder.json").exists() else 0


def test_everything_sent_is_in_the_bag_and_counted(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    from crl_interfaces.msg import Posterior
    from rclpy.duration import Duration
    from rclpy.qos import DurabilityPolicy, QoSProfile

    bag = tmp_path / "bag"
    process = node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 0})
    assert ros_domain.transition("recorder", "configure") and ros_domain.transition("recorder", "activate")
    kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    images = ros_domain.publisher(type(camera_frame(0)), "camera/image_raw", 500)
    posteriors = ros_domain.publisher(Posterior, "learner/posterior", kept)
    for n in range(300):
        images.publish(camera_frame(n))
        if n % 10 == 0:
            posteriors.publish(Posterior(version=n, weight_mean=array.array("f", [0.5] * 96)))
    # What is still on its way when the recorder stops is not its loss.
    assert images.wait_for_all_acked(Duration(seconds=60)) and posteriors.wait_for_all_acked(Duration(seconds=60))
    assert ros_domain.transition("recorder", "deactivate")
    assert ros_domain.transition("recorder", "cleanup")
    assert counts(bag)["/camera/image_raw"]["sent"] == 300
    assert counts(bag)["/camera/image_raw"]["recorded"] == 300
    assert counts(bag)["/learner/posterior"]["recorded"] == 30
    with Reader(bag) as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == {
            "/camera/image_raw": 300, "/joint_states": 0, "/learner/posterior": 30,
        }  # fmt: skip
    messages = [m.message for m in BagReader(bag).messages(["learner/posterior"])]
    assert [m.version for m in messages] == list(range(0, 300, 10))
    assert json.loads(BagReader(bag).custom["crl_node.topics"])["/camera/image_raw"]["sent"] == 300
    assert process.kill(signal.SIGTERM) == 0


def test_a_posterior_published_before_the_recorder_came_is_recorded(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    from crl_interfaces.msg import Posterior
    from rclpy.qos import DurabilityPolicy, QoSProfile

    bag = tmp_path / "bag"
    kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_domain.node.create_publisher(Posterior, "learner/posterior", kept).publish(Posterior(version=7))
    node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 0})
    assert ros_domain.transition("recorder", "configure")
    ros_domain.wait_until(lambda: recorded(bag, "/learner/posterior") == 1, "the posterior in the bag")


def test_a_best_effort_publisher_is_recorded_with_what_it_offers(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import JointState

    bag = tmp_path / "bag"
    node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 0})
    assert ros_domain.transition("recorder", "configure")
    publisher = ros_domain.publisher(JointState, "joint_states", qos_profile_sensor_data)

    def arrived() -> bool:
        publisher.publish(JointState(name=["a"]))
        return recorded(bag, "/joint_states") > 0

    ros_domain.wait_until(arrived, "a joint state in the bag")
    assert "offers best effort" in counts(bag)["/joint_states"]["note"]


def test_an_unknown_type_leaves_the_other_topics_recorded(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    bag = tmp_path / "bag"
    topics = ["nothing no_such_package/msg/Thing", *TOPICS]
    process = node_process("recorder", {"output": str(bag), "topics": topics, "min_free": 0})
    assert ros_domain.transition("recorder", "configure")
    ros_domain.publisher(type(camera_frame(0)), "camera/image_raw", 500).publish(camera_frame(1))
    ros_domain.wait_until(lambda: recorded(bag, "/camera/image_raw") == 1, "the frame in the bag")
    assert "no_such_package/msg/Thing' has no definition" in process.log()


def test_a_full_disk_stops_the_recording_with_a_sentence_and_nothing_else(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    bag = tmp_path / "bag"
    process = node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 10**6})
    # No disk has a million MB to spare here: configure is refused, the process lives and says why.
    assert not ros_domain.transition("recorder", "configure")
    assert "are kept free; recording stopped" in process.log()
    assert ros_domain.state("recorder") == "unconfigured"


def test_a_killed_recorder_s_bag_is_readable_and_continued_by_the_next(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    bag = tmp_path / "bag"
    parameters = {"output": str(bag), "topics": TOPICS, "min_free": 0, "flush_period": 0.05}
    first = node_process("recorder", parameters)
    assert ros_domain.transition("recorder", "configure")
    images = ros_domain.publisher(type(camera_frame(0)), "camera/image_raw", 500)
    for n in range(20):
        images.publish(camera_frame(n))

    def flushed() -> int:
        return BagReader(bag).topics().get("/camera/image_raw", ("", 0))[1]

    ros_domain.wait_until(lambda: flushed() == 20, "twenty frames handed to the kernel")
    first.kill(signal.SIGKILL)
    assert flushed() == 20
    ros_domain.wait_until(lambda: images.get_subscription_count() == 0, "the end of the dead subscription")
    node_process("recorder", parameters)
    assert ros_domain.transition("recorder", "configure")
    ros_domain.wait_until(lambda: images.get_subscription_count() > 0, "the new recorder")
    images.publish(camera_frame(99))
    ros_domain.wait_until(lambda: recorded(bag, "/camera/image_raw") == 21, "the new frame beside the old")
    assert ros_domain.transition("recorder", "cleanup")
    with Reader(bag) as reader:
        assert reader.message_count == 21
