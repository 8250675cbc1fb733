"""Forward models of the baselines: an ensemble that learns every slot's next motion from what it saw, and imagines.

Each of the E members predicts, in one step, the displacement of every slot and the change of its brightness (for the
body: what it deviates from the command by). All learn from the same transitions in minibatches of their own; what they
disagree about they have seen too little of, as in Plan2Explore (Sekar et al. 2020) and CEE-US (Sancaktar et al. 2022).
Roll-outs follow the members' mean, like those of the planning graph follow the posterior mean.

Answers are in units of `MOTION` m and `LIGHT`, so that 1 is what a contact does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.curiosity.nets import NetShape, SlotNets
from crl_node.curiosity.scene import Scene
from crl_node.curiosity.slot_features import (
    NEIGHBOURS,
    OWN_SIZE,
    PAIR_SIZE,
    UNIT,
    Cast,
    Lens,
    Points,
    State,
    View,
    pairs,
    points,
)
from crl_node.data import BODY, MAX_SLOTS, Array, Floats
from crl_node.export.spec import JAM_FRICTION, JAM_RADIUS, RIM_MARGIN

#: One unit of an answer: displacement [m per step], change of brightness [1 per step].
MOTION, LIGHT = 0.01, 0.25
#: A row counts as an event above this answer: 3 mm, or .075 of brightness.
EVENT = 0.3
#: Nothing moves further in one step: a tracking error [m].
MOST_STEP = 0.06
#: What is less certain than this teaches nothing [m^2], as in the world model.
MOST_VARIANCE = 0.008**2


@dataclass(frozen=True)
class DynamicsConfig:
    """Sizes and how it learns."""

    members: int = 5  # E
    message: int = 16
    width: int = 48
    rate: float = 3e-3  # of Adam
    decay: float = 1.0  # decoupled weight decay [1 per unit of learning rate]
    memory: float = 0.95  # of the averaged weights, per gradient step
    updates: int = 6  # gradient steps per control step
    batch: int = 96  # rows per member and gradient step
    events: float = 0.7  # share of a batch that is drawn from rows in which something happened
    capacity: int = 30_000  # rows kept

    def __post_init__(self) -> None:
        if min(self.members, self.batch, self.capacity) < 1 or self.updates < 0:
            raise ValueError(f"dynamics: members, batch and capacity must be at least 1, received {self}")
        if not (0.0 <= self.events <= 1.0 and 0.0 <= self.memory < 1.0):
            raise ValueError(f"dynamics: events must be in 0..1 and memory in 0..1 without 1, received {self}")
        if not (self.rate > 0.0 and self.decay >= 0.0):
            raise ValueError(f"dynamics: rate must be above 0 and decay not below 0, received {self}")


class Rows:
    """What was seen, as rows of network inputs and answers: a ring of fixed size."""

    def __init__(self, capacity: int, outputs: int) -> None:
        self.own = np.zeros((capacity, OWN_SIZE), np.float32)
        self.pair = np.zeros((capacity, NEIGHBOURS, PAIR_SIZE), np.float32)
        self.answer = np.zeros((capacity, outputs), np.float32)
        self.event = np.zeros(capacity, bool)
        self.count = 0  # ever added

    def __len__(self) -> int:
        return min(self.count, len(self.own))

    def add(self, own: Floats, pair: Floats, answer: Floats) -> None:
        """R rows: [R, F], [R, J, F], [R, C]."""
        at = (self.count + np.arange(len(own))) % len(self.own)
        self.own[at], self.pair[at], self.answer[at] = own, pair, answer
        self.event[at] = np.abs(answer).max(1, initial=0.0) > EVENT
        self.count += len(own)

    def draw(self, members: int, batch: int, events: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """[E, batch] row numbers: `events` of them where something happened, if anything ever did."""
        rows = rng.integers(0, len(self), (members, batch))
        happened = np.flatnonzero(self.event[: len(self)])
        if len(happened):
            count = round(events * batch)
            rows[:, :count] = happened[rng.integers(0, len(happened), (members, count))]
        return rows


class Limits:
    """What the roll-outs must respect."""

    def __init__(self, workspace: Array, jams: NDArray[np.float32], cast: Cast) -> None:
        """`workspace` [4] m of the tip; `jams` [J, 4] m and unit direction: where the tip did not get on."""
        box = np.asarray(workspace, np.float32) / np.float32(UNIT)
        self._low, self._high = box[0::2].copy(), box[1::2].copy()
        self._jams = [
            (complex(x, y) / UNIT, dx, dy) for x, y, dx, dy in np.asarray(jams).tolist() if dx != 0.0 or dy != 0.0
        ]
        margin = np.float32(RIM_MARGIN) * cast.extent[1:, None]
        self.rim_low = np.asarray(cast.rim[0::2] + margin, np.float32)  # [T, 2] units
        self.rim_high = np.asarray(cast.rim[1::2] - margin, np.float32)

    def inside(self, at: Points) -> Points:
        """`at` [B] units in the workspace."""
        xy = np.minimum(np.maximum(pairs(at), self._low), self._high)
        return np.asarray(xy.view(np.complex64)[..., 0])

    def held_back(self, moved: Points, tip: Points) -> Points:
        """What is let through of `moved` [B] units where the tip is at a jam: the planning graph's rule."""
        out, leant = moved, np.zeros(len(moved))
        for place, dx, dy in self._jams:
            into = np.maximum(moved.real * dx + moved.imag * dy, 0.0) * (np.abs(tip - place) < JAM_RADIUS / UNIT)
            out = out - into * complex(dx, dy)
            leant += into
        slides = np.maximum(1.0 - JAM_FRICTION * leant / np.maximum(np.abs(out), 1e-9), 0.0)
        return np.asarray(out * slides, np.complex64)


@dataclass(frozen=True)
class Imagined:
    """Roll-outs of N candidates. T things."""

    states: tuple[State, ...]  # H + 1, B = N
    disagreement: Floats  # [N, H] sum over slots and answers of the members' variance [units^2]
    path: Floats  # [N, H + 1, 2] m, of the tip


class Dynamics:
    """Learns from scenes and actions, imagines what actions would do."""

    def __init__(self, config: DynamicsConfig, rng: np.random.Generator) -> None:
        self.config = config
        sizes = {"members": config.members, "own": OWN_SIZE, "pair": PAIR_SIZE, "message": config.message}
        self.things = SlotNets(NetShape(**sizes, width=config.width, outputs=3), rng)
        self.body = SlotNets(NetShape(**sizes, width=config.width, outputs=2), rng)
        self.thing_rows, self.body_rows = Rows(config.capacity, 3), Rows(config.capacity, 2)
        self._numbers: dict[int, int] = {}  # slot identity -> number for the networks
        self._seen: dict[int, float] = {}  # slot identity -> when last, s

    # -- who is there -------------------------------------------------------------------------------------------------

    def cast(self, scene: Scene, rim: Array) -> tuple[Cast, NDArray[np.int64]]:
        """Who is there, and their rows in the scene. A new thing gets a free number, or that of one long gone."""
        rows = np.concatenate([[BODY], scene.things])
        ids = scene.ids[scene.things].tolist()
        for identity in ids:
            if identity not in self._numbers:
                free = sorted(set(range(1, MAX_SLOTS)) - set(self._numbers.values()))
                if free:
                    self._numbers[identity] = free[0]
                else:
                    oldest = min((i for i in self._numbers if i not in ids), key=lambda i: (self._seen[i], i))
                    self._numbers[identity] = self._numbers.pop(oldest)
                    self._seen.pop(oldest)
            self._seen[identity] = scene.stamp
        numbers = np.array([0, *(self._numbers[i] for i in ids)], np.int64)
        return Cast((scene.extent[rows] / UNIT).astype(np.float32), numbers, rim / UNIT), rows

    @staticmethod
    def state(scene: Scene, rows: NDArray[np.int64], dt: float) -> State:
        """The scene's `rows` as one state."""
        return State(
            points(scene.position[rows] / UNIT)[None], points(scene.velocity[rows] * (dt / UNIT))[None],
            scene.brightness[rows].astype(np.float32)[None],
        )  # fmt: skip

    # -- learning -----------------------------------------------------------------------------------------------------

    def observe(self, before: Scene, command: Array, after: Scene, rim: Array, dt: float) -> int:
        """Keep what one control step under `command` [2] m/s showed; returns the rows it gave.

        ValueError when a number is not finite.
        """
        if not all(np.isfinite(values).all() for values in (command, before.position, after.position)):
            raise ValueError(f"transition from {before.stamp:.3f} s: command {command} or a position is not finite")
        cast, rows = self.cast(before, rim)
        then = {int(after.ids[row]): int(row) for row in np.flatnonzero(after.exists)}
        found = np.array([then.get(int(before.ids[row]), -1) for row in rows])
        usable = found >= 0
        usable &= ~before.hidden[rows] & ~after.hidden[found] & (before.variance[rows] < MOST_VARIANCE)
        state = self.state(before, rows, dt)
        moved = points(after.position[found] / UNIT)[None] - state.position  # [1, S]
        usable &= np.abs(moved[0]) < MOST_STEP / UNIT
        if not usable[0]:
            return 0
        told, lens = points(np.asarray(command, float) * (dt / UNIT))[None], Lens(cast, 1)
        self._keep(self.body_rows, lens.body(state, told), moved[:, :1] - told[:, None], None, usable[:1])
        lit = (after.brightness[found] - before.brightness[rows])[None, 1:]
        self._keep(self.thing_rows, lens.things(state, moved[:, 0]), moved[:, 1:], lit, usable[1:])
        return int(usable.sum())

    @staticmethod
    def _keep(rows: Rows, view: View, moved: Points, lit: Array | None, usable: NDArray[np.bool_]) -> None:
        turned = moved * view.frame.conj() * (UNIT / MOTION)
        parts = [turned.real, turned.imag] + ([] if lit is None else [lit / LIGHT])
        answer = np.stack(parts, 2)[0].astype(np.float32)
        rows.add(view.own[0][usable], view.pair[0][usable], answer[usable])

    def train(self, rng: np.random.Generator) -> float:
        """`updates` gradient steps; the mean squared error of the things' last batch [units^2], nan without data."""
        c, loss = self.config, float("nan")
        for nets, rows in ((self.body, self.body_rows), (self.things, self.thing_rows)):
            if not len(rows):
                continue
            for _ in range(c.updates):
                at = rows.draw(c.members, c.batch, c.events, rng)
                errors = nets.train(rows.own[at], rows.pair[at], rows.answer[at], c.rate, c.decay, c.memory)
            loss = float(errors.mean()) if c.updates else loss
        return loss

    # -- imagining ----------------------------------------------------------------------------------------------------

    def step(self, state: State, command: Points, lens: Lens, limits: Limits) -> tuple[State, Floats]:
        """The next states under `command` [B] units by the members' mean, and their disagreement [B]."""
        tip = state.position[:, 0]
        command = limits.inside(tip + command) - tip
        mean, spread, frame = _answers(self.body, lens.body(state, command))
        moved = command + _turned(mean, frame)[:, 0]
        moved = limits.inside(tip + limits.held_back(moved, tip)) - tip
        position, velocity = np.empty_like(state.position), np.empty_like(state.velocity)
        position[:, 0], velocity[:, 0] = tip + moved, moved
        brightness = state.brightness
        if position.shape[1] > 1:
            mean, more, frame = _answers(self.things, lens.things(state, moved))
            spread = spread + more
            goes = pairs(state.position[:, 1:] + _turned(mean, frame))
            np.maximum(goes, limits.rim_low, out=goes)
            np.minimum(goes, limits.rim_high, out=goes)
            position[:, 1:] = goes.view(np.complex64)[..., 0]
            velocity[:, 1:] = position[:, 1:] - state.position[:, 1:]
            brightness = brightness.copy()
            brightness[:, 1:] = np.clip(brightness[:, 1:] + np.float32(LIGHT) * mean[..., 2], 0.0, 1.0)
        return State(position, velocity, brightness), spread

    def imagine(self, start: State, actions: Floats, cast: Cast, limits: Limits, dt: float) -> Imagined:
        """Roll `actions` [N, H, 2] m/s out from one state."""
        n, h, _ = actions.shape
        commands = points(actions * np.float32(dt / UNIT)).T  # [H, N]
        state = State(
            np.repeat(start.position, n, 0), np.repeat(start.velocity, n, 0), np.repeat(start.brightness, n, 0)
        )
        lens = Lens(cast, n)
        states, spread = [state], np.empty((n, h), np.float32)
        for k in range(h):
            state, spread[:, k] = self.step(state, commands[k], lens, limits)
            states.append(state)
        path = np.stack([s.position[:, 0] for s in states], 1)
        return Imagined(tuple(states), spread, pairs(path) * np.float32(UNIT))


def _answers(nets: SlotNets, view: View) -> tuple[Floats, Floats, Points]:
    """The members' mean [B, R, C], their variance summed over slots and answers [B], and the frames [B, R]."""
    b, r = view.frame.shape
    answers = nets.answer(view.own.reshape(1, b * r, -1), view.pair.reshape(1, b * r, *view.pair.shape[2:]))
    mean = np.add.reduce(answers, 0)
    mean *= np.float32(1.0 / len(answers))
    answers -= mean
    spread = np.einsum("ebc,ebc->b", answers, answers) * np.float32(1.0 / len(answers))
    return mean.reshape(b, r, -1), spread.reshape(b, r).sum(1), view.frame


def _turned(mean: Floats, frame: Points) -> Points:
    """The answers' displacements out of their frames [B, R] units."""
    ahead = np.ascontiguousarray(mean[..., :2]).view(np.complex64)[..., 0]
    return np.asarray(ahead * frame * np.float32(MOTION / UNIT), np.complex64)
