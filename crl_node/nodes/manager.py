"""Brings the lifecycle nodes up in order, keeps them up, and takes them down in reverse.

It starts no process: the supervisor or `ros2 launch` does. A node that was killed and appears again (unconfigured)
is configured and activated again, without touching the others.

Every node's state is asked for twice a second: that is its heartbeat. One that is there but does not answer is silent
(stopped, hung, starved), and that is said. The reaction needs no manager: the planner holds when beliefs are too old,
the gate when commands are, and the controller comes to rest by itself; whoever started the silent node ends it and
starts it again (`session.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from crl_node.nodes import parameters
from crl_node.nodes.base import Guard, run

#: How a node is called that is there but does not answer.
SILENT = "silent"
UNKNOWN, UNCONFIGURED, INACTIVE, ACTIVE = "unknown", "unconfigured", "inactive", "active"
#: state -> transition that leads towards "active", and the one that leads away from it.
_UP = {UNCONFIGURED: Transition.TRANSITION_CONFIGURE, INACTIVE: Transition.TRANSITION_ACTIVATE}
_DOWN = {ACTIVE: Transition.TRANSITION_DEACTIVATE, INACTIVE: Transition.TRANSITION_CLEANUP}
_LABEL = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
    Transition.TRANSITION_CLEANUP: "clean up",
}
_GOAL = {
    Transition.TRANSITION_CONFIGURE: INACTIVE,
    Transition.TRANSITION_ACTIVATE: ACTIVE,
    Transition.TRANSITION_DEACTIVATE: INACTIVE,
    Transition.TRANSITION_CLEANUP: UNCONFIGURED,
}
#: A get_state that takes longer is asked again, s: the node may be busy or dead.
_STATE_TIMEOUT = 2.0
#: A state that is believed is asked for again after this time, s: a killed node comes back unconfigured.
_STATE_AGE = 0.5


class Phase(Enum):
    """Where the system as a whole is."""

    WAITING = "waiting to be started"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass
class Member:
    """One managed node as the manager sees it."""

    name: str
    get_state: Any
    change_state: Any
    state: str = UNKNOWN
    asked_at: float = 0.0  # steady s, when `state` was asked for
    pending: Future | None = None
    pending_since: float = 0.0
    check: Future | None = None  # a get_state beside a transition that takes long
    check_since: float = 0.0
    transition: int | None = None  # None while `pending` is a get_state
    unheard: float = 0.0  # s without an answer while it was there; time in which the manager itself slept counts not
    silent: bool = False
    failures: int = 0
    note: str = ""
    history: list[str] = field(default_factory=list)


class Manager(Guard, Node):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("manager")
        self.error_counts = Counter()
        self.params = parameters.declare(self, "manager")
        self.phase = Phase.WAITING
        self._ticked = time.monotonic()
        self.members = [
            Member(name, self.create_client(GetState, f"{name}/get_state"),
                   self.create_client(ChangeState, f"{name}/change_state"))
            for name in self.params.nodes
        ]  # fmt: skip
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_service(Trigger, "manager/startup", self._on_startup)
        self.create_service(Trigger, "manager/shutdown", self._on_shutdown)
        # Simulated time stands still while the simulator is not active: the manager lives in real time.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self.params.period, self.guarded(self._tick), clock=steady)
        self.create_timer(1.0, self.guarded(self._report), clock=steady)
        if self.params.autostart:
            self._enter(Phase.STARTING)

    # -- services -------------------------------------------------------------------------------------------------

    # Both answer at once: a service that waits for others would keep the single-threaded executor from serving
    # the answers it waits for. Progress is on /diagnostics.

    def _on_startup(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._begin(Phase.STARTING)
        response.success, response.message = True, self._summary()
        return response

    def _on_shutdown(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._begin(Phase.STOPPING)
        response.success, response.message = True, self._summary()
        return response

    def _begin(self, phase: Phase) -> None:
        for member in self.members:
            member.failures, member.note = 0, ""
        self._enter(phase)

    # -- the loop -------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        for member in self.members:
            self._collect(member, now)
            self._listen_for_heart(member, min(now - self._ticked, 2.0 * self.params.period))
        self._ticked = now
        if self.phase in (Phase.STARTING, Phase.RUNNING):
            self._bring_up(now)
        elif self.phase is Phase.STOPPING:
            self._take_down(now)
        for member in self.members:
            if member.pending is None and now - member.asked_at > _STATE_AGE:
                self._ask_state(member, now)

    def _listen_for_heart(self, member: Member, passed: float) -> None:
        """Silent: there, not busy with a transition, and without an answer for `heartbeat_timeout`."""
        busy = member.pending is not None and member.transition is not None
        member.unheard += passed
        if busy or not member.get_state.service_is_ready():
            member.unheard = 0.0  # a transition has its own timeout, and who is not there is "gone"
        silent = member.unheard > self.params.heartbeat_timeout
        if silent == member.silent:
            return
        member.silent = silent
        if silent:
            self.get_logger().error(
                f"{member.name} has not answered for {member.unheard:.1f} s although it is there: it is silent"
            )
        elif member.get_state.service_is_ready():
            self.get_logger().info(f"{member.name} answers again")
        self._report()

    def _bring_up(self, now: float) -> None:
        """Configure whatever is unconfigured at once; activate in order, each once all before it are active."""
        before_active = True
        for member in self.members:
            if member.pending is None:
                if member.state == UNCONFIGURED:
                    self._change(member, now, _UP[UNCONFIGURED])
                # Once the system runs, a node that came back waits for nobody.
                elif member.state == INACTIVE and (before_active or self.phase is Phase.RUNNING):
                    self._change(member, now, _UP[INACTIVE])
            before_active = before_active and member.state == ACTIVE
        if before_active and self.phase is Phase.STARTING:
            self._enter(Phase.RUNNING)

    def _take_down(self, now: float) -> None:
        """Deactivate in reverse order, one after the other; then clean all up."""
        after_stopped = True
        for member in reversed(self.members):
            if member.pending is None and member.state == ACTIVE and after_stopped:
                self._change(member, now, _DOWN[ACTIVE])
            after_stopped = after_stopped and member.state not in (ACTIVE,)
        if after_stopped:
            for member in reversed(self.members):
                if member.pending is None and member.state == INACTIVE:
                    self._change(member, now, _DOWN[INACTIVE])
            if all(member.state in (UNCONFIGURED, UNKNOWN, "finalized") for member in self.members):
                self._enter(Phase.STOPPED)

    def _ask_state(self, member: Member, now: float) -> None:
        member.asked_at = now
        if not member.get_state.service_is_ready():
            self._believe(member, UNKNOWN)
            return
        member.pending = member.get_state.call_async(GetState.Request())
        member.pending_since, member.transition = now, None

    def _change(self, member: Member, now: float, transition: int) -> None:
        if not member.change_state.service_is_ready():
            return
        member.pending = member.change_state.call_async(ChangeState.Request(transition=Transition(id=transition)))
        member.pending_since, member.transition, member.check = now, transition, None

    def _collect(self, member: Member, now: float) -> None:
        """Take the answer of a pending call, or give it up."""
        if member.pending is None:
            return
        transition = member.transition
        if member.pending.done():
            answer = member.pending.result()
            member.pending, member.unheard = None, 0.0
            if transition is None:
                self._believe(member, _name(answer.current_state))
            else:
                self._after_change(member, transition, answer.success)
                self._ask_state(member, now)
            return
        if transition is not None and self._answered_by_state(member, transition, now):
            return
        limit = _STATE_TIMEOUT if transition is None else self.params.configure_timeout
        service = member.get_state if transition is None else member.change_state
        gone = not service.service_is_ready()
        if gone or now - member.pending_since > limit:
            service.remove_pending_request(member.pending)
            member.pending = None
            if gone:
                self._believe(member, UNKNOWN)
            elif transition is not None:
                self._after_change(member, transition, False)

    def _answered_by_state(self, member: Member, transition: int, now: float) -> bool:
        """A transition's answer can be lost (rmw drops it when it has not discovered the client yet): ask the state.

        The node serves requests one after the other, so a state told after the transition was asked for is its result.
        """
        if member.check is None:
            if now - max(member.pending_since, member.check_since) > _STATE_TIMEOUT:
                member.check_since = now
                if member.get_state.service_is_ready():
                    member.check = member.get_state.call_async(GetState.Request())
            return False
        if not member.check.done():
            return False
        state = _name(member.check.result().current_state)
        member.check = None
        if state == UNKNOWN:
            return False
        if member.pending is not None:
            member.change_state.remove_pending_request(member.pending)
        member.pending = None
        self._after_change(member, transition, state == _GOAL[transition])
        self._believe(member, state)
        return True

    def _after_change(self, member: Member, transition: int, success: bool) -> None:
        label = _LABEL[transition]
        member.history.append(f"{label}: {'done' if success else 'failed'}")
        if success:
            member.failures, member.note = 0, ""
            self.get_logger().info(f"{member.name}: {label} done")
            return
        member.failures += 1
        member.note = f"'{member.name}' failed to {label} ({member.failures} of {self.params.attempts} attempts)"
        self.get_logger().error(f"{member.note}; its own log says why")
        if member.failures >= self.params.attempts:
            self._enter(Phase.FAILED)

    def _believe(self, member: Member, state: str) -> None:
        if state == member.state:
            return
        if state == UNKNOWN and self.phase in (Phase.STARTING, Phase.RUNNING):
            self.get_logger().warning(f"{member.name} is gone; it is brought up again when it is back")
        elif member.state == UNKNOWN and self.phase is Phase.RUNNING:
            self.get_logger().info(f"{member.name} is back ({state})")
        member.state = state

    def _enter(self, phase: Phase) -> None:
        if phase is self.phase:
            return
        self.phase = phase
        self.get_logger().info(f"system is {phase.value}")
        if hasattr(self, "_diagnostics"):
            self._report()

    # -- reporting ------------------------------------------------------------------------------------------------

    def _summary(self) -> str:
        notes = [m.note for m in self.members if m.note]
        states = ", ".join(f"{m.name} {m.state}" for m in self.members)
        return f"{self.phase.value}: {states}{'. ' if notes else ''}{'; '.join(notes)}"

    def _report(self) -> None:
        levels = {Phase.FAILED: DiagnosticStatus.ERROR, Phase.RUNNING: DiagnosticStatus.OK}
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        overall = DiagnosticStatus(
            level=levels.get(self.phase, DiagnosticStatus.WARN), name="manager", message=self.phase.value
        )
        overall.values = [KeyValue(key="note", value="; ".join(m.note for m in self.members if m.note))]
        for member in self.members:
            expected = UNCONFIGURED if self.phase is Phase.STOPPED else ACTIVE
            good = member.state == expected and not member.silent
            level = DiagnosticStatus.OK if good else DiagnosticStatus.WARN
            level = DiagnosticStatus.ERROR if member.silent else level
            entry = DiagnosticStatus(
                level=level, name=f"lifecycle/{member.name}", message=SILENT if member.silent else member.state
            )
            unheard = f"{member.unheard:.2f}"
            entry.values = [KeyValue(key="state", value=member.state), KeyValue(key="heartbeat_age_s", value=unheard)]
            message.status.append(entry)
            if self.phase is Phase.RUNNING and not good:
                overall.level = DiagnosticStatus.WARN
        message.status.insert(0, overall)
        self._diagnostics.publish(message)


def _name(state: State) -> str:
    """Our name of a lifecycle state; those in between (configuring ...) count as unknown for a moment."""
    names = {
        State.PRIMARY_STATE_UNCONFIGURED: UNCONFIGURED,
        State.PRIMARY_STATE_INACTIVE: INACTIVE,
        State.PRIMARY_STATE_ACTIVE: ACTIVE,
        State.PRIMARY_STATE_FINALIZED: "finalized",
    }
    return names.get(state.id, UNKNOWN)


def main() -> None:
    """Run the manager in this process."""
    run(Manager)
