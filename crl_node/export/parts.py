"""What the parts of the plan graph hand to each other: the posterior as tables and masks, and a roll-out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Model(NamedTuple):
    """The posterior in the form the rollout needs, computed once per call."""

    target: Tensor  # [P] slot index
    parent: Tensor  # [P] row in the parents' table: slots anticipated with motion, then without
    linear: Tensor  # [P] row in the table of linear features
    length: Tensor  # [P, N] m
    low: Tensor  # [P, N] m, dead zone of length - distance, lower end
    high: Tensor  # [P, N] m, upper end
    cap: Tensor  # [P, N] 0 where the term is PUSH (bounded by the approach), else large
    drag: Tensor  # [P, N] 1 where the term is DRAG
    room: Tensor  # [P] row in the table of rooms to the rim: the target, or 0 (no limit)
    weights: Tensor  # [S, P] mean weight at the target's row
    light: Tensor  # [P] row in the table of brightness features
    light_gain: Tensor  # [P, 1] coefficient on the target's own brightness: 0 or -1
    light_toggle: Tensor  # [P, 1] 1 where the term is TOGGLE_BY
    spread: Tensor  # [2P, P] weight covariance between terms of one target: within sets, between sets
    channel: Tensor  # [2S, P] which term adds to which slot's motion, then to which slot's brightness
    entropy: Tensor  # [] nats, of the particles


class BodyModel(NamedTuple):
    """The terms whose target is the body, on their own: it moves first."""

    parent: Tensor  # [B]
    linear: Tensor  # [B]
    length: Tensor  # [B, N]
    low: Tensor  # [B, N]
    high: Tensor  # [B, N]
    cap: Tensor  # [B, N]
    drag: Tensor  # [B, N]
    weights: Tensor  # [1, B]


class Rollout(NamedTuple):
    """What one rollout leaves behind."""

    positions: Tensor  # [H + 1, 2, S, N] m
    anticipated: Tensor  # [H, 2, S, N] m, positions with the step's own motion
    velocity: Tensor  # [H, 2, S, N] m per step, before the step
    features: Tensor  # [H, 2, P, N] m per step
