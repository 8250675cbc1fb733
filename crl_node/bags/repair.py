"""Files of killed recorders: read every complete chunk, and make the file whole again."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from mcap.writer import CompressionType, IndexType, Writer

from crl_node.bags import metadata
from crl_node.bags.metadata import RECORD, BagError, FileInfo, TopicInfo
from crl_node.bags.scan import Scan, records


@dataclass(frozen=True)
class Repaired:
    """The outcome of `repair_file`."""

    file: FileInfo
    topics: tuple[TopicInfo, ...]
    rewritten: bool
    note: str
    custom: dict[str, str]  # what the recorder noted in the file itself


def repair_file(path: Path, target: Path | None = None) -> Repaired:
    """Make sure `path` is a whole MCAP file: rewrite it from its complete chunks if it is cut off or damaged.

    The old file is replaced in one step, and only once the new one is complete. With a `target` in another folder the
    old file stays as it is and the whole one goes there.
    """
    scan, info = Scan(), FileInfo(path.name)
    for raw in records(path, scan):
        info.add(raw.topic, raw.log_time)
    goal = target or path
    if not scan.complete or target is not None:
        temporary = goal.with_name(f".{goal.name}.{os.getpid()}.tmp")
        try:
            if scan.complete:
                shutil.copyfile(path, temporary)
            else:
                _rewrite(path, temporary)
            temporary.replace(goal)
        finally:
            temporary.unlink(missing_ok=True)
    return Repaired(info, _topics(scan), not scan.complete, scan.note, scan.metadata.get(RECORD, {}))


@dataclass(frozen=True)
class Recovered:
    """The outcome of `recover_bag`."""

    folder: Path
    messages: int
    files: int
    rewritten: tuple[str, ...]  # files that were not whole
    notes: tuple[str, ...]  # what was found, in words


def recover_bag(folder: Path, out: Path | None = None) -> Recovered:
    """Make a bag whole: every complete chunk of every file, also of split bags, and `metadata.yaml` anew.

    In place, each file in one step; with `out` (a folder that does not exist yet) the bag itself stays as it is. What
    the recorder had noted (parameters, counts) is taken from the files where metadata.yaml is lost. Raises BagError
    when there is nothing to recover, OSError when it cannot be written.
    """
    paths = metadata.mcap_files(folder)
    if not paths:
        raise BagError(f"bag {folder} holds no .mcap file: there is nothing to recover")
    if out is not None:
        if out.exists():
            raise BagError(f"{out} exists already; name a folder for the recovered bag that does not")
        out.mkdir(parents=True)
    results = [repair_file(path, None if out is None else out / path.name) for path in paths]
    topics: dict[str, TopicInfo] = {}
    custom: dict[str, str] = {}
    for result in results:
        custom |= result.custom
        for topic in result.topics:
            topics.setdefault(topic.name, topic)
    old = metadata.read(folder)
    custom = _counts(folder) | custom | (old.get("custom_data") or {})
    notes = [r.note for r in results if r.note]
    if not old:
        notes.append(f"{metadata.FILE_NAME} was missing or unreadable; written anew from the files")
    described = metadata.describe(list(topics.values()), [r.file for r in results], custom)
    metadata.write(out or folder, described)
    return Recovered(
        out or folder, sum(r.file.messages for r in results), len(results),
        tuple(r.file.path for r in results if r.rewritten), tuple(notes),
    )  # fmt: skip


def _counts(folder: Path) -> dict[str, str]:
    """The counts and the model version that a killed recorder had noted beside the files."""
    try:
        noted = json.loads((folder / metadata.COUNTS).read_text(encoding="utf8"))
        return {metadata.TOPICS: json.dumps(noted["topics"]), metadata.MODEL: json.dumps(noted.get("model") or {})}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # it was killed before it noted any


def repair_bag(folder: Path) -> list[str]:
    """Repair a bag in place; returns what was found, in words, also that there is no bag."""
    try:
        return list(recover_bag(folder).notes)
    except BagError as error:
        return [str(error)]


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
            if raw.topic not in channels:
                channel = next(c for c in scan.channels.values() if c.topic == raw.topic)
                schema = scan.schemas[channel.schema_id]
                if schema.name not in schemas:
                    schemas[schema.name] = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[raw.topic] = writer.register_channel(
                    raw.topic, channel.message_encoding, schemas[schema.name], channel.metadata
                )
            writer.add_message(channels[raw.topic], raw.log_time, raw.data, raw.publish_time, raw.sequence)
        for name, content in scan.metadata.items():
            writer.add_metadata(name, content)
        writer.finish()
        stream.flush()
        os.fsync(stream.fileno())


def _topics(scan: Scan) -> tuple[TopicInfo, ...]:
    found = []
    for channel in scan.channels.values():
        schema = scan.schemas.get(channel.schema_id)
        if schema is None:
            continue
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

