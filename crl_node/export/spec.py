"""Names, shapes and units of the plan graph's inputs and outputs. Numpy only: the planner process reads this.

Every *learned* input also has an initialiser in the file, so the file stands alone and each value can still be
overridden in a call. S slots, P terms, K particles, N candidates, H steps, I iterations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl_node.data import MAX_SLOTS, Posterior
from crl_node.posterior import PARTICLES, PLANNER_TERMS

Values = dict[str, NDArray[Any]]

#: A slot counts as moving, and its noise as contact noise, above this displacement per step.
MOVING = 0.004  # m
#: Spring forces below this stretch do nothing (see "Term semantics": DEAD).
DEAD = 0.008  # m
#: A thing's centre stays this share of its extent away from the rim.
RIM_MARGIN = 0.95
#: The pieces of the drift features (0.01, 0) and (0, 0.01).
DRIFT = 0.01  # m per step
#: A look is worth what it tells about where a thing is so much later: about as long as a push takes to be made.
LOOK_SERVES = 1.0  # s
#: How many jams a call remembers, and how far around each the tip is held back [m].
JAMS, JAM_RADIUS = 4, 0.05
#: A tip that leans on a jam slides along it by this share less of how hard it leans.
JAM_FRICTION = 0.5


@dataclass(frozen=True)
class PlanShape:
    """The static sizes of one exported graph."""

    slots: int = MAX_SLOTS
    terms: int = PLANNER_TERMS
    particles: int = PARTICLES
    candidates: int = 64
    horizon: int = 30
    iterations: int = 2
    elites: int = 8
    #: What is told is turned into nats, and discounted by when it came, after every so many steps. It is observed at
    #: every step: when only every third was looked at, the search found plans that shone at those (docs/planner.md).
    count_every: int = 3
    #: How many terms may have the body as their target (they are evaluated first, on their own).
    body_terms: int = 24
    #: How many terms of brightness take part in a plan, the most influential first.
    light_terms: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.elites < self.candidates:
            raise ValueError(
                f"plan shape: {self.elites} elites of {self.candidates} candidates; "
                "there must be at least one elite and more candidates than elites"
            )
        if min(self.horizon, self.iterations, self.slots, self.terms, self.particles, self.count_every) < 1:
            raise ValueError(f"plan shape: every size must be at least 1, received {self}")
        if max(self.body_terms, self.light_terms) > self.terms:
            raise ValueError(
                f"plan shape: {self.body_terms} body terms and {self.light_terms} light terms of {self.terms} terms"
            )
        if self.slots < 2:
            raise ValueError(f"plan shape: {self.slots} slots; the tip and one thing are the least")

    @property
    def groups(self) -> tuple[int, ...]:
        """How many steps each group holds after which is counted: what is left of the horizon comes last."""
        whole, rest = divmod(self.horizon, self.count_every)
        return (self.count_every,) * whole + (rest,) * (rest > 0)

    @property
    def name(self) -> str:
        """The file name's stem, e.g. `plan_s12_p96_k16_n64_h30_i2`."""
        return (
            f"plan_s{self.slots}_p{self.terms}_k{self.particles}_n{self.candidates}_h{self.horizon}"
            f"_i{self.iterations}"
        )


@dataclass(frozen=True)
class Tensor:
    """One input or output of the graph."""

    name: str
    dtype: str  # numpy name
    shape: tuple[int, ...]
    meaning: str  # with its unit
    default: float = 0.0


def learned_inputs(n: PlanShape) -> tuple[Tensor, ...]:
    """What the learner's posterior fills in."""
    s, p, k = n.slots, n.terms, n.particles
    return (
        Tensor("posterior_version", "int64", (1,), "version of the posterior, echoed in `version`"),
        Tensor("dt", "float32", (1,), "control step [s]", 0.1),
        Tensor("slot_extent", "float32", (s,), "radius of each slot's footprint [m]", 0.03),
        Tensor("term_kind", "int32", (p,), "TermKind of each term"),
        Tensor("term_target", "int32", (p,), "slot index that changes"),
        Tensor("term_parent", "int32", (p,), "slot index that acts, -1 none, -2 the motor command", -1),
        Tensor("term_length", "float32", (p,), "contact radius or rest length [m]"),
        Tensor("term_probability", "float32", (p,), "probability that the term is in"),
        Tensor("weight_mean", "float32", (p,), "posterior mean weight, averaged over structures"),
        Tensor("weight_variance", "float32", (p,), "given that the term is in and all other weights of its set"),
        Tensor("weight_set_mean", "float32", (k, p), "mean weight given particle k's term set, 0 if excluded"),
        Tensor("weight_sample", "float32", (k, p), "a draw given particle k's term set, 0 if excluded"),
        Tensor("particle_log_weight", "float32", (k,), "log weight of each particle [nats]"),
        Tensor("noise_std", "float32", (s, 2, 2), "(free, contact) x (motion [m], brightness [1])", 0.005),
        Tensor("wall", "float32", (4,), "table: x_min, x_max, y_min, y_max [m]"),
    )


def setting_inputs(n: PlanShape) -> tuple[Tensor, ...]:
    """What the planner's parameters fill in, once."""
    return (
        Tensor("workspace", "float32", (4,), "box the tip stays in: x_min, x_max, y_min, y_max [m]"),
        Tensor("max_speed", "float32", (1,), "greatest tip speed [m/s]", 0.25),
        Tensor("camera", "float32", (3,), "camera position, base frame [m]"),
        Tensor("tool", "float32", (2,), "height [m] of what stands on the tip, half width [m] of its shadow"),
        Tensor("look_variance", "float32", (1,), "error that looks at a slot's position share [m^2]", 2e-5),
        Tensor("effort", "float32", (2,), "cost of way [nats/m], of changing velocity [nats/(m/s)^2]"),
        Tensor("discount", "float32", (n.horizon,), "weight of what is learned at step h [1]", 1.0),
        Tensor("spread", "float32", (max(n.iterations - 1, 1),), "resampling noise per iteration [m/s]", 0.05),
    )


def call_inputs(n: PlanShape) -> tuple[Tensor, ...]:
    """What changes in every call: the belief and the search's starting points."""
    s, c, h = n.slots, n.candidates, n.horizon
    return (
        Tensor("position", "float32", (s, 2), "slot positions, row 0 the tip [m]"),
        Tensor("velocity", "float32", (s, 2), "slot velocities [m/s]"),
        Tensor("brightness", "float32", (s,), "slot brightness [0..1]"),
        Tensor("exists", "float32", (s,), "1 where the slot is in the belief"),
        Tensor("position_variance", "float32", (s,), "variance of a slot's position, per axis [m^2]", 1e-6),
        Tensor("hidden", "float32", (s,), "1 where the slot cannot be seen now"),
        Tensor(
            "jams", "float32", (JAMS, 4), "where the tip did not get on: x, y [m], unit direction; zeros for none"
        ),
        Tensor("proposals", "float32", (c, h, 2), "tip velocities to start the search from [m/s]"),
        Tensor("bonus", "float32", (c,), "added to the score of a proposal and its offspring [nats]"),
        Tensor("noise", "float32", (max(n.iterations - 1, 1), c, h, 2), "standard normal or coloured noise [1]"),
        Tensor("goal", "float32", (s, 2), "where each slot is wanted [m]"),
        Tensor("goal_weight", "float32", (s,), "worth of a slot's being nearer to its goal [nats/m], 0: no goal"),
    )


def all_inputs(shape: PlanShape) -> tuple[Tensor, ...]:
    """Every input, in the order of the file."""
    return learned_inputs(shape) + setting_inputs(shape) + call_inputs(shape)


def outputs(n: PlanShape) -> tuple[Tensor, ...]:
    """Every output, in the order of the file."""
    c, h = n.candidates, n.horizon
    gain = "information gain: structure, parameters, states [nats]"
    nearer = "preference: how much nearer to the goals than now [nats]"
    return (
        Tensor("version", "int64", (1,), "the posterior_version the plan was made with"),
        Tensor("best_actions", "float32", (h, 2), "the chosen tip velocities [m/s]"),
        Tensor("best_path", "float32", (h + 1, 2), "predicted tip path of the chosen candidate [m]"),
        Tensor("best_score", "float32", (1,), "gain, preference and bonus less effort, of the chosen candidate [nats]"),
        Tensor("best_gain", "float32", (3,), gain),
        Tensor("best_preference", "float32", (1,), nearer),
        Tensor("best_origin", "int64", (1,), "index of the proposal the chosen candidate descends from"),
        Tensor("scores", "float32", (c,), "scores of the last iteration's candidates [nats]"),
        Tensor("gains", "float32", (c, 3), gain),
        Tensor("preferences", "float32", (c,), nearer),
        Tensor("origin", "int64", (c,), "index of the proposal each candidate descends from"),
        Tensor("proposal_scores", "float32", (c,), "scores of the proposals as they came in [nats]"),
        Tensor("proposal_gains", "float32", (c, 3), gain),
        Tensor("proposal_preferences", "float32", (c,), nearer),
    )


def defaults(tensors: tuple[Tensor, ...]) -> Values:
    """Values that mean "nothing known": every tensor filled with its default."""
    return {t.name: np.full(t.shape, t.default, dtype=t.dtype) for t in tensors}


def initial_values(shape: PlanShape) -> Values:
    """Initialisers of a file that has learned nothing: the default world and robot, a fixed search noise."""
    values = defaults(learned_inputs(shape) + setting_inputs(shape))
    values["wall"][:] = (0.38, 0.82, -0.30, 0.30)
    values["workspace"][:] = (0.40, 0.80, -0.28, 0.28)
    values["camera"][:] = (1.25, 0.0, 1.05)
    values["tool"][:] = (0.40, 0.03)
    values["effort"][:] = (0.3, 0.02)
    values["discount"][:] = 0.95 ** np.arange(shape.horizon)
    values["spread"][:] = 0.06 * 0.5 ** np.arange(len(values["spread"]))
    values["particle_log_weight"][:] = -np.log(shape.particles)
    values["jams"] = np.zeros((JAMS, 4), np.float32)
    values["bonus"] = np.zeros(shape.candidates, np.float32)
    values["goal"] = np.zeros((shape.slots, 2), np.float32)
    values["goal_weight"] = np.zeros(shape.slots, np.float32)
    steps = max(shape.iterations - 1, 1)
    noise = np.random.default_rng(0).standard_normal((steps, shape.candidates, shape.horizon, 2))
    values["noise"] = noise.astype(np.float32)
    return values


def posterior_values(posterior: Posterior) -> Values:
    """The learned inputs as fresh arrays of the graph's types: nothing aliases the posterior."""
    return {
        "posterior_version": np.array([posterior.version], np.int64),
        "dt": np.array([posterior.dt], np.float32),
        "slot_extent": np.array(posterior.slot_extent, np.float32),
        "term_kind": np.array(posterior.term_kind, np.int32),
        "term_target": np.array(posterior.term_target, np.int32),
        "term_parent": np.array(posterior.term_parent, np.int32),
        "term_length": np.array(posterior.term_length, np.float32),
        "term_probability": np.array(posterior.term_probability, np.float32),
        "weight_mean": np.array(posterior.weight_mean, np.float32),
        "weight_variance": np.array(posterior.weight_variance, np.float32),
        "weight_set_mean": np.array(posterior.weight_set_mean, np.float32),
        "weight_sample": np.array(posterior.weight_sample, np.float32),
        "particle_log_weight": np.array(posterior.particle_log_weight, np.float32),
        "noise_std": np.array(posterior.noise_std, np.float32),
        "wall": np.array(posterior.wall, np.float32),
    }
