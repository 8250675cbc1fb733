"""Brings camera images, joint states and executed commands together by their header stamps.

Never pairs stale with fresh: an image is used with the joint state nearest in time, and only within a tolerance;
a transition is only made over one control period, with the motion that was really commanded in it. Everything that
is not used is counted.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.arm.following import TOLERANCE
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command
from crl_node.data import Array, Frame

#: s, stamps closer than this are the same instant.
SAME = 1e-4


@dataclass(frozen=True)
class AlignConfig:
    """Tolerances of the aligner."""

    period: float = 0.1  # s, control step, and the time between two frames
    tolerance: float = 0.02  # s, an image and a joint state further apart are not a pair
    period_tolerance: float = 0.25  # share of the period by which the time between two frames may be off
    jump: float = 1.0  # s, a stamp this far ahead of the stream's last one, or behind it, is a clock jump
    lockstep: bool = False  # every frame is used and waits for the command before it; else the newest wins
    queue: int = 8  # images kept
    memory: float = 3.0  # s, joint states and commands older than this are forgotten
    longest_command: float = 0.25  # s, a command has come to rest after this
    following: float = TOLERANCE  # rad, a joint further than this from where it was told to be did not follow


@dataclass(frozen=True)
class ExecutedCommand:
    """The motion that the gate passed on: at `velocity` for `duration`, then a linear ramp down to rest."""

    stamp: float  # s, when it starts to act
    velocity: Array  # [2] m/s, mean over `duration`
    duration: float  # s
    ramp: float  # s
    trajectory: JointTrajectory | None = None  # what the joints were told, to know whether they did it
    hold: bool = False

    @classmethod
    def of(cls, command: Command) -> ExecutedCommand:
        """From a command that the gate passed on."""
        return cls(command.stamp, command.velocity, command.duration, command.ramp, command.trajectory, command.hold)


@dataclass(frozen=True)
class JointSample:
    """One joint state."""

    stamp: float  # s
    positions: dict[str, float]  # rad
    velocities: dict[str, float]  # rad/s


@dataclass(frozen=True)
class Aligned:
    """One frame ready to be learned from."""

    frame: Frame
    joints: JointSample
    action: Array | None  # [2] m/s, mean commanded velocity since the last frame; None: no transition to it
    note: str = ""  # why there is no transition


@dataclass
class AlignCounts:
    """What came and what became of it."""

    frames: int = 0  # images received
    dropped: int = 0  # images never used: a newer one was there first, or no joint state came
    unpaired: int = 0  # of these: no joint state within the tolerance
    joints: int = 0
    commands: int = 0
    late: int = 0  # messages older than the stream's last one, ignored
    jumps: int = 0  # clock jumps, each flushed everything
    masked: int = 0  # transitions not learned from because the arm did not do what it was told


class Aligner:
    """Streams in (`add_*`), aligned frames out (`pop`). Not thread safe: the caller holds a lock."""

    def __init__(self, config: AlignConfig) -> None:
        self.config = config
        self.counts = AlignCounts()
        self._images: deque[tuple[float, NDArray[np.uint8]]] = deque()
        self._joints: deque[JointSample] = deque()
        self._commands: deque[ExecutedCommand] = deque()
        self._newest: dict[str, float] = {}
        self._last_frame: float | None = None  # stamp of the last frame given out
        self._heard_since: float | None = None  # since when commands would have been heard
        self._broken = "first frame"
        self._strayed = False  # the arm was not where it was told to be at the last frame

    # -- streams ----------------------------------------------------------------------------------------------------

    def add_image(self, stamp: float, image: NDArray[np.uint8]) -> None:
        """An image that was checked already."""
        self.counts.frames += 1
        if not self._accept("image", stamp):
            self.counts.dropped += 1
            return
        self._images.append((stamp, image))
        if self._heard_since is None:
            self._heard_since = stamp
        while len(self._images) > self.config.queue:
            self._images.popleft()
            self.counts.dropped += 1

    def add_joints(self, stamp: float, positions: dict[str, float], velocities: dict[str, float]) -> None:
        """A joint state; velocities missing from the message count as 0."""
        self.counts.joints += 1
        if self._accept("joint state", stamp):
            self._joints.append(JointSample(stamp, positions, velocities))
            self._forget(self._joints, stamp)

    def add_command(self, command: ExecutedCommand) -> None:
        """A command that started to act at its stamp and replaced whatever acted before.

        A hold may come with a stamp before that of a command which had not yet begun, and never will.
        """
        self.counts.commands += 1
        newest = self._newest.get("command", -np.inf)
        if command.hold and newest - self.config.jump < command.stamp < newest - SAME:
            while self._commands and self._commands[-1].stamp > command.stamp - SAME:
                self._commands.pop()
            self._newest["command"] = self._commands[-1].stamp if self._commands else command.stamp - 2 * SAME
        if self._accept("command", command.stamp):
            self._commands.append(command)
            self._forget(self._commands, command.stamp)

    def _forget(self, stream: deque[JointSample] | deque[ExecutedCommand], stamp: float) -> None:
        while stream and stream[0].stamp < stamp - self.config.memory:
            stream.popleft()

    def _accept(self, name: str, stamp: float) -> bool:
        """False for a message that comes late; a clock jump flushes everything first."""
        newest = self._newest.get(name)
        everywhere = max(self._newest.values(), default=stamp)
        if stamp < everywhere - self.config.jump:
            self._flush(f"clock jumped back from {everywhere:.3f} s to {stamp:.3f} s ({name})")
        elif newest is not None and stamp > newest + self.config.jump and name != "command":
            # The planner may be silent for long; images and joint states come all the time.
            self._flush(f"no {name} between {newest:.3f} s and {stamp:.3f} s")
        elif newest is not None and stamp <= newest + SAME:
            self.counts.late += 1
            return False
        self._newest[name] = stamp
        return True

    def _flush(self, why: str) -> None:
        self.counts.jumps += 1
        self.counts.dropped += len(self._images)
        self._images.clear()
        self._joints.clear()
        self._commands.clear()
        self._newest.clear()
        self._last_frame = self._heard_since = None
        self._broken, self._strayed = why, False

    def interrupt(self, why: str) -> None:
        """No transition to the next frame: the caller could not use the last one."""
        self._broken = why

    @property
    def waiting(self) -> bool:
        """There is an image that was not given out yet."""
        return bool(self._images)

    # -- frames -----------------------------------------------------------------------------------------------------

    def pop(self, *, force: bool = False) -> Aligned | None:
        """The next frame that is complete, or None. `force`: do not wait for a command that may never come."""
        while self._images:
            if not self.config.lockstep:
                self._skip_to_newest()
            stamp, image = self._images[0]
            joints = self._pair(stamp)
            if joints is None:
                if self._newest.get("joint state", -np.inf) <= stamp + self.config.tolerance and not force:
                    return None  # its joint state may still come
                self._images.popleft()
                self.counts.dropped += 1
                self.counts.unpaired += 1
                continue
            if self.config.lockstep and not force and not self._command_arrived():
                return None
            self._images.popleft()
            action, note = self._action(stamp)
            action, note = self._masked(joints, action, note)
            self._last_frame, self._broken = stamp, ""
            return Aligned(Frame(stamp, image, joints.positions), joints, action, note)
        return None

    def _skip_to_newest(self) -> None:
        """Drop images that have a newer one with a joint state behind them."""
        usable = [n for n, (stamp, _) in enumerate(self._images) if self._pair(stamp) is not None]
        for _ in range(usable[-1] if usable else 0):
            self._images.popleft()
            self.counts.dropped += 1

    def _pair(self, stamp: float) -> JointSample | None:
        """The joint state nearest to `stamp`, None while a nearer one may come or none is near enough."""
        nearest = min(self._joints, key=lambda sample: abs(sample.stamp - stamp), default=None)
        if nearest is None or abs(nearest.stamp - stamp) > self.config.tolerance:
            return None
        # The newest joint state lies before the image: the next may be nearer, unless this one is exact.
        if self._joints[-1].stamp < stamp - SAME and stamp - nearest.stamp > 0.5 * self.config.tolerance:
            return None
        return nearest

    def _command_arrived(self) -> bool:
        """In lockstep the command of the last frame has that frame's stamp."""
        last = self._last_frame
        return last is None or any(command.stamp >= last - SAME for command in self._commands)

    def _action(self, stamp: float) -> tuple[Array | None, str]:
        if self._broken or self._last_frame is None:
            return None, self._broken or "first frame"
        config, start = self.config, self._last_frame
        if abs(stamp - start - config.period) > config.period_tolerance * config.period:
            return None, f"{stamp - start:.3f} s since the last frame used, not {config.period:.3f} s"
        known = any(command.stamp <= start + SAME for command in self._commands)
        listened = self._heard_since is not None and start - self._heard_since >= config.longest_command
        if not known and not listened:
            return None, "a command from before the start may still act"
        return mean_velocity(self._commands, start, stamp), ""

    def _masked(self, joints: JointSample, action: Array | None, note: str) -> tuple[Array | None, str]:
        """No transition over a step at both ends of which the arm was not where it was told to be.

        One end alone is an impact, which the commander's reference waits for.
        """
        error, name = self._stray(joints)
        before, self._strayed = self._strayed, error > self.config.following
        if action is None or not (before and self._strayed):
            return action, note
        self.counts.masked += 1
        return None, f"joint '{name}' was {error:.3f} rad from where it was told to be: this step teaches nothing"

    def _stray(self, joints: JointSample) -> tuple[float, str]:
        """Largest distance rad of a joint from the trajectory that acts at its stamp, and that joint."""
        acting = [(c.stamp, c.trajectory) for c in self._commands if c.stamp <= joints.stamp - SAME]
        start, trajectory = max(acting, key=lambda entry: entry[0], default=(0.0, None))
        if trajectory is None:
            return 0.0, ""
        names = trajectory.joint_names
        reference, _ = trajectory.sample(joints.stamp - start)
        measured = np.array([joints.positions.get(name, np.nan) for name in names])
        away = np.nan_to_num(np.abs(measured - reference), nan=0.0)  # a joint nobody measures tells nothing
        worst = int(np.argmax(away))
        return float(away[worst]), names[worst]


def mean_velocity(commands: deque[ExecutedCommand] | list[ExecutedCommand], start: float, end: float) -> Array:
    """Mean commanded tip velocity [2] m/s over [start, end] s, exact for the commands' piecewise profiles.

    A command acts from its stamp until the next one's, or until its ramp has come to rest; in between is rest.
    """
    displacement = np.zeros(2)
    ordered = sorted(commands, key=lambda command: command.stamp)
    for n, command in enumerate(ordered):
        until = ordered[n + 1].stamp if n + 1 < len(ordered) else np.inf
        low = max(start, command.stamp) - command.stamp
        high = min(end, until) - command.stamp
        if high > low:
            displacement += command.velocity * (_driven(command, high) - _driven(command, low))
    return np.asarray(displacement / (end - start))


def _driven(command: ExecutedCommand, time: float) -> float:
    """Seconds at full velocity that the profile amounts to from its start to `time` s after it."""
    flat = min(time, command.duration)
    ramp = min(max(time - command.duration, 0.0), command.ramp)
    return flat + (ramp - 0.5 * ramp * ramp / command.ramp if command.ramp > 0 else 0.0)
