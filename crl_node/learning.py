"""The learner without ROS: aligned frame in, belief, report and learned model out.

One object holds arm, encoder and world model and knows how to save and resume them; the node around it only moves
messages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.alignment import AlignConfig, Aligned
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile, load_profile
from crl_node.calibration import camera_from_parameters
from crl_node.camera import Camera
from crl_node.checkpoint import Arrays, CheckpointError, extra_of, read_arrays
from crl_node.data import Belief, Posterior
from crl_node.environments import asked_note
from crl_node.perception.encoder import Encoder
from crl_node.perception.frozen import FrozenPicture
from crl_node.perception.slots import SlotEncoder
from crl_node.quarantine import QuarantineError, read_examined
from crl_node.world_model import ModelConfig, WorldModel


@dataclass(frozen=True)
class StepResult:
    """What one frame led to."""

    belief: Belief
    learned: bool
    surprise: float  # nats
    perception_ms: float
    update_ms: float
    refresh_ms: float
    note: str


class Learner:
    """Encoder and world model of one arm, one camera, one table."""

    def __init__(
        self, profile: RobotProfile, camera: Camera, config: ModelConfig, seed: int, structure_period: float = 0.0
    ) -> None:
        """`structure_period` s of camera time lie at least between two slices of structure work; 0: one a frame."""
        self.structure_period, self._refined = structure_period, -np.inf
        self.profile, self.camera, self.config, self.seed = profile, camera, config, seed
        self.arm = Arm(profile)
        self.encoder: Encoder = self._new_encoder()
        self.model = WorldModel(config, seed)
        self.camera_check = FrozenPicture()
        self._asked: list[str] = []  # environments begun on request since the last step

    def _new_encoder(self) -> SlotEncoder:
        return SlotEncoder(self.camera, self.config.wall, self.profile.tool_radius)

    def step(self, aligned: Aligned) -> StepResult:
        """Perceive, learn, refine. FrameError when the image cannot be used: nothing has changed then."""
        start = time.perf_counter()
        belief = self.perceive(aligned)
        seen = time.perf_counter()
        observation = self.model.observe(belief, aligned.action)
        updated = time.perf_counter()
        begun = self._refine(aligned.frame.stamp)
        refreshed = time.perf_counter()
        asked, self._asked = asked_note(self._asked), []
        return StepResult(
            belief, observation.learned, observation.surprise,
            1e3 * (seen - start), 1e3 * (updated - seen), 1e3 * (refreshed - updated),
            "; ".join(filter(None, (asked, aligned.note, *observation.notes, begun))),
        )  # fmt: skip

    def _refine(self, stamp: float) -> str:
        """A slice of structure work where one is due: sums take every frame, which terms matter changes more slowly."""
        if not is_due(self._refined, stamp, self.structure_period, self.config.dt):
            return ""
        self._refined = stamp
        return self.model.refresh()

    def begin_environment(self, name: str = "") -> str:
        """Another environment begins, on request; the note of the next step says so, for replay. Returns its name.

        ValueError when the name is taken.
        """
        self._asked.append(self.model.begin_environment(name))
        return self._asked[-1]

    def perceive(self, aligned: Aligned) -> Belief:
        """Only the first part of `step`: the belief. FrameError when the image cannot be used."""
        joints = aligned.joints
        q = self.profile.vector(joints.positions)
        dq = self.profile.vector({name: joints.velocities.get(name, 0.0) for name in self.profile.joint_names})
        tip, tip_velocity = self.arm.tip_at(q), self.arm.tip_velocity_at(q, dq)[:2]
        self.camera_check.look(aligned.frame.image, tip)
        return self.encoder.encode(aligned.frame, tip, tip_velocity, self.arm.capsules(joints.positions))

    def check_joints(self, positions: Mapping[str, float]) -> None:
        """ValueError, a sentence, when a joint of the profile is missing or not finite."""
        missing = [name for name in self.profile.joint_names if name not in positions]
        if missing:
            raise ValueError(
                f"joint '{missing[0]}' is absent from the joint states: they name "
                f"[{', '.join(positions)}], the arm has [{', '.join(self.profile.joint_names)}]; not used"
            )
        bad = [name for name in self.profile.joint_names if not np.isfinite(positions[name])]
        if bad:
            raise ValueError(f"joint '{bad[0]}' is at {positions[bad[0]]} rad in the joint states; not used")

    def checkpoint(self) -> dict[str, Arrays]:
        """Copies of model and encoder as arrays, for `crl_node.checkpoint.write_arrays`."""
        return self.model.checkpoint(self.encoder.state())

    def load(self, path: str | Path) -> str:
        """Take over a checkpoint and return a sentence about it; CheckpointError leaves everything as it was.

        A child process opens it first (`quarantine.py`), which takes about a second.
        """
        try:
            data = read_examined(path, "checkpoint")
        except QuarantineError as error:
            raise CheckpointError(str(error)) from error
        arrays = read_arrays(path, data)
        model = WorldModel.from_arrays(arrays, path)
        model.set_watch(self.config.watch_changes)
        if model.config != self.config:
            raise CheckpointError(
                f"checkpoint {path} is of another set-up ({model.config}), this node has {self.config}; not loaded"
            )
        encoder = self._new_encoder()
        try:
            encoder.restore(extra_of(arrays))
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"checkpoint {path} holds no state of this encoder: {error}; not loaded") from error
        self.model, self.encoder, self._asked = model, encoder, []
        short = model.posterior().hash[:12]
        return f"{path}: {model.step} transitions, posterior version {model.version}, hash {short}…"


def learner_from(parameters: Any, profile: RobotProfile | None = None) -> Learner:
    """The learner that `config/parameters/learner.yaml` describes; `parameters` holds its values as attributes.

    The node and the replay both come here: the same parameters give the same learner. `profile` is the robot's, for a
    URDF that was heard on a topic. ValueError, ProfileError: a sentence about a value that cannot be used.
    """
    for name, count in (("table", 4), ("camera_eye", 3), ("camera_target", 3)):
        if len(getattr(parameters, name)) != count:
            raise ValueError(f"parameter '{name}' holds {len(getattr(parameters, name))} numbers, it must hold {count}")
    profile = profile or load_profile(parameters.robot)
    camera = camera_from_parameters(parameters)
    x_min, x_max, y_min, y_max = parameters.table
    if not (x_min < x_max and y_min < y_max):
        raise ValueError(f"parameter 'table' is {parameters.table}, it must be x_min < x_max, y_min < y_max")
    config = ModelConfig(
        dt=parameters.period, wall=(x_min, x_max, y_min, y_max), watch_changes=parameters.watch_changes,
        engine=parameters.structure_engine, induce=parameters.induce_terms,
    )
    return Learner(profile, camera, config, parameters.seed, parameters.structure_period)


def align_config(parameters: Any) -> AlignConfig:
    """How the learner's streams are paired under `parameters`."""
    return AlignConfig(
        period=parameters.period, tolerance=parameters.pair_tolerance, jump=parameters.clock_jump,
        lockstep=parameters.lockstep,
    )  # fmt: skip


def is_due(last: float, stamp: float, period: float, frame: float) -> bool:
    """What was done at `last` s of camera time is to be done again at `stamp`, once per `period` s.

    A `frame` period's quarter too early counts; so does a clock that has gone back.
    """
    return not last <= stamp < last + period - 0.25 * frame


class Schedule:
    """When posterior, graph and checkpoint are due, in camera time, so that a replay makes the same versions."""

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters
        self._last = {"posterior": -1e9, "graph": -1e9, "checkpoint": -1e9}  # s, camera stamps
        self.sent_version = 0

    def due(self, what: str, stamp: float) -> bool:
        """True once per `<what>_period` s of camera time; also after the clock has gone back."""
        period = getattr(self._parameters, f"{what}_period")
        if not is_due(self._last[what], stamp, period, self._parameters.period):
            return False
        self._last[what] = stamp
        return True

    def posterior(self, model: WorldModel, stamp: float) -> Posterior | None:
        """The posterior to publish with the belief at `stamp`, None when none is due or it is the one sent last."""
        if not self.due("posterior", stamp):
            return None
        posterior = model.posterior()
        if posterior.version == self.sent_version:
            return None
        self.sent_version = posterior.version
        return posterior

    def checkpoint(self, model: WorldModel, stamp: float) -> bool:
        """True when a checkpoint is due. It holds a posterior, which is made here whether or not it gets written."""
        if not self._parameters.checkpoint or not self.due("checkpoint", stamp):
            return False
        model.posterior()
        return True

    def again(self, what: str) -> None:
        """Make `what` due with the next frame."""
        self._last[what] = -1e9
