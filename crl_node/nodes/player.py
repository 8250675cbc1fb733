"""Publishes the recorded input of a learner: camera, joint states and executed commands, and /clock with them.

Nothing else of the bag goes out: no belief, no plan, no truth. In lockstep a frame waits for the belief about the one
before, so that a learner in lockstep makes of it what the recorded one made.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from crl_interfaces.msg import Belief, Command
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock as RosClock
from rclpy.clock_type import ClockType
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from crl_node.bags.reader import BagReader
from crl_node.nodes.base import ManagedNode, run, seconds_to_stamp, stamp_to_seconds
from crl_node.replay.stream import EXECUTED, IMAGE, JOINTS, Event, Kind, events, roles

#: s, how long `stop` waits for the message in hand.
JOIN = 5.0
#: s, after the last message: time for the learner to publish what it made of it.
SETTLE = 1.0
#: s, the thread looks this often whether it should end.
LOOK = 0.05


class Player(ManagedNode):
    """Plays from activation to the end of the bag. Deactivated it begins anew when it is activated again."""

    def __init__(self) -> None:
        self._owned: list[tuple[str, object]] = []
        self._thread: threading.Thread | None = None
        self._answered = threading.Condition()
        self._newest_belief = float("-inf")  # s
        self._stopping = False
        self._played = 0
        self._late = 0  # beliefs that did not come in time
        self._state = "not started"
        super().__init__("player")

    def setup(self) -> None:
        self._reader = BagReader(self.params.bag)
        self._topics = {name: topic for name, topic in roles(self._reader).items() if name in (IMAGE, JOINTS, EXECUTED)}
        self._clocks = self.create_publisher(Clock, "/clock", 10)
        self._outputs = {
            Kind.IMAGE: self.create_lifecycle_publisher(Image, IMAGE, 10),
            Kind.JOINTS: self.create_lifecycle_publisher(JointState, JOINTS, 50),
            Kind.EXECUTED: self.create_lifecycle_publisher(Command, EXECUTED, 10),
        }
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        subscription = self.create_subscription(Belief, "learner/belief", self.guarded(self._on_belief), 10)
        steady = RosClock(clock_type=ClockType.STEADY_TIME)
        timer = self.create_timer(1.0, self.guarded(self._report), clock=steady)
        self._owned = [("publisher", p) for p in (self._clocks, self._diagnostics, *self._outputs.values())]
        self._owned += [("subscription", subscription), ("timer", timer)]
        self.get_logger().info(f"{self.params.bag}: {', '.join(sorted(self._topics.values()))}")

    def start(self) -> None:
        self._stopping, self._played, self._late, self._state = False, 0, 0, "playing"
        self._newest_belief = float("-inf")
        self._thread = threading.Thread(target=self.guarded(self._play), name="player", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._answered:
            self._stopping = True
            self._answered.notify_all()
        if self._thread is not None:
            self._thread.join(JOIN)
        self._thread = None

    def teardown(self) -> None:
        for kind, entity in self._owned:
            getattr(self, f"destroy_{kind}")(entity)
        self._owned = []

    def _on_belief(self, message: Belief) -> None:
        with self._answered:
            self._newest_belief = stamp_to_seconds(message.header.stamp)
            self._answered.notify_all()

    # -- playing (own thread) -----------------------------------------------------------------------------------------

    def _play(self) -> None:
        self._wait_for_listeners()
        began, first, asked = time.monotonic(), None, None
        for event in events(self._reader, self._topics):
            if self._stopping:
                return
            if event.kind is Kind.RESTART:
                self.get_logger().info(f"the recorded clock goes back to {event.stamp:.3f} s")
                began, first, asked = time.monotonic(), None, None
                continue
            first = event.stamp if first is None else first
            if not self.params.lockstep:
                self._wait_until(began + (event.stamp - first) / self.params.rate)
            elif event.kind is Kind.IMAGE:
                if asked is not None:
                    self._wait_for_belief(asked)
                asked = event.stamp
            self._publish(event)
        if asked is not None:
            self._wait_for_belief(asked)
        self._wait_until(time.monotonic() + SETTLE)
        self._state = "finished"
        self.get_logger().info(f"finished: {self._played} messages, {self._late} beliefs did not come")
        if self.params.exit_at_end and not self._stopping:
            os.kill(os.getpid(), signal.SIGTERM)  # leaves by the lifecycle, as when it is asked to from outside

    def _wait_for_listeners(self) -> None:
        """What is published before anybody listens is lost, and a first frame that is lost is another run."""
        deadline = time.monotonic() + self.params.patience
        while not self._stopping and not all(p.get_subscription_count() for p in self._outputs.values()):
            if time.monotonic() > deadline:
                self.get_logger().warning("nobody listens to all of the topics; playing all the same")
                return
            time.sleep(LOOK)

    def _publish(self, event: Event) -> None:
        self._clocks.publish(Clock(clock=seconds_to_stamp(event.stamp)))
        self._outputs[event.kind].publish(event.data)  # as it was recorded, byte for byte
        self._played += 1

    def _wait_until(self, moment: float) -> None:
        with self._answered:
            while not self._stopping and (left := moment - time.monotonic()) > 0:
                self._answered.wait(left)

    def _wait_for_belief(self, stamp: float) -> None:
        deadline = time.monotonic() + self.params.patience
        with self._answered:
            while not self._stopping and self._newest_belief < stamp - 1e-6:
                if time.monotonic() > deadline:
                    self._late += 1
                    self.get_logger().warning(f"no belief about the frame at {stamp:.3f} s came; going on")
                    return
                self._answered.wait(LOOK)

    def _report(self) -> None:
        values: dict[str, Any] = {"messages": self._played, "late_beliefs": self._late, "errors": self.error_count}
        status = DiagnosticStatus(
            level=DiagnosticStatus.OK, name=f"{self.get_fully_qualified_name()}: player", hardware_id="",
            message=self._state, values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )  # fmt: skip
        message = DiagnosticArray(status=[status])
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)


def main() -> None:
    """Entry point of the executable `player`."""
    run(Player)


if __name__ == "__main__":
    main()
