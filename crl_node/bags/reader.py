"""Read a bag, whole or cut off: messages decoded with the definitions that lie in the file itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcap.records import Schema
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from crl_node.bags import metadata
from crl_node.bags.metadata import RECORD, BagError
from crl_node.bags.scan import Raw, Scan, first_metadata, records


@dataclass(frozen=True)
class Decoded:
    """One message with its topic. Times in ns since the epoch."""

    topic: str
    type: str  # pkg/msg/Name
    log_time: int  # when it was recorded
    publish_time: int  # when it was sent
    message: Any  # a rosbags dataclass: fields as in the .msg file, arrays as ndarrays


class BagReader:
    """Iterates the messages of a bag folder or one `.mcap` file; needs neither ROS nor the message packages.

    `notes` holds, after an iteration, a sentence for everything that was cut off or could not be decoded.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.notes: list[str] = []
        if self.path.is_dir():
            self.files = metadata.mcap_files(self.path)
            if not self.files:
                raise BagError(f"{self.path} holds no .mcap file: there is no bag to read")
        elif self.path.is_file():
            self.files = [self.path]
        else:
            raise BagError(f"bag {self.path} does not exist")
        self.metadata = metadata.read(self.path if self.path.is_dir() else self.path.parent)
        self._store: Typestore = get_typestore(Stores.EMPTY)
        self._known: set[str] = set()

    @property
    def custom(self) -> dict[str, str]:
        """What the recorder wrote into the metadata's custom_data; where that is lost, into the files themselves."""
        found: dict[str, str] = {}
        for path in self.files:
            found |= first_metadata(path, RECORD)
        return found | dict(self.metadata.get("custom_data") or {})

    def topics(self) -> dict[str, tuple[str, int]]:
        """Topics with (type, number of messages), counted in the files themselves."""
        found: dict[str, tuple[str, int]] = {}
        for raw in self.raw():
            found[raw.topic] = (raw.type, found.get(raw.topic, ("", 0))[1] + 1)
        return found

    def raw(self, topics: Collection[str] | None = None) -> Iterator[Raw]:
        """Messages as they lie in the files; `topics` as in `messages`."""
        self.notes = []
        for path in self.files:
            scan = Scan()
            for raw in records(path, scan):
                if topics is None or wanted(raw.topic, topics):
                    self._register(raw.type, scan)
                    yield raw
            self.notes += scan.notes

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Decoded]:
        """Decoded messages in the order in which they were recorded.

        `topics`: names without namespace ("learner/belief" also matches "/arm_1/learner/belief"); None: all.
        """
        failed: set[str] = set()
        for raw in self.raw(topics):
            message = self.decode(raw)
            if message is not None:
                yield Decoded(raw.topic, raw.type, raw.log_time, raw.publish_time, message)
            elif raw.topic not in failed:
                failed.add(raw.topic)
                self.notes.append(f"messages of {raw.topic} ({raw.type}) cannot be decoded; left out")

    def decode(self, raw: Raw) -> Any | None:
        """The message, or None when its bytes do not fit its definition."""
        try:
            return self._store.deserialize_cdr(raw.data, raw.type)
        except Exception:  # rosbags raises struct, index, key, value and its own errors here
            return None

    def _register(self, type_name: str, scan: Scan) -> None:
        if type_name in self._known:
            return
        self._known.add(type_name)
        schema: Schema | None = next((s for s in scan.schemas.values() if s.name == type_name), None)
        if schema is None or schema.encoding != "ros2msg":
            return
        types = get_types_from_msg(schema.data.decode(), type_name)
        self._store.register({k: v for k, v in types.items() if k not in self._store.fielddefs})


def wanted(topic: str, names: Collection[str]) -> bool:
    """True when `topic` is one of `names`, under whatever namespace."""
    return any(topic == n or topic.endswith("/" + n.lstrip("/")) for n in names)
