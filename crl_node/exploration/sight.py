"""Beliefs made from the simulator's true states: what exploration would be if seeing were no problem.

For benchmarks only. It lies beside the learning code, not in it: no node and no part of the model imports this.
"""

from __future__ import annotations

import numpy as np

from crl_node.data import BODY, STATE_SIZE, Array, Belief
from crl_node.simulator.engine import Simulator

#: m, standard deviation that is claimed of a true position.
CLAIMED_STD = 1e-4


class TrueSight:
    """Thing number n of the world is slot n + 1; everything is always in view."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self._last: tuple[float, Array] | None = None  # s, [N, 2] m

    def belief(self, stamp: float, tip: Array, tip_velocity: Array) -> Belief:
        """What is the case at `stamp` s; `tip` [3] m and `tip_velocity` [2] m/s come from the joints.

        Velocities are displacements since the call before over its time, as a camera would see them.
        """
        truth = self.simulator.truth()
        position = truth.positions
        velocity = np.zeros_like(position)
        if self._last is not None and stamp > self._last[0]:
            velocity = (position - self._last[1]) / (stamp - self._last[0])
        self._last = stamp, position
        count = len(position) + 1
        mean = np.zeros((count, STATE_SIZE))
        mean[BODY, :2], mean[BODY, 2:4] = tip[:2], tip_velocity
        mean[1:, :2], mean[1:, 2:4] = position, velocity
        mean[1:, 4] = [thing.brightness for thing in truth.objects]
        things = self.simulator.world.things
        return Belief(
            stamp=stamp, ids=np.arange(count), mean=mean,
            cov=np.broadcast_to(np.eye(STATE_SIZE) * CLAIMED_STD**2, (count, STATE_SIZE, STATE_SIZE)).copy(),
            colour=np.array([(0.5, 0.5, 0.5), *(thing.colour for thing in things)], float),
            extent=np.array([self.simulator.profile.tool_radius, *(thing.extent for thing in things)]),
            existence=np.ones(count), visible=np.ones(count),
        )  # fmt: skip
