"""Messages of `crl_interfaces` to the dataclasses and back: lossless, NaN included, fast for tensors.

Values are not judged here: whoever receives them checks ranges and finiteness. Only what cannot be a dataclass
at all (a wrong number of values, ragged trajectory points) raises ConversionError, a sentence.
"""

from __future__ import annotations

import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from builtin_interfaces.msg import Duration, Time
from crl_interfaces import msg
from geometry_msgs.msg import Point
from numpy.typing import DTypeLike, NDArray
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory as JointTrajectoryMessage
from trajectory_msgs.msg import JointTrajectoryPoint

from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.data import (
    STATE_SIZE,
    Belief,
    Candidate,
    Edge,
    InformationGain,
    Plan,
    Posterior,
    Term,
    TermKind,
)
from crl_node.nodes.base import seconds_to_stamp, stamp_to_seconds


class ConversionError(ValueError):
    """A message that does not have the form of what it stands for."""


_TYPECODES = {"f4": "f", "f8": "d", "i4": "i", "i8": "q", "u1": "B"}


def to_array(values: NDArray[Any], dtype: DTypeLike) -> array.array[Any]:
    """`values`, flattened row-major, as what rclpy assigns to a sequence field without looking at each item."""
    wanted = np.dtype(dtype)
    result: array.array[Any] = array.array(_TYPECODES[wanted.str[1:]])
    result.frombytes(np.ascontiguousarray(values, wanted).tobytes())
    return result


def from_array(values: Any, dtype: DTypeLike, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """A sequence field as an array of `shape`, copied. ConversionError when the number of values is another."""
    flat = np.array(values, dtype)
    if flat.size != int(np.prod(shape)):
        raise ConversionError(f"'{name}' holds {flat.size} values, its shape {list(shape)} needs {int(np.prod(shape))}")
    return flat.reshape(shape)


def header(stamp: float, frame_id: str = "") -> Header:
    """A header stamped `stamp` s."""
    return Header(stamp=seconds_to_stamp(stamp), frame_id=frame_id)


def seconds_to_duration(seconds: float) -> Duration:
    """`builtin_interfaces/Duration` rounded to the nanosecond."""
    total = round(seconds * 1e9)
    return Duration(sec=total // 1_000_000_000, nanosec=total % 1_000_000_000)


def duration_to_seconds(duration: Duration) -> float:
    return float(duration.sec + duration.nanosec * 1e-9)


# -- belief -----------------------------------------------------------------------------------------------------------


def belief_to_message(
    belief: Belief,
    *,
    frame_id: str = "",
    posterior_version: int = 0,
    image_stamp: Time | None = None,
    joint_state_stamp: Time | None = None,
) -> msg.Belief:
    """`crl_interfaces/Belief`; the source stamps default to the belief's own."""
    message = msg.Belief(header=header(belief.stamp, frame_id), posterior_version=int(posterior_version))
    message.image_stamp = image_stamp or message.header.stamp
    message.joint_state_stamp = joint_state_stamp or message.header.stamp
    message.slots = [
        msg.Slot(
            id=int(belief.ids[i]),
            mean=np.ascontiguousarray(belief.mean[i], np.float64),
            covariance=np.ascontiguousarray(belief.cov[i], np.float64).ravel(),
            colour=np.ascontiguousarray(belief.colour[i], np.float64),
            extent=float(belief.extent[i]),
            existence=float(belief.existence[i]),
            visible=float(belief.visible[i]),
        )
        for i in range(len(belief.ids))
    ]
    return message


def belief_from_message(message: msg.Belief) -> Belief:
    """The belief, stamped with the header's stamp."""
    slots = message.slots
    n = len(slots)

    def column(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        return np.array([getattr(slot, name) for slot in slots], np.float64).reshape(n, *shape)

    return Belief(
        stamp=stamp_to_seconds(message.header.stamp),
        ids=np.array([slot.id for slot in slots], np.int64),
        mean=column("mean", (STATE_SIZE,)),
        cov=column("covariance", (STATE_SIZE, STATE_SIZE)),
        colour=column("colour", (3,)),
        extent=column("extent", ()),
        existence=column("existence", ()),
        visible=column("visible", ()),
    )


# -- posterior --------------------------------------------------------------------------------------------------------

#: field -> (dtype, shape in the letters of the message's S, P, K)
_POSTERIOR_FIELDS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "slot_ids": ("<i8", ("S",)),
    "slot_extent": ("<f4", ("S",)),
    "term_kind": ("<i4", ("P",)),
    "term_target": ("<i4", ("P",)),
    "term_parent": ("<i4", ("P",)),
    "term_length": ("<f4", ("P",)),
    "term_probability": ("<f4", ("P",)),
    "weight_mean": ("<f4", ("P",)),
    "weight_variance": ("<f4", ("P",)),
    "weight_set_mean": ("<f4", ("K", "P")),
    "weight_sample": ("<f4", ("K", "P")),
    "particle_log_weight": ("<f4", ("K",)),
    "noise_std": ("<f4", ("S", 2, 2)),
}


def posterior_to_message(posterior: Posterior, stamp: float, frame_id: str = "") -> msg.Posterior:
    """`crl_interfaces/Posterior`; tensors go over as raw memory."""
    message = msg.Posterior(
        header=header(stamp, frame_id),
        version=int(posterior.version),
        step=int(posterior.step),
        hash=posterior.hash,
        dt=float(posterior.dt),
        slots=len(posterior.slot_ids),
        terms=len(posterior.term_kind),
        particles=len(posterior.particle_log_weight),
        wall=np.asarray(posterior.wall, np.float32),
    )
    for name, (dtype, _) in _POSTERIOR_FIELDS.items():
        setattr(message, name, to_array(getattr(posterior, name), dtype))
    return message


def posterior_from_message(message: msg.Posterior) -> Posterior:
    """The posterior as sent; `crl_node.posterior.check` judges it. ConversionError on a wrong number of values."""
    sizes: dict[str | int, int] = {"S": message.slots, "P": message.terms, "K": message.particles, 2: 2}
    try:
        tensors = {
            name: from_array(getattr(message, name), dtype, tuple(sizes[letter] for letter in shape), name)
            for name, (dtype, shape) in _POSTERIOR_FIELDS.items()
        }
    except ConversionError as error:
        raise ConversionError(f"posterior version {message.version}: {error}; keeping the previous model") from error
    return Posterior(
        version=message.version,
        step=message.step,
        dt=message.dt,
        wall=np.array(message.wall, np.float32),
        hash=message.hash,
        **tensors,
    )


# -- graph ------------------------------------------------------------------------------------------------------------


def graph_to_message(
    edges: Iterable[Edge], stamp: float, posterior_version: int = 0, *, environment: str = "",
    changes: Iterable[str] = (),
) -> msg.CausalGraph:  # fmt: skip
    """`crl_interfaces/CausalGraph`, in the order given; `changes` in words."""
    message = msg.CausalGraph(
        header=header(stamp), posterior_version=int(posterior_version), environment=environment, changes=list(changes)
    )
    message.edges = [
        msg.Edge(
            cause=edge.cause,
            effect=edge.effect,
            cause_slot=int(edge.cause_slot),
            effect_slot=int(edge.effect_slot),
            probability=float(edge.probability),
            now=float(edge.now),
            invariant=float(edge.invariant),
            mechanisms=[
                msg.Mechanism(
                    term=msg.Term(
                        kind=int(term.kind), target=int(term.target), parent=int(term.parent), length=float(term.length)
                    ),
                    probability=float(probability),
                    weight_mean=float(mean),
                    weight_std=float(std),
                )
                for term, probability, mean, std in edge.terms
            ],
        )
        for edge in edges
    ]
    return message


def graph_from_message(message: msg.CausalGraph) -> tuple[Edge, ...]:
    """The edges; ConversionError on a term kind this version does not know."""
    return tuple(
        Edge(
            cause=edge.cause,
            effect=edge.effect,
            cause_slot=edge.cause_slot,
            effect_slot=edge.effect_slot,
            probability=edge.probability,
            terms=tuple(
                (_term(m.term), m.probability, m.weight_mean, m.weight_std)  #
                for m in edge.mechanisms
            ),
            now=edge.now,
            invariant=edge.invariant,
        )
        for edge in message.edges
    )


def _term(message: msg.Term) -> Term:
    try:
        kind = TermKind(message.kind)
    except ValueError as error:
        known = ", ".join(f"{k.value} {k.name}" for k in TermKind)
        raise ConversionError(f"term kind {message.kind} is unknown; known are {known}") from error
    return Term(kind, message.target, message.parent, message.length)


# -- plan -------------------------------------------------------------------------------------------------------------


def plan_to_message(plan: Plan, *, policy: str, provider: str) -> msg.Plan:
    """`crl_interfaces/Plan`; only the chosen candidate has a path."""
    message = msg.Plan(
        header=header(plan.stamp),
        posterior_version=int(plan.posterior_version),
        policy=policy,
        provider=provider,
        chosen=_candidate_to_message(plan.chosen),
        rejected=[_candidate_to_message(candidate) for candidate in plan.rejected],
        plan_ms=float(plan.plan_ms),
        swap_ms=float(plan.swap_ms),
    )
    message.chosen.path = [Point(x=float(x), y=float(y), z=0.0) for x, y in plan.path]
    return message


def plan_from_message(message: msg.Plan) -> Plan:
    """The plan (policy and provider are fields of the message)."""
    return Plan(
        stamp=stamp_to_seconds(message.header.stamp),
        posterior_version=message.posterior_version,
        chosen=_candidate_from_message(message.chosen),
        rejected=tuple(_candidate_from_message(candidate) for candidate in message.rejected),
        path=np.array([(p.x, p.y) for p in message.chosen.path], np.float32).reshape(-1, 2),
        plan_ms=message.plan_ms,
        swap_ms=message.swap_ms,
    )


def _candidate_to_message(candidate: Candidate) -> msg.Candidate:
    gain = candidate.gain
    return msg.Candidate(
        label=candidate.label,
        score=float(candidate.score),
        gain=msg.InformationGain(
            structure=float(gain.structure), parameters=float(gain.parameters), states=float(gain.states)
        ),
        actions=to_array(candidate.actions, np.float32),
        preference=float(candidate.preference),
    )


def _candidate_from_message(message: msg.Candidate) -> Candidate:
    steps = len(message.actions) // 2
    gain = message.gain
    return Candidate(
        actions=from_array(message.actions, np.float32, (steps, 2), "actions"),
        score=message.score,
        gain=InformationGain(gain.structure, gain.parameters, gain.states),
        label=message.label,
        preference=message.preference,
    )


# -- commands and trajectories ----------------------------------------------------------------------------------------


def trajectory_to_message(
    trajectory: JointTrajectory | None, stamp: float, frame_id: str = ""
) -> JointTrajectoryMessage:
    """`trajectory_msgs/JointTrajectory` that starts at `stamp`; None gives one without points."""
    message = JointTrajectoryMessage(header=header(stamp, frame_id))
    if trajectory is None:
        return message
    message.joint_names = list(trajectory.joint_names)
    message.points = [
        JointTrajectoryPoint(
            positions=to_array(trajectory.positions[i], np.float64),
            velocities=to_array(trajectory.velocities[i], np.float64),
            time_from_start=seconds_to_duration(float(trajectory.times[i])),
        )
        for i in range(len(trajectory.times))
    ]
    return message


def trajectory_from_message(message: JointTrajectoryMessage) -> JointTrajectory | None:
    """The trajectory, or None when it has no points. Missing velocities are an error: we never send any without."""
    if not message.points:
        return None
    joints = len(message.joint_names)
    for i, point in enumerate(message.points):
        for field in ("positions", "velocities"):
            if len(getattr(point, field)) != joints:
                raise ConversionError(
                    f"trajectory point {i} has {len(getattr(point, field))} {field} for {joints} joints "
                    f"({', '.join(message.joint_names)}); it is not executed"
                )
    return JointTrajectory(
        tuple(message.joint_names),
        np.array([duration_to_seconds(point.time_from_start) for point in message.points]),
        np.array([point.positions for point in message.points], np.float64).reshape(-1, joints),
        np.array([point.velocities for point in message.points], np.float64).reshape(-1, joints),
    )


def command_to_message(command: Command, frame_id: str = "") -> msg.Command:
    """`crl_interfaces/Command`; the trajectory carries the command's stamp."""
    message = msg.Command(
        header=header(command.stamp, frame_id),
        sequence=int(command.sequence),
        belief_stamp=seconds_to_stamp(command.belief_stamp),
        posterior_version=int(command.posterior_version),
        hold=bool(command.hold),
        duration=seconds_to_duration(command.duration),
        ramp=seconds_to_duration(command.ramp),
        trajectory=trajectory_to_message(command.trajectory, command.stamp, frame_id),
    )
    message.velocity.x, message.velocity.y = float(command.velocity[0]), float(command.velocity[1])
    return message


def command_from_message(message: msg.Command) -> Command:
    """The command; ConversionError when its trajectory is ragged."""
    return Command(
        stamp=stamp_to_seconds(message.header.stamp),
        sequence=message.sequence,
        belief_stamp=stamp_to_seconds(message.belief_stamp),
        posterior_version=message.posterior_version,
        hold=message.hold,
        velocity=np.array([message.velocity.x, message.velocity.y]),
        duration=duration_to_seconds(message.duration),
        ramp=duration_to_seconds(message.ramp),
        trajectory=trajectory_from_message(message.trajectory),
    )

