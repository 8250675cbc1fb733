"""Does the learned model predict what a contact does? One-step prediction on pushes it has never seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import BODY, STATE_SIZE, Array, Posterior, TermKind
from crl_node.mechanisms.terms import Scene, TermTable, advance_motion
from crl_node.metrics import r2

#: m, a thing that went farther than this in one step was moved.
MOVED_STEP = 0.001


@dataclass(frozen=True)
class Pushes:
    """True states before and after each control step of a fixed script. M steps, N things."""

    names: tuple[str, ...]  # N
    before: Array  # [M, N, 2] m
    velocity: Array  # [M, N, 2] m/s, over the step that ended where `before` is
    after: Array  # [M, N, 2] m
    tip: Array  # [M, 2] m, before
    tip_velocity: Array  # [M, 2] m/s
    action: Array  # [M, 2] m/s
    contact: NDArray[np.bool_]  # [M, N] the thing was touched by the arm or another thing

    @property
    def counted(self) -> NDArray[np.bool_]:
        """[M, N] what the score is over: in contact or moved."""
        moved = np.linalg.norm(self.after - self.before, axis=-1) > MOVED_STEP
        return np.asarray(self.contact | moved)


def predict(posterior: Posterior, pushes: Pushes, mapping: Mapping[int, str]) -> Array:
    """Displacement [M, N, 2] m that the posterior's mean weights predict; 0 for things without a slot.

    mapping: {slot id: thing}. The model sees the true state instead of the camera's picture of it, with its own
    idea of the things' extents. Steps in which nothing counts are left at 0.
    """
    slots = len(posterior.slot_ids)
    names = {name: n for n, name in enumerate(pushes.names)}
    thing_of = {
        row: names[mapping[int(slot_id)]]
        for row, slot_id in enumerate(posterior.slot_ids)
        if row != BODY and int(slot_id) in mapping and mapping[int(slot_id)] in names
    }
    exists = np.zeros(slots, bool)
    exists[[BODY, *thing_of]] = True
    scene = Scene(posterior.slot_extent.astype(float), exists, posterior.wall.astype(float), posterior.dt)
    live = np.flatnonzero((posterior.weight_mean != 0.0) & (posterior.term_kind < TermKind.DECAY))
    table = TermTable(
        posterior.term_kind[live],
        posterior.term_target[live],
        posterior.term_parent[live],
        posterior.term_length[live].astype(float),
    )
    weights = posterior.weight_mean[live].astype(float)
    out = np.zeros_like(pushes.before)
    rows, columns = list(thing_of), list(thing_of.values())
    steps = np.flatnonzero(pushes.counted.any(1))
    state = np.zeros((len(steps), slots, STATE_SIZE))
    state[:, BODY, :2], state[:, BODY, 2:4] = pushes.tip[steps], pushes.tip_velocity[steps]
    state[:, rows, :2] = pushes.before[steps][:, columns]
    state[:, rows, 2:4] = pushes.velocity[steps][:, columns]
    moved = advance_motion(table, weights, state, pushes.action[steps], scene)
    out[steps[:, None], np.array(columns, int)] = moved[:, rows]
    return out


def contact_r2(posterior: Posterior, pushes: Pushes, mapping: Mapping[int, str]) -> float | None:
    """R^2 of predicted displacements over all (step, thing) in contact or moved, things pooled.

    A thing without a slot is predicted to stay: not to have seen it costs. None when nothing was touched.
    """
    return score_prediction(predict(posterior, pushes, mapping), pushes)[0]


def score_prediction(predicted: Array, pushes: Pushes) -> tuple[float | None, dict[str, float]]:
    """R^2 of displacements [M, N, 2] m pooled over things, and of every single thing that the script moves."""
    counted, true = pushes.counted, pushes.after - pushes.before
    if not counted.any():
        return None, {}
    scores = {}
    for n, name in enumerate(pushes.names):
        mine = counted[:, n]
        # What stands fast has nothing to explain but the physics engine's jitter.
        if (np.linalg.norm(true[mine, n], axis=1) > MOVED_STEP).any():
            score = r2(true[mine, n], predicted[mine, n])
            if score is not None:
                scores[name] = score
    return r2(true[counted], predicted[counted]), scores


def contact_r2_by_thing(posterior: Posterior, pushes: Pushes, mapping: Mapping[int, str]) -> dict[str, float]:
    """`contact_r2` of every single thing that the script moves."""
    return score_prediction(predict(posterior, pushes, mapping), pushes)[1]
