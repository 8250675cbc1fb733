"""The recorded input of learner and planner in the order of its header stamps, with what the live nodes made of it.

Order of arrival differs between two recorders of one run; header stamps do not. So events are sorted by stamp, within
a window that is wider than any topic lags. Nothing but the topics named here is decoded: no truth.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from crl_node.alignment import ExecutedCommand
from crl_node.arm.trajectory import JointTrajectory
from crl_node.bags import messages as read
from crl_node.bags.metadata import ROLES
from crl_node.bags.reader import BagReader, wanted
from crl_node.bags.scan import Raw
from crl_node.command import Command
from crl_node.replay.settings import ReplayError

IMAGE, JOINTS, EXECUTED = "camera/image_raw", "joint_states", "gate/executed"
BELIEF, POSTERIOR, COMMAND, PLAN = "learner/belief", "learner/posterior", "planner/command", "planner/plan"
#: What somebody asked the planner for; input of a replay like the camera.
GOALS = "planner/goals"
#: Tells of environments that somebody asked for.
REPORT = "learner/report"
#: What a replay reads, by the name that the nodes give it.
INPUTS = (IMAGE, JOINTS, EXECUTED)
OUTPUTS = (BELIEF, POSTERIOR, COMMAND, PLAN)
#: s, how far one topic may lag behind another in the file.
WINDOW = 10.0
#: s, a topic whose stamps go back farther than this belongs to another start of the run.
BACKWARDS = 0.5


class Kind(IntEnum):
    """What an event is; of events at one instant the smaller comes first."""

    GOALS = -1  # those that the frame with this stamp showed as reached, before it
    EXECUTED = 0
    REPORT = 1  # of the frame with this stamp, before it: what it tells is input here
    JOINTS = 2
    IMAGE = 3
    POSTERIOR = 4
    BELIEF = 5
    PLAN = 6
    COMMAND = 7
    RESTART = 8


_KINDS = {
    EXECUTED: Kind.EXECUTED, JOINTS: Kind.JOINTS, IMAGE: Kind.IMAGE, POSTERIOR: Kind.POSTERIOR, BELIEF: Kind.BELIEF,
    PLAN: Kind.PLAN, COMMAND: Kind.COMMAND, REPORT: Kind.REPORT, GOALS: Kind.GOALS,
}  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One recorded message. RESTART stands for the place where the clock goes back."""

    kind: Kind
    stamp: float  # s
    message: Any = None  # decoded
    data: bytes = b""  # as it was recorded


@dataclass(frozen=True)
class Used:
    """A frame that the live learner used."""

    stamp: float  # s, of the image
    joints: float  # s, of the joint state it was paired with


def roles(reader: BagReader) -> dict[str, str]:
    """Recorded topic by the name that the nodes give it; the bag's recorder knows of remappings."""
    try:
        given = json.loads(reader.custom[ROLES])
    except (KeyError, ValueError):
        given = {}
    return {name: str(given.get(name, name)) for name in (*INPUTS, *OUTPUTS, REPORT, GOALS)}


def frames_used(reader: BagReader, topics: Mapping[str, str]) -> list[list[Used]]:
    """The frames that became beliefs, one list for every start of the run; empty where no beliefs were recorded."""
    starts: list[list[Used]] = []
    for decoded in reader.messages([topics[BELIEF]]):
        used = Used(read.seconds(decoded.message.header.stamp), read.seconds(decoded.message.joint_state_stamp))
        if not starts or used.stamp < starts[-1][-1].stamp - BACKWARDS:
            starts.append([])
        starts[-1].append(used)
    return starts


def events(
    reader: BagReader, topics: Mapping[str, str], paired: Mapping[int, float] | None = None, ahead: float = 0.0
) -> Iterator[Event]:
    """Every message of `topics` in the order of stamps, RESTART in between. ReplayError when input is missing.

    A live learner has not heard the joint states that came after the one it took with a frame: with `paired` (image
    stamp ns -> stamp s of that joint state) images stand right behind theirs. Commands are sent before they act and
    stand `ahead` s earlier.
    """
    wait: list[tuple[float, int, int, Event]] = []
    newest: dict[Kind, float] = {}
    seen: set[Kind] = set()
    for number, raw in enumerate(reader.raw(list(topics.values()))):
        kind = _kind(raw, topics)
        message = None if kind is None else reader.decode(raw)
        if kind is None or message is None:
            continue  # not exactly one of ours, or damaged
        seen.add(kind)
        stamp = read.seconds(message.header.stamp)
        if stamp < newest.get(kind, stamp) - BACKWARDS:
            while wait:
                yield heapq.heappop(wait)[3]
            newest.clear()
            yield Event(Kind.RESTART, stamp)
        newest[kind] = max(newest.get(kind, stamp), stamp)
        place = stamp
        if kind is Kind.IMAGE and paired is not None:
            place = paired.get(nanoseconds(stamp), stamp)
        elif kind in (Kind.EXECUTED, Kind.REPORT, Kind.GOALS):
            place -= ahead
        heapq.heappush(wait, (place, int(kind), number, Event(kind, stamp, message, raw.data)))
        horizon = max(newest.values()) - WINDOW
        while wait and wait[0][0] < horizon:
            yield heapq.heappop(wait)[3]
    while wait:
        yield heapq.heappop(wait)[3]
    missing = [topics[name] for name in INPUTS if name in topics and _KINDS[name] not in seen]
    if missing:
        raise ReplayError(
            f"bag {reader.path} holds no message of {', '.join(missing)}: nothing can be learned from it"
        )


def nanoseconds(seconds: float) -> int:
    """ns of a stamp, as it goes over the wire."""
    return round(seconds * 1e9)


def _kind(raw: Raw, topics: Mapping[str, str]) -> Kind | None:
    return next((_KINDS[name] for name, topic in topics.items() if wanted(raw.topic, [topic])), None)


def command(message: Any) -> Command:
    """`crl_interfaces/Command` with its trajectory. ValueError when that is ragged."""
    points, names = message.trajectory.points, tuple(str(n) for n in message.trajectory.joint_names)
    trajectory = None
    if len(points):
        trajectory = JointTrajectory(
            names,
            np.array([read.seconds(p.time_from_start) for p in points]),
            np.array([p.positions for p in points], float).reshape(-1, len(names)),
            np.array([p.velocities for p in points], float).reshape(-1, len(names)),
        )
    record = read.to_command(message)
    return Command(
        record.stamp, record.sequence, record.belief_stamp, record.posterior_version, record.hold, record.velocity,
        read.seconds(message.duration), read.seconds(message.ramp), trajectory,
    )  # fmt: skip


def executed(message: Any) -> ExecutedCommand:
    """A `crl_interfaces/Command` as the aligner takes it. ValueError when it is ragged or not finite."""
    found = command(message)
    if not all(abs(v) < 1e3 for v in found.velocity):
        raise ValueError(f"executed command {found.sequence} has velocity {found.velocity.tolist()} m/s; not used")
    return ExecutedCommand.of(found)


def joint_values(message: Any) -> tuple[dict[str, float], dict[str, float]]:
    """Positions rad and velocities rad/s by joint name of a `sensor_msgs/JointState`."""
    names = [str(name) for name in message.name]
    positions = dict(zip(names, map(float, message.position), strict=False))
    return positions, dict(zip(names, map(float, message.velocity), strict=False))
