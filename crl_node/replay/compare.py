"""What a replay made against what the live run made, bit for bit; the first difference in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from crl_node.arm.trajectory import JointTrajectory
from crl_node.bags import messages as read
from crl_node.command import Command
from crl_node.data import Belief, Plan, Posterior
from crl_node.replay.stream import BELIEF, COMMAND, PLAN, POSTERIOR, command, nanoseconds

_BELIEF_FIELDS = ("ids", "mean", "cov", "colour", "extent", "existence", "visible")


@dataclass(frozen=True)
class Difference:
    """The first thing that is not the same."""

    stamp: float  # s
    topic: str
    what: str


@dataclass
class Tally:
    """One topic: how many messages were compared and how many differ."""

    compared: int = 0
    different: int = 0
    most: float = 0.0  # largest absolute difference of a number (beliefs: of a mean; commands: of a velocity)


@dataclass
class Comparison:
    """Waits for both sides of every message; give it what was `made` and what was `recorded` in any order."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    first: Difference | None = None
    _made: dict[tuple[str, int], Any] = field(default_factory=dict)
    _recorded: dict[tuple[str, int], Any] = field(default_factory=dict)

    def made(self, topic: str, key: int, value: Any) -> None:
        """What the replay made; `key`: stamp in ns, version or sequence number."""
        self._put(self._made, self._recorded, topic, key, value)

    def recorded(self, topic: str, key: int, value: Any) -> None:
        """What the bag holds, as made by `from_message`."""
        self._put(self._recorded, self._made, topic, key, value)

    def _put(self, own: dict[Any, Any], other: dict[Any, Any], topic: str, key: int, value: Any) -> None:
        own[topic, key] = value
        if (topic, key) in other:
            made, recorded = self._made.pop((topic, key)), self._recorded.pop((topic, key))
            self._judge(topic, made, recorded)

    def _judge(self, topic: str, made: Any, recorded: Any) -> None:
        tally = self.tallies.setdefault(topic, Tally())
        tally.compared += 1
        stamp, what, most = _differs(topic, made, recorded)
        tally.most = max(tally.most, most)
        if what:
            tally.different += 1
            if self.first is None or stamp < self.first.stamp:
                self.first = Difference(stamp, topic, what)

    def unmatched(self, topic: str) -> tuple[int, int]:
        """(made but not recorded, recorded but not made)."""
        return (
            sum(name == topic for name, _ in self._made),
            sum(name == topic for name, _ in self._recorded),
        )

    def equal(self, topic: str) -> bool | None:
        """True when every recorded message was made again bit for bit; None when none was recorded."""
        tally = self.tallies.get(topic)
        missing = self.unmatched(topic)[1]
        if tally is None:
            return False if missing else None
        return tally.different == 0 and missing == 0

    def as_json(self) -> dict[str, Any]:
        """Counts by topic, and the first difference."""
        topics = sorted(set(self.tallies) | {name for name, _ in (*self._made, *self._recorded)})
        out: dict[str, Any] = {}
        for topic in topics:
            only_made, only_recorded = self.unmatched(topic)
            out[topic] = {
                **asdict(self.tallies.get(topic, Tally())), "only_replayed": only_made, "only_recorded": only_recorded,
            }  # fmt: skip
        return out

    def note_missing(self) -> None:
        """When nothing that was compared differs, the first message that has no counterpart is the difference."""
        if self.first is None and self._recorded:
            (topic, key), value = next(iter(self._recorded.items()))
            self.first = Difference(float(getattr(value, "stamp", 0.0)), topic, f"recorded ({key}) but not replayed")


def _differs(topic: str, made: Any, recorded: Any) -> tuple[float, str, float]:
    """(stamp s, what differs in words or empty, largest difference of a number)."""
    return _JUDGES[topic](made, recorded)


def _belief(made: Belief, recorded: Belief) -> tuple[float, str, float]:
    most = _most(made.mean, recorded.mean)
    for name in _BELIEF_FIELDS:
        what = _array(name, getattr(made, name), getattr(recorded, name))
        if what:
            return made.stamp, what, most
    return made.stamp, "", most


def _posterior(made: tuple[float, Posterior], recorded: tuple[float, str, int]) -> tuple[float, str, float]:
    stamp, posterior = made
    if posterior.hash == recorded[1]:
        return stamp, "", 0.0
    return stamp, f"version {posterior.version} hashes to {posterior.hash[:12]}…, recorded {recorded[1][:12]}…", 0.0


def _command(made: Command, recorded: Command) -> tuple[float, str, float]:
    most = _most(made.velocity, recorded.velocity)
    for name in ("sequence", "posterior_version", "hold"):
        if getattr(made, name) != getattr(recorded, name):
            return made.stamp, f"{name} is {getattr(made, name)}, recorded {getattr(recorded, name)}", most
    for name in ("stamp", "belief_stamp", "duration", "ramp"):
        if nanoseconds(getattr(made, name)) != nanoseconds(getattr(recorded, name)):
            return made.stamp, f"{name} is {getattr(made, name)} s, recorded {getattr(recorded, name)} s", most
    what = _array("velocity", made.velocity, recorded.velocity) or _trajectory(made.trajectory, recorded.trajectory)
    return made.stamp, what, most


def _trajectory(made: JointTrajectory | None, recorded: JointTrajectory | None) -> str:
    if made is None or recorded is None:
        return "" if made is recorded else "one of the two has no trajectory"
    if made.joint_names != recorded.joint_names:
        return f"joints are {made.joint_names}, recorded {recorded.joint_names}"
    times = [nanoseconds(t) for t in made.times]
    if times != [nanoseconds(t) for t in recorded.times]:
        return f"trajectory times are {made.times.tolist()} s, recorded {recorded.times.tolist()} s"
    return _array("trajectory.positions", made.positions, recorded.positions) or _array(
        "trajectory.velocities", made.velocities, recorded.velocities
    )


def _plan(made: Plan, recorded: Any) -> tuple[float, str, float]:
    actions = np.asarray(recorded.chosen.actions, np.float32)
    most = _most(made.chosen.actions.reshape(-1), actions)
    if made.chosen.label != recorded.chosen.label:
        return made.stamp, f"the chosen experiment is '{made.chosen.label}', recorded '{recorded.chosen.label}'", most
    what = _array("chosen.actions", np.asarray(made.chosen.actions, np.float32).reshape(-1), actions)
    return made.stamp, what, most


_JUDGES: dict[str, Callable[[Any, Any], tuple[float, str, float]]] = {
    BELIEF: _belief, POSTERIOR: _posterior, COMMAND: _command, PLAN: _plan,
}  # fmt: skip


def _array(name: str, made: np.ndarray, recorded: np.ndarray) -> str:
    made, recorded = np.ascontiguousarray(made), np.ascontiguousarray(recorded)
    if made.shape != recorded.shape:
        return f"{name} has shape {list(made.shape)}, recorded {list(recorded.shape)}"
    if made.tobytes() == recorded.astype(made.dtype).tobytes():
        return ""
    differ = np.argwhere(made != recorded)
    if not differ.size:  # a sign of zero, or a NaN: equal to the eye, not in the bytes
        return f"{name} differs in the sign of a zero or in a NaN"
    where = tuple(int(i) for i in differ[0])
    return f"{name}{list(where)} is {float(made[where])!r}, recorded {float(recorded[where])!r}"


def _most(made: np.ndarray, recorded: np.ndarray) -> float:
    return float(np.abs(made - recorded).max(initial=0.0)) if made.shape == recorded.shape else float("inf")


def from_message(topic: str, message: Any) -> tuple[int, Any]:
    """(key, value) of a recorded message for `Comparison.recorded`; plans are numbered by the caller."""
    stamp = read.seconds(message.header.stamp)
    if topic == BELIEF:
        return nanoseconds(stamp), read.to_belief(message)
    if topic == POSTERIOR:
        return int(message.version), (stamp, str(message.hash), int(message.version))
    if topic == COMMAND:
        return int(message.sequence), command(message)
    return -1, message
