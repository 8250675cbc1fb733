"""`crl bag info` and `crl bag check`: one pass over a bag, what is in it, and in sentences what is wrong with it."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.bags import metadata
from crl_node.bags.metadata import BagError, FileInfo
from crl_node.bags.scan import Raw, Scan, records

#: A gap is longer than this many ordinary distances between two messages, and than this, s.
GAP_FACTOR, GAP_SECONDS = 3.0, 0.3
#: A topic is regular (and can have gaps) when its 90th percentile distance is at most this times the median one.
REGULAR = 1.6
#: Fewer messages than this say nothing about regularity.
FEWEST = 10


@dataclass
class TopicSurvey:
    """One topic as it lies in the files."""

    type: str
    messages: int = 0
    bytes: int = 0
    first: int = 0  # ns, log time
    last: int = 0
    stamps: array[float] = field(default_factory=lambda: array("d"))  # s, of the headers; empty without one

    def add(self, raw: Raw, stamp: float | None) -> None:
        """Count one message."""
        if self.messages == 0:
            self.first = raw.log_time
        self.last = max(self.last, raw.log_time)
        self.messages += 1
        self.bytes += len(raw.data)
        if stamp is not None:
            self.stamps.append(stamp)

    @property
    def rate(self) -> float | None:
        """Messages a second by their own stamps, else by log time; None for fewer than two."""
        if self.messages < 2:
            return None
        if len(self.stamps) > 1:
            steps = np.diff(np.array(self.stamps))
            steps = steps[steps > 0]
            return float(1.0 / np.median(steps)) if steps.size else None
        span = (self.last - self.first) * 1e-9
        return (self.messages - 1) / span if span > 0 else None


@dataclass
class Survey:
    """What a pass over a bag found."""

    path: Path
    files: list[FileInfo]
    sizes: list[int]  # bytes
    topics: dict[str, TopicSurvey]
    damage: list[str]  # in words, of the files
    metadata: dict[str, Any]  # of metadata.yaml, empty where there is none
    custom: dict[str, str]
    stopped_because: str = ""  # what ended the recording, as the recorder noted it

    @property
    def messages(self) -> int:
        return sum(file.messages for file in self.files)

    @property
    def seconds(self) -> float:
        """Log time from the first to the last message, s."""
        starts = [f.start for f in self.files if f.start is not None]
        ends = [f.end for f in self.files if f.end is not None]
        return (max(ends) - min(starts)) * 1e-9 if starts else 0.0

    def note(self, key: str) -> dict[str, Any]:
        """A JSON entry of the custom_data; empty where there is none."""
        try:
            found = json.loads(self.custom[key])
        except (KeyError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def as_json(self) -> dict[str, Any]:
        """The content of `crl bag info --json`."""
        counts = self.note(metadata.TOPICS)
        return {
            "path": str(self.path),
            "seconds": round(self.seconds, 3),
            "messages": self.messages,
            "files": [
                {"path": f.path, "bytes": size, "messages": f.messages}
                for f, size in zip(self.files, self.sizes, strict=True)
            ],
            "topics": {
                name: {
                    "type": t.type, "messages": t.messages, "bytes": t.bytes, "rate": t.rate,
                    **{key: counts.get(name, {}).get(key) for key in ("sent", "received", "dropped")},
                }
                for name, t in sorted(self.topics.items())
            },
            "model": self.note(metadata.MODEL) or None,
            "versions": self.note(metadata.VERSIONS),
            "parameters": self.note(metadata.PARAMETERS),
            "damage": self.damage,
        }  # fmt: skip


def survey(path: Path) -> Survey:
    """Read the bag at `path` (folder or one file) through. BagError when there is none."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise BagError(f"bag {path} does not exist")
    paths = metadata.mcap_files(path) if path.is_dir() else [path]
    if not paths:
        raise BagError(f"{path} holds no .mcap file: there is no bag to look at")
    found = Survey(path, [], [], {}, [], metadata.read(folder), {})
    for file in paths:
        scan, info = Scan(), FileInfo(file.name)
        stamped: dict[str, bool] = {}
        for raw in records(file, scan):
            info.add(raw.topic, raw.log_time)
            if raw.type not in stamped:
                stamped[raw.type] = _has_header(raw.type, scan)
            topic = found.topics.setdefault(raw.topic, TopicSurvey(raw.type))
            topic.add(raw, _stamp(raw.data) if stamped[raw.type] else None)
        found.files.append(info)
        found.sizes.append(file.stat().st_size)
        found.damage += scan.notes
        found.custom |= scan.metadata.get(metadata.RECORD, {})
    found.custom |= found.metadata.get("custom_data") or {}
    try:
        noted = json.loads((folder / metadata.COUNTS).read_text(encoding="utf8"))
        found.stopped_because = str(noted.get("stopped_because") or "")
        found.custom.setdefault(metadata.TOPICS, json.dumps(noted["topics"]))
        found.custom.setdefault(metadata.MODEL, json.dumps(noted.get("model") or {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # another recorder's bag, or ours was killed before its first count
    return found


@dataclass(frozen=True)
class Finding:
    """Something about a bag that its user should know."""

    bad: bool  # the bag is damaged or cannot be used; else it is only worth knowing
    sentence: str


def check(found: Survey, needed: Mapping[str, str]) -> list[Finding]:
    """What is wrong with a bag. `needed`: topics that a replay needs, by the name that the nodes give them."""
    findings = [Finding(True, sentence) for sentence in found.damage]
    findings += _metadata_findings(found)
    if found.stopped_because:
        findings.append(Finding(True, f"recording ended early: {found.stopped_because}"))
    for role, wanted in needed.items():
        if not any(t == wanted or t.endswith("/" + wanted.lstrip("/")) for t in found.topics):
            findings.append(
                Finding(True, f"'{role}' is missing ({wanted} has no message): the bag cannot be replayed")
            )
    if not found.note(metadata.PARAMETERS):
        findings.append(
            Finding(
                False, "the parameters of the nodes are not in the bag; a replay needs the run.json beside it"
            )
        )
    counts = found.note(metadata.TOPICS)
    for name, topic in sorted(found.topics.items()):
        sent = counts.get(name, {}).get("sent")
        if isinstance(sent, int) and sent > topic.messages:
            lost = sent - topic.messages
            findings.append(
                Finding(
                    False, f"{name}: {lost} of {sent} messages sent are not in the bag ({lost / sent:.1%})"
                )
            )
        findings += [Finding(False, f"{name}: {sentence}") for sentence in _time_findings(topic)]
    return findings


def _metadata_findings(found: Survey) -> list[Finding]:
    if not found.path.is_dir():
        return []
    if not found.metadata:
        return [
            Finding(
                True,
                f"{metadata.FILE_NAME} is missing or unreadable: rosbags and 'ros2 bag' will not open the bag; "
                "'crl bag recover' writes it",
            )
        ]
    findings = []
    listed = [str(name) for name in found.metadata.get("relative_file_paths") or []]
    there = [file.path for file in found.files]
    for name in listed:
        if name not in there:
            findings.append(Finding(True, f"{name} is named in {metadata.FILE_NAME} but is not there"))
    for name in there:
        if name not in listed:
            sentence = f"{name} is not named in {metadata.FILE_NAME}: other readers will not see it"
            findings.append(Finding(True, sentence))
    said = found.metadata.get("message_count")
    if isinstance(said, int) and said != found.messages:
        findings.append(
            Finding(True, f"{metadata.FILE_NAME} speaks of {said} messages, the files hold {found.messages}")
        )
    return findings


def _time_findings(topic: TopicSurvey) -> list[str]:
    """Gaps and jumps in the header stamps of one topic."""
    if len(topic.stamps) < FEWEST:
        return []
    stamps = np.array(topic.stamps)
    steps = np.diff(stamps)
    forward = steps[steps > 0]
    if not forward.size or np.percentile(forward, 90) > REGULAR * np.median(forward):
        return []  # several publishers, or events: nothing can be said about their time
    findings = []
    back = np.flatnonzero(steps < -GAP_SECONDS)
    if back.size:
        where = f"first from {stamps[back[0]]:.2f} s"
        findings.append(f"its time goes back {back.size} times, {where}: several runs follow one another")
    usual = float(np.median(forward))
    gaps = np.flatnonzero(steps > max(GAP_FACTOR * usual, GAP_SECONDS))
    if gaps.size:
        longest = gaps[int(np.argmax(steps[gaps]))]
        findings.append(
            f"{gaps.size} gaps; nothing for {steps[longest]:.2f} s from {stamps[longest]:.2f} s on (it comes every "
            f"{usual:.3g} s)"
        )
    return findings


def _has_header(type_name: str, scan: Scan) -> bool:
    schema = next((s for s in scan.schemas.values() if s.name == type_name), None)
    if schema is None:
        return False
    for line in schema.data.decode(errors="replace").splitlines():
        code = line.split("#", 1)[0].split()
        if code:
            return code[0] in ("std_msgs/Header", "std_msgs/msg/Header", "Header")
    return False


def _stamp(data: bytes) -> float | None:
    """Header stamp in s of a CDR message that begins with a header; None when it is too short."""
    if len(data) < 12:
        return None
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return float(seconds + nanoseconds * 1e-9)
