"""Files of killed recorders: read every complete chunk, and make the file whole again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from mcap.exceptions import McapError
from mcap.records import Channel, DataEnd, Message, Schema
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType, IndexType, Writer

from crl_node.bags import metadata
from crl_node.bags.metadata import FileInfo, TopicInfo


@dataclass(frozen=True)
class Raw:
    """One recorded message as it lies in the file. Times in ns since the epoch."""

    topic: str
    type: str  # pkg/msg/Name
    log_time: int
    publish_time: int
    sequence: int
    data: bytes  # CDR


@dataclass
class Scan:
    """What a pass over a file found; filled while `records` runs."""

    complete: bool = False  # the data section was closed properly
    note: str = ""  # what ended an incomplete file, in words
    schemas: dict[int, Schema] | None = None
    channels: dict[int, Channel] | None = None


def records(path: Path, scan: Scan | None = None) -> Iterator[Raw]:
    """Messages of every complete chunk of an MCAP file, whole or truncated, in file order."""
    scan = scan if scan is not None else Scan()
    scan.schemas, scan.channels = {}, {}
    size = path.stat().st_size
    position = 0
    with path.open("rb") as stream:
        reader = StreamReader(stream, validate_crcs=True, record_size_limit=size)
        iterator = iter(reader.records)
        while True:
            try:
                record = next(iterator)
                position = stream.tell()
            except StopIteration:
                break
            # A cut-off file ends inside a record: struct.error, EndOfFile, a decompressor's own error, …
            except Exception as error:
                reason = str(error) or type(error).__name__
                scan.note = (
                    f"{path.name} ends in the middle of a record after {position} of {size} bytes "
                    f"({reason}); every complete chunk before it was read"
                )
                return
            if isinstance(record, Schema):
                scan.schemas[record.id] = record
            elif isinstance(record, Channel):
                scan.channels[record.id] = record
            elif isinstance(record, Message):
                channel = scan.channels[record.channel_id]
                schema = scan.schemas[channel.schema_id]
                yield Raw(
                    channel.topic,
                    schema.name,
                    record.log_time,
                    record.publish_time,
                    record.sequence,
                    record.data,
                )
            elif isinstance(record, DataEnd):
                # What follows is the index; without it the messages are still all there.
                scan.complete = _has_footer(path)
                if not scan.complete:
                    scan.note = f"{path.name} has no index at its end; all its messages were read"
                return


@dataclass(frozen=True)
class Repaired:
    """The outcome of `repair_file`."""

    file: FileInfo
    topics: tuple[TopicInfo, ...]
    rewritten: bool
    note: str


def repair_file(path: Path) -> Repaired:
    """Make sure `path` is a whole MCAP file: rewrite it from its complete chunks if its recorder was killed.

    The old file is replaced in one step, and only once the new one is complete.
    """
    scan, info = Scan(), FileInfo(path.name)
    for raw in records(path, scan):
        info.add(raw.topic, raw.log_time)
    if not scan.complete:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            _rewrite(path, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return Repaired(info, _topics(scan), not scan.complete, scan.note)


def repair_bag(folder: Path) -> list[str]:
    """Repair every file of a bag folder and write `metadata.yaml` anew; returns what was found, in words."""
    results = [repair_file(path) for path in sorted(folder.glob("*.mcap"))]
    if not results:
        return [f"bag {folder} holds no .mcap file"]
    topics: dict[str, TopicInfo] = {}
    for result in results:
        for topic in result.topics:
            topics.setdefault(topic.name, topic)
    custom = metadata.read(folder).get("custom_data") or {}
    metadata.write(folder, metadata.describe(list(topics.values()), [r.file for r in results], custom))
    return [r.note for r in results if r.note]


def _rewrite(source: Path, target: Path) -> None:
    with target.open("wb") as stream:
        writer = Writer(
            stream, chunk_size=64 * 1024, compression=CompressionType.LZ4, index_types=IndexType.ALL
        )
        writer.start(profile="ros2", library="crl_node")
        scan = Scan()
        channels: dict[str, int] = {}
        schemas: dict[str, int] = {}
        for raw in records(source, scan):
            assert scan.channels is not None and scan.schemas is not None
            if raw.topic not in channels:
                channel = next(c for c in scan.channels.values() if c.topic == raw.topic)
                schema = scan.schemas[channel.schema_id]
                if schema.name not in schemas:
                    schemas[schema.name] = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[raw.topic] = writer.register_channel(
                    raw.topic, channel.message_encoding, schemas[schema.name], channel.metadata
                )
            writer.add_message(channels[raw.topic], raw.log_time, raw.data, raw.publish_time, raw.sequence)
        writer.finish()
        stream.flush()
        os.fsync(stream.fileno())


def _topics(scan: Scan) -> tuple[TopicInfo, ...]:
    found = []
    for channel in (scan.channels or {}).values():
        schema = (scan.schemas or {})[channel.schema_id]
        try:
            qos = yaml.safe_load(channel.metadata.get("offered_qos_profiles", "")) or [{}]
        except yaml.YAMLError:
            qos = [{}]
        found.append(
            TopicInfo(
                channel.topic,
                schema.name,
                channel.metadata.get("topic_type_hash", ""),
                qos[0].get("reliability", "reliable") == "reliable",
                qos[0].get("durability", "volatile") == "transient_local",
                int(qos[0].get("depth", 10)),
            )
        )
    return tuple(found)


def _has_footer(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            # Footer record: opcode 2, length 20, 20 bytes, then the magic.
            stream.seek(-37, os.SEEK_END)
            tail = stream.read()
    except (OSError, McapError):
        return False
    return tail[:9] == b"\x02\x14\x00\x00\x00\x00\x00\x00\x00" and tail[-8:] == b"\x89MCAP0\r\n"
