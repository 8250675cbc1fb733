"""`crl replay`: learner and planner on the recorded input, and what they made compared with what is in the bag."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from crl_node.alignment import Aligned
from crl_node.bags.messages import to_goals
from crl_node.bags.reader import BagReader
from crl_node.checkpoint import write_arrays
from crl_node.command import Command
from crl_node.data import Plan, Posterior
from crl_node.environments import asked_in
from crl_node.learning import Learner, Schedule, learner_from
from crl_node.perception.validate import FrameError
from crl_node.replay import compare
from crl_node.replay.compare import Comparison
from crl_node.replay.frames import FrameCounts, Frames
from crl_node.replay.planning import CommandReplay
from crl_node.replay.settings import ReplayError, Settings
from crl_node.replay.stream import (
    BELIEF,
    COMMAND,
    GOALS,
    INPUTS,
    PLAN,
    POSTERIOR,
    Event,
    Kind,
    Used,
    events,
    frames_used,
    nanoseconds,
    roles,
)  # fmt: skip

_TOPICS = {Kind.BELIEF: BELIEF, Kind.POSTERIOR: POSTERIOR, Kind.COMMAND: COMMAND, Kind.PLAN: PLAN}


@dataclass
class Outcome:
    """What a replay led to."""

    settings: Settings
    comparison: Comparison
    frames: FrameCounts
    posterior: Posterior | None = None  # the last one that was published
    learner: Learner | None = None
    commands: CommandReplay | None = None
    first: float = 0.0  # s, stamp of the first frame used
    last: float = 0.0
    restarts: int = 0
    wall: float = 0.0  # s
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Recorded time that was replayed, s."""
        return self.last - self.first

    def as_json(self) -> dict[str, Any]:
        """The content of `crl replay --json`; documented in docs/bags.md."""
        comparison, posterior = self.comparison, self.posterior
        return {
            "posterior_hash": posterior.hash if posterior else None,
            "posterior_version": posterior.version if posterior else None,
            "steps": posterior.step if posterior else 0,
            "mode": "lockstep" if self.settings.lockstep else "real time",
            "seed": self.settings.seed,
            "beliefs_equal": comparison.equal(BELIEF),
            "posteriors_equal": comparison.equal(POSTERIOR),
            "plans_equal": comparison.equal(PLAN),
            "commands_equal": comparison.equal(COMMAND),
            "first_difference": asdict(comparison.first) if comparison.first else None,
            "topics": comparison.as_json(),
            "frames": asdict(self.frames),
            "restarts": self.restarts,
            "seconds": round(self.seconds, 6),
            "wall_seconds": round(self.wall, 3),
            "times_real_time": round(self.seconds / self.wall, 2) if self.wall > 0 else None,
            "load_average": round(os.getloadavg()[0], 2),
            "settings": self.settings.source,
            "notes": [*self.settings.notes, *self.notes],
        }


class Replay:
    """One bag under its recorded settings."""

    def __init__(
        self, reader: BagReader, settings: Settings, *, plan: bool = True, model: Path | None = None,
        on_frame: Callable[[float], None] = lambda stamp: None,
    ) -> None:  # fmt: skip
        """`plan`: also the planner. `on_frame` hears the stamp of every frame used."""
        self.reader, self.settings, self.on_frame = reader, settings, on_frame
        self.topics = roles(reader)
        self._parameters = settings.node("learner")
        self.learner = learner_from(self._parameters)
        self._plan, self._model = plan, model
        self._commands = self._new_planner()
        self._plans_made = self._plans_recorded = 0
        self._recorded_version = 0  # of the newest posterior in the bag so far
        self._goals_told = False
        self.outcome = Outcome(settings, Comparison(), FrameCounts(), learner=self.learner)
        self._used = frames_used(reader, self.topics)
        if not self._used:
            self.outcome.notes.append(
                f"the bag holds no {self.topics[BELIEF]}: which frames the live run used is not known, and there is "
                "nothing to compare with"
            )

    @property
    def expected_frames(self) -> int | None:
        """How many frames will be used, where the bag says so."""
        return sum(len(start) for start in self._used) or None

    def _new_planner(self) -> CommandReplay | None:
        return CommandReplay(self.settings, self.learner.profile, self._model) if self._plan else None

    def run(self) -> Outcome:
        """Replay the whole bag. ReplayError when its input is missing."""
        began, outcome = time.perf_counter(), self.outcome
        self._begin(0)
        live = None if self.settings.lockstep else self._pairs()
        left_out = () if self._plan else (PLAN, COMMAND, GOALS)
        topics = {name: topic for name, topic in self.topics.items() if name not in left_out}
        for event in events(self.reader, topics, live, 2 * self._parameters.pair_tolerance):
            if event.kind is Kind.RESTART:
                self._restart()
            elif event.kind is Kind.REPORT:
                self._told(event)
            elif event.kind is Kind.GOALS:
                self._goals_told = True
                if self._commands is not None:
                    self._commands.wanted(int(event.message.from_command), to_goals(event.message))
            elif event.kind in _TOPICS:
                self._recorded(event)
            else:
                for aligned in self._frames.feed(event):
                    self._step(aligned)
        for aligned in self._frames.finish():
            self._step(aligned)
        outcome.comparison.note_missing()
        outcome.notes += self.reader.notes
        outcome.commands, outcome.wall = self._commands, time.perf_counter() - began
        if outcome.frames.used == 0:
            raise ReplayError(f"bag {self.reader.path}: no frame could be used ({asdict(outcome.frames)})")
        return outcome

    def _pairs(self) -> dict[int, float] | None:
        pairs = {nanoseconds(u.stamp): u.joints for start in self._used for u in start}
        return pairs or None

    def _begin(self, start: int) -> None:
        """What the node does when it is activated."""
        used: list[Used] | None = None
        if self._used:
            used = self._used[start] if start < len(self._used) else []
        stamps = None if used is None else {nanoseconds(u.stamp) for u in used}
        self._frames = Frames(self._parameters, self.learner, stamps, self.outcome.frames)
        self._schedule = Schedule(self._parameters)
        self._asked: dict[int, tuple[str, ...]] = {}  # frame ns -> environments somebody began right before it

    def _told(self, event: Event) -> None:
        """A step report: environments that were begun on request before its frame."""
        try:
            names = asked_in(str(event.message.note))
        except ValueError as error:
            self.outcome.notes.append(f"step report at {event.stamp:.2f} s: {error}; no environment begins there")
            return
        if names:
            self._asked[nanoseconds(event.stamp)] = names

    def _restart(self) -> None:
        """The clock went back: the run was resumed, the learner from its checkpoint, the planner from nothing."""
        outcome = self.outcome
        for aligned in self._frames.finish():
            self._step(aligned)
        outcome.restarts += 1
        outcome.notes.append(
            "the clock goes back: the run was resumed there; the learner goes on from what it had learned"
            if self._parameters.resume
            else "the clock goes back: another run begins there, from nothing"
        )
        if not self._parameters.resume:
            self.learner = outcome.learner = learner_from(self._parameters)
        elif self.learner.model.step > 0:
            # Through a checkpoint, as live: it holds a little less than the running model.
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "checkpoint.npz"
                write_arrays(path, self.learner.checkpoint())
                self.learner.load(path)
        outcome.posterior = None
        self._recorded_version = 0
        self._commands = self._new_planner()
        self._begin(outcome.restarts)

    def _step(self, aligned: Aligned) -> None:
        outcome, stamp, model = self.outcome, aligned.frame.stamp, self.learner.model
        for name in self._asked.pop(nanoseconds(stamp), ()):
            try:
                self.learner.begin_environment(name)
            except ValueError as error:
                outcome.notes.append(f"at {stamp:.2f} s the live run began an environment, but here {error}")
        try:
            result = self.learner.step(aligned)
        except FrameError:
            self._frames.interrupt("the last frame was rejected")
            outcome.frames.rejected += 1
            return
        outcome.frames.used += 1
        outcome.frames.learned += result.learned
        outcome.last = stamp
        if outcome.frames.used == 1:
            outcome.first = stamp
        posterior = self._schedule.posterior(model, stamp)
        if posterior is not None:
            outcome.posterior = posterior
            outcome.comparison.made(POSTERIOR, posterior.version, (stamp, posterior))
        outcome.comparison.made(BELIEF, nanoseconds(stamp), result.belief)
        self._schedule.checkpoint(model, stamp)
        if self._commands is not None:
            if self.settings.lockstep:
                for made in self._commands.answer(result.belief, posterior, aligned.joints):
                    self._made(made)
            else:
                self._commands.remember(result.belief, posterior)
        self.on_frame(stamp)

    def _made(self, made: Plan | Command) -> None:
        if isinstance(made, Command):
            self.outcome.comparison.made(COMMAND, made.sequence, made)
        else:
            self.outcome.comparison.made(PLAN, self._plans_made, made)
            self._plans_made += 1

    def _recorded(self, event: Event) -> None:
        topic = _TOPICS[event.kind]
        key, value = compare.from_message(topic, event.message)
        if topic == POSTERIOR:
            if key <= self._recorded_version:
                self.outcome.notes.append(
                    f"the live learner was started again before {event.stamp:.2f} s and had lost what it learned since "
                    "its last checkpoint; this one has not, so they differ from there on"
                )
            self._recorded_version = key
        if topic == PLAN and getattr(value.chosen, "preference", 0.0) != 0.0 and not self._goals_told:
            self._goals_told = True
            self.outcome.notes.append(
                f"plans from {event.stamp:.2f} s on followed goals, but the bag holds no {self.topics[GOALS]}: which "
                "ones is not known, and plans and commands differ from there on"
            )
        if topic == PLAN:
            key, self._plans_recorded = self._plans_recorded, self._plans_recorded + 1
        self.outcome.comparison.recorded(topic, key, value)
        if topic == COMMAND and self._commands is not None and not self.settings.lockstep:
            for made in self._commands.like(value, self._frames.joints):
                self._made(made)


def replay(
    bag: Path, settings: Settings, *, plan: bool = True, model: Path | None = None,
    on_frame: Callable[[float], None] = lambda stamp: None,
) -> Outcome:  # fmt: skip
    """Replay the bag at `bag` (folder or file) under `settings`. BagError, ReplayError: a sentence."""
    return Replay(BagReader(bag), settings, plan=plan, model=model, on_frame=on_frame).run()


__all__ = ["INPUTS", "Outcome", "Replay", "replay"]
