"""The learner: camera, joint states and executed commands in; belief, causal graph and posterior out.

Callbacks copy and return. One worker thread perceives, learns and publishes: in real time the newest frame wins and
drops are counted, in lockstep every frame is used and the posterior goes out before the belief that names it. Ground
truth is none of its inputs.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from crl_interfaces.msg import Belief as BeliefMessage
from crl_interfaces.msg import CausalGraph as GraphMessage
from crl_interfaces.msg import Command as CommandMessage
from crl_interfaces.msg import Posterior as PosteriorMessage
from crl_interfaces.msg import StepReport
from crl_interfaces.srv import BeginEnvironment, Load, Save
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image, JointState

from crl_node import environments, shares
from crl_node.activity import graph_now
from crl_node.alignment import Aligned, Aligner, ExecutedCommand
from crl_node.checkpoint import Arrays, CheckpointError, remove_partial, write_arrays
from crl_node.learning import Learner, Schedule, StepResult, align_config, learner_from
from crl_node.nodes import convert
from crl_node.nodes.base import ManagedNode, run, seconds_to_stamp, stamp_to_seconds
from crl_node.nodes.meters import array_of
from crl_node.nodes.robot_profile import robot_profile
from crl_node.perception.validate import FrameError, decode_image

#: s, how long the worker sleeps when nothing comes.
LOOK = 0.1
#: s, how long `stop` waits for the step in progress and the last checkpoint.
JOIN = 5.0


class LearnerNode(ManagedNode):
    """Turns frames into beliefs and a world model."""

    def __init__(self) -> None:
        super().__init__("learner")
        self._owned: list[tuple[str, object]] = []
        self._learner: Learner | None = None
        self._worker: threading.Thread | None = None
        self._writer: threading.Thread | None = None
        self._model_lock = threading.Lock()  # held during a step, a save and a load
        self._inbox = threading.Condition()  # guards the aligner and `_stopping`
        self._stopping = False

    # -- lifecycle ------------------------------------------------------------------------------------------------

    def setup(self) -> None:
        parameters = self.params
        self._learner = learner_from(parameters, robot_profile(self, parameters.robot))
        self._checkpoint = Path(parameters.checkpoint) if parameters.checkpoint else None
        self._checkpoint_problem, self._written = "", time.monotonic()
        self._resume()
        self._frame_id = self._learner.profile.base_frame
        self._rejected = 0
        self._forget()
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._beliefs = self.create_lifecycle_publisher(BeliefMessage, "learner/belief", 10)
        self._graphs = self.create_lifecycle_publisher(GraphMessage, "learner/graph", 10)
        self._posteriors = self.create_lifecycle_publisher(PosteriorMessage, "learner/posterior", latched)
        self._reports = self.create_lifecycle_publisher(StepReport, "learner/report", 10)
        depth = 5 if parameters.lockstep else 1
        subscriptions = [
            self.listen(Image, "camera/image_raw", self._on_image, depth),
            self.listen(JointState, "joint_states", self._on_joints, 50),
            self.listen(CommandMessage, "gate/executed", self._on_command, 10),
        ]
        services = [
            self.create_service(Save, "learner/save", self.guarded(self._on_save)),
            self.create_service(Load, "learner/load", self.guarded(self._on_load)),
            self.create_service(BeginEnvironment, "learner/begin_environment", self.guarded(self._on_begin)),
        ]
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        teller = self.create_timer(1.0, self.guarded(self._tell), clock=Clock(clock_type=ClockType.STEADY_TIME))
        outputs = (self._beliefs, self._graphs, self._posteriors, self._reports, self._diagnostics)
        self._owned = [("publisher", p) for p in outputs] + [("timer", teller)]
        self._owned += [("subscription", s) for s in subscriptions] + [("service", s) for s in services]

    def _resume(self) -> None:
        if self._checkpoint is None:
            return
        remove_partial(self._checkpoint)
        if not self.params.resume or not self._checkpoint.is_file():
            return
        try:
            self.get_logger().info(f"resumed {self.learner.load(self._checkpoint)}")
        except CheckpointError as error:
            aside = self._checkpoint.with_name(f"{self._checkpoint.name}.unusable")
            self._checkpoint.replace(aside)
            self.get_logger().warning(f"{error}; kept as {aside}, starting from nothing")

    def _forget(self) -> None:
        """No stream is known: what lies between two activations is not a transition."""
        self._aligner = Aligner(align_config(self.params))
        self._schedule = Schedule(self.params)
        self._waiting_since: float | None = None
        self._stepped = time.monotonic()  # when the worker last did something
        self._last_note, self._shares = "", ""

    def start(self) -> None:
        self._forget()
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="learner", daemon=True)
        self._worker.start()

    def stop(self) -> None:
        with self._inbox:
            self._stopping = True
            self._inbox.notify_all()
        for thread in (self._worker, self._writer):
            if thread is not None:
                thread.join(JOIN)
        self._worker = self._writer = None
        if self._checkpoint is not None and self._learner is not None and self.learner.model.step > 0:
            with self._model_lock:
                write_arrays(self._checkpoint, self.learner.checkpoint())

    def teardown(self) -> None:
        for kind, entity in self._owned:
            getattr(self, f"destroy_{kind}")(entity)
        self._owned = []
        self._learner = None

    @property
    def learner(self) -> Learner:
        """There between configure and clean-up."""
        if self._learner is None:
            raise RuntimeError("the learner is not configured")
        return self._learner

    # -- input: copy and return -------------------------------------------------------------------------------------

    def _on_image(self, message: Image) -> None:
        if not self.active:
            return
        camera = self.learner.camera
        try:
            image = decode_image(
                message.data, width=message.width, height=message.height, step=message.step,
                encoding=message.encoding, expected=(camera.width, camera.height),
            )  # fmt: skip
        except FrameError as error:
            self._reject(stamp_to_seconds(message.header.stamp), str(error))
            return
        with self._inbox:
            self._aligner.add_image(stamp_to_seconds(message.header.stamp), image)
            self._inbox.notify_all()

    def _on_joints(self, message: JointState) -> None:
        if not self.active:
            return
        positions = dict(zip(message.name, message.position, strict=False))
        velocities = dict(zip(message.name, message.velocity, strict=False))
        self.learner.check_joints(positions)
        finite = {name: v for name, v in velocities.items() if abs(v) < 1e6}  # NaN compares false
        with self._inbox:
            self._aligner.add_joints(stamp_to_seconds(message.header.stamp), positions, finite)
            self._inbox.notify_all()

    def _on_command(self, message: CommandMessage) -> None:
        if not self.active:
            return
        command = convert.command_from_message(message)
        if not all(abs(v) < 1e3 for v in command.velocity):
            raise ValueError(
                f"executed command {command.sequence} has velocity {command.velocity.tolist()} m/s; not used"
            )
        with self._inbox:
            self._aligner.add_command(ExecutedCommand.of(command))
            self._inbox.notify_all()

    def _on_save(self, request: Save.Request, response: Save.Response) -> Save.Response:
        path = Path(request.path) if request.path else self._checkpoint
        if path is None:
            response.message = "no path was given and the parameter 'checkpoint' is empty; nothing was written"
            return response
        with self._model_lock:
            arrays = self.learner.checkpoint()
        write_arrays(path, arrays)
        response.success, response.hash = True, str(arrays["hash"])
        response.message = f"wrote {path} ({self.learner.model.step} transitions)"
        return response

    def _on_load(self, request: Load.Request, response: Load.Response) -> Load.Response:
        with self._model_lock:
            try:
                response.message = f"loaded {self.learner.load(request.path)}"
                response.success = True
            except CheckpointError as error:
                response.message = f"{error}; keeping the model in use"
            response.hash = self.learner.model.posterior().hash
        with self._inbox:
            self._aligner.interrupt("another model was loaded")
            self._schedule.again("posterior")
        return response

    def _on_begin(
        self, request: BeginEnvironment.Request, response: BeginEnvironment.Response
    ) -> BeginEnvironment.Response:
        with self._model_lock:
            model = self.learner.model
            try:
                name = self.learner.begin_environment(request.name)
                response.success = True
                response.message = f"'{name}' begins after {model.step} transitions"
                self.get_logger().info(f"environment {response.message}")
            except ValueError as error:
                response.message = f"{error}; nothing has begun"
            response.environment = model.environments[-1]
        return response

    # -- work ---------------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._inbox:
                aligned = self._next()
                while aligned is None and not self._stopping:
                    self._inbox.wait(LOOK)
                    aligned = self._next()
                if self._stopping or aligned is None:
                    return
            try:
                with self._model_lock:
                    result = self.learner.step(aligned)
                    self._publish(aligned, result)
                self._stepped = time.monotonic()
            except FrameError as error:
                self._interrupt("the last frame was rejected")
                self._reject(aligned.frame.stamp, str(error))
            except Exception as error:  # the node lives: the next frame may be fine
                self._interrupt("the last step failed")
                self.report_error("in a learning step", error)

    def _interrupt(self, why: str) -> None:
        with self._inbox:
            self._aligner.interrupt(why)

    def _next(self) -> Aligned | None:
        """The next frame; in lockstep one without its command is used once patience (of real time) has run out."""
        aligned = self._aligner.pop()
        if aligned is not None or not self._aligner.waiting:
            self._waiting_since = None
            return aligned
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        if self.params.lockstep and time.monotonic() - self._waiting_since > self.params.lockstep_patience:
            self._waiting_since = None
            return self._aligner.pop(force=True)
        return None

    # -- output -------------------------------------------------------------------------------------------------------

    def _publish(self, aligned: Aligned, result: StepResult) -> None:
        stamp, model = aligned.frame.stamp, self.learner.model
        posterior = self._schedule.posterior(model, stamp)
        if posterior is not None:
            self._posteriors.publish(convert.posterior_to_message(posterior, stamp, self._frame_id))
        self._beliefs.publish(
            convert.belief_to_message(
                result.belief, frame_id=self._frame_id, posterior_version=self._schedule.sent_version,
                joint_state_stamp=seconds_to_stamp(aligned.joints.stamp),
            )  # fmt: skip
        )
        if self._schedule.due("graph", stamp):
            # Which command comes next is the planner's business: the edges act as if the last one went on.
            action = np.zeros(2) if aligned.action is None else aligned.action
            edges = environments.with_invariance(graph_now(model, result.belief, action), model)
            changes = [str(change) for change in environments.changes(model)]
            self._shares = shares.to_text(model)
            self._graphs.publish(
                convert.graph_to_message(
                    edges, stamp, self._schedule.sent_version, environment=model.environments[-1], changes=changes
                )
            )
        self._report(stamp, result, result.note)
        if self._schedule.checkpoint(model, stamp) and self._checkpoint is not None:
            self._write_checkpoint(self._checkpoint)

    def _write_checkpoint(self, path: Path) -> None:
        """In a thread of its own: the disc may take longer than a frame. A write still under way is let finish."""
        if self._writer is not None and self._writer.is_alive():
            return
        arrays = self.learner.checkpoint()
        self._writer = threading.Thread(target=self._write, args=(path, arrays), name="checkpoint", daemon=True)
        self._writer.start()

    def _write(self, path: Path, arrays: dict[str, Arrays]) -> None:
        try:
            write_arrays(path, arrays)
        except Exception as error:  # a full disk must not stop learning
            where = f"while writing the checkpoint {path}"
            self._checkpoint_problem = self.report_error(where, error, "the last one stays, learning goes on")
        else:
            if self._checkpoint_problem:
                self.get_logger().info(f"the checkpoint {path} can be written again")
            self._checkpoint_problem, self._written = "", time.monotonic()

    def _reject(self, stamp: float, note: str) -> None:
        self._rejected += 1
        self._report(stamp, None, note)

    def _report(self, stamp: float, result: StepResult | None, note: str) -> None:
        counts, model = self._aligner.counts, self.learner.model
        self._last_note = note or self._last_note
        message = StepReport(
            header=convert.header(stamp, self._frame_id), step=model.step,
            posterior_version=self._schedule.sent_version,
            frames_received=counts.frames + self._rejected, frames_dropped=counts.dropped,
            frames_rejected=self._rejected, commands_received=counts.commands,
            pairs_rejected=counts.unpaired + counts.jumps + counts.masked, note=note,
        )  # fmt: skip
        if result is not None:
            message.perception_ms, message.update_ms = result.perception_ms, result.update_ms
            message.refresh_ms, message.surprise = result.refresh_ms, result.surprise
            message.structure_entropy = model.structure_entropy()
        self._reports.publish(message)

    def _tell(self) -> None:
        """Diagnostics; the worker's silence is told from here, by another thread."""
        if self._learner is None:
            return
        counts, model = self._aligner.counts, self.learner.model
        dead = self.active and (self._worker is None or not self._worker.is_alive())
        silent = time.monotonic() - self._stepped
        stuck = self.active and self._aligner.waiting and silent > self.params.silence
        problem = (
            "the learning thread has ended" if dead
            else f"a frame waits, but nothing was learned for {silent:.1f} s" if stuck
            else self._checkpoint_problem
        )  # fmt: skip
        values = {
            "active": self.active,
            "transitions": model.step,
            "posterior_version": self._schedule.sent_version,
            "posterior_hash": model.posterior_hash,
            "frames": counts.frames + self._rejected,
            "dropped": counts.dropped,
            "rejected": self._rejected,
            "frozen": self.learner.camera_check.frozen,
            "unpaired": counts.unpaired,
            "late": counts.late,
            "clock_jumps": counts.jumps,
            "masked": counts.masked,
            "shares": self._shares,
            "checkpoint": self._checkpoint or "",
            "checkpoint_age_s": f"{time.monotonic() - self._written:.1f}" if self._checkpoint else "",
            "errors": self.error_count,
            "last_problem": self._last_note,
            **self.meters.all_values(),
        }
        status = DiagnosticStatus(
            level=DiagnosticStatus.ERROR if dead else DiagnosticStatus.WARN if problem else DiagnosticStatus.OK,
            name=f"{self.get_fully_qualified_name()}: learner",
            hardware_id=self.learner.profile.name,
            message=problem or ("learning" if self.active else "not active: nothing is learned"),
        )
        self._diagnostics.publish(array_of(status, values, convert.header(max(self.now(), 0.0)).stamp))


def main() -> None:
    run(LearnerNode)


if __name__ == "__main__":
    main()
