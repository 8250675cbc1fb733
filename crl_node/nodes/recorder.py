"""Records every topic of the loop into a crash-safe bag; counts what was received against what was sent."""

from __future__ import annotations

import importlib
import json
import shutil
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from crl_node.bags import metadata
from crl_node.bags.definitions import DefinitionError
from crl_node.bags.metadata import (
    COUNTS,
    MODEL,
    PARAMETERS,
    ROLES,
    TOPICS,
    VERSIONS,
    BagError,
    TopicInfo,
    write_text,
)
from crl_node.bags.profile import RecordProfile, load_record_profile
from crl_node.bags.sent import SentCounter
from crl_node.bags.thread import WriterThread
from crl_node.bags.writer import BagWriter
from crl_node.nodes.base import ManagedNode, run
from crl_node.nodes.intake import Intake
from crl_node.nodes.settings_listener import SettingsListener
from crl_node.session import versions

#: How often what has arrived is fetched, s.
FETCH_PERIOD = 0.02
#: What was stamped less than this long ago may not have been queued yet, ns.
JUST_NOW = 1_000_000
#: How often counts are written beside the bag and told to /diagnostics, s.
REPORT_PERIOD = 2.0
#: How often new topics and nodes are looked for, s.
LOOK_PERIOD = 0.5
POSTERIOR = "crl_interfaces/msg/Posterior"


@dataclass
class Channel:
    """One recorded topic."""

    info: TopicInfo
    subscription: Subscription | None = None
    counter: SentCounter = field(default_factory=SentCounter)
    note: str = ""
    last: bytes = b""  # the newest message, of posteriors only


def message_class(type_name: str) -> Any:
    """The rclpy class of `pkg/msg/Name`."""
    package, kind, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"message type '{type_name}' is not installed ({error})") from error


class Recorder(ManagedNode):
    """Fetches serialised messages into a queue, one thread writes it out. Records from configure to deactivate."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self._bag: WriterThread | None = None
        self._intake: Intake | None = None
        self._late: list[tuple[Channel, bytes, dict[str, int]]] = []  # fetched, to be handed over with the next ones
        self._recording = False
        self._before: dict[str, int] = {}  # messages sent while an earlier recorder wrote to the bag
        self._profile = RecordProfile()
        self._settings: SettingsListener | None = None
        self._clockwork: list[Any] = []
        super().__init__("recorder")
        if self.params.autostart and not (self._alone("configure") and self._alone("activate")):
            raise ValueError("the recorder could not start by itself; its log says why")

    def _alone(self, transition: str) -> bool:
        """Do a transition without a manager; True when it succeeded."""
        return bool(getattr(self, f"trigger_{transition}")() == TransitionCallbackReturn.SUCCESS)

    # -- lifecycle --

    def setup(self) -> None:
        self._channels, self._late = {}, []  # what a bag before this one did not get is none of its own
        parameters = self.params
        self._profile = load_record_profile(parameters.profile).extended(
            topics=parameters.topics, include=parameters.include, exclude=parameters.exclude
        )
        if not (self._profile.topics or self._profile.include):
            raise ValueError("there is nothing to record: 'profile', 'topics' and 'include' name no topic")
        writer = BagWriter(
            Path(parameters.output).expanduser(),
            compression=parameters.compression,
            chunk_bytes=parameters.chunk_size * 1000,
            flush_period=parameters.flush_period,
            split_seconds=parameters.split_period,
            split_bytes=parameters.split_size * 1_000_000,
            min_free_bytes=parameters.min_free * 1_000_000,
            resume=True,
        )
        self._before = self._earlier_counts(writer)
        wanted = {self.resolve_topic_name(entry.name): entry for entry in self._profile.topics}
        roles = {entry.name: name for name, entry in wanted.items()}
        writer.note({VERSIONS: json.dumps(versions()), ROLES: json.dumps(roles)})
        self._bag = WriterThread(
            writer,
            flush_period=parameters.flush_period,
            backlog=lambda: int(self.params.backlog * 1_000_000),
            min_free=lambda: int(self.params.min_free * 1_000_000),
            on_error=self.get_logger().error,
        )
        self._intake = self._intake or Intake(self)
        for name, entry in wanted.items():
            if entry.type and not self._profile.excludes(name):
                self._add(replace(entry, name=name, depth=int(parameters.depth)))
        self._recording = True
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._settings = SettingsListener(self, self._note_settings)
        self._clockwork = [
            self.create_timer(FETCH_PERIOD, self.guarded(self._fetch), clock=steady),
            self.create_timer(REPORT_PERIOD, self.guarded(self._report), clock=steady),
            self.create_timer(LOOK_PERIOD, self.guarded(self._look), clock=steady),
        ]
        self._look()
        self.get_logger().info(f"recording {len(self._channels)} topics to {writer.folder}")

    def _add(self, info: TopicInfo) -> None:
        """Record one more topic; one that cannot be recorded leaves the others alone."""
        assert self._bag is not None
        channel = Channel(info, counter=SentCounter(self._before.get(info.name, 0)))
        self._channels[info.name] = channel
        try:
            self._bag.writer.definitions.text(info.type)
            self._bag.do(partial(self._bag.writer.add_topic, info))  # before any of its messages
            self._subscribe(channel)
        except (DefinitionError, ValueError) as error:
            channel.note = str(error)
            self.get_logger().error(f"{error}; {info.name} is not recorded, everything else is")

    def start(self) -> None:
        self._recording = True

    def stop(self) -> None:
        """Take what has arrived but was not handled yet, and wait until it is written."""
        self._fetch(last=True)
        self._recording = False
        if self._bag is not None and not self._bag.written(patience=10.0):
            self.get_logger().warning("the disk is slow: messages are still waiting to be written after 10 s")
        self._write_counts()

    def teardown(self) -> None:
        if self._recording:
            self.stop()
        for timer in self._clockwork:
            self.destroy_timer(timer)
        if self._clockwork:
            self.destroy_publisher(self._diagnostics)
        self._clockwork = []
        if self._settings is not None:
            self._settings.close()
            self._settings = None
        for channel in self._channels.values():
            if channel.subscription is not None and self._intake is not None:
                self._intake.unsubscribe(channel.subscription)
                channel.subscription = None
        bag, self._bag = self._bag, None
        if bag is not None:
            bag.end(patience=30.0)
            try:
                bag.writer.close({TOPICS: json.dumps(self._summary(bag)), MODEL: json.dumps(self._model())})
            except BagError as error:
                self.get_logger().error(str(error))
            self._write_counts(bag)

    def destroy_node(self) -> None:
        """The hidden node goes with this one, not with each cleanup: rclpy keeps 95 kB of every node it destroys."""
        if self._intake is not None:
            self._intake.close()
            self._intake = None
        super().destroy_node()

    # -- receiving --

    def _subscribe(self, channel: Channel) -> None:
        info = channel.info
        qos = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=int(self.params.depth),
            reliability=ReliabilityPolicy.RELIABLE if info.reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL
            if info.transient_local
            else DurabilityPolicy.VOLATILE,
        )
        assert self._intake is not None
        channel.subscription = self._intake.subscribe(message_class(info.type), info.name, qos)

    def _fetch(self, *, last: bool = False) -> None:
        """Hand over what has arrived on all topics, in the order in which it did.

        What came while the topics were gone through waits for the next time (unless this is the `last`): something
        that came before it may have arrived on a topic that had been looked at already.
        """
        began, arrived, self._late = time.time_ns() - JUST_NOW, self._late, []

        def fetch(channel: Channel) -> None:
            if self._intake is not None and channel.subscription is not None:
                for data, about in self._intake.fetch(channel.subscription, most=int(self.params.depth)):
                    late = about["received_timestamp"] > began and not last
                    (self._late if late else arrived).append((channel, data, about))

        fetch_guarded = self.guarded(fetch)  # one topic's trouble is not another's
        for channel in self._channels.values():
            fetch_guarded(channel)
        for channel, data, about in sorted(arrived, key=lambda item: item[2]["received_timestamp"]):
            self._take(channel, data, about)

    def _take(self, channel: Channel, data: bytes, about: dict[str, int]) -> None:
        if not self._recording:
            return
        sequence = about.get("publication_sequence_number")
        channel.counter.saw(sequence)
        if channel.info.type == POSTERIOR:
            channel.last = bytes(data)
        if self._bag is not None:
            self._bag.put(
                channel.info.name, bytes(data), received=int(about["received_timestamp"]),
                sent=int(about["source_timestamp"]), sequence=int(sequence or 0),
            )  # fmt: skip

    def _ask_for_less(self, channel: Channel) -> None:
        """Subscribe again with what the publishers of this topic do offer."""
        offers = [p.qos_profile for p in self.get_publishers_info_by_topic(channel.info.name)]
        reliable = channel.info.reliable and all(o.reliability == ReliabilityPolicy.RELIABLE for o in offers)
        kept = channel.info.transient_local and all(
            o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers
        )
        if (reliable, kept) == (channel.info.reliable, channel.info.transient_local) or not offers:
            return
        channel.info = replace(channel.info, reliable=reliable, transient_local=kept)
        channel.note = (
            f"a publisher of {channel.info.name} offers {'reliable' if reliable else 'best effort'}, "
            f"{'transient local' if kept else 'volatile'} delivery only; recording with that"
        )
        self.get_logger().warning(channel.note)
        if channel.subscription is not None and self._intake is not None:
            self._intake.unsubscribe(channel.subscription)
        self._subscribe(channel)

    # -- looking around --

    def _look(self) -> None:
        """Take up topics that have appeared, and ask nodes that have come for their parameters."""
        if self._settings is not None:
            self._settings.look()
        if self._bag is None or self._bag.stopped_because:
            return
        for channel in self._channels.values():
            taken = channel.subscription.get_publisher_count() if channel.subscription is not None else 0
            if taken < self.count_publishers(channel.info.name):
                self._ask_for_less(channel)
        untyped = {self.resolve_topic_name(e.name): e for e in self._profile.topics if not e.type}
        for name, types in self.get_topic_names_and_types():
            if name in self._channels or self._profile.excludes(name):
                continue
            if name not in untyped and not self._profile.includes(name):
                continue
            offers = [p.qos_profile for p in self.get_publishers_info_by_topic(name)]
            if not offers:
                continue  # only listeners so far: what will be offered is not known
            info = TopicInfo(
                name,
                types[0],
                reliable=all(o.reliability == ReliabilityPolicy.RELIABLE for o in offers),
                transient_local=all(o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers),
                depth=int(self.params.depth),
            )
            self.get_logger().info(f"{name} has appeared; recording it")
            self._add(info)

    # -- telling --

    def _note_settings(self) -> None:
        if self._settings is not None and self._bag is not None:
            text = json.dumps(self._settings.values)
            self._bag.do(partial(self._bag.writer.note, {PARAMETERS: text}))

    def _model(self) -> dict[str, Any]:
        """The newest posterior on any recorded topic: the model that the robot acted on."""
        newest = [c.last for c in self._channels.values() if c.last]
        if not newest:
            return {}
        message = deserialize_message(newest[-1], message_class(POSTERIOR))
        return {"version": message.version, "step": message.step, "hash": message.hash}

    def _earlier_counts(self, writer: BagWriter) -> dict[str, int]:
        """Messages sent by topic while an earlier recorder wrote to this bag, as far as it could tell."""
        counts = dict(writer.earlier)
        try:
            topics = json.loads((writer.folder / COUNTS).read_text(encoding="utf8"))["topics"]
            for name, entry in topics.items():
                counts[name] = max(counts.get(name, 0), int(entry["sent"] or 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # it was killed before it wrote any, or there was none
        return counts

    def _summary(self, bag: WriterThread) -> dict[str, dict[str, Any]]:
        counts = bag.writer.counts
        return {
            name: {
                "type": c.info.type,
                "sent": c.counter.sent,
                "received": c.counter.received,
                "recorded": counts.get(name, 0),
                "dropped": bag.dropped[name],
                "publishers": c.counter.publishers,
                "note": c.note,
            }
            for name, c in self._channels.items()
        }

    def _write_counts(self, bag: WriterThread | None = None) -> None:
        bag = bag or self._bag
        if bag is None:
            return
        content = {"stopped_because": bag.stopped_because, "model": self._model(), "topics": self._summary(bag)}
        try:
            write_text(bag.folder / COUNTS, json.dumps(content, indent=1))
        except OSError as error:
            if not bag.stopped_because:
                self.get_logger().warning(f"counts could not be written to {bag.folder}: {error}")

    def _report(self) -> None:
        self._write_counts()
        bag = self._bag
        if bag is None:
            return
        status = DiagnosticStatus(name=f"{self.get_name()}: bag", hardware_id="")
        status.level = DiagnosticStatus.ERROR if bag.stopped_because else DiagnosticStatus.OK
        status.message = bag.stopped_because or f"recording to {bag.folder}"
        values = {
            "messages": sum(bag.writer.counts.values()),
            "dropped": sum(bag.dropped.values()),
            "waiting_bytes": bag.waiting_bytes,
            "files": len(metadata.mcap_files(bag.folder)),
            "free_mb": shutil.disk_usage(bag.folder).free // 1_000_000,
            "min_free_mb": self.params.min_free,
            "model_version": self._model().get("version", ""),
        }
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Run the recorder node."""
    run(Recorder)
