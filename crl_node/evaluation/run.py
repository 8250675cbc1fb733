"""One pass over a bag: everything that the evaluation and the report look at, in memory, without the images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl_node.bags import messages as read
from crl_node.bags.messages import CommandRecord, PlanRecord, Truth
from crl_node.bags.metadata import BagError
from crl_node.bags.reader import BagReader, Decoded
from crl_node.camera import Camera
from crl_node.curiosity.goals import Goal
from crl_node.data import Array, Belief, Edge, Posterior
from crl_node.evaluation.traffic import Sent, Traffic

#: Topics without namespace, as the nodes name them.
IMAGE, CAMERA_INFO = "camera/image_raw", "camera/camera_info"
#: s, a clock that jumps back farther than this belongs to another run.
BACKWARDS = 0.5


@dataclass(frozen=True)
class StepRecord:
    """What the learner said about one frame (`crl_interfaces/StepReport`)."""

    stamp: float  # s
    step: int
    perception_ms: float
    update_ms: float
    refresh_ms: float
    surprise: float  # nats
    structure_entropy: float  # nats
    dropped: int
    rejected: int
    pairs_rejected: int
    note: str


@dataclass
class RunData:
    """The content of a run's bag. Every list is in the order of recording."""

    truths: list[Truth] = field(default_factory=list)
    beliefs: list[Belief] = field(default_factory=list)
    posteriors: list[tuple[float, Posterior]] = field(default_factory=list)  # (stamp s, posterior)
    graphs: list[tuple[float, tuple[Edge, ...]]] = field(default_factory=list)  # (stamp s, edges)
    plans: list[PlanRecord] = field(default_factory=list)
    goals: list[tuple[float, tuple[Goal, ...], str]] = field(default_factory=list)  # (stamp s, all, the news)
    commands: list[CommandRecord] = field(default_factory=list)  # proposed by the planner
    executed: list[CommandRecord] = field(default_factory=list)  # let through by the gate
    steps: list[StepRecord] = field(default_factory=list)
    image_stamps: list[float] = field(default_factory=list)  # s
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)  # last values by status name
    image_sent: dict[float, float] = field(default_factory=dict)  # s of wall time by stamp
    command_sent: list[tuple[float, float]] = field(default_factory=list)  # (belief stamp s, s of wall time)
    posterior_sent: list[float] = field(default_factory=list)  # s of wall time, of `posteriors`
    plan_sent: list[float] = field(default_factory=list)  # s of wall time, of `plans`
    camera_info: Any | None = None
    recorded: dict[str, int] = field(default_factory=dict)  # messages by topic
    sent: dict[str, int | None] = field(default_factory=dict)  # messages by topic, None: not known
    notes: list[str] = field(default_factory=list)  # what is missing or cut off, in words
    path: Path | None = None
    clock: float = 0.0  # s, last simulated time

    @property
    def start(self) -> float:
        """Stamp of the first frame (or truth, or belief), s."""
        firsts = [
            self.image_stamps[:1],
            [t.stamp for t in self.truths[:1]],
            [b.stamp for b in self.beliefs[:1]],
        ]
        return min((f[0] for f in firsts if f), default=0.0)

    @property
    def end(self) -> float:
        """Stamp of the last frame (or truth, or belief), s."""
        lasts = [
            self.image_stamps[-1:],
            [t.stamp for t in self.truths[-1:]],
            [b.stamp for b in self.beliefs[-1:]],
        ]
        return max((last[0] for last in lasts if last), default=0.0)

    def posterior_at(self, elapsed: float) -> Posterior | None:
        """The newest posterior published within `elapsed` s of the start; None when there was none yet."""
        known = [p for t, p in self.posteriors if t - self.start <= elapsed + 1e-9]
        return known[-1] if known else None

    def goals_at(self, stamp: float) -> tuple[Goal, ...]:
        """The goals that the plan made from the belief at `stamp` s followed."""
        known = [goals for t, goals, _ in self.goals if t < stamp - 1e-9]
        return known[-1] if known else ()

    def traffic(self) -> Traffic:
        """When what was sent."""
        plans = zip(self.plans, self.plan_sent, strict=True)
        posteriors = zip(self.posteriors, self.posterior_sent, strict=True)
        return Traffic(
            images=[Sent(stamp, sent) for stamp, sent in self.image_sent.items()],
            commands=[Sent(stamp, sent) for stamp, sent in self.command_sent],
            executed=[Sent(c.stamp, 0.0) for c in self.executed],
            answered=[c.belief_stamp for c in self.executed],
            holds=sum(c.hold for c in self.executed),
            posteriors=[Sent(stamp, sent, p.version) for (stamp, p), sent in posteriors],
            plans=[Sent(p.stamp, sent, p.posterior_version) for p, sent in plans],
            plan_ms=[p.plan_ms for p in self.plans],
            swap_ms=[p.swap_ms for p in self.plans],
            perception_ms=[s.perception_ms for s in self.steps],
            update_ms=[s.update_ms + s.refresh_ms for s in self.steps],
            frames_dropped=max((s.dropped for s in self.steps), default=0),
        )

    def edges_at(self, elapsed: float) -> tuple[Edge, ...]:
        """The newest graph published within `elapsed` s of the start."""
        known = [g for t, g in self.graphs if t - self.start <= elapsed + 1e-9]
        return known[-1] if known else ()


def load_run(bag: Path) -> RunData:
    """Read a bag folder, whole or cut off. What is missing becomes a note, never an exception."""
    run = RunData(path=bag)
    try:
        reader = BagReader(bag)
    except BagError as error:
        run.notes.append(f"{error}; the report is made without it")
        return run
    failed: set[str] = set()
    for decoded in reader.messages():
        if decoded.topic.endswith("/clock"):
            now = read.seconds(decoded.message.clock)
            if now < run.clock - BACKWARDS:
                run = _begin_anew(run)
            run.clock = now
        run.recorded[decoded.topic] = run.recorded.get(decoded.topic, 0) + 1
        take = next((t for suffix, t in _TAKERS.items() if decoded.topic.endswith("/" + suffix)), None)
        if take is None:
            continue
        try:
            take(run, decoded)
        except (ValueError, AttributeError, TypeError) as error:
            if decoded.topic not in failed:
                failed.add(decoded.topic)
                run.notes.append(f"a message of {decoded.topic} could not be used: {error}")
    run.notes += reader.notes
    run.sent = _sent(reader, bag)
    return run


def _begin_anew(run: RunData) -> RunData:
    """A run that keeps the message counts of `run` and nothing else."""
    note = "the clock went back: the run was resumed there, and only what came after it is evaluated"
    notes = [n for n in run.notes if n != note]
    return RunData(recorded=run.recorded, notes=[*notes, note], path=run.path)


def _sent(reader: BagReader, bag: Path) -> dict[str, int | None]:
    """Messages sent by topic as the recorder knew them: in the bag's metadata, else beside it."""
    try:
        topics = json.loads(reader.custom["crl_node.topics"])
    except (KeyError, ValueError):
        try:
            topics = json.loads((bag / "recorder.json").read_text(encoding="utf8"))["topics"]
        except (OSError, ValueError, KeyError):
            return {}
    return {name: entry.get("sent") for name, entry in topics.items()}


def images(bag: Path, stamps: set[float] | None = None) -> list[tuple[float, NDArray[np.uint8]]]:
    """Camera frames (stamp s, rgb [h, w, 3]); `stamps`: only these, in s rounded to the ms."""
    frames = []
    reader = BagReader(bag)
    for raw in reader.raw([IMAGE]):
        message = reader.decode(raw)
        stamp = read.seconds(message.header.stamp) if message is not None else None
        if stamp is not None and (stamps is None or round(stamp, 3) in stamps):
            frames.append((stamp, read.to_image(message)))
    return frames


def camera_from_info(info: Any, pose: Array) -> Camera:
    """Intrinsics of a recorded `CameraInfo` with a pose [4, 4] known from elsewhere."""
    return Camera(int(info.width), int(info.height), np.asarray(info.k, float).reshape(3, 3), pose)


def _take_belief(run: RunData, decoded: Decoded) -> None:
    run.beliefs.append(read.to_belief(decoded.message))


def _take_truth(run: RunData, decoded: Decoded) -> None:
    run.truths.append(read.to_truth(decoded.message))


def _take_posterior(run: RunData, decoded: Decoded) -> None:
    run.posteriors.append((read.seconds(decoded.message.header.stamp), read.to_posterior(decoded.message)))
    run.posterior_sent.append(decoded.publish_time * 1e-9)


def _take_graph(run: RunData, decoded: Decoded) -> None:
    run.graphs.append((read.seconds(decoded.message.header.stamp), read.to_edges(decoded.message)))


def _take_plan(run: RunData, decoded: Decoded) -> None:
    run.plans.append(read.to_plan(decoded.message))
    run.plan_sent.append(decoded.publish_time * 1e-9)


def _take_goals(run: RunData, decoded: Decoded) -> None:
    m = decoded.message
    run.goals.append((read.seconds(m.header.stamp), read.to_goals(m), str(m.note)))


def _take_command(run: RunData, decoded: Decoded) -> None:
    command = read.to_command(decoded.message)
    run.commands.append(command)
    run.command_sent.append((command.belief_stamp, decoded.publish_time * 1e-9))


def _take_executed(run: RunData, decoded: Decoded) -> None:
    run.executed.append(read.to_command(decoded.message))


def _take_image(run: RunData, decoded: Decoded) -> None:
    stamp = read.seconds(decoded.message.header.stamp)
    run.image_stamps.append(stamp)
    run.image_sent[stamp] = decoded.publish_time * 1e-9


def _take_info(run: RunData, decoded: Decoded) -> None:
    run.camera_info = decoded.message


def _take_step(run: RunData, decoded: Decoded) -> None:
    m = decoded.message
    run.steps.append(
        StepRecord(
            stamp=read.seconds(m.header.stamp),
            step=int(m.step),
            perception_ms=float(m.perception_ms),
            update_ms=float(m.update_ms),
            refresh_ms=float(m.refresh_ms),
            surprise=float(m.surprise),
            structure_entropy=float(m.structure_entropy),
            dropped=int(m.frames_dropped),
            rejected=int(m.frames_rejected),
            pairs_rejected=int(m.pairs_rejected),
            note=str(m.note),
        )
    )


def _take_diagnostics(run: RunData, decoded: Decoded) -> None:
    for status in decoded.message.status:
        values = {str(v.key): str(v.value) for v in status.values}
        run.diagnostics[str(status.name)] = values | {"message": str(status.message)}


_TAKERS: dict[str, Callable[[RunData, Decoded], None]] = {
    IMAGE: _take_image,
    CAMERA_INFO: _take_info,
    "sim/ground_truth": _take_truth,
    "learner/belief": _take_belief,
    "learner/posterior": _take_posterior,
    "learner/graph": _take_graph,
    "learner/report": _take_step,
    "planner/plan": _take_plan,
    "planner/goals": _take_goals,
    "planner/command": _take_command,
    "gate/executed": _take_executed,
    "diagnostics": _take_diagnostics,
}
