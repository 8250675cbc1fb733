"""The baseline `rnd`: go where a network cannot yet tell what a fixed random network says (Burda et al. 2018).

    r(s') = sum_i |f(x_i) - g(x_i)|^2

with x_i what is seen of slot i in the next state s', g a random network that stays as it is and f a network that is
trained to repeat it on the states that were visited. Inputs are normalised by running means and deviations and clipped
to +-5 (section 2.4). The next states are imagined by a learned forward model of one network.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crl_node.curiosity.dynamics import DynamicsConfig, Imagined
from crl_node.curiosity.imagination import Imagining
from crl_node.curiosity.nets import NetShape, SlotNets
from crl_node.curiosity.slot_features import Cast, State
from crl_node.data import MAX_SLOTS, Array, Floats

#: Numbers of one slot: place, motion per step, brightness, place relative to the body, gap to it (lengths in `UNIT`).
LOOKS = 8
CLIP = 5.0  # running standard deviations


@dataclass
class Running:
    """Mean and variance of what came by (Welford 1962)."""

    size: int
    count: float = 0.0
    mean: Array = field(init=False)
    square: Array = field(init=False)

    def __post_init__(self) -> None:
        self.mean, self.square = np.zeros(self.size), np.zeros(self.size)

    def add(self, rows: NDArray[np.floating]) -> None:
        """[R, size]."""
        for row in rows:
            self.count += 1.0
            off = row - self.mean
            self.mean += off / self.count
            self.square += off * (row - self.mean)

    def normal(self, values: Floats) -> Floats:
        """Deviations from the mean in running standard deviations, at most CLIP. [..., size]"""
        std = np.sqrt(self.square / max(self.count, 1.0)) + 1e-3
        return np.asarray(np.clip((values - self.mean) / std, -CLIP, CLIP), np.float32)


@dataclass
class Distillation(Imagining):
    """Random network distillation over imagined states."""

    config: DynamicsConfig = field(default_factory=lambda: DynamicsConfig(members=1))
    #: Numbers that the random network says about a slot, and hidden units of both.
    outputs: int = 16
    width: int = 64
    rate: float = 1e-3  # of Adam
    updates: int = 2  # gradient steps per control step
    batch: int = 64  # slots per gradient step
    capacity: int = 30_000  # slots kept
    name: str = "rnd"

    def __post_init__(self) -> None:
        if min(self.outputs, self.width, self.batch, self.capacity) < 1 or self.updates < 0 or not self.rate > 0.0:
            raise ValueError(f"rnd: every size must be at least 1 and the rate above 0, received {self}")
        self._nets: tuple[SlotNets, SlotNets] | None = None  # predictor, target
        self._running = Running(LOOKS)
        self._kept = np.zeros((self.capacity, LOOKS), np.float32)
        self._whose = np.zeros(self.capacity, np.int64)
        self._count = 0

    def reward(self, imagined: Imagined, cast: Cast) -> Floats:
        """[N, H] error of the predictor about each state that follows."""
        states = imagined.states[1:]
        joined = State(*(np.concatenate(parts) for parts in zip(*states, strict=True)))
        return self.novelty(joined, cast).reshape(len(states), -1).T

    def novelty(self, state: State, cast: Cast) -> Floats:
        """[B] squared error of the predictor, summed over slots. RuntimeError before the first state was learned."""
        if self._nets is None:
            raise RuntimeError("rnd was asked for novelty before it saw a first state")
        looked = looks(state, cast)
        names = np.broadcast_to(cast.identity, looked.shape[:2])
        errors = self._errors(looked.reshape(-1, LOOKS), names.ravel()).reshape(looked.shape[:2])
        return np.asarray(errors.sum(1))

    def learn(self, state: State, cast: Cast, rng: np.random.Generator) -> None:
        """Keep the present state; train the predictor on what was visited."""
        if self._nets is None:
            shape = NetShape(1, LOOKS + MAX_SLOTS + 1, 1, 1, self.width, self.outputs)
            # The target is made as in the paper's code with more gain, so that it is not nearly linear.
            self._nets = SlotNets(shape, rng), SlotNets(shape, rng, gain=np.sqrt(2.0))
        rows = looks(state, cast)[0]
        self._running.add(rows)
        at = (self._count + np.arange(len(rows))) % self.capacity
        self._kept[at], self._whose[at] = rows, cast.identity
        self._count += len(rows)
        predictor, target = self._nets
        for _ in range(self.updates):
            drawn = rng.integers(0, min(self._count, self.capacity), self.batch)
            own, pair = self._inputs(self._kept[drawn], self._whose[drawn])
            predictor.train(own, pair, target.answer(own, pair), self.rate)

    def _inputs(self, rows: Floats, whose: NDArray[np.int64]) -> tuple[Floats, Floats]:
        names = np.eye(MAX_SLOTS, dtype=np.float32)[whose]
        own = np.concatenate([self._running.normal(rows), names, np.ones((len(rows), 1), np.float32)], 1)
        return own[None], np.zeros((1, len(rows), 1, 1), np.float32)

    def _errors(self, rows: Floats, whose: NDArray[np.int64]) -> Floats:
        assert self._nets is not None
        predictor, target = self._nets
        own, pair = self._inputs(rows, whose)
        return np.asarray(np.square(predictor.answer(own, pair) - target.answer(own, pair))[0].mean(1))


def looks(state: State, cast: Cast) -> Floats:
    """[B, S, LOOKS] what is seen of every slot."""
    z, v = state.position, state.velocity
    to = z - z[:, :1]
    gap = np.clip(np.abs(to) - cast.extent - cast.extent[0], -1.5, 5.0)
    gap[:, 0] = 0.0
    return np.stack([z.real, z.imag, v.real, v.imag, state.brightness, to.real, to.imag, gap], 2).astype(np.float32)
