"""Messages read from a bag as the dataclasses of `crl_node.data`. No ROS: works on decoded rosbags messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl_node.curiosity.goals import Goal
from crl_node.data import (
    STATE_SIZE,
    Array,
    Belief,
    Edge,
    InformationGain,
    Posterior,
    Term,
    TermKind,
)


def seconds(stamp: Any) -> float:
    """Seconds of a `builtin_interfaces/Time` or Duration."""
    return float(stamp.sec + stamp.nanosec * 1e-9)


@dataclass(frozen=True)
class Truth:
    """Ground truth at one instant. N things."""

    stamp: float  # s
    tip: Array  # [2] m
    names: tuple[str, ...]  # N
    positions: Array  # [N, 2] m
    velocities: Array  # [N, 2] m/s
    brightness: Array  # [N] 0..1
    contacts: tuple[tuple[str, ...], ...]  # N: names of what each thing touches
    changes: tuple[str, ...] = ()  # changes of the world that have taken place, in words


@dataclass(frozen=True)
class PlanRecord:
    """One planning call as recorded."""

    stamp: float  # s, of the belief
    posterior_version: int
    policy: str
    label: str  # the experiment that was chosen
    gain: InformationGain
    path: Array  # [H + 1, 2] m, predicted tip path
    plan_ms: float
    swap_ms: float
    provider: str


@dataclass(frozen=True)
class CommandRecord:
    """One command, proposed or executed."""

    stamp: float  # s
    belief_stamp: float  # s
    sequence: int
    posterior_version: int
    hold: bool
    velocity: Array  # [2] m/s


def to_belief(message: Any) -> Belief:
    """`crl_interfaces/Belief`."""
    slots = message.slots
    count = len(slots)

    def stack(rows: list[Any], width: int) -> Array:
        return np.array(rows, float).reshape(count, width)

    return Belief(
        stamp=seconds(message.header.stamp),
        ids=np.array([s.id for s in slots], np.int64),
        mean=stack([s.mean for s in slots], STATE_SIZE),
        cov=stack([s.covariance for s in slots], STATE_SIZE**2).reshape(count, STATE_SIZE, STATE_SIZE),
        colour=stack([s.colour for s in slots], 3),
        extent=np.array([s.extent for s in slots], float),
        existence=np.array([s.existence for s in slots], float),
        visible=np.array([s.visible for s in slots], float),
    )


def to_posterior(message: Any) -> Posterior:
    """`crl_interfaces/Posterior`; raises ValueError when a tensor has the wrong number of entries."""
    s, p, k = int(message.slots), int(message.terms), int(message.particles)

    def array(name: str, dtype: type, *shape: int) -> NDArray[Any]:
        values: NDArray[Any] = np.array(getattr(message, name), dtype)
        if values.size != int(np.prod(shape)):
            raise ValueError(
                f"posterior version {message.version}: '{name}' has {values.size} entries, expected {shape}"
            )
        return values.reshape(shape)

    return Posterior(
        version=int(message.version),
        step=int(message.step),
        dt=float(message.dt),
        slot_ids=array("slot_ids", np.int64, s),
        slot_extent=array("slot_extent", np.float32, s),
        term_kind=array("term_kind", np.int32, p),
        term_target=array("term_target", np.int32, p),
        term_parent=array("term_parent", np.int32, p),
        term_length=array("term_length", np.float32, p),
        term_probability=array("term_probability", np.float32, p),
        weight_mean=array("weight_mean", np.float32, p),
        weight_variance=array("weight_variance", np.float32, p),
        weight_set_mean=array("weight_set_mean", np.float32, k, p),
        weight_sample=array("weight_sample", np.float32, k, p),
        particle_log_weight=array("particle_log_weight", np.float32, k),
        noise_std=array("noise_std", np.float32, s, 2, 2),
        wall=array("wall", np.float32, 4),
        hash=str(message.hash),
    )


def to_edges(message: Any) -> tuple[Edge, ...]:
    """`crl_interfaces/CausalGraph`."""
    return tuple(
        Edge(
            cause=str(e.cause),
            effect=str(e.effect),
            cause_slot=int(e.cause_slot),
            effect_slot=int(e.effect_slot),
            probability=float(e.probability),
            terms=tuple(
                (
                    Term(
                        TermKind(int(m.term.kind)),
                        int(m.term.target),
                        int(m.term.parent),
                        float(m.term.length),
                    ),
                    float(m.probability),
                    float(m.weight_mean),
                    float(m.weight_std),
                )
                for m in e.mechanisms
            ),
            now=float(getattr(e, "now", 0.0)),  # bags from before the field existed
            invariant=float(getattr(e, "invariant", 1.0)),
        )
        for e in message.edges
    )


def to_truth(message: Any) -> Truth:
    """`crl_interfaces/GroundTruth`."""
    things = message.objects
    return Truth(
        stamp=seconds(message.header.stamp),
        tip=np.array([message.tip.x, message.tip.y]),
        names=tuple(str(o.name) for o in things),
        positions=np.array([[o.pose.position.x, o.pose.position.y] for o in things], float).reshape(-1, 2),
        velocities=np.array([[o.twist.linear.x, o.twist.linear.y] for o in things], float).reshape(-1, 2),
        brightness=np.array([o.brightness for o in things], float),
        contacts=tuple(tuple(str(c) for c in o.contacts) for o in things),
        changes=tuple(str(c) for c in getattr(message, "changes", ())),
    )


def to_gain(message: Any) -> InformationGain:
    """`crl_interfaces/InformationGain`."""
    return InformationGain(float(message.structure), float(message.parameters), float(message.states))


def to_candidate_path(message: Any) -> Array:
    """Predicted tip path [H + 1, 2] m of a `crl_interfaces/Candidate`."""
    return np.array([[p.x, p.y] for p in message.path], float).reshape(-1, 2)


def to_plan(message: Any) -> PlanRecord:
    """`crl_interfaces/Plan`."""
    return PlanRecord(
        stamp=seconds(message.header.stamp),
        posterior_version=int(message.posterior_version),
        policy=str(message.policy),
        label=str(message.chosen.label),
        gain=to_gain(message.chosen.gain),
        path=to_candidate_path(message.chosen),
        plan_ms=float(message.plan_ms),
        swap_ms=float(message.swap_ms),
        provider=str(message.provider),
    )


def to_goals(message: Any) -> tuple[Goal, ...]:
    """`crl_interfaces/Goals`."""
    return tuple(
        Goal(int(g.slot), str(g.name), (float(g.x), float(g.y)), float(g.weight), float(g.hold)) for g in message.goals
    )


def to_command(message: Any) -> CommandRecord:
    """`crl_interfaces/Command`."""
    return CommandRecord(
        stamp=seconds(message.header.stamp),
        belief_stamp=seconds(message.belief_stamp),
        sequence=int(message.sequence),
        posterior_version=int(message.posterior_version),
        hold=bool(message.hold),
        velocity=np.array([message.velocity.x, message.velocity.y], float),
    )


def to_image(message: Any) -> NDArray[np.uint8]:
    """`sensor_msgs/Image` in rgb8 or bgr8 as rgb [height, width, 3]; ValueError for anything else."""
    if message.encoding not in ("rgb8", "bgr8"):
        raise ValueError(f"image encoding is '{message.encoding}', only rgb8 and bgr8 can be drawn")
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    image = rows[:, : message.width * 3].reshape(message.height, message.width, 3)
    return image[:, :, ::-1] if message.encoding == "bgr8" else image
