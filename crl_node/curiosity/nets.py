"""An ensemble of small networks over slots, in numpy: messages from neighbours are summed, a hidden layer answers.

    message_j = relu(P f_ij),  hidden = relu(A f_i + M sum_j message_j),  answer = B hidden + b

which is one round of an interaction network (Battaglia et al. 2016) whose messages and updates have one layer each.
All members are one batched matrix product; gradients are written out by hand (a test compares them with finite
differences), steps are Adam's. numpy, because the planner's process imports no torch, and because the same calls must
give the same bytes.

E members, R rows (a slot in a transition), J neighbours, F features, C outputs. The last feature of a neighbour that
is there is 1 (its bias); a neighbour that is not there is all zeros, and so is its message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from crl_node.data import Floats

#: Adam (Kingma & Ba 2015): decay of both moments, and what keeps its division finite.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class NetShape:
    """Sizes of the networks of one ensemble."""

    members: int  # E
    own: int  # features of the slot itself
    pair: int  # features of a neighbour
    message: int = 16
    width: int = 48
    outputs: int = 3  # C

    def __post_init__(self) -> None:
        if min(self.members, self.own, self.pair, self.message, self.width, self.outputs) < 1:
            raise ValueError(f"network: every size must be at least 1, received {self}")


class Weights(NamedTuple):
    """Weights, their gradients or Adam's moments."""

    message: Floats  # [E, F_pair, M]
    own: Floats  # [E, F_own, W]
    pool: Floats  # [E, M, W]
    out: Floats  # [E, W, C]
    bias: Floats  # [E, 1, C]


class Trace(NamedTuple):
    """What the way back needs of the way there."""

    own: Floats  # [E or 1, R, F_own]
    pair: Floats  # [E or 1, R * J, F_pair]
    messages: Floats  # [E, R * J, M]
    pooled: Floats  # [E, R, M]
    hidden: Floats  # [E, R, W]


class SlotNets:
    """E networks with their optimiser. Deterministic given the generator it is made with and the calls."""

    def __init__(self, shape: NetShape, rng: np.random.Generator, gain: float = 1.0) -> None:
        """Weights as in He et al. 2015, times `gain`; every member has its own."""

        def draw(*sizes: int, scale: float) -> Floats:
            return (scale * rng.standard_normal(sizes)).astype(np.float32)

        e, w = shape.members, shape.width
        self.shape = shape
        self.weights = Weights(
            message=draw(e, shape.pair, shape.message, scale=gain * np.sqrt(2.0 / shape.pair)),
            own=draw(e, shape.own, w, scale=gain * np.sqrt(2.0 / shape.own)),
            pool=draw(e, shape.message, w, scale=gain * np.sqrt(2.0 / shape.message)),
            out=draw(e, w, shape.outputs, scale=gain * np.sqrt(1.0 / w)),
            bias=np.zeros((e, 1, shape.outputs), np.float32),
        )
        #: Running means of the weights (Polyak & Juditsky 1992), which answer: single steps shake less in them.
        self.mean = Weights(*(np.array(w) for w in self.weights))
        self._first = Weights(*(np.zeros_like(w) for w in self.weights))
        self._second = Weights(*(np.zeros_like(w) for w in self.weights))
        self._steps = 0
        self._scratch: Trace | None = None

    def answer(self, own: Floats, pair: Floats) -> Floats:
        """Answers [E, R, C] of the averaged weights to `own` [E or 1, R, F_own], `pair` [E or 1, R, J, F_pair]."""
        if self._scratch is None or self._scratch.pooled.shape[1] != pair.shape[1]:
            self._scratch = self.forward(own, pair, self.mean)[1]
        return self.forward(own, pair, self.mean, self._scratch)[0]

    def forward(
        self, own: Floats, pair: Floats, weights: Weights | None = None, into: Trace | None = None
    ) -> tuple[Floats, Trace]:
        """Answers as `answer`'s, of the weights in training unless others are given, and the way there.

        `into`: arrays of a former call of this size to write to, since new memory costs as much as the products.
        """
        a, r, j, _ = pair.shape
        e, w = self.shape.members, self.weights if weights is None else weights
        flat = pair.reshape(a, r * j, -1)
        messages = np.matmul(flat, w.message, out=None if into is None else into.messages)
        np.maximum(messages, 0.0, out=messages)
        by_row = messages.reshape(e, r, j, -1)
        pooled = np.empty((e, r, by_row.shape[3]), messages.dtype) if into is None else into.pooled
        pooled[:] = by_row[:, :, 0]
        for k in range(1, j):  # a sum over a short axis in the middle is slow
            pooled += by_row[:, :, k]
        hidden = np.matmul(own, w.own, out=None if into is None else into.hidden)
        hidden += pooled @ w.pool
        np.maximum(hidden, 0.0, out=hidden)
        return np.asarray(hidden @ w.out + w.bias), Trace(own, flat, messages, pooled, hidden)

    def gradients(self, trace: Trace, error: Floats) -> Weights:
        """Gradients of a loss whose derivative by the answers is `error` [E, R, C]."""
        w = self.weights
        into = error @ w.out.swapaxes(1, 2)
        into *= trace.hidden > 0
        back = into @ w.pool.swapaxes(1, 2)  # [E, R, M]
        neighbours = trace.messages.shape[1] // back.shape[1]
        arriving = np.repeat(back, neighbours, axis=1)
        arriving *= trace.messages > 0
        return Weights(
            message=np.asarray(trace.pair.swapaxes(1, 2) @ arriving),
            own=trace.own.swapaxes(1, 2) @ into,
            pool=trace.pooled.swapaxes(1, 2) @ into,
            out=trace.hidden.swapaxes(1, 2) @ error,
            bias=error.sum(1, keepdims=True),
        )

    def train(
        self, own: Floats, pair: Floats, target: Floats, rate: float, decay: float = 0.0, memory: float = 0.0
    ) -> Floats:
        """One Adam step on the mean squared error; returns the errors before it, [E].

        `target` [E or 1, R, C]; `decay` is the decoupled weight decay of Loshchilov & Hutter 2019; `memory` is how
        much of the averaged weights stays, less in the first steps.
        """
        answers, trace = self.forward(own, pair)
        error = answers - target
        loss = np.asarray(np.square(error).mean((1, 2)), np.float32)
        error *= np.float32(2.0 / (error.shape[1] * error.shape[2]))
        self._steps += 1
        faster = rate * np.sqrt(1.0 - BETA2**self._steps) / (1.0 - BETA1**self._steps)
        share = np.float32(max(1.0 - memory, 1.0 / self._steps))
        for weight, mean, gradient, first, second in zip(
            self.weights, self.mean, self.gradients(trace, error), self._first, self._second, strict=True
        ):
            first += np.float32(1.0 - BETA1) * (gradient - first)
            second += np.float32(1.0 - BETA2) * (gradient * gradient - second)
            if decay:
                weight *= np.float32(1.0 - rate * decay)
            weight -= np.float32(faster) * first / (np.sqrt(second) + np.float32(EPSILON))
            mean += share * (weight - mean)
        return loss
