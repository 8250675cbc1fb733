"""The planner: beliefs in, short joint trajectories out. ONNX Runtime and numpy only, no torch.

On every belief it plans, and sends one command of at most 0.2 s that ends at rest. In lockstep a belief waits for
the posterior it names and for the joint states of its stamp. In real time plans are made in a thread of their own;
where none is ready in time the last one is gone on with, until what it was made from is too old: then the arm holds.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
from crl_interfaces.msg import Belief as BeliefMessage
from crl_interfaces.msg import Command as CommandMessage
from crl_interfaces.msg import Plan as PlanMessage
from crl_interfaces.msg import Posterior as PosteriorMessage
from crl_interfaces.msg import StepReport
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState

from crl_node.arm.commander import Chunk, TipCommander
from crl_node.command import Command, CommandedVelocities
from crl_node.curiosity.assembly import default_model, planner_from
from crl_node.curiosity.planner import Planner
from crl_node.data import Belief, Plan
from crl_node.export.onnx_model import write_model
from crl_node.nodes import convert
from crl_node.nodes.base import ManagedNode, run, stamp_to_seconds
from crl_node.nodes.goal_desk import GoalDesk
from crl_node.nodes.meters import array_of
from crl_node.nodes.plan_worker import PlanWorker
from crl_node.nodes.planner_counts import PlannerCounts
from crl_node.nodes.robot_profile import robot_profile
from crl_node.paths import share
from crl_node.quarantine import read_examined

#: After this share of a period without a new plan the last one is gone on with; its timer looks this often, s.
LATE, LOOK = 1.1, 0.005
#: The same complaint is logged at most once in this time, s.
LOG_PERIOD = 2.0
#: Joint states stamped this much before or after the last ones: the clock has jumped, or the simulator was reset, s.
CLOCK_JUMP = 1.0
#: So many pictures in a row that the learner refused (frozen, wrong encoding) and the arm holds.
REFUSED_PICTURES = 2


class PlannerNode(ManagedNode):
    """Turns beliefs into commands."""

    def __init__(self) -> None:
        super().__init__("planner")
        self._owned: list[tuple[str, object]] = []
        self._planner: Planner | None = None
        self._desk: GoalDesk | None = None
        self._logged: dict[str, float] = {}
        self._joints_stamp = -np.inf
        self._worker = PlanWorker(self, self._deliver, self._go_on)

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        profile = robot_profile(self, self.params.robot)
        self._profile = profile
        self._commander = TipCommander(profile)
        controller = profile.controller
        self._latency = 0.0 if controller.streams else controller.latency  # s, from the gate into the controller
        self._remove_partial()
        model = self._model_path()
        shipped = model.parent == share() / "models"
        # A file from elsewhere is opened by a child first: it may be made to break whoever opens it.
        data = None if shipped else read_examined(model, "model")
        self._planner = planner_from(self.params, profile, model, data)
        begin = time.perf_counter()
        self._planner.session.warm()
        warm_ms = 1e3 * (time.perf_counter() - begin)
        self._told_note = self._planner.session.provider_note
        self._forget()
        self._counts = PlannerCounts()
        self._newest_posterior = 0
        self._problem = ""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._commands = self.create_lifecycle_publisher(CommandMessage, "planner/command", 10)
        self._plans = self.create_lifecycle_publisher(PlanMessage, "planner/plan", 10)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # In real time only the newest belief counts; in lockstep each wants its answer.
        depth = 10 if self.params.lockstep else 1
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscriptions = [
            self.listen(JointState, "joint_states", self._on_joints, depth),
            self.listen(BeliefMessage, "learner/belief", self._on_belief, depth),
            self.listen(PosteriorMessage, "learner/posterior", self._on_posterior, latched),
            self.listen(CommandMessage, "gate/executed", self._on_executed, 10),
        ]
        if not self.params.lockstep:  # where every frame is waited for, none may be held for
            subscriptions.append(self.listen(StepReport, "learner/report", self._on_report, 10))
        timers = [
            self.create_timer(LOOK, self.guarded(self._look), clock=steady),
            self.create_timer(1.0, self.guarded(self._report), clock=steady),
        ]
        self._owned = [("publisher", p) for p in (self._commands, self._plans, self._diagnostics)]
        self._owned += [("subscription", s) for s in subscriptions] + [("timer", t) for t in timers]
        self._desk = GoalDesk(self, self._planner, lambda: self._counts.sequence + 1, self._worker.when_idle)
        note = self._planner.session.provider_note
        self.get_logger().info(
            f"policy '{self.params.policy}', plan file {model}, {self._planner.provider}, first plan {warm_ms:.0f} ms"
            + (f" ({note})" if note else "")
        )

    def _model_path(self) -> Path:
        given = Path(self.params.model) if self.params.model else None
        return given if given is not None and given.is_file() else default_model()

    def _forget(self) -> None:
        """Nothing seen, nothing planned: also when activated again, an old plan must not go on."""
        self._belief: Belief | None = None
        self._belief_message: BeliefMessage | None = None  # lockstep: waits to be answered
        self._waiting_since = 0.0
        self._plan: Plan | None = None
        self._sent = CommandedVelocities()
        self._joints: tuple[float, dict[str, float], dict[str, float]] | None = None
        self._joints_stamp = -np.inf
        self._pictures_refused: int | None = None  # by the learner, until the last belief
        self._refused_now = 0  # in all, as the learner counts them
        self._last_command: float | None = None
        self._held = True  # the last command sent was a hold

    def start(self) -> None:
        self._forget()

    def _remove_partial(self) -> None:
        """What exports that were killed left beside the model file."""
        if self.params.model:
            path = Path(self.params.model)
            for partial in path.parent.glob(f".{path.name}.*"):
                partial.unlink(missing_ok=True)

    def stop(self) -> None:
        self._belief_message = None
        self._worker.wait()
        planner = self._planner
        if self.params.model and planner is not None and planner.posterior is not None:
            info = write_model(planner.posterior, self.params.model, default_model(), settings=planner.settings)
            self.get_logger().info(f"wrote {info.path} with posterior version {info.posterior_version}")

    def teardown(self) -> None:
        for kind, entity in self._owned:
            getattr(self, f"destroy_{kind}")(entity)
        self._owned = []
        if self._desk is not None:
            self._desk.close()
        self._planner = self._desk = None

    @property
    def planner(self) -> Planner:
        """There between configure and clean-up."""
        if self._planner is None:
            raise RuntimeError("the planner is not configured")
        return self._planner

    # -- input ----------------------------------------------------------------------------------------------------

    def _on_posterior(self, message: PosteriorMessage) -> None:
        # Refused ones count as seen: lockstep must not wait for a posterior that will never be used.
        self._newest_posterior = max(self._newest_posterior, int(message.version))
        self._worker.when_idle(lambda: self._swap(message))
        self._answer_waiting()

    def _swap(self, message: PosteriorMessage) -> None:
        try:
            self.planner.swap(convert.posterior_from_message(message))
        except ValueError as error:
            self._counts.refused += 1
            self._complain("posterior", f"{error} ({self._counts.refused} refused so far)")

    def _on_joints(self, message: JointState) -> None:
        stamp = stamp_to_seconds(message.header.stamp)
        if self._joints is not None and abs(stamp - self._joints[0]) > CLOCK_JUMP:
            self._complain("clock", f"joint_states jumped from {self._joints[0]:.3f} s to {stamp:.3f} s; planning anew")
            self._forget()
            self._commander = TipCommander(self._profile)
        names, q, dq = list(message.name), list(message.position), list(message.velocity)
        missing = [name for name in self._profile.joint_names if name not in names]
        if missing or len(q) != len(names):
            what = f"joint '{missing[0]}' is absent" if missing else f"{len(q)} positions came"
            self._complain(
                "joints",
                f"{what} in joint_states at {stamp:.3f} s: they name [{', '.join(names)}], the arm has "
                f"[{', '.join(self._profile.joint_names)}]; holding",
            )
            self._joints = None
        else:
            speeds = dq if len(dq) == len(names) else [0.0] * len(names)
            if not np.isfinite(q).all():
                self._complain("joints", f"joint_states at {stamp:.3f} s hold non-finite positions; holding")
                self._joints = None
            else:
                speeds = np.where(np.isfinite(speeds), speeds, 0.0).tolist()
                self._joints = stamp, dict(zip(names, q, strict=True)), dict(zip(names, speeds, strict=True))
        self._joints_stamp = stamp
        self._answer_waiting()

    def _on_executed(self, message: CommandMessage) -> None:
        """Go on from a hold of the gate's own, or from a command that it joined late.

        Not in lockstep, where it may come before or after the next belief.
        """
        if self.params.lockstep or not self.active:
            return
        late = (
            message.sequence == self._counts.sequence
            and self._last_command is not None
            and stamp_to_seconds(message.header.stamp) > self._last_command + 1e-6
        )
        if not late and (not message.hold or self._held):
            return
        command = convert.command_from_message(message)
        if command.trajectory is not None and len(command.trajectory.times):
            self._commander.adopt(command.trajectory, command.stamp)

    def _on_report(self, message: StepReport) -> None:
        """The learner sees nothing: hold now instead of when its last belief has become too old."""
        self._refused_now = total = int(message.frames_rejected)
        if self._pictures_refused is None or total < self._pictures_refused:
            self._pictures_refused = total  # another learner's count
        if not self.active or self._belief is None or total - self._pictures_refused < REFUSED_PICTURES:
            return
        self._complain("pictures", f"the learner cannot use what the camera sends ({message.note}); holding")
        self._belief = None
        self._serve(None)

    def _on_belief(self, message: BeliefMessage) -> None:
        if not self.active:
            self._counts.ignored += 1
            return
        if self.params.lockstep:
            self._belief_message, self._waiting_since = message, time.monotonic()
            self._answer_waiting()
        else:
            self._belief_message = message
            if self._pictures_refused is not None:
                self._pictures_refused = self._refused_now
            self._serve(None)

    def _answer_waiting(self, patience_over: bool = False) -> None:
        """Lockstep: serve the belief once its posterior and its joint states are here."""
        message = self._belief_message
        if message is None or not self.active or not self.params.lockstep:
            return
        stamp = stamp_to_seconds(message.header.stamp)
        joints_here = self._joints_stamp >= stamp - 1e-6
        if not patience_over and (self._newest_posterior < message.posterior_version or not joints_here):
            return
        self._serve(stamp)

    # -- planning -------------------------------------------------------------------------------------------------

    def _serve(self, start: float | None) -> None:
        """Plan from the newest belief, for the command that starts to act at `start` s.

        None: in real time, `lead` and the controller's latency after the plan is made; without a belief hold. The gate
        re-times what comes later than that.
        """
        if self._belief_message is None and self._belief is None:
            self._worker.drop()
            # A hold needs no time for a plan: it begins as soon as the controller can have it.
            begin = self.now() + self._latency if start is None else start
            self._send(None, begin, begin)
            return
        if self._worker.busy:
            return  # what came while a plan is made is planned from after it
        message, self._belief_message = self._belief_message, None
        if message is None:
            return
        stamp = stamp_to_seconds(message.header.stamp)
        try:
            self._belief = belief = convert.belief_from_message(message)
        except ValueError as error:
            self._cannot_plan(error, start, stamp)
            return
        if self._desk is not None:
            self._desk.observe(belief)
        make = partial(self.planner.plan, belief, previous=self._plan, executed=self._sent.at(belief.stamp))
        if start is None:
            self._worker.start(make)
        else:
            try:
                self._follow(make(), start)
            except ValueError as error:
                self._cannot_plan(error, start, stamp)

    def _deliver(self, made: Plan | ValueError) -> None:
        """Real time: what the worker made."""
        if not self.active or self._belief is None:
            return
        if isinstance(made, ValueError):
            self._cannot_plan(made, None, self._belief.stamp)
        else:
            self._follow(made, self._soon())

    def _go_on(self) -> None:
        """Real time: no plan is being made; a belief may wait for that."""
        if self._belief_message is not None and self.active:
            self._serve(None)

    def _cannot_plan(self, error: ValueError, start: float | None, stamp: float) -> None:
        """A belief that is not finite or has no body: hold."""
        self._belief = None
        self._complain("belief", f"{error}; holding")
        self._send(None, self._soon() if start is None else start, stamp)

    def _follow(self, plan: Plan, begin: float) -> None:
        """The first command of a new plan."""
        self._plan = plan
        self._counts.plan_ms.append(plan.plan_ms)
        self._send_step(plan, begin)
        self._plans.publish(convert.plan_to_message(plan, policy=self.params.policy, provider=self.planner.provider))

    def _send_step(self, plan: Plan, begin: float) -> None:
        """The command of `plan` for what begins at `begin` s."""
        self._send(plan.action_at(begin, self.params.period), begin, plan.stamp, plan.posterior_version)

    def _soon(self) -> float:
        """When a command sent now can begin to act, s."""
        return self.now() + self._lead

    @property
    def _lead(self) -> float:
        """From a plan to the beginning of its motion, s."""
        return float(self.params.lead) + self._latency

    def _send(
        self, velocity: np.ndarray | None, start: float, belief_stamp: float, posterior_version: int | None = None
    ) -> None:
        """One command; None holds."""
        chunk: Chunk | None = None
        if self._joints is not None:
            stamp, q, dq = self._joints
            measured_at = None if self.params.lockstep else stamp
            try:
                chunk = (
                    self._commander.hold(q, start, measured_at=measured_at)
                    if velocity is None
                    else self._commander.chunk(q, dq, velocity, start=start, measured_at=measured_at)
                )
            except ValueError as error:
                self._complain("commander", f"{error}; holding")
        hold = self._held = velocity is None or chunk is None
        moved = np.zeros(2) if hold or chunk is None else chunk.velocity
        self._sent.add(start, moved)
        last = start if self._last_command is None else self._last_command
        self._counts.command((start - last) / self.params.period, hold)
        command = Command(
            stamp=start, sequence=self._counts.sequence, belief_stamp=belief_stamp,
            posterior_version=self.planner.version if posterior_version is None else posterior_version, hold=hold,
            velocity=moved,
            duration=self._profile.command_duration, ramp=self._profile.command_ramp,
            trajectory=None if chunk is None else chunk.trajectory,
        )  # fmt: skip
        self._commands.publish(convert.command_to_message(command, self._profile.base_frame))
        self._last_command = start

    def _look(self) -> None:
        """Real time: no plan came in time. Lockstep: what a belief waits for did not come."""
        if not self.active:
            return
        if self.params.lockstep:
            waits = self._belief_message is not None
            if waits and time.monotonic() - self._waiting_since > self.params.lockstep_patience:
                self._complain("patience", "a belief's posterior or joint states did not come; planning without")
                self._answer_waiting(patience_over=True)
            return
        now = self.now()
        if self._belief is not None and now - self._belief.stamp > self.params.belief_max_age:
            self._complain("old", f"no belief since {self._belief.stamp:.3f} s (it is {now:.3f} s); holding")
            self._belief = self._belief_message = None
            self._serve(None)
        elif self._joints is None or (
            self._last_command is not None
            # Not yet late; a last command further ahead than a period is of another clock.
            and -self._lead - self.params.period <= now - self._last_command < LATE * self.params.period - self._lead
        ):
            return
        elif self._belief is None:
            self._serve(None)
        elif self._plan is not None and now - self._plan.stamp <= self.params.belief_max_age:
            self._counts.continued += 1
            self._send_step(self._plan, self._soon())

    # -- words ----------------------------------------------------------------------------------------------------

    def _complain(self, reason: str, sentence: str) -> None:
        """Log a sentence, each reason at most once in LOG_PERIOD."""
        self._problem = sentence
        now = time.monotonic()
        if now - self._logged.get(reason, -np.inf) >= LOG_PERIOD:
            self._logged[reason] = now
            self.get_logger().warning(sentence)

    def _report(self) -> None:
        planner = self._planner
        if planner is None:
            return
        values = {
            "active": self.active,
            "policy": self.params.policy,
            **self._counts.values(planner),
            "errors": self.error_count,
            "last_problem": self._problem,
            **self.meters.all_values(),
        }
        note = planner.session.provider_note
        if note != self._told_note:  # the GPU went away
            self._told_note = note
            self.get_logger().error(note)
        degraded = "lost" in note
        label = self._plan.chosen.label if self._plan is not None else "no plan yet"
        values["goals"] = self._desk.words if self._desk is not None else ""
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN
            if degraded or (self.active and self._belief is None)
            else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: planner",
            hardware_id=planner.provider,
            message=note if degraded else label if self.active else "not active: nothing is sent",
        )
        self._diagnostics.publish(array_of(status, values, convert.header(max(self.now(), 0.0)).stamp))


def main() -> None:
    """Entry point of the executable `planner`."""
    run(PlannerNode)


if __name__ == "__main__":
    main()
