"""Kalman filters for all slots at once, with two modes each: at rest and moving.

Interacting multiple models (Blom and Bar-Shalom 1988): a thing at rest hardly moves and has no velocity; a moving
one takes up any velocity within a step. The mixture is quick when a push starts or stops and quiet in between.
State of a mode: x, y [m], vx, vy [m/s].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array
from crl_node.perception.config import SlotConfig

REST, MOVE = 0, 1
_H = np.eye(2, 4)


class Motion:
    """Filters of `capacity` slots; row i belongs to slot i."""

    def __init__(self, capacity: int, config: SlotConfig) -> None:
        self._config = config
        self.mean: Array = np.zeros((capacity, 2, 4))
        self.cov: Array = np.tile(np.eye(4), (capacity, 2, 1, 1))
        self.mode: Array = np.tile([0.5, 0.5], (capacity, 1))
        stay = np.array([[1 - config.to_motion, config.to_motion], [config.to_rest, 1 - config.to_rest]])
        self._switch = stay

    def start(self, row: int, position: Array, std: float) -> None:
        """Slot `row` is at `position` [2] m, known to `std` m, with unknown motion."""
        self.mean[row] = [*position, 0.0, 0.0]
        self.cov[row] = np.diag([std**2, std**2, 0.05**2, 0.05**2])
        self.cov[row, REST, 2:, 2:] = np.eye(2) * 1e-8
        self.mode[row] = [0.7, 0.3]

    def loosen(self, row: int, std: float) -> None:
        """Slot `row` is not where it was thought to be: it may be `std` m off."""
        self.cov[row, :, [0, 1], [0, 1]] += std**2

    def predict(self, dt: float, damping: Array) -> None:
        """One step of `dt` s; `damping` [M] is the share of velocity that is kept (less while hidden)."""
        prior = self.mode @ self._switch  # [M, to]
        weight = self.mode[:, :, None] * self._switch[None] / prior[:, None, :]  # [M, from, to]
        mean = np.einsum("mft,mfs->mts", weight, self.mean)
        spread = self.mean[:, :, None] - mean[:, None]  # [M, from, to, 4]
        cov = np.einsum("mft,mfij->mtij", weight, self.cov)
        cov += np.einsum("mft,mfti,mftj->mtij", weight, spread, spread)
        self.mode = prior
        scale = dt / 0.1
        step = np.eye(2) * self._config.rest_std**2 * scale
        jump = np.eye(2) * self._config.velocity_std**2 * scale
        self.mean[:, REST] = mean[:, REST]
        self.mean[:, REST, 2:] = 0.0
        self.cov[:, REST] = 0.0
        self.cov[:, REST, :2, :2] = cov[:, REST, :2, :2] + step
        self.cov[:, REST, 2:, 2:] = np.eye(2) * 1e-8
        transition = np.tile(np.eye(4), (len(mean), 1, 1))
        transition[:, [2, 3], [2, 3]] = damping[:, None]
        transition[:, [0, 1], [2, 3]] = damping[:, None] * dt
        # the velocity changes at the start of the step: half-way changes would overshoot a push that has begun
        noise = np.block([[jump * dt**2 + step, jump * dt], [jump * dt, jump]])
        self.mean[:, MOVE] = np.einsum("mij,mj->mi", transition, mean[:, MOVE])
        self.cov[:, MOVE] = transition @ cov[:, MOVE] @ transition.transpose(0, 2, 1) + noise

    def update(self, rows: NDArray[np.int64], position: Array, noise: Array) -> None:
        """Fuse measured positions [R, 2] m with covariances [R, 2, 2] m^2 into slots `rows`."""
        if not rows.size:
            return
        mean, cov = self.mean[rows], self.cov[rows]
        innovation = position[:, None] - mean[:, :, :2]  # [R, 2 modes, 2]
        scatter = cov[:, :, :2, :2] + noise[:, None]
        inverse = np.linalg.inv(scatter)
        gain = cov[:, :, :, :2] @ inverse
        mean = mean + np.einsum("rmij,rmj->rmi", gain, innovation)
        keep = np.eye(4) - gain @ _H
        # Joseph form: stays symmetric and positive under rounding
        cov = keep @ cov @ keep.transpose(0, 1, 3, 2) + gain @ noise[:, None] @ gain.transpose(0, 1, 3, 2)
        distance = np.einsum("rmi,rmij,rmj->rm", innovation, inverse, innovation)
        log_likelihood = -0.5 * (distance + np.log(np.linalg.det(scatter)))
        log_mode = np.log(self.mode[rows]) + log_likelihood
        log_mode -= log_mode.max(axis=1, keepdims=True)
        mode = np.exp(log_mode) + 1e-6
        self.mean[rows], self.cov[rows] = mean, cov
        self.mode[rows] = mode / mode.sum(axis=1, keepdims=True)

    def moments(self) -> tuple[Array, Array]:
        """Mean [M, 4] and covariance [M, 4, 4] of the mixture of both modes."""
        mean = np.einsum("mk,mki->mi", self.mode, self.mean)
        spread = self.mean - mean[:, None]
        cov = np.einsum("mk,mkij->mij", self.mode, self.cov + spread[..., :, None] * spread[..., None, :])
        return mean, cov
