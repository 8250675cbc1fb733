"""Records every topic of the loop into a crash-safe bag; counts what was received against what was sent."""

from __future__ import annotations

import importlib
import json
import queue
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from crl_node.bags.definitions import DefinitionError
from crl_node.bags.metadata import BagError, TopicInfo, write_text
from crl_node.bags.sent import SentCounter
from crl_node.bags.writer import BagWriter
from crl_node.nodes.base import ManagedNode, run

#: Words that may follow topic and type in the parameter `topics`.
OPTIONS = ("transient_local", "best_effort")
#: How often counts are written beside the bag and told to /diagnostics, s.
REPORT_PERIOD = 2.0


@dataclass
class Channel:
    """One recorded topic."""

    info: TopicInfo
    subscription: Subscription | None = None
    counter: SentCounter = field(default_factory=SentCounter)
    dropped: int = 0  # the disk was too slow, or recording had stopped
    note: str = ""


def parse_topic(entry: str) -> TopicInfo:
    """'topic type [transient_local] [best_effort]' as TopicInfo; ValueError with a sentence otherwise."""
    words = entry.split()
    if len(words) < 2 or words[1].count("/") != 2 or set(words[2:]) - set(OPTIONS):
        raise ValueError(
            f"recorder topic '{entry}' must read 'topic package/msg/Type [{'] ['.join(OPTIONS)}]', "
            "for example 'joint_states sensor_msgs/msg/JointState'"
        )
    return TopicInfo(
        words[0], words[1], reliable="best_effort" not in words, transient_local="transient_local" in words
    )


def message_class(type_name: str) -> Any:
    """The rclpy class of `pkg/msg/Name`."""
    package, kind, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"message type '{type_name}' is not installed ({error})") from error


class Recorder(ManagedNode):
    """Raw subscriptions fill a queue, one thread writes it out. Records from configure to deactivate."""

    def __init__(self) -> None:
        self._channels: dict[str, Channel] = {}
        self._writer: BagWriter | None = None
        self._thread: threading.Thread | None = None
        self._queue: queue.SimpleQueue[tuple[str, bytes, int, int, int] | threading.Event | None]
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._recording = False
        self._stopped_because = ""
        self._reported: set[str] = set()
        super().__init__("recorder")

    # -- lifecycle --

    def setup(self) -> None:
        self._channels, self._queue, self._waiting_bytes = {}, queue.SimpleQueue(), 0
        self._stopped_because, self._reported = "", set()
        entries = [parse_topic(entry) for entry in self.params.topics]
        self._writer = BagWriter(
            Path(self.params.output).expanduser(),
            compression=self.params.compression,
            flush_period=self.params.flush_period,
            min_free_bytes=self.params.min_free * 1_000_000,
            resume=True,
        )
        before = self._earlier_counts(self._writer)
        for entry in entries:
            name = self.resolve_topic_name(entry.name)
            info = TopicInfo(
                name, entry.type, "", entry.reliable, entry.transient_local, int(self.params.depth)
            )
            channel = Channel(info, counter=SentCounter(before.get(name, 0)))
            try:
                self._writer.add_topic(info)
                self._subscribe(channel)
            except (DefinitionError, ValueError) as error:
                channel.note = str(error)
                self.get_logger().error(f"{error}; {name} is not recorded, everything else is")
            self._channels[name] = channel
        self._thread = threading.Thread(target=self._write_out, name="bag writer", daemon=True)
        self._thread.start()
        self._recording = True
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._timer = self.create_timer(REPORT_PERIOD, self.guarded(self._report), clock=steady)
        self.get_logger().info(f"recording {len(self._channels)} topics to {self._writer.folder}")

    def start(self) -> None:
        self._recording = True

    def stop(self) -> None:
        """Take what has arrived but was not handled yet, and wait until it is written."""
        for channel in self._channels.values():
            if channel.subscription is not None:
                self._drain(channel)
        self._recording = False
        written = threading.Event()
        self._queue.put(written)
        if not written.wait(timeout=10.0):
            self.get_logger().warning("the disk is slow: messages are still waiting to be written after 10 s")
        self._write_counts()

    def teardown(self) -> None:
        if self._recording:
            self.stop()
        if getattr(self, "_timer", None) is not None:
            self.destroy_timer(self._timer)
            self.destroy_publisher(self._diagnostics)
            self._timer = None
        for channel in self._channels.values():
            if channel.subscription is not None:
                self.destroy_subscription(channel.subscription)
                channel.subscription = None
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout=30.0)
            self._thread = None
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close({"crl_node.topics": json.dumps(self._summary(writer))})
            except BagError as error:
                self.get_logger().error(str(error))
            self._write_counts(writer)

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

        def on_message(data: bytes, message_info: Any) -> None:
            self._take(channel, data, message_info)

        def on_incompatible(event: Any) -> None:
            self._ask_for_less(channel)

        channel.subscription = self.create_subscription(
            message_class(info.type),
            info.name,
            self.guarded_raw(on_message),
            qos,
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self.guarded(on_incompatible), use_default_callbacks=False
            ),
        )

    def guarded_raw(self, callback: Any) -> Any:
        """`guarded` with the two arguments that rclpy looks for before it hands the message info over."""
        guarded = self.guarded(callback)

        def on_raw(data: bytes, message_info: Any) -> None:
            guarded(data, message_info)

        return on_raw

    def _take(self, channel: Channel, data: bytes, message_info: Any) -> None:
        if not self._recording:
            return
        sequence = message_info.get("publication_sequence_number")
        channel.counter.saw(sequence)
        backlog = self.params.backlog * 1_000_000
        with self._lock:
            full = self._waiting_bytes + len(data) > backlog
            if not full and not self._stopped_because:
                self._waiting_bytes += len(data)
        if full or self._stopped_because:
            channel.dropped += 1
            return
        self._queue.put(
            (
                channel.info.name,
                bytes(data),
                int(message_info["received_timestamp"]),
                int(message_info["source_timestamp"]),
                int(sequence or 0),
            )
        )

    def _drain(self, channel: Channel) -> None:
        subscription = channel.subscription
        assert subscription is not None
        with subscription.handle:
            while (taken := subscription.handle.take_message(subscription.msg_type, True)) is not None:
                self._take(channel, *taken)

    def _ask_for_less(self, channel: Channel) -> None:
        """Subscribe again with what the publishers of this topic do offer."""
        offers = [p.qos_profile for p in self.get_publishers_info_by_topic(channel.info.name)]
        reliable = channel.info.reliable and all(o.reliability == ReliabilityPolicy.RELIABLE for o in offers)
        kept = channel.info.transient_local and all(
            o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers
        )
        if (reliable, kept) == (channel.info.reliable, channel.info.transient_local) or not offers:
            return
        old = channel.info
        channel.info = TopicInfo(old.name, old.type, old.type_hash, reliable, kept, old.depth)
        channel.note = (
            f"a publisher of {old.name} offers {'reliable' if reliable else 'best effort'}, "
            f"{'transient local' if kept else 'volatile'} delivery only; recording with that"
        )
        self.get_logger().warning(channel.note)
        if channel.subscription is not None:
            self.destroy_subscription(channel.subscription)
        self._subscribe(channel)

    # -- writing (own thread) --

    def _write_out(self) -> None:
        writer = self._writer
        assert writer is not None
        while True:
            try:
                item = self._queue.get(timeout=self.params.flush_period)
            except queue.Empty:
                self._attempt(writer.flush)
                continue
            if item is None:
                return
            if isinstance(item, threading.Event):
                self._attempt(writer.flush)
                item.set()
                continue
            topic, data, received, sent, sequence = item
            with self._lock:
                self._waiting_bytes -= len(data)
            if not self._attempt(
                writer.write, topic, data, log_time=received, publish_time=sent, sequence=sequence
            ):
                self._channels[topic].dropped += 1

    def _attempt(self, action: Any, *arguments: Any, **options: Any) -> bool:
        """Do it unless recording has stopped; the first error stops recording, and nothing else."""
        if self._stopped_because:
            return False
        try:
            action(*arguments, **options)
        except Exception as error:  # whatever it is, the loop goes on without a recorder
            self._stopped_because = str(error) or type(error).__name__
            self.get_logger().error(f"{self._stopped_because} (the rest of the system is not affected)")
            return False
        return True

    # -- telling --

    def _earlier_counts(self, writer: BagWriter) -> dict[str, int]:
        """Messages sent by topic while an earlier recorder wrote to this bag, as far as it could tell."""
        counts = dict(writer.earlier)
        try:
            topics = json.loads((writer.folder / "recorder.json").read_text(encoding="utf8"))["topics"]
            for name, entry in topics.items():
                counts[name] = max(counts.get(name, 0), int(entry["sent"] or 0))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # it was killed before it wrote any, or there was none
        return counts

    def _summary(self, writer: BagWriter) -> dict[str, dict[str, Any]]:
        counts = writer.counts
        return {
            name: {
                "type": c.info.type,
                "sent": c.counter.sent,
                "received": c.counter.received,
                "recorded": counts.get(name, 0),
                "dropped": c.dropped,
                "publishers": c.counter.publishers,
                "note": c.note,
            }
            for name, c in self._channels.items()
        }

    def _write_counts(self, writer: BagWriter | None = None) -> None:
        writer = writer or self._writer
        if writer is None:
            return
        content = {"stopped_because": self._stopped_because, "topics": self._summary(writer)}
        try:
            write_text(writer.folder / "recorder.json", json.dumps(content, indent=1))
        except OSError as error:
            if not self._stopped_because:
                self.get_logger().warning(f"counts could not be written to {writer.folder}: {error}")

    def _report(self) -> None:
        self._write_counts()
        if self._writer is None:
            return
        counts = self._writer.counts
        status = DiagnosticStatus(name=f"{self.get_name()}: bag", hardware_id="")
        status.level = DiagnosticStatus.ERROR if self._stopped_because else DiagnosticStatus.OK
        status.message = self._stopped_because or f"recording to {self._writer.folder}"
        status.values = [
            KeyValue(key="messages", value=str(sum(counts.values()))),
            KeyValue(key="dropped", value=str(sum(c.dropped for c in self._channels.values()))),
            KeyValue(key="waiting_bytes", value=str(self._waiting_bytes)),
        ]
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Run the recorder node."""
    run(Recorder)
