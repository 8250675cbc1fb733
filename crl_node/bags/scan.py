"""One pass over an MCAP file, whole or damaged: every chunk that can be read, and in words what could not."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, breakup_chunk

MAGIC = b"\x89MCAP0\r\n"
#: Opcode (1 byte) and length (8 bytes) before every record.
_HEAD = struct.Struct("<BQ")
#: Where the name of the compression stands in a chunk record: after opcode, length, three times, size and CRC.
_NAME_OFFSET = _HEAD.size + 3 * 8 + 4
_NAMES = tuple(struct.pack("<I", len(name)) + name for name in (b"lz4", b"zstd"))


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

    complete: bool = False  # the data section was closed properly and nothing in it is damaged
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)  # name -> MCAP metadata records
    chunks: int = 0  # that could be read
    damaged: int = 0  # chunks that could not
    orphans: int = 0  # messages whose topic's description was lost
    notes: list[str] = field(default_factory=list)  # what is damaged, in words

    @property
    def note(self) -> str:
        """All of `notes` in one line; empty for a whole file."""
        return "; ".join(self.notes)


def records(path: Path, scan: Scan | None = None) -> Iterator[Raw]:
    """Messages of every complete chunk of an MCAP file, whole or damaged, in file order."""
    scan = scan if scan is not None else Scan()
    scan.__dict__.update(Scan().__dict__)
    size = path.stat().st_size
    if size == 0:
        scan.notes.append(f"{path.name} is empty")
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[: len(MAGIC)] != MAGIC:
            scan.notes.append(f"{path.name} does not begin like an MCAP file")
        ended = yield from _walk(path.name, data, scan)
        if ended and not _has_footer(data):
            scan.notes.append(f"{path.name} has no index at its end; all its messages were read")
        if scan.orphans:
            scan.notes.append(
                f"{path.name}: {scan.orphans} messages belong to topics whose description was in a damaged chunk; "
                "left out"
            )
        scan.complete = ended and not scan.notes


def _walk(name: str, data: mmap.mmap, scan: Scan) -> Generator[Raw, None, bool]:
    """Messages of the data section; returns True when its end was reached."""
    size, position = len(data), len(MAGIC)
    while position < size:
        start = position
        if start + _HEAD.size > size:
            scan.notes.append(_cut(name, start, size, f"{size - start} bytes of a record's head are left"))
            return False
        opcode, length = _HEAD.unpack_from(data, start)
        position = start + _HEAD.size + length
        if position > size or not _known(opcode):
            following = _next_chunk(data, start + 1)
            if following is None:
                scan.notes.append(_cut(name, start, size, f"the record there should be {length} bytes long"))
                return False
            scan.damaged += 1
            scan.notes.append(
                f"{name} is damaged between byte {start} and the next whole chunk at byte {following}; "
                "what lay between is lost"
            )
            position = following
            continue
        if opcode == Opcode.DATA_END:
            return True
        try:
            found = _parse(opcode, data[start + _HEAD.size : position])
        # struct, lz4 and zstandard each raise their own errors for damaged bytes.
        except Exception as error:
            scan.damaged += 1
            scan.notes.append(_damaged(name, start, error))
            continue
        scan.chunks += opcode == Opcode.CHUNK
        for record in found:
            if isinstance(record, Schema):
                scan.schemas[record.id] = record
            elif isinstance(record, Channel):
                scan.channels[record.id] = record
            elif isinstance(record, Metadata):
                scan.metadata[record.name] = dict(record.metadata)
            elif isinstance(record, Message):
                channel = scan.channels.get(record.channel_id)
                schema = scan.schemas.get(channel.schema_id) if channel is not None else None
                if channel is None or schema is None:
                    scan.orphans += 1
                    continue
                yield Raw(
                    channel.topic, schema.name, record.log_time, record.publish_time, record.sequence, record.data
                )
    scan.notes.append(_cut(name, size, size, "it was not closed"))
    return False


def _parse(opcode: int, payload: bytes) -> list[Schema | Channel | Message | Metadata]:
    stream = ReadDataStream(BytesIO(payload))
    if opcode == Opcode.CHUNK:
        return list(breakup_chunk(Chunk.read(stream), validate_crc=True))  # type: ignore[arg-type]
    if opcode == Opcode.SCHEMA:
        return [Schema.read(stream)]
    if opcode == Opcode.CHANNEL:
        return [Channel.read(stream)]
    if opcode == Opcode.MESSAGE:
        return [Message.read(stream, len(payload))]
    if opcode == Opcode.METADATA:
        return [Metadata.read(stream)]
    return []


def _known(opcode: int) -> bool:
    return bool(Opcode.HEADER <= opcode <= Opcode.DATA_END)


def _next_chunk(data: mmap.mmap, begin: int) -> int | None:
    """Byte of the next record from `begin` on that looks like a whole compressed chunk."""
    found: list[int] = []
    for name in _NAMES:
        position = begin
        while (position := data.find(name, position)) >= 0:
            start = position - _NAME_OFFSET
            position += 1
            if start < begin:
                continue
            opcode, length = _HEAD.unpack_from(data, start)
            if opcode == Opcode.CHUNK and start + _HEAD.size + length <= len(data):
                found.append(start)
                break
    return min(found, default=None)


def _has_footer(data: mmap.mmap) -> bool:
    # Footer record: opcode 2, length 20, 20 bytes, then the magic.
    tail = data[-37:]
    return bool(tail[: _HEAD.size] == _HEAD.pack(Opcode.FOOTER, 20) and tail[-len(MAGIC) :] == MAGIC)


def _cut(name: str, position: int, size: int, reason: str) -> str:
    return (
        f"{name} ends in the middle of a record after {position} of {size} bytes ({reason}); "
        "every complete chunk before it was read"
    )


def _damaged(name: str, position: int, error: Exception) -> str:
    what = "its CRC does not match" if isinstance(error, CRCValidationError) else str(error) or type(error).__name__
    return f"{name}: the chunk at byte {position} is damaged ({what}); its messages are lost, the others were read"


def first_metadata(path: Path, name: str) -> dict[str, str]:
    """The MCAP metadata record `name` of a file, without reading its messages; empty where there is none."""
    found: dict[str, str] = {}
    size = path.stat().st_size
    if size < len(MAGIC):
        return found
    with path.open("rb") as file:
        position = len(MAGIC)
        while position + _HEAD.size <= size:
            file.seek(position)
            opcode, length = _HEAD.unpack(file.read(_HEAD.size))
            position += _HEAD.size + length
            if position > size or not _known(opcode) or opcode == Opcode.DATA_END:
                break
            if opcode == Opcode.METADATA:
                try:
                    record = Metadata.read(ReadDataStream(BytesIO(file.read(length))))
                except Exception:  # a damaged record is not the one that is looked for
                    continue
                if record.name == name:
                    found = dict(record.metadata)  # the last one is the newest
    return found
