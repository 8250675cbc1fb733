"""`metadata.yaml` of a rosbag2 bag, version 9: written whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

VERSION = 9
FILE_NAME = "metadata.yaml"
#: Name of the MCAP metadata record with our custom_data: every file says by itself what it belongs to.
RECORD = "crl_node"
#: The recorder's own counts, kept up to date beside the files.
COUNTS = "recorder.json"
#: Entries of our custom_data, each JSON: parameters by full node name; versions of packages; recorded topic by the name
#: that the nodes give it; counts by topic; the newest posterior.
PARAMETERS, VERSIONS, ROLES, TOPICS, MODEL = (
    "crl_node.parameters", "crl_node.versions", "crl_node.roles", "crl_node.topics", "crl_node.model",
)  # fmt: skip


class BagError(RuntimeError):
    """Writing or reading a bag failed; the text says what and where."""


def mcap_files(folder: Path) -> list[Path]:
    """The `.mcap` files of a bag folder in the order of their numbers (bag_2 before bag_10)."""

    def key(path: Path) -> tuple[int, str]:
        number = re.search(r"(\d+)$", path.stem)
        return (int(number[1]) if number else -1, path.name)

    return sorted((p for p in folder.glob("*.mcap") if not p.name.startswith(".")), key=key)


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag."""

    name: str
    type: str  # pkg/msg/Name
    type_hash: str = ""
    reliable: bool = True
    transient_local: bool = False
    depth: int = 10

    def qos(self) -> dict[str, Any]:
        """The offered QoS profile in the words of metadata version 9."""
        # Infinite durations are the maximum of int64 nanoseconds, as rosbag2 writes them.
        forever = {"sec": 9223372036, "nsec": 854775807}
        return {
            "history": "keep_last",
            "depth": self.depth,
            "reliability": "reliable" if self.reliable else "best_effort",
            "durability": "transient_local" if self.transient_local else "volatile",
            "deadline": dict(forever),
            "lifespan": dict(forever),
            "liveliness": "automatic",
            "liveliness_lease_duration": dict(forever),
            "avoid_ros_namespace_conventions": False,
        }


@dataclass
class FileInfo:
    """One MCAP file of a bag and what it holds. Times in ns."""

    path: str
    start: int | None = None
    end: int | None = None
    counts: dict[str, int] = field(default_factory=dict)  # messages by topic

    def add(self, topic: str, log_time: int) -> None:
        """Count one message of `topic` at `log_time` ns."""
        self.counts[topic] = self.counts.get(topic, 0) + 1
        self.start = log_time if self.start is None else min(self.start, log_time)
        self.end = log_time if self.end is None else max(self.end, log_time)

    @property
    def messages(self) -> int:
        return sum(self.counts.values())


def describe(
    topics: Sequence[TopicInfo], files: Sequence[FileInfo], custom: Mapping[str, str]
) -> dict[str, Any]:
    """The content of `metadata.yaml` for a bag of these topics and files."""
    starts = [f.start for f in files if f.start is not None]
    ends = [f.end for f in files if f.end is not None]
    start = min(starts, default=0)
    return {
        "rosbag2_bagfile_information": {
            "version": VERSION,
            "storage_identifier": "mcap",
            "duration": {"nanoseconds": max(ends, default=0) - start},
            "starting_time": {"nanoseconds_since_epoch": start},
            "message_count": sum(f.messages for f in files),
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": t.name,
                        "type": t.type,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": [t.qos()],
                        "type_description_hash": t.type_hash,
                    },
                    "message_count": sum(f.counts.get(t.name, 0) for f in files),
                }
                for t in topics
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [f.path for f in files],
            "files": [
                {
                    "path": f.path,
                    "starting_time": {"nanoseconds_since_epoch": f.start or 0},
                    "duration": {"nanoseconds": (f.end or 0) - (f.start or 0)},
                    "message_count": f.messages,
                }
                for f in files
            ],
            "custom_data": dict(custom) or None,
            "ros_distro": "jazzy",
        }
    }


def dump(topic: TopicInfo) -> str:
    """The offered QoS profiles of `topic` as the YAML text that an MCAP channel carries."""
    return str(yaml.safe_dump([topic.qos()], sort_keys=False))


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `metadata.yaml` so that a reader sees the old file or the new one, never half of one."""
    write_text(folder / FILE_NAME, yaml.safe_dump(dict(content), sort_keys=False))


def read(folder: Path) -> dict[str, Any]:
    """The `rosbag2_bagfile_information` of a bag folder; empty where there is none or it is damaged."""
    try:
        content = yaml.safe_load((folder / FILE_NAME).read_text(encoding="utf8"))
        information = content["rosbag2_bagfile_information"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return {}
    return information if isinstance(information, dict) else {}


def write_text(path: Path, text: str) -> None:
    """Replace the file at `path` by `text` in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf8")
    temporary.replace(path)
