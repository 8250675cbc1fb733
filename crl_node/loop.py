"""The closed loop in one process, without ROS: the same parts as the nodes, for experiments and benchmarks.

What it leaves out is transport and process separation, not behaviour: perception, world model, planner,
commander and gate are the objects that the nodes use. It never shows the truth to any of them; callers who
evaluate read `loop.simulator.truth()` themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import numpy as np

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile
from crl_node.data import Array, Belief, Frame, Plan, Posterior
from crl_node.perception.slots import SlotEncoder
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import World
from crl_node.world_model import ModelConfig, Observation, WorldModel


@dataclass(frozen=True)
class LoopStep:
    """What happened in one control step."""

    belief: Belief
    observation: Observation
    plan: Plan
    action: Array  # [2] m/s, mean tip velocity commanded in the step that follows
    milliseconds: dict[str, float] = field(default_factory=dict)  # by part


class Plans(Protocol):
    """What moves the arm: a `crl_node.curiosity.planner.Planner`, or a baseline that needs no model."""

    def swap(self, posterior: Posterior) -> float:
        """Take a new posterior."""
        ...

    def plan(self, belief: Belief, *, previous: Plan | None = None, executed: Array | None = None) -> Plan:
        """One plan from `belief`; `executed` [2] m/s is what was commanded since the previous one."""
        ...


class Sight(Protocol):
    """What makes beliefs instead of the camera and the encoder (`crl_node.exploration.sight`)."""

    def belief(self, stamp: float, tip: Array, tip_velocity: Array) -> Belief:
        """Belief at `stamp` s from `tip` [3] m and `tip_velocity` [2] m/s."""
        ...


class ClosedLoop:
    """Simulator, encoder, world model, planner and commander, one step at a time. Use as a context manager."""

    def __init__(
        self, world: World, profile: RobotProfile, planner: Plans, *, seed: int, dt: float = 0.1, learn: bool = True,
        sight: Callable[[Simulator], Sight] | None = None,
    ) -> None:  # fmt: skip
        """`dt` s is the control step and the camera period; `seed` places the things and seeds the model.

        Without `learn` nothing is learned (to record what others will learn from). `sight` makes what sees instead
        of camera and encoder.
        """
        table = world.table
        wall = (*table.x, *table.y)
        self.dt, self.learn = dt, learn
        self.profile = profile
        self.simulator = Simulator(world, profile, seed)
        self.arm = Arm(profile)
        self.commander = TipCommander(profile, self.arm)
        self.encoder = SlotEncoder(self.simulator.camera, wall, profile.tool_radius)
        self.sight = None if sight is None else sight(self.simulator)
        self.model = WorldModel(ModelConfig(dt=dt, wall=wall), seed=seed)
        self.planner = planner
        self._action: Array | None = None
        self._plan: Plan | None = None
        self.commander.reset(self._joints()[0], self.simulator.time)
        planner.swap(self.model.posterior())

    def _joints(self) -> tuple[dict[str, float], dict[str, float]]:
        names, q, dq, _ = self.simulator.joint_state()
        return dict(zip(names, map(float, q), strict=True)), dict(zip(names, map(float, dq), strict=True))

    def step(self) -> LoopStep:
        """See, learn, plan, move for `dt` s."""
        now = self.simulator.time
        q, dq = self._joints()
        marks = [time.perf_counter()]
        image = self.simulator.render() if self.sight is None else None
        marks.append(time.perf_counter())
        vector, speed = self.profile.vector(q), self.profile.vector(dq)
        tip, tip_velocity = self.arm.tip_at(vector), self.arm.tip_velocity_at(vector, speed)[:2]
        if image is not None:
            belief = self.encoder.encode(Frame(now, image, q), tip, tip_velocity, self.arm.capsules(q))
        elif self.sight is not None:
            belief = self.sight.belief(now, tip, tip_velocity)
        marks.append(time.perf_counter())
        observation = self.model.observe(belief, self._action) if self.learn else Observation(False, 0.0)
        marks.append(time.perf_counter())
        if self.learn:
            self.model.refresh()
        posterior = self.model.posterior()
        marks.append(time.perf_counter())
        self.planner.swap(posterior)
        plan = self.planner.plan(belief, previous=self._plan, executed=self._action)
        marks.append(time.perf_counter())
        chunk = self.commander.chunk(q, dq, np.asarray(plan.chosen.actions[0], float), start=now)
        self.simulator.set_trajectory(chunk.trajectory, now)
        marks.append(time.perf_counter())
        self.simulator.advance(self.dt)
        marks.append(time.perf_counter())
        self._action, self._plan = chunk.velocity, plan
        parts = ("render", "perception", "update", "refresh", "plan", "command", "physics")
        return LoopStep(
            belief, observation, plan, chunk.velocity,
            {part: 1e3 * (b - a) for part, a, b in zip(parts, marks[:-1], marks[1:], strict=True)},
        )  # fmt: skip

    def close(self) -> None:
        """Free the simulator."""
        self.simulator.close()

    def __enter__(self) -> ClosedLoop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
