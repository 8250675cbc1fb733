"""A crash-safe rosbag2 MCAP writer: small chunks, flushed often, nothing buffered for long.

After kill -9 every complete chunk is on its way to the disk (the kernel has it) and `reader.BagReader`
reads it back; `repair` makes such a file whole again. Takes serialised messages; imports no rclpy.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from mcap.exceptions import McapError
from mcap.writer import CompressionType, IndexType, Writer

from crl_node.bags import metadata
from crl_node.bags.definitions import Definitions
from crl_node.bags.metadata import RECORD, BagError, FileInfo, TopicInfo

LIBRARY = "crl_node"
#: A chunk is closed by the message that fills it: with 96x96 rgb frames none is larger than 64 KB.
CHUNK_BYTES = 32 * 1024
COMPRESSIONS = {"none": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}


class DiskFullError(BagError):
    """There is too little space left to go on recording; what was written stays readable."""


class BagWriter:
    """Writes one bag folder: `<folder>/<folder name>_<n>.mcap` and `metadata.yaml`.

    A folder that already holds files of an earlier (perhaps killed) recorder is continued when `resume`
    is true: the old files are repaired where needed and a new one is begun beside them.

    chunk_bytes: a chunk is closed once it holds more than this many bytes before compression.
    flush_period: s of `clock` after which even a small chunk is closed and handed to the kernel.
    split_seconds, split_bytes: a new file is begun once the one in hand spans this much log time or is this large; 0:
        never. Every file of a split bag is closed with its index, so that a crash can only touch the last one.
    min_free_bytes: recording stops with `DiskFullError` when the file system has less than this left. It may be changed
        while recording.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        definitions: Definitions | None = None,
        compression: str = "lz4",
        chunk_bytes: int = CHUNK_BYTES,
        flush_period: float = 1.0,
        split_seconds: float = 0.0,
        split_bytes: int = 0,
        min_free_bytes: int = 1_000_000_000,
        resume: bool = False,
        clock: Callable[[], float] = time.monotonic,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        self.folder = Path(folder)
        self.definitions = definitions if definitions is not None else Definitions()
        self.custom: dict[str, str] = {}
        self._topics: dict[str, TopicInfo] = {}
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._texts: dict[str, str] = {}  # definitions by type, of this recorder's own topics
        self._files: list[FileInfo] = []
        self._flush_period, self._clock = flush_period, clock
        self.min_free_bytes, self._free = min_free_bytes, free_bytes
        self._split_ns, self._split_bytes = round(split_seconds * 1e9), split_bytes
        self._chunk_bytes = chunk_bytes
        self._unflushed = 0
        self._writer: Writer | None = None
        self._stream: BinaryIO | None = None
        if compression not in COMPRESSIONS:
            raise BagError(
                f"bag compression '{compression}' is unknown, it must be one of {', '.join(COMPRESSIONS)}"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._compression = COMPRESSIONS[compression]
            self._resume(resume)
            self._begin()
            self._check_space()
        except (OSError, McapError) as error:
            raise BagError(f"bag {self.folder} cannot be written: {error}; nothing is recorded") from error
        self._last_flush = clock()
        self._write_metadata()

    @property
    def counts(self) -> dict[str, int]:
        """Messages written by topic, earlier files of a resumed bag included."""
        return {t: sum(f.counts.get(t, 0) for f in self._files) for t in list(self._topics)}

    @property
    def earlier(self) -> dict[str, int]:
        """Messages by topic in the files of earlier recorders of this bag."""
        found: dict[str, int] = {}
        for file in self._files[: self._before]:
            for topic, count in file.counts.items():
                found[topic] = found.get(topic, 0) + count
        return found

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def add_topic(self, topic: TopicInfo) -> None:
        """Make `topic` known; its messages may follow. Raises `DefinitionError` for an unknown type."""
        if topic.name in self._channels:
            return
        self._require_open()
        text = self.definitions.text(topic.type)
        if not topic.type_hash:
            topic = TopicInfo(
                topic.name, topic.type, self.definitions.type_hash(topic.type),
                topic.reliable, topic.transient_local, topic.depth,
            )  # fmt: skip
        self._topics[topic.name], self._texts[topic.type] = topic, text
        self._register(topic)
        self._write_metadata()

    def note(self, custom: Mapping[str, str]) -> None:
        """Add `custom` to the bag's custom_data now, in metadata.yaml and in the file itself."""
        self.custom.update(custom)
        try:
            self._require_open().add_metadata(RECORD, dict(self.custom))
            self._hand_over()
            self._write_metadata()
        except OSError as error:
            raise DiskFullError(f"bag {self.folder}: writing failed ({error}); recording stopped") from error

    def _register(self, topic: TopicInfo) -> None:
        writer = self._require_open()
        if topic.type not in self._schemas:
            self._schemas[topic.type] = writer.register_schema(
                topic.type, "ros2msg", self._texts[topic.type].encode()
            )
        self._channels[topic.name] = writer.register_channel(
            topic.name, "cdr", self._schemas[topic.type],
            {"offered_qos_profiles": metadata.dump(topic), "topic_type_hash": topic.type_hash},
        )  # fmt: skip

    def write(
        self, topic: str, data: bytes, *, log_time: int, publish_time: int = 0, sequence: int = 0
    ) -> None:
        """Append one serialised message (CDR bytes with header). Times in ns since the epoch."""
        self._require_open()
        if topic not in self._channels:
            raise BagError(f"topic '{topic}' was not added to bag {self.folder}; its message is not recorded")
        try:
            if self._is_due_to_split(log_time):
                self._split()
            writer, channel = self._require_open(), self._channels[topic]
            # A sequence in MCAP is 32 bits wide.
            writer.add_message(channel, log_time, data, publish_time or log_time, sequence & 0xFFFFFFFF)
            self._files[-1].add(topic, log_time)
            self._unflushed += len(data)
            if self._clock() - self._last_flush >= self._flush_period:
                self.flush()
            elif self._unflushed > self._chunk_bytes:
                self._hand_over()
        except OSError as error:
            raise DiskFullError(f"bag {self.folder}: writing failed ({error}); recording stopped") from error

    def flush(self) -> None:
        """Close the chunk in progress and hand it to the kernel; stop while there is still space to close."""
        self._require_open().flush()
        self._unflushed = 0
        self._last_flush = self._clock()
        self._check_space()

    def close(self, custom: Mapping[str, str] | None = None) -> None:
        """Write the index and the final `metadata.yaml` with `custom` in it; `custom` also after a first close."""
        if self._writer is None and not custom:
            return
        self.custom.update(custom or {})
        try:
            if self._writer is not None:
                if custom:
                    self._writer.add_metadata(RECORD, dict(self.custom))
                self._finish()
            self._write_metadata()
        except OSError as error:
            raise DiskFullError(
                f"bag {self.folder}: no space to write the index ({error}); its complete chunks stay readable"
            ) from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hand_over(self) -> None:
        """Give finished chunks to the kernel: what Python still buffers would die with the process."""
        assert self._stream is not None
        self._stream.flush()
        self._unflushed = 0

    def _require_open(self) -> Writer:
        if self._writer is None:
            raise BagError(f"bag {self.folder} is closed; nothing more is recorded")
        return self._writer

    def _resume(self, resume: bool) -> None:
        """Take the files of earlier recorders over, each repaired if its recorder was killed."""
        from crl_node.bags.repair import repair_file  # needs this module

        old = metadata.mcap_files(self.folder)
        if old and not resume:
            raise BagError(f"bag {self.folder} already holds {old[0].name}; choose another folder")
        for path in old:
            result = repair_file(path)
            self._files.append(result.file)
            for topic in result.topics:
                self._topics.setdefault(topic.name, topic)
        self._before = len(self._files)

    def _begin(self) -> None:
        path = self.folder / f"{self.folder.name or 'bag'}_{len(self._files)}.mcap"
        self._stream = path.open("xb")
        # All indexes: rosbags and Foxglove find messages by time without reading the file through.
        self._writer = Writer(
            self._stream, chunk_size=self._chunk_bytes, compression=self._compression, index_types=IndexType.ALL
        )
        self._writer.start(profile="ros2", library=LIBRARY)
        self._files.append(FileInfo(path.name))
        self._schemas, self._channels = {}, {}
        for name, topic in self._topics.items():
            if topic.type in self._texts:  # those of earlier recorders alone get no messages any more
                self._register(self._topics[name])
        if self.custom:
            self._writer.add_metadata(RECORD, dict(self.custom))
        self._stream.flush()

    def _is_due_to_split(self, log_time: int) -> bool:
        file, stream = self._files[-1], self._stream
        if file.start is None or stream is None:
            return False  # an empty file is never closed for its age
        old = self._split_ns > 0 and log_time - file.start >= self._split_ns
        return old or (self._split_bytes > 0 and stream.tell() >= self._split_bytes)

    def _split(self) -> None:
        """Close the file in hand with its index and go on in the next."""
        self._finish()
        self._check_space()
        self._begin()
        self._write_metadata()

    def _finish(self) -> None:
        writer, stream, self._writer, self._stream = self._writer, self._stream, None, None
        assert writer is not None and stream is not None
        try:
            writer.finish()
        finally:
            stream.close()

    def _check_space(self) -> None:
        free = self._free(self.folder)
        if free < self.min_free_bytes:
            raise DiskFullError(
                f"bag {self.folder}: {free / 1e6:.0f} MB are left on the disk and "
                f"{self.min_free_bytes / 1e6:.0f} MB are kept free; recording stopped, "
                "what was written stays readable"
            )

    def _write_metadata(self) -> None:
        metadata.write(self.folder, metadata.describe(list(self._topics.values()), self._files, self.custom))
