"""How things slide on when nothing touches them: the one place where friction shows by itself.

A thing that is pushed moves as its pusher does, whatever its friction; and what inertia adds to a push is lost in the
noise of contact. So friction is judged on steps in which a thing moves, nothing is within reach of it before or after,
and it still moves in the next step. The loss of speed there, in mm per step, is explained by a constant (Coulomb's
friction, mu g dt^2) or a share of the step (rolling, viscous): two alternatives of one mechanism, compared between
environments (`structure.environments`) with the noise that is left when each has a loss of its own. Sums are additive.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from crl_node.data import BODY, MAX_SLOTS, Array, TermKind
from crl_node.mechanisms.grammar import Columns
from crl_node.mechanisms.terms import MOVING_STEP, Scene, contact_degrees
from crl_node.structure.comparison import Comparison
from crl_node.structure.environments import design, extended_problem, judge, tempered
from crl_node.structure.greedy import GreedyPosterior

#: m, a thing that moves less than this afterwards may have stopped within the step: its loss says little.
STILL_MOVING = 0.0015
#: Prior of the weights: a loss of some mm, or of some tenths of the step.
PRIOR_STD = np.array([5.0, 0.5])
#: InverseGamma of the noise variance, mm^2: 1 mm, worth four steps.
SHAPE, RATE = 2.0, 2.0
#: mm, the step for which a loss is expressed as a weight of inertia, 1 - loss / step.
TYPICAL = 10.0
#: A loss may differ by 0.25 mm per step, or by a fortieth of the step, and still be the same.
TOLERANCE = 0.05 * PRIOR_STD
CHANGE_RATE = 0.05


@dataclass(frozen=True)
class Judged:
    """Friction of one thing in the live environment against the ones before."""

    changed: float  # probability that it differs
    before: float  # weight of inertia for a step of 10 mm
    after: float
    after_std: float


def slides(state: Array, next_state: Array, scene: Scene) -> NDArray[np.bool_]:
    """[S] things that slide on alone from `state` to `next_state` [S, 5], and still move afterwards."""
    lone = np.ones(len(state), bool)
    for each in (state, next_state):
        lone &= contact_degrees(each[:, :2], scene).max(axis=1) <= 0.0
    velocity = state[:, 2:4]
    speed = np.linalg.norm(velocity, axis=1)
    after = np.sum((next_state - state)[:, :2] * velocity, axis=1) / np.maximum(speed, 1e-9)
    room = scene.extent + MOVING_STEP
    low, high = scene.wall[[0, 2]], scene.wall[[1, 3]]
    inside = ((next_state[:, :2] > low + room[:, None]) & (next_state[:, :2] < high - room[:, None])).all(
        axis=1
    )
    lone[BODY] = False
    return np.asarray(
        lone & inside & scene.exists & (speed * scene.dt > MOVING_STEP) & (after > STILL_MOVING)
    )


class Slides:
    """Sums of sliding steps by environment: [E, S, 2, 2] phi phi', [E, S, 2] phi y, y^2 and 1, in mm."""

    def __init__(self) -> None:
        self.sums = np.zeros((1, MAX_SLOTS, 8))  # gram (4), cross (2), square, rows

    def add(self, state: Array, next_state: Array, scene: Scene, use: NDArray[np.bool_]) -> None:
        """One step of all slots in which `use` [S] says that both ends are well known."""
        for i in np.flatnonzero(slides(state, next_state, scene) & use):
            step = 1e3 * scene.dt * state[i, 2:4]
            before = float(np.linalg.norm(step))
            loss = before - 1e3 * float((next_state[i, :2] - state[i, :2]) @ step) / before
            phi = np.array([1.0, before])
            self.sums[-1, i] += np.concatenate([np.outer(phi, phi).ravel(), phi * loss, [loss * loss, 1.0]])

    def begin(self, most: int) -> None:
        """Another environment; the two oldest become one when there are more than `most`."""
        self.sums = np.concatenate([self.sums, np.zeros((1, MAX_SLOTS, 8))])
        if len(self.sums) > most:
            self.sums = np.concatenate([self.sums[:1] + self.sums[1:2], self.sums[2:]])

    def merge(self, other: Slides) -> None:
        """Add another robot's, which went through the same environments."""
        if other.sums.shape != self.sums.shape:
            raise ValueError(
                f"sliding steps of {len(other.sums)} environments do not add to those of {len(self.sums)}; not merged"
            )
        self.sums += other.sums

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse."""
        self.sums[:, slot] = 0.0

    def judge(self, slot: int) -> Judged | None:
        """The live environment against those before it; None when one side has not seen the thing slide."""
        sums = self.sums[:, slot]
        if len(sums) < 2 or sums[-1, 7] < 1.0 or sums[:-1, 7].sum() < 1.0:
            return None
        gram, cross, square, rows = sums[:, :4].reshape(-1, 2, 2), sums[:, 4:6], sums[:, 6], sums[:, 7]
        variance = _variance(gram, cross, square, rows)
        pairs = [tempered(g / variance, c / variance, TOLERANCE) for g, c in zip(gram, cross, strict=True)]
        matrix = design(len(sums), onwards=True)
        problem = extended_problem(
            np.stack([g for g, _ in pairs]), np.stack([c for _, c in pairs]), square / variance, rows,
            prior_mean=np.zeros(2), prior_std=PRIOR_STD, group=np.zeros(2, np.int32),
            log_prior_odds=np.full(2, logit(0.45)), change_odds=np.full(2, logit(CHANGE_RATE) - np.log(2.0)),
            matrix=matrix, noise=None,
        )  # fmt: skip
        engine = GreedyPosterior()
        engine.update(problem)
        found = judge(problem, engine, len(sums), matrix, np.sqrt(np.full(len(sums), variance)), float("nan"))
        # Earlier environments in which it did not slide hold no weight of their own; `onwards` carries the last one's.
        step = np.array([1.0 / TYPICAL, 1.0])
        before, after = 1.0 - found.weight_mean[-2] @ step, 1.0 - found.weight_mean[-1] @ step
        std = np.hypot(np.sqrt(variance / rows[-1]), TOLERANCE[0]) / TYPICAL
        return Judged(float(found.changed[-1, 0]), float(before), float(after), float(std))

    def seen_in(self, found: Comparison, columns: Columns, slot: int) -> Comparison:
        """`found` with inertia as its sliding steps show it, when the thing has slid in both environments."""
        judged = self.judge(slot)
        if judged is None:
            return found
        group = columns.of_group(TermKind.INERTIA)
        column = np.flatnonzero(columns.group == group)[0]
        out = Comparison(
            *(getattr(found, f).copy() for f in ("changed", "before", "after", "after_std", "start"))
        )
        out.changed[group] = judged.changed
        out.before[column], out.after[column], out.after_std[column] = (
            judged.before,
            judged.after,
            judged.after_std,
        )
        return out

    def restore(self, arrays: Mapping[str, Array], name: str, environments: int) -> None:
        """Take over an array of a checkpoint; ValueError when it does not fit."""
        sums = np.asarray(arrays[name], float)
        if sums.shape != (environments, MAX_SLOTS, 8) or not np.isfinite(sums).all():
            raise ValueError(
                f"checkpoint array '{name}' is {sums.shape}, not finite values of {environments}; not loaded"
            )
        self.sums = sums.copy()


def _variance(gram: Array, cross: Array, square: Array, rows: Array) -> float:
    """mm^2, noise of sliding steps when each environment has a loss of its own (the better of both alternatives)."""
    rest = square[:, None] - np.square(cross) / np.maximum(np.diagonal(gram, axis1=1, axis2=2), 1e-9)
    free = np.maximum(rows - 1.0, 0.0).sum()
    return float((RATE + 0.5 * np.maximum(rest.sum(axis=0).min(), 0.0)) / (SHAPE + 0.5 * free))
