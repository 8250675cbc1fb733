"""The recorder node with real rclpy: raw subscriptions, counts, late and weaker publishers, a full disk, kill -9."""

import array
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rosbags.rosbag2 import Reader

from crl_node.bags.metadata import MODEL, PARAMETERS, ROLES, VERSIONS
from crl_node.bags.reader import BagReader
from crl_node.bags.repair import recover_bag
from crl_node.bags.survey import check, survey

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


def test_topics_are_in_the_bag_in_the_order_in_which_their_messages_came(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    from mcap.reader import NonSeekingReader
    from rclpy.duration import Duration
    from sensor_msgs.msg import JointState

    bag = tmp_path / "bag"
    process = node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 0})
    assert ros_domain.transition("recorder", "configure")
    images = ros_domain.publisher(type(camera_frame(0)), "camera/image_raw", 500)
    joints = ros_domain.publisher(JointState, "joint_states", 500)
    joints.publish(JointState())
    images.publish(camera_frame(0))
    both = ("/joint_states", "/camera/image_raw")
    ros_domain.wait_until(lambda: all(recorded(bag, topic) for topic in both), "a message of each in the bag")
    for n in range(100):
        joints.publish(JointState(name=[str(n)]))
        images.publish(camera_frame(n))
    assert joints.wait_for_all_acked(Duration(seconds=60)) and images.wait_for_all_acked(Duration(seconds=60))
    assert ros_domain.transition("recorder", "cleanup")
    found = []
    for path in sorted(bag.glob("*.mcap")):
        with path.open("rb") as stream:
            found += [(c.topic, m.log_time) for _, c, m in NonSeekingReader(stream).iter_messages(log_time_order=False)]
    assert len(found) == 202
    assert [time for _, time in found] == sorted(time for _, time in found)
    # DDS does not promise to deliver two topics in step, but not one after the other either.
    assert sum(one != other for (one, _), (other, _) in pairwise(found)) > 20
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


def test_a_topic_that_matches_a_pattern_is_recorded_as_it_is_offered(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    from rclpy.qos import qos_profile_sensor_data
    from sensor_msgs.msg import JointState

    bag = tmp_path / "bag"
    parameters = {
        "output": str(bag), "profile": "", "include": ["/arm_.*/joint_states"], "exclude": ["/arm_2/.*"], "min_free": 0,
        "autostart": True,
    }  # fmt: skip
    process = node_process("recorder", parameters)
    unwanted = ros_domain.node.create_publisher(JointState, "/arm_2/joint_states", 10)
    publisher = ros_domain.publisher(JointState, "/arm_1/joint_states", qos_profile_sensor_data)

    def arrived() -> bool:
        publisher.publish(JointState(name=["a"]))
        unwanted.publish(JointState(name=["b"]))
        return recorded(bag, "/arm_1/joint_states") > 3

    ros_domain.wait_until(arrived, "joint states in the bag")
    assert process.kill(signal.SIGTERM) == 0
    assert set(counts(bag)) == {"/arm_1/joint_states"}
    assert counts(bag)["/arm_1/joint_states"]["note"] == ""  # asked for what is offered from the start
    with Reader(bag) as reader:
        assert [c.topic for c in reader.connections] == ["/arm_1/joint_states"]
    assert check(survey(bag), {"joint_states": "joint_states"}) == []


def test_the_bag_says_with_which_parameters_and_which_model_it_was_recorded(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    """Also after kill -9, without the recorder's files beside it."""
    from crl_interfaces.msg import Posterior
    from rclpy.qos import DurabilityPolicy, QoSProfile

    bag = tmp_path / "bag"
    node_process("gate", {"lockstep": True})  # any node: nothing is asked of it but its parameters
    recorder = node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 0, "autostart": True})
    kept = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_domain.publisher(Posterior, "learner/posterior", kept).publish(Posterior(version=7, step=5, hash="abc"))

    def known() -> bool:
        found = json.loads(BagReader(bag).custom.get(PARAMETERS, "{}")) if any(bag.glob("*.mcap")) else {}
        return {"/gate", "/recorder"} <= set(found)

    ros_domain.wait_until(known, "the nodes' parameters in the bag")
    ros_domain.wait_until(lambda: recorded(bag, "/learner/posterior") == 1, "the posterior in the bag")
    recorder.kill(signal.SIGKILL)
    (bag / "metadata.yaml").unlink()
    recover_bag(bag)
    custom = BagReader(bag).custom
    gate = json.loads(custom[PARAMETERS])["/gate"]
    assert gate["lockstep"] is True and gate["profile"] == "iiwa_sim"
    assert json.loads(custom[ROLES])["joint_states"] == "/joint_states"
    assert json.loads(custom[MODEL]) == {"version": 7, "step": 5, "hash": "abc"}
    assert "crl_node" in json.loads(custom[VERSIONS])


def test_recording_stops_when_space_runs_out_and_says_so_in_the_log_and_in_diagnostics(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    """The space to keep is set to more than any disk has, while recording: nobody else notices."""
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    bag = tmp_path / "bag"
    process = node_process("recorder", {"output": str(bag), "topics": TOPICS, "min_free": 0, "flush_period": 0.1})
    assert ros_domain.transition("recorder", "configure") and ros_domain.transition("recorder", "activate")
    images = ros_domain.publisher(type(camera_frame(0)), "camera/image_raw", 500)
    images.publish(camera_frame(0))
    ros_domain.wait_until(lambda: recorded(bag, "/camera/image_raw") == 1, "the frame in the bag")
    diagnostics = ros_domain.collect(DiagnosticArray, "/diagnostics")
    value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=10**6)
    request = SetParameters.Request(parameters=[Parameter(name="min_free", value=value)])
    assert ros_domain.call(SetParameters, "recorder/set_parameters", request).results[0].successful

    def told() -> bool:
        return any(
            s.level == DiagnosticStatus.ERROR and "are kept free; recording stopped" in s.message
            for array in diagnostics
            for s in array.status
        )

    ros_domain.wait_until(told, "an error in /diagnostics")
    assert "recording stopped" in process.log() and "the rest of the system is not affected" in process.log()
    images.publish(camera_frame(1))
    ros_domain.wait_until(lambda: counts(bag)["/camera/image_raw"]["dropped"] == 1, "the frame that was not recorded")
    assert ros_domain.state("recorder") == "active"  # the manager has nothing to worry about
    with Reader(bag) as reader:  # the bag is whole already
        assert reader.message_count >= 1
    assert any("recording ended early" in f.sentence for f in check(survey(bag), {}))
    assert ros_domain.transition("recorder", "deactivate") and ros_domain.transition("recorder", "cleanup")


def test_crl_record_records_a_running_system_until_ctrl_c(ros_domain: Any, tmp_path: Path) -> None:
    from sensor_msgs.msg import JointState

    bag = tmp_path / "bag"
    command = [
        sys.executable, "-m", "crl_node.cli", "record", "--domain", str(ros_domain.id), "--out", str(bag),
        "--include", "/arm/.*", "--min-free-mb", "0", "--compression", "zstd",
    ]  # fmt: skip
    process = ros_domain.process("crl_record", command)
    publisher = ros_domain.publisher(JointState, "/arm/joint_states", 10)

    def arrived() -> bool:
        publisher.publish(JointState(name=["a"]))
        return recorded(bag, "/arm/joint_states") > 3

    ros_domain.wait_until(arrived, "joint states in the bag")
    assert process.kill(signal.SIGINT) == 130, process.log()
    with Reader(bag) as reader:
        assert reader.message_count > 3 and [c.topic for c in reader.connections] == ["/arm/joint_states"]


def test_crl_record_refuses_what_it_cannot_record(tmp_path: Path) -> None:
    for arguments, sentence in (
        (["--include", "("], "no regular expression"), (["--profile", "no_such"], "there is everything, input, loop"),
        (["--compression", "rar"], "it must be one of none, lz4, zstd"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "crl_node.cli", "record", "--out", str(tmp_path / "bag"), *arguments],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2 and sentence in done.stderr, done.stderr
        assert not (tmp_path / "bag").exists()
