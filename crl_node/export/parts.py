"""What the parts of the plan graph hand to each other: vectors, the posterior as tables and masks, a roll-out's state.

Layouts are chosen for speed on one CPU thread: the candidate axis N comes last, so that elementwise steps run over
contiguous memory and a gather copies whole rows; x and y are tensors of their own, because a sum over a leading axis
of two costs ten times as much as an addition in ONNX Runtime. Steps follow each other one by one, but what they teach
is looked at for a group of g steps at once, [g, rows, N]: an operator costs as much again as the few rows it works on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Stands for "no bound" in masks and rooms.
BIG = 1e6


class Vec(NamedTuple):
    """A vector in the table plane, x and y of the same shape."""

    x: Tensor
    y: Tensor

    def plus(self, other: Vec) -> Vec:
        """Sum."""
        return Vec(self.x + other.x, self.y + other.y)

    def minus(self, other: Vec) -> Vec:
        """Difference."""
        return Vec(self.x - other.x, self.y - other.y)

    def times(self, factor: Tensor) -> Vec:
        """Each component times `factor`."""
        return Vec(self.x * factor, self.y * factor)

    def dot(self, other: Vec) -> Tensor:
        """Inner product."""
        return self.x * other.x + self.y * other.y

    def negative(self) -> Vec:
        """The opposite."""
        return Vec(-self.x, -self.y)

    def rows(self, index: Tensor) -> Vec:
        """Rows `index` of both components."""
        return Vec(rows(self.x, index), rows(self.y, index))

    def part(self, start: int, stop: int | None = None) -> Vec:
        """Rows from `start` to before `stop` (the last axis but one)."""
        return Vec(self.x[..., start:stop, :], self.y[..., start:stop, :])

    def within(self, low: Vec, high: Vec) -> Vec:
        """Clipped, each component between its bounds."""
        return Vec(
            torch.minimum(torch.maximum(self.x, low.x), high.x), torch.minimum(torch.maximum(self.y, low.y), high.y)
        )

    def left(self, matrix: Tensor) -> Vec:
        """`matrix` times both components."""
        return Vec(matrix @ self.x, matrix @ self.y)


def rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [R] of `table` [T, N]: an embedding, because that alone becomes one single Gather."""
    return nn.functional.embedding(index, table)


def rows_of_each(tables: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [R] of each of `tables` [G, T, N]."""
    return torch.index_select(tables, 1, index)


def stacked(*vectors: Vec) -> Vec:
    """Rows of all vectors, one after the other."""
    return Vec(torch.cat([v.x for v in vectors]), torch.cat([v.y for v in vectors]))


def grouped(*vectors: Vec) -> Vec:
    """Vectors of [R, N] as one of [G, R, N]."""
    flat, shape = stacked(*vectors), (len(vectors), *vectors[0].x.shape)
    return Vec(flat.x.reshape(shape), flat.y.reshape(shape))


class Places(NamedTuple):
    """Where all slots are, or how they move: all together and, because the body moves first, apart."""

    all: Vec  # [S, N]
    body: Vec  # [1, N]
    things: Vec  # [S - 1, N]

    @classmethod
    def of(cls, everything: Vec) -> Places:
        """Taken apart."""
        return cls(everything, everything.part(0, 1), everything.part(1))

    @classmethod
    def joined(cls, body: Vec, things: Vec) -> Places:
        """Put together."""
        return cls(stacked(body, things), body, things)


class Step(NamedTuple):
    """One step of all roll-outs."""

    before: Vec  # [S, N] m
    ahead: Vec  # [S, N] m, where slots would be if the body moved and nothing else acted
    after: Places  # m
    moved: Places  # m
    features: Vec  # [P, N] m


class TermRows(NamedTuple):
    """R terms of motion as rows: where to look and what counts. Everything but the indices is [R, 1]."""

    parent: Tensor  # [R] row in the table of parents' places
    push: Tensor  # [R] row in the table of steps: the parent's step, or a linear feature
    length: Tensor  # m
    low: Tensor  # m, dead zone of length - distance, lower end
    high: Tensor  # m, upper end
    cap: Tensor  # 0 where the term is PUSH (bounded by the approach), else large
    slide: Tensor  # large where the term is DRAG, else 0
    linear: Tensor  # 1 where the feature is linear


class Model(NamedTuple):
    """The posterior and the settings in the form a step needs, computed once per call.

    L light terms. What is learned is counted for V = 2 S variables, the motion of each slot and then the brightness of
    each, by R = P + L rows: all terms for motion, then the light terms.
    """

    # motion
    target: Tensor  # [P] slot index
    room_back: Tensor  # [P] row in the table of places and rooms of the room to the rim at low x and y
    room_forth: Tensor  # [P] the same at high x and y
    terms: TermRows  # all P
    weights: Tensor  # [S - 1, P] mean weight at the row of the thing that is the target
    body_terms: TermRows  # B of them, whose target is the body: it moves first
    body_weights: Tensor  # [1, B]
    wall_low: Vec  # [S - 1, 1] m, where the rim begins to touch a thing's footprint
    wall_high: Vec  # [S - 1, 1] m
    rim_low: Vec  # [S - 1, 1] m, how far things can be pushed
    rim_high: Vec  # [S - 1, 1] m
    box_low: Vec  # [1, 1] m, workspace of the tip
    box_high: Vec  # [1, 1] m
    reach: Tensor  # [S - 1, 1] m, of the body to each thing
    jam_at: Vec  # [J, 1] m
    jam_along: Vec  # [J, 1] unit
    jam_across: Vec  # [1, J] the same as rows
    # brightness
    light_target: Tensor  # [L] slot index
    light_source: Tensor  # [L] row in the table of causes
    light_pair: Tensor  # [L] row in the table of pairs
    light_gain: Tensor  # [L, 1] coefficient on the target's own brightness: 0 or -1
    light_toggle: Tensor  # [L, 1] -2 where the term is TOGGLE_BY
    light_weights: Tensor  # [S, L] mean weight at the target's row
    # information
    apart: Tensor  # [pairs, S] difference of two slots in units of the sum of their extents
    spread: Tensor  # [P, P] covariance of weights of one target between term sets
    light_spread: Tensor  # [L, L]
    summed: Tensor  # [S, P] 1 at the slot each motion term is about
    light_summed: Tensor  # [S, L]
    variable: Tensor  # [R] the variable each row is about
    variance: Tensor  # [R, 1] of the row's weight, given all others; 0 where the row does not count
    held: Tensor  # [V, R] probability that the row's term is in, at its variable
    half_share: Tensor  # [1, R] half of that probability
    doubt: Tensor  # [V, 1] -1 / (2 entropy)
    entropy: Tensor  # [1, V] nats, of the variable's own term sets
    precision: Tensor  # [2, S, 1] 1 / variance of a step out of contact, of an axis [m^-2] and of brightness [1]
    precision_more: Tensor  # [2, S, 1] what is added to it in contact (negative)
    look: Tensor  # [1, S] nats, of a look at a slot that the arm hides now
    thing: Tensor  # [S, 1] 0 for the body, else 1
    camera: Vec  # [1, 1] m
    shadow: Tensor  # [] length of the arm's shadow per distance of the tip from the camera
    shade: Tensor  # [S, 1] m^2, how near to the shadow's middle is hidden
    goal: Vec  # [S, 1] m
    goal_weight: Tensor  # [1, S] nats/m


class State(NamedTuple):
    """What a group of steps hands to the next; see `Model` for V and R."""

    x: Tensor  # [S, N] m
    y: Tensor  # [S, N] m
    vx: Tensor  # [S, N] m per step
    vy: Tensor  # [S, N] m per step
    light: Tensor  # [S, N] brightness
    told: Tensor  # [R, N] information about each weight, 1 / its unit^2
    between: Tensor  # [V, N] variance between term sets by noise, summed over steps
    known: Tensor  # [2, N] nats that it tells so far: structure, parameters
    worth: Tensor  # [2, N] the same with each step's part discounted
    seen: Tensor  # [S, N] discount of the first step in which the slot is in view
    far: Tensor  # [1, N] discounted worth of the distances to the goals [nats]


class Trace(NamedTuple):
    """What was computed besides, for the tests: at the last step of a group."""

    features: Vec  # [P, N] m per step
    light: Tensor  # [L, N] features of the light terms
