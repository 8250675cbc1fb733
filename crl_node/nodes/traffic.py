"""Listens beside a running loop and keeps when its messages were sent; reads them only afterwards.

Messages are taken as bytes with the middleware's source timestamp, so that neither this node's own haste nor its
slowness is in the figures, and a loop on two cores hardly feels it.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

from crl_interfaces.msg import Command, Plan, Posterior, StepReport
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from crl_node.evaluation.traffic import Sent, Traffic
from crl_node.nodes.base import Guard, stamp_to_seconds
from crl_node.nodes.listener import Listener

#: Messages that may wait for this process.
_DEPTH = 500
_TOPICS: dict[str, Any] = {
    "camera/image_raw": Image,
    "planner/command": Command,
    "gate/executed": Command,
    "learner/posterior": Posterior,
    "planner/plan": Plan,
    "learner/report": StepReport,
}


class TrafficNode(Guard, Node):
    """Keeps (source time ns, bytes) by topic; of images the head alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__("traffic", **options)
        self.error_counts = Counter()
        self.kept: dict[str, list[tuple[int, bytes]]] = {topic: [] for topic in _TOPICS}
        for topic, kind in _TOPICS.items():
            durability = (
                DurabilityPolicy.TRANSIENT_LOCAL if topic == "learner/posterior" else DurabilityPolicy.VOLATILE
            )
            qos = QoSProfile(depth=_DEPTH, durability=durability)
            self.create_subscription(kind, topic, self._keeper(topic), qos, raw=True)

    def _keeper(self, topic: str) -> Any:
        kept, head = self.kept[topic], 12 if topic == "camera/image_raw" else None

        def keep(data: bytes, info: dict[str, int]) -> None:
            kept.append((info["source_timestamp"], bytes(data[:head])))

        return self.guarded(keep)

    def forget(self) -> None:
        """What came so far was the warm-up."""
        for kept in self.kept.values():
            kept.clear()

    def traffic(self) -> Traffic:
        """What was sent since `forget`."""
        found, last = Traffic(), 0
        for ns, head in self.kept["camera/image_raw"]:
            # CDR: four bytes of encapsulation, then header.stamp.
            stamp = int.from_bytes(head[4:8], "little") + 1e-9 * int.from_bytes(head[8:12], "little")
            found.images.append(Sent(stamp, ns * 1e-9))
        for ns, data in self.kept["planner/command"]:
            found.commands.append(Sent(stamp_to_seconds(deserialize_message(data, Command).belief_stamp), ns * 1e-9))
        for ns, data in self.kept["gate/executed"]:
            command = deserialize_message(data, Command)
            found.executed.append(Sent(stamp_to_seconds(command.header.stamp), ns * 1e-9))
            found.answered.append(stamp_to_seconds(command.belief_stamp))
            found.holds += int(command.hold)
        for ns, data in self.kept["learner/posterior"]:
            posterior = deserialize_message(data, Posterior)
            found.posteriors.append(Sent(stamp_to_seconds(posterior.header.stamp), ns * 1e-9, int(posterior.version)))
        for ns, data in self.kept["planner/plan"]:
            plan = deserialize_message(data, Plan)
            found.plans.append(Sent(stamp_to_seconds(plan.header.stamp), ns * 1e-9, int(plan.posterior_version)))
            found.plan_ms.append(float(plan.plan_ms))
            found.swap_ms.append(float(plan.swap_ms))
        for _, data in self.kept["learner/report"]:
            report = deserialize_message(data, StepReport)
            if report.perception_ms > 0:
                found.perception_ms.append(float(report.perception_ms))
                found.update_ms.append(float(report.update_ms + report.refresh_ms))
            last = last or int(report.frames_dropped)
            found.frames_dropped = int(report.frames_dropped) - last
        return found


class TrafficListener(Listener[TrafficNode]):
    """Served by a thread of its own."""

    def __init__(self, domain_id: int, namespace: str = "") -> None:
        super().__init__(TrafficNode, domain_id, namespace, raw=True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="traffic", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            self.executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        """Leave the domain; what was kept stays readable."""
        self._stop.set()
        self._thread.join()
        super().close()
