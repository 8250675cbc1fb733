"""A node that only listens, and keeps a `Status` of the run: for the command line's live display."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from crl_interfaces.msg import Belief, CausalGraph, Command, Goals, Plan, StepReport
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from crl_node.data import InformationGain
from crl_node.nodes.base import Guard, stamp_to_seconds
from crl_node.nodes.convert import graph_from_message
from crl_node.nodes.listener import Listener
from crl_node.status import GoalView, SlotView, Status

#: A slot that moves less than this between two beliefs stands still, m: the rest is perception noise.
_STILL = 0.002


class StatusNode(Guard, Node):
    """Subscribes best-effort, depth 1 where only the newest counts: looking must not slow the loop."""

    def __init__(self, **options: Any) -> None:
        super().__init__("status", **options)
        self.error_counts = Counter()
        self.status = Status()
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        all_of_them = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for kind, topic, callback, qos in (
            (Clock, "/clock", self._on_clock, newest),
            (Belief, "learner/belief", self._on_belief, newest),
            (CausalGraph, "learner/graph", self._on_graph, newest),
            (StepReport, "learner/report", self._on_report, all_of_them),
            (Plan, "planner/plan", self._on_plan, all_of_them),
            (Goals, "planner/goals", self._on_goals, latched),
            (Command, "gate/executed", self._on_executed, all_of_them),
            (DiagnosticArray, "/diagnostics", self._on_diagnostics, all_of_them),
        ):
            self.create_subscription(kind, topic, self.guarded(callback), qos)
        self._shutdown = self.create_client(Trigger, "manager/shutdown")
        self._startup = self.create_client(Trigger, "manager/startup")

    def request_shutdown(self) -> bool:
        """Ask the manager to stop all nodes in order; False when there is no manager to ask."""
        return self._ask(self._shutdown)

    def request_startup(self) -> bool:
        """Ask the manager to bring all nodes up; False when there is no manager to ask."""
        return self._ask(self._startup)

    @staticmethod
    def _ask(client: Any) -> bool:
        if not client.service_is_ready():
            return False
        client.call_async(Trigger.Request())
        return True

    def _on_clock(self, message: Clock) -> None:
        self.status.time = stamp_to_seconds(message.clock)

    def _on_belief(self, message: Belief) -> None:
        slots = self.status.slots
        for slot in message.slots:
            x, y = float(slot.mean[0]), float(slot.mean[1])
            old = slots.get(slot.id)
            moved = 0.0 if old is None else old.moved
            if old is not None:
                step = math.hypot(x - old.x, y - old.y)
                if step < _STILL:
                    x, y = old.x, old.y  # so that slow motion still adds up
                else:
                    moved += step
            red, green, blue = map(float, slot.colour)
            slots[slot.id] = SlotView(
                slot.id, x, y, (red, green, blue), float(slot.mean[4]), slot.visible, moved
            )
        for gone in set(slots) - {slot.id for slot in message.slots}:
            del slots[gone]

    def _on_graph(self, message: CausalGraph) -> None:
        self.status.edges = graph_from_message(message)

    def _on_report(self, message: StepReport) -> None:
        status = self.status
        status.transitions, status.posterior_version = message.step, message.posterior_version
        status.frames, status.surprise = message.frames_received, message.surprise
        status.dropped = message.frames_dropped
        status.rejected = message.frames_rejected + message.pairs_rejected
        status.note_latency("see", message.perception_ms)
        status.note_latency("learn", message.update_ms + message.refresh_ms)
        if message.note and (not status.notes or status.notes[-1] != f"learner: {message.note}"):
            status.notes.append(f"learner: {message.note}")

    def _on_plan(self, message: Plan) -> None:
        status, gain = self.status, message.chosen.gain
        status.gain = InformationGain(gain.structure, gain.parameters, gain.states)
        status.gain_history.append((stamp_to_seconds(message.header.stamp), status.gain.total))
        status.doing, status.provider, status.policy = message.chosen.label, message.provider, message.policy
        status.preference = message.chosen.preference
        status.note_latency("plan", message.plan_ms)

    def _on_goals(self, message: Goals) -> None:
        self.status.goals = tuple(GoalView(goal.slot, goal.name, goal.x, goal.y) for goal in message.goals)
        if message.note:
            self.status.notes.append(f"goal: {message.note}")

    def _on_executed(self, message: Command) -> None:
        self.status.commands += 1
        self.status.holds += int(message.hold)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for entry in message.status:
            if entry.name == "manager":
                self.status.phase = entry.message
                self.status.phase_note = next((v.value for v in entry.values if v.key == "note"), "")
            elif entry.name.startswith("lifecycle/"):
                self.status.node_states[entry.name.removeprefix("lifecycle/")] = entry.message
            elif entry.level in (DiagnosticStatus.WARN, DiagnosticStatus.ERROR):
                text = f"{entry.name}: {entry.message}"
                if text not in self.status.notes:
                    self.status.notes.append(text)


class StatusListener(Listener[StatusNode]):
    """Served by whoever asks, with `spin`."""

    def __init__(self, domain_id: int, namespace: str = "") -> None:
        super().__init__(StatusNode, domain_id, namespace)

    @property
    def status(self) -> Status:
        """What is known so far."""
        return self.node.status

    def spin(self, seconds: float) -> None:
        """Serve what arrives within about `seconds`."""
        deadline = self.node.get_clock().now().nanoseconds + int(seconds * 1e9)
        while (left := deadline - self.node.get_clock().now().nanoseconds) > 0:
            self.executor.spin_once(timeout_sec=left * 1e-9)
