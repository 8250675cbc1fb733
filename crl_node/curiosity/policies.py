"""Where plans start: `curious` (experiments, refined by the plan graph) and baselines with the same interface.

`skills` and `random` are here; `disagreement` and `rnd`, which learn models of their own, in files of their names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crl_node.curiosity.jams import paths
from crl_node.curiosity.names import POLICIES
from crl_node.curiosity.needs import Need
from crl_node.curiosity.proposals import PUSH_LENGTH, Table, experiments, push_legs, side_name, ways
from crl_node.curiosity.routes import Leg, velocities
from crl_node.curiosity.scene import Scene
from crl_node.curiosity.search import Budget
from crl_node.data import Array, Plan
from crl_node.export.spec import JAMS

#: Label of candidates that are only noise.
EXPLORE = "explore"


@dataclass(frozen=True)
class Proposals:
    """Action sequences to start from, one label and bonus each."""

    actions: NDArray[np.float32]  # [M, H, 2] m/s, M <= N
    labels: tuple[str, ...]  # M
    bonus: NDArray[np.float32]  # [M] nats
    scores: NDArray[np.float32] | None = None  # [M] what the policy itself thinks of them, where it does


@dataclass(frozen=True)
class Request:
    """What a policy may look at."""

    scene: Scene
    table: Table
    needs: list[Need]
    previous: Plan | None
    banned: frozenset[str]  # labels of experiments that got stuck lately
    leave: bool  # the tip leaned on one place for too long: go somewhere else
    tedious: Array  # [T, 2] m, places where that happened lately
    candidates: int  # N
    horizon: int  # H
    dt: float  # s
    #: [2] m/s, mean tip velocity that was commanded since the previous request; None when nothing was.
    executed: Array | None = None
    jams: NDArray[np.float32] = field(default_factory=lambda: np.zeros((JAMS, 4), np.float32))  # as the plan graph's
    budget: Budget = field(default_factory=Budget)
    goals: dict[int, Array] = field(default_factory=dict)  # row: place it is wanted at [2] m


class Policy(Protocol):
    """Proposes; says whether the plan graph may refine, or must take the first proposal as it is.

    A policy that learns does so in `propose`, from this scene, the one before and what was executed in between.
    """

    name: str
    refine: bool

    def propose(self, request: Request, rng: np.random.Generator) -> Proposals:
        """Action sequences for one plan."""
        ...

    def gave_up(self, label: str) -> None:
        """The tip did not follow while doing `label`."""
        ...


def coloured_noise(rng: np.random.Generator, shape: tuple[int, ...], memory: float = 0.85) -> NDArray[np.float32]:
    """AR(1) noise of unit variance along the last axis but one ([..., H, 2])."""
    white = rng.standard_normal(shape)
    out = np.empty(shape, np.float32)
    out[..., 0, :] = white[..., 0, :]
    fresh = np.sqrt(1.0 - memory**2)
    for h in range(1, shape[-2]):
        out[..., h, :] = memory * out[..., h - 1, :] + fresh * white[..., h, :]
    return out


@dataclass
class Curious:
    """Half of the candidates are experiments; the rest continue the last plan or are coloured noise."""

    #: What a new plan must be better by before the current one is given up [nats], and as a share of its gain.
    commitment: float = 1.0
    commitment_share: float = 0.3
    #: For how long, counted from its first plan [s]. An experiment takes 2 or 3 s; what its refined remainder still
    #: promises after that has to stand up to new ones.
    patience: float = 3.0
    #: Taken off the score of an experiment that got stuck [nats].
    penalty: float = 20.0
    #: How far away is somewhere else [m].
    leave_distance: float = 0.12
    #: What all the time spent within a radius [m] of a tedious place takes off the score [nats].
    tedium: float = 3.0
    tedious_radius: float = 0.07
    name: str = "curious"
    refine: bool = True
    _begun: tuple[str, float] = ("", -np.inf)  # label of the experiment under way, stamp of its first plan

    def propose(self, request: Request, rng: np.random.Generator) -> Proposals:
        """Experiments for uncertain edges, the last plan shifted in time, straight moves and noise."""
        gain = request.previous.chosen.gain.total if request.previous is not None else 0.0
        return self.starts(request, rng, self.commitment + self.commitment_share * max(gain, 0.0))

    def starts(self, request: Request, rng: np.random.Generator, keep: float, proposals: bool = True) -> Proposals:
        """N candidates; the last plan gets `keep` nats. Without `proposals` there are no experiments among them."""
        n, h, dt, table, scene = request.candidates, request.horizon, request.dt, request.table, request.scene
        actions: list[NDArray[np.float32]] = []
        labels: list[str] = []
        bonus: list[float] = []
        previous = request.previous
        if previous is not None and previous.chosen.label not in request.banned - {EXPLORE}:
            last = previous.chosen
            shift = int(np.clip(round((scene.stamp - previous.stamp) / dt), 0, h))
            rest = np.zeros((h, 2), np.float32)
            rest[: h - shift] = last.actions[shift:]
            jitter = 0.03 * coloured_noise(rng, (3, h, 2))
            actions += [rest, *(rest + j * (np.abs(rest).sum(1, keepdims=True) > 0) for j in jitter)]
            labels += [last.label] * 4
            if last.label != self._begun[0] or previous.stamp < self._begun[1]:
                self._begun = last.label, previous.stamp
            # Once it has nothing more to do, or had its time, it must not be held on to.
            goes_on = np.abs(rest).max() > 1e-3 and scene.stamp - self._begun[1] < self.patience
            bonus += [keep if goes_on and last.label != EXPLORE else 0.0] * 4
        for experiment in experiments(scene, table, request.needs, n // 2, request.goals) if proposals else []:
            actions.append(velocities(scene.tip, list(experiment.legs), h, dt))
            labels.append(experiment.label)
            # Before anything is known all gains are 0: prefer what is near, and anything to standing still.
            bonus.append(0.02 * min(experiment.need, 5.0) + 0.05)
        for k in range(8):
            direction = np.array([np.cos(k * np.pi / 4), np.sin(k * np.pi / 4)])
            legs = [Leg(np.clip(scene.tip + 0.2 * direction, table.box[0::2], table.box[1::2]), 0.2)]
            actions.append(velocities(scene.tip, legs, h, dt))
            labels.append(EXPLORE)
            bonus.append(0.0)
        missing = max(n - len(actions), 0)
        noise = 0.6 * table.travel_speed * coloured_noise(rng, (missing, h, 2))
        actions += list(noise)
        labels += [EXPLORE] * missing
        bonus += [0.0] * missing
        values = np.array(bonus[:n], np.float32)
        if request.leave or len(request.tedious):
            # Where the tip leans on something it gets nowhere, however far it is told to go.
            path = paths(scene.tip, np.array(actions[:n]), request.jams, table.box, dt)
            if request.leave:
                values[np.linalg.norm(path - scene.tip, axis=2).max(1) < self.leave_distance] -= self.penalty
            if len(request.tedious):
                gaps = np.linalg.norm(path[:, :, None] - request.tedious, axis=3).min(2)
                values -= self.tedium * (gaps < self.tedious_radius).mean(1).astype(np.float32)
        values[[label in request.banned - {EXPLORE} for label in labels[:n]]] -= self.penalty
        return Proposals(np.array(actions[:n], np.float32), tuple(labels[:n]), values)

    def gave_up(self, label: str) -> None:
        """Nothing to do: the label is banned for a while by the planner."""


@dataclass
class Skills:
    """Walk to a random thing, push through at a random angle; then the next. The baseline that matters."""

    length: float = PUSH_LENGTH  # m, of a push
    speed: float | None = None  # m/s, of a push; None: the table's push speed
    pause: float = 0.0  # s, after a push
    name: str = "skills"
    refine: bool = False
    _legs: list[Leg] = field(default_factory=list)
    _label: str = ""
    _deadline: float = 0.0
    _rest_until: float = -np.inf

    def propose(self, request: Request, rng: np.random.Generator) -> Proposals:
        """The skill under way, from where the tip is now; a new one when it is done or took too long."""
        scene = request.scene
        while self._legs and np.linalg.norm(self._legs[0].to - scene.tip) < 0.012:
            self._legs.pop(0)
            if not self._legs:
                self._rest_until = scene.stamp + self.pause
        if (not self._legs and scene.stamp >= self._rest_until) or scene.stamp > self._deadline:
            self._choose(request, rng)
        actions = velocities(scene.tip, self._legs, request.horizon, request.dt)
        return Proposals(actions[None], (self._label,), np.zeros(1, np.float32))

    def _choose(self, request: Request, rng: np.random.Generator) -> None:
        scene, table = request.scene, request.table
        roads = ways(scene, table)
        for _ in range(30):
            if not len(scene.things):
                break
            row = int(rng.choice(scene.things))
            angle = rng.uniform(-np.pi, np.pi)
            direction = np.array([np.cos(angle), np.sin(angle)])
            legs = push_legs(scene, table, roads, row, direction, self.length)
            if legs is not None:
                speed = legs[-1].speed if self.speed is None else self.speed
                legs[-1] = Leg(legs[-1].to, speed)
                self._label = f"push {scene.name(row)} from the {side_name(direction)}"
                self._start(legs, request)
                return
        spot = np.array([rng.uniform(*table.box[:2]), rng.uniform(*table.box[2:])])
        self._label = "walk"
        self._start([Leg(spot, table.travel_speed)], request)

    def _start(self, legs: list[Leg], request: Request) -> None:
        points = [request.scene.tip, *(leg.to for leg in legs)]
        time = sum(
            float(np.linalg.norm(b - a)) / leg.speed for a, b, leg in zip(points, points[1:], legs, strict=False)
        )
        self._legs, self._deadline = legs, request.scene.stamp + 1.5 * time + 1.0 + self.pause

    def gave_up(self, label: str) -> None:
        """Choose another skill at the next call."""
        self._legs, self._rest_until = [], -np.inf


@dataclass
class Random:
    """Smooth random velocity (Ornstein-Uhlenbeck) that turns back at the border instead of leaning on it."""

    memory: float = 0.9
    spread: float = 0.2  # m/s
    name: str = "random"
    refine: bool = False
    _velocity: Array = field(default_factory=lambda: np.zeros(2))

    def propose(self, request: Request, rng: np.random.Generator) -> Proposals:
        """The next sample, then its expected decay."""
        box, tip, dt = request.table.box, request.scene.tip, request.dt
        fresh = np.sqrt(1.0 - self.memory**2) * self.spread
        self._velocity = self.memory * self._velocity + fresh * rng.standard_normal(2)
        for axis in range(2):
            ahead = tip[axis] + self._velocity[axis] * 2 * dt
            if ahead < box[2 * axis]:
                self._velocity[axis] = max(abs(self._velocity[axis]), 0.5 * self.spread)
            elif ahead > box[2 * axis + 1]:
                self._velocity[axis] = -max(abs(self._velocity[axis]), 0.5 * self.spread)
        decay = self.memory ** np.arange(request.horizon)
        actions = (self._velocity * decay[:, None]).astype(np.float32)
        return Proposals(actions[None], ("wander",), np.zeros(1, np.float32))

    def gave_up(self, label: str) -> None:
        """Turn round."""
        self._velocity = -self._velocity


def make_policy(name: str) -> Policy:
    """The policy of this name; ValueError names the ones there are."""
    from crl_node.curiosity.disagreement import Disagreement  # these need this module
    from crl_node.curiosity.rnd import Distillation

    makers: dict[str, Callable[[], Policy]] = {
        "curious": Curious, "skills": Skills, "random": Random, "disagreement": Disagreement, "rnd": Distillation,
    }  # fmt: skip
    if name not in makers:
        raise ValueError(f"there is no policy '{name}'; there are {', '.join(POLICIES)}")
    return makers[name]()


__all__ = ["POLICIES", "Curious", "Policy", "Proposals", "Random", "Request", "Skills", "coloured_noise", "make_policy"]
