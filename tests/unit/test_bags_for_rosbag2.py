"""Bags as rosbag2 of Jazzy reads them: its decoding (yaml.hpp, qos.cpp, mcap_storage.cpp) in strict types.

rosbag2 itself is C++ and does not run from pip; docs/bags.md says what was read in its source.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader

from crl_node.bags.metadata import TopicInfo
from crl_node.bags.writer import BagWriter
from tests.support.synthetic_run import Messages, definitions

#: Words of rmw's qos_string_conversions.
POLICIES = {
    "history": {"system_default", "keep_last", "keep_all"},
    "reliability": {"system_default", "reliable", "best_effort"},
    "durability": {"system_default", "transient_local", "volatile"},
    "liveliness": {"system_default", "automatic", "manual_by_topic"},
}
IMAGE, POSTERIOR = "sensor_msgs/msg/Image", "crl_interfaces/msg/Posterior"


def check_qos(profiles: Any) -> None:
    assert isinstance(profiles, list) and profiles
    for profile in profiles:
        for field, words in POLICIES.items():
            assert profile[field] in words
        assert type(profile["depth"]) is int and type(profile["avoid_ros_namespace_conventions"]) is bool
        for field in ("deadline", "lifespan", "liveliness_lease_duration"):
            assert set(profile[field]) == {"sec", "nsec"}
            assert all(type(value) is int and 0 <= value < 2**63 for value in profile[field].values())


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, messages = tmp_path_factory.mktemp("rosbag2") / "bag", Messages()
    data = messages.bytes(messages.make(IMAGE, height=1, width=1, step=3, encoding="rgb8", data=np.zeros(3, np.uint8)))
    with BagWriter(folder, definitions=definitions(), min_free_bytes=0, split_seconds=1.0) as writer:
        writer.add_topic(TopicInfo("/camera/image_raw", IMAGE))
        writer.add_topic(TopicInfo("/learner/posterior", POSTERIOR, reliable=True, transient_local=True, depth=1))
        for step in range(30):
            writer.write("/camera/image_raw", data, log_time=10**18 + step * 10**8)
        writer.note({"crl_node.versions": '{"crl_node": "0"}'})
    return folder


def test_metadata_decodes_as_version_9(bag: Path) -> None:
    information = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["version"] == 9 and information["storage_identifier"] == "mcap"
    assert information["compression_format"] == information["compression_mode"] == ""  # MCAP compresses by itself
    assert information["ros_distro"] == "jazzy"
    for entry in (information, *information["files"]):
        assert type(entry["duration"]["nanoseconds"]) is int and entry["duration"]["nanoseconds"] >= 0  # uint64
        assert type(entry["starting_time"]["nanoseconds_since_epoch"]) is int
        assert type(entry["message_count"]) is int
    names = information["relative_file_paths"]
    assert len(names) > 1 and [entry["path"] for entry in information["files"]] == names
    assert all((bag / name).is_file() and "/" not in name for name in names)
    assert all(type(k) is type(v) is str for k, v in information["custom_data"].items())
    for topic in information["topics_with_message_count"]:
        told = topic["topic_metadata"]
        assert told["serialization_format"] == "cdr" and told["type_description_hash"].startswith("RIHS01_")
        check_qos(told["offered_qos_profiles"])
    assert information["message_count"] == 30


def test_every_file_says_what_the_storage_plugin_asks_it(bag: Path) -> None:
    for path in sorted(bag.glob("*.mcap")):
        with path.open("rb") as stream:
            reader = make_reader(stream)
            summary = reader.get_summary()
            assert reader.get_header().profile == "ros2"
            assert summary is not None and summary.statistics is not None and summary.chunk_indexes
            assert all(schema.encoding == "ros2msg" and schema.data for schema in summary.schemas.values())
            text = next(s.data.decode() for s in summary.schemas.values() if s.name == IMAGE)
            for name in ("std_msgs/Header", "builtin_interfaces/Time"):
                assert f"\n{'=' * 80}\nMSG: {name}\n" in text
            assert {c.topic for c in summary.channels.values()} <= {"/camera/image_raw", "/learner/posterior"}
            for channel in summary.channels.values():
                assert channel.message_encoding == "cdr"
                assert channel.metadata["topic_type_hash"].startswith("RIHS01_")
                check_qos(yaml.safe_load(channel.metadata["offered_qos_profiles"]))
