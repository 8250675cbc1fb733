"""The data that travels between the parts, as frozen dataclasses.

Nothing here imports rclpy: the ROS messages of `crl_interfaces` mirror these one to one and
`crl_node/nodes/convert.py` is the only place that turns one into the other.

Shapes: S slots (row 0 is always the robot's own end effector, "the body"), K particles,
P planner terms, H horizon steps, N candidates. SI units and radians everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]

#: Columns of `Belief.mean`: x, y [m], vx, vy [m/s], brightness [0..1].
STATE_NAMES = ("x", "y", "vx", "vy", "brightness")
STATE_SIZE = len(STATE_NAMES)
BODY = 0
#: Capacity of every fixed-size array between learner and planner (body included).
MAX_SLOTS = 12


@dataclass(frozen=True)
class Frame:
    """One camera frame with the arm's measured state at (about) the same instant."""

    stamp: float  # s, header stamp of the image
    image: NDArray[np.uint8]  # [height, width, 3] rgb
    joint_positions: dict[str, float]  # rad, by joint name


@dataclass(frozen=True)
class Belief:
    """Gaussian belief over the slots at one instant. Row 0 is the body (from kinematics)."""

    stamp: float  # s
    ids: NDArray[np.int64]  # [S] stable identity, 0 for the body; never reused
    mean: Array  # [S, 5] m, m, m/s, m/s, 1
    cov: Array  # [S, 5, 5] covariance of `mean`
    colour: Array  # [S, 3] rgb in 0..1
    extent: Array  # [S] m, radius of the disc with the slot's footprint on the table
    existence: Array  # [S] probability that the slot is a thing
    visible: Array  # [S] share of the predicted footprint that is not hidden, 0..1

    def index_of(self, slot_id: int) -> int | None:
        """Row of the slot with this identity, or None when it is not in the belief."""
        hits = np.flatnonzero(self.ids == slot_id)
        return int(hits[0]) if hits.size else None


@dataclass(frozen=True)
class Transition:
    """What one control step taught: belief, executed action, next belief."""

    before: Belief
    action: Array  # [2] m/s, mean commanded planar tip velocity during the step
    after: Belief


class TermKind(IntEnum):
    """The programs of the term library (see `crl_node/mechanisms/terms.py`)."""

    INERTIA = 0
    ACTION = 1
    DRIFT_X = 2
    DRIFT_Y = 3
    PUSH = 4
    DRAG = 5
    SPRING = 6
    WALL = 7
    DECAY = 20
    GLOW = 21
    LIT_BY = 22
    TOGGLE_BY = 23
    TOUCH = 24


#: `Term.parent` of terms that have no parent other than the target itself.
NO_PARENT = -1
#: `Term.parent` of the term driven by the motor command.
ACTION_PARENT = -2


@dataclass(frozen=True, order=True)
class Term:
    """One program: how `parent` contributes to the change of `target` in one control step.

    `target` and `parent` are slot *indices* of the world model (0 is the body).
    """

    kind: TermKind
    target: int
    parent: int = NO_PARENT
    length: float = 0.0  # m: contact radius (PUSH, DRAG, LIT_BY, TOGGLE_BY, TOUCH) or rest length (SPRING)


@dataclass(frozen=True)
class Posterior:
    """Everything the planner needs of the learned model: fixed sizes, versioned, hashed.

    S = MAX_SLOTS, P planner terms (padded with weight 0, target 0), K particles.
    Channels C = 3: motion x, motion y [m per step], brightness [1 per step].
    """

    version: int  # grows by one with every refresh
    step: int  # transitions absorbed
    dt: float  # s, control step
    slot_ids: NDArray[np.int64]  # [S] identity of each model slot, -1 where empty
    slot_extent: NDArray[np.float32]  # [S] m
    term_kind: NDArray[np.int32]  # [P] TermKind
    term_target: NDArray[np.int32]  # [P] slot index
    term_parent: NDArray[np.int32]  # [P] slot index, NO_PARENT or ACTION_PARENT
    term_length: NDArray[np.float32]  # [P] m
    term_probability: NDArray[np.float32]  # [P] inclusion probability
    weight_mean: NDArray[np.float32]  # [P] posterior mean, averaged over structures
    weight_variance: NDArray[np.float32]  # [P] given that the term is in and given all other weights of its set
    weight_set_mean: NDArray[np.float32]  # [K, P] mean given particle k's term set, 0 if excluded
    weight_sample: NDArray[np.float32]  # [K, P] a draw given particle k's term set, 0 if excluded
    particle_log_weight: NDArray[np.float32]  # [K] nats, normalised
    noise_std: NDArray[np.float32]  # [S, 2, 2] (free, contact) x (motion [m], brightness [1])
    wall: NDArray[np.float32]  # [4] m: x_min, x_max, y_min, y_max of the table
    hash: str  # sha256 hex over all of the above, see `posterior_hash`


@dataclass(frozen=True)
class Edge:
    """One edge of the causal graph between variables, with the terms that carry it."""

    cause: str  # "action", "body", "slot_3"
    effect: str  # "body.position", "slot_3.position", "slot_5.brightness"
    cause_slot: int  # slot id, ACTION_PARENT for the action
    effect_slot: int  # slot id
    probability: float
    terms: tuple[tuple[Term, float, float, float], ...]  # (term, probability, weight mean, weight std)
    now: float = 0.0  # probability that it acts in the present state; 0 where no state was given
    invariant: float = 1.0  # probability that its mechanisms are those of the environments before


@dataclass(frozen=True)
class InformationGain:
    """Expected information gain by part, nats."""

    structure: float
    parameters: float
    states: float

    @property
    def total(self) -> float:
        return self.structure + self.parameters + self.states


@dataclass(frozen=True)
class Candidate:
    """One action sequence the planner looked at."""

    actions: NDArray[np.float32]  # [H, 2] m/s
    score: float
    gain: InformationGain
    label: str  # which experiment proposed it: "push slot_3", "cem", "continue", ...
    preference: float = 0.0  # nats, how much nearer to the goals it brings things; part of the score


@dataclass(frozen=True)
class Plan:
    """The outcome of one planning call."""

    stamp: float  # s, stamp of the belief it was made from
    posterior_version: int
    chosen: Candidate
    rejected: tuple[Candidate, ...]
    path: NDArray[np.float32]  # [H + 1, 2] m, predicted tip path of the chosen candidate
    plan_ms: float
    swap_ms: float  # time the last weight swap took

    def action_at(self, time: float, dt: float) -> Array:
        """[2] m/s for what begins at `time` s, in steps of `dt` s: an old belief's plan is further along by then."""
        step = int(np.clip((time - self.stamp) / dt, 0, len(self.chosen.actions) - 1))
        return np.asarray(self.chosen.actions[step], float)
