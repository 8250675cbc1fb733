"""Recorded beliefs and actions of closed-loop runs without ROS, so that learning can be repeated many times over.

A log holds what the world model was given (beliefs, actions) and, apart from it, the truth of every step for the
evaluation alone. The file is an npz without pickle.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.curiosity.jams import JamMemory
from crl_node.curiosity.planner import PlannerConfig
from crl_node.curiosity.policies import Request, Skills
from crl_node.curiosity.proposals import Table, push_legs, ways
from crl_node.curiosity.scene import scene_from
from crl_node.data import Array, Belief, Candidate, InformationGain, Plan, Posterior
from crl_node.loop import ClosedLoop, Plans
from crl_node.paths import share
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import World, load_world

#: s, control step of the recorded runs.
DT = 0.1
_FIELDS = ("ids", "mean", "cov", "colour", "extent", "existence", "visible")


@dataclass(frozen=True)
class Log:
    """One recorded run of T steps."""

    beliefs: tuple[Belief, ...]  # T
    actions: Array  # [T, 2] m/s, executed after belief t
    names: tuple[str, ...]  # N things
    positions: Array  # [T, N, 2] m, truth
    brightness: Array  # [T, N] truth
    contacts: np.ndarray  # [T, N + 1, N + 1] bool, truth; row and column 0: the body

    def transitions(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Belief, Array | None]]:
        """(belief, action that led to it) from step `start` to `stop`; None where the stream begins."""
        for t in range(start, len(self.beliefs) if stop is None else min(stop, len(self.beliefs))):
            yield self.beliefs[t], self.actions[t - 1] if t > start else None


def record(world: World, seed: int, seconds: float, *, progress: bool = False) -> Log:
    """Run the closed loop and keep what came out of it."""
    profile = load_profile(world_robot())
    loop = ClosedLoop(world, profile, SkillsOnly(world, seed, DT), seed=seed, dt=DT, learn=False)
    names = loop.simulator.world.names
    index = {"body": 0, **{name: n + 1 for n, name in enumerate(names)}}
    beliefs: list[Belief] = []
    actions, positions, brightness, contacts = [], [], [], []
    with loop:
        for step in range(round(seconds / loop.dt)):
            truth = loop.simulator.truth()
            touch = np.zeros((len(index), len(index)), bool)
            for thing in truth.objects:
                for other in thing.contacts:
                    touch[index[thing.name], index[other]] = touch[index[other], index[thing.name]] = True
            out = loop.step()
            beliefs.append(out.belief)
            actions.append(out.action)
            positions.append(truth.positions)
            brightness.append([thing.brightness for thing in truth.objects])
            contacts.append(touch)
            if progress and step % 300 == 299:
                print(f"{world.name} seed {seed}: {step + 1} steps", flush=True)
    return Log(
        tuple(beliefs), np.array(actions), names, np.array(positions), np.array(brightness), np.array(contacts)
    )


def world_robot() -> Path:
    """The arm of the shipped worlds."""
    return share() / "config" / "robots" / "iiwa_sim.yaml"


def record_states(
    world: World, seed: int, seconds: float, *, noise: float = 0.0003, planner: Plans | None = None
) -> Log:
    """As `record`, but beliefs are true states with `noise` m: no picture is drawn, three times as fast.

    `planner`: who moves the arm instead of the scripted pushes; it is given no posterior.
    """
    profile, rng = load_profile(world_robot()), np.random.default_rng(seed)
    arm, planner = Arm(profile), planner or SkillsOnly(world, seed, DT)
    commander = TipCommander(profile, arm)
    names = world.names
    index = {"body": 0, **{name: n + 1 for n, name in enumerate(names)}}
    beliefs: list[Belief] = []
    actions, positions, brightness, contacts = [], [], [], []
    plan: Plan | None = None
    with Simulator(world, profile, seed) as simulator:
        for step in range(round(seconds / DT)):
            now = simulator.time
            joints, q, dq, _ = simulator.joint_state()
            at = dict(zip(joints, map(float, q), strict=True)), dict(zip(joints, map(float, dq), strict=True))
            if step == 0:
                commander.reset(at[0], now)
            vector = profile.vector(at[0])
            truth = simulator.truth()
            touch = np.zeros((len(index), len(index)), bool)
            for thing in truth.objects:
                for other in thing.contacts:
                    touch[index[thing.name], index[other]] = touch[index[other], index[thing.name]] = True
            mean = np.zeros((len(index), 5))
            mean[0, :2] = arm.tip_at(vector)[:2]
            mean[0, 2:4] = arm.tip_velocity_at(vector, profile.vector(at[1]))[:2]
            mean[1:, :2] = truth.positions + noise * rng.standard_normal(truth.positions.shape)
            mean[1:, 2:4] = (mean[1:, :2] - beliefs[-1].mean[1:, :2]) / DT if beliefs else 0.0
            mean[1:, 4] = 0.25 + 0.6 * np.array([thing.brightness for thing in truth.objects])
            spread = np.diag([noise**2, noise**2, 2 * (noise / DT) ** 2, 2 * (noise / DT) ** 2, 1e-4])
            count = len(index)
            extent = np.array([profile.tool_radius, *(thing.extent for thing in world.things)])
            belief = Belief(
                now, np.arange(count), mean, np.tile(spread, (count, 1, 1)), np.zeros((count, 3)), extent,
                np.ones(count), np.ones(count),
            )  # fmt: skip
            plan = planner.plan(belief, previous=plan, executed=actions[-1] if actions else None)
            chunk = commander.chunk(*at, np.asarray(plan.chosen.actions[0], float), start=now)
            simulator.set_trajectory(chunk.trajectory, now)
            simulator.advance(DT)
            beliefs.append(belief)
            actions.append(chunk.velocity)
            positions.append(truth.positions)
            brightness.append([thing.brightness for thing in truth.objects])
            contacts.append(touch)
    return Log(
        tuple(beliefs), np.array(actions), names, np.array(positions), np.array(brightness), np.array(contacts)
    )


@dataclass
class Inwards(Skills):
    """As `Skills`, but things are pushed roughly towards the middle, so that none ends up where the arm cannot get."""

    def _choose(self, request: Request, rng: np.random.Generator) -> None:
        scene, table = request.scene, request.table
        roads = ways(scene, table)
        middle = np.array([table.rim[:2].mean(), table.rim[2:].mean()])
        for _ in range(30 if len(scene.things) else 0):
            row = int(rng.choice(scene.things))
            inward = middle - scene.position[row]
            angle = float(np.arctan2(inward[1], inward[0]) + rng.normal(0.0, 0.7))
            direction = np.array([np.cos(angle), np.sin(angle)])
            legs = push_legs(scene, table, roads, row, direction)
            if legs is not None:
                self._label = f"push {scene.name(row)} inwards"
                self._start(legs, request)
                return
        super()._choose(request, rng)


class SkillsOnly:
    """A scripted policy (walk to a random thing, push through) without a model: it plans from the belief alone."""

    def __init__(self, world: World, seed: int, dt: float) -> None:
        config = PlannerConfig(table=(*world.table.x, *world.table.y), camera=world.camera.eye)
        self._table = Table(
            box=np.array(config.workspace), rim=np.array(config.table), tool_radius=config.tool_radius,
            travel_speed=config.max_speed, push_speed=0.65 * config.max_speed, camera=config.camera,
            tool_height=config.tool_height, shadow_half_width=config.shadow_half_width,
        )  # fmt: skip
        self._policy, self._jams = Inwards(), JamMemory()
        self._rng, self._dt = np.random.default_rng(seed), dt

    def swap(self, posterior: Posterior) -> float:
        """Nothing is planned from a posterior."""
        return 0.0

    def plan(self, belief: Belief, *, previous: Plan | None = None, executed: Array | None = None) -> Plan:
        """The skill under way."""
        scene = scene_from(belief, None)
        jammed = self._jams.observe(scene.stamp, scene.tip, previous, self._dt)
        if jammed is not None:
            self._policy.gave_up(jammed)
        request = Request(
            scene, self._table, [], previous, self._jams.banned, self._jams.leave, self._jams.tedious, 1, 30, self._dt
        )
        proposal = self._policy.propose(request, self._rng)
        actions = proposal.actions[0]
        chosen = Candidate(actions, 0.0, InformationGain(0.0, 0.0, 0.0), proposal.labels[0])
        path = np.vstack([scene.tip, scene.tip + np.cumsum(actions, axis=0) * self._dt]).astype(np.float32)
        return Plan(belief.stamp, 0, chosen, (), path, 0.0, 0.0)


def save(log: Log, path: Path) -> None:
    """Write a log."""
    arrays: dict[str, Any] = {
        "stamp": np.array([b.stamp for b in log.beliefs]),
        "count": np.array([len(b.ids) for b in log.beliefs]),
        "actions": log.actions, "names": np.array(log.names), "positions": log.positions,
        "brightness": log.brightness, "contacts": log.contacts,
    }  # fmt: skip
    for name in _FIELDS:
        arrays[name] = np.concatenate([getattr(b, name) for b in log.beliefs])
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def load(path: Path) -> Log:
    """Read a log."""
    with np.load(path, allow_pickle=False) as file:
        ends = np.cumsum(file["count"])
        parts = {name: np.split(file[name], ends[:-1]) for name in _FIELDS}
        beliefs = tuple(
            Belief(float(stamp), *(parts[name][t] for name in _FIELDS)) for t, stamp in enumerate(file["stamp"])
        )
        return Log(
            beliefs, file["actions"], tuple(map(str, file["names"])), file["positions"], file["brightness"],
            file["contacts"],
        )  # fmt: skip


def get(
    world: str, seed: int, seconds: float, folder: Path, *, states: bool = False, progress: bool = False
) -> Log:  # fmt: skip
    """The log of a run, recorded now unless it lies in `folder`; `states`: see `record_states`."""
    path = folder / f"{Path(world).stem}-{seconds:g}s-seed{seed}{'-states' if states else ''}.npz"
    if not path.is_file():
        if states:
            save(record_states(load_world(world), seed, seconds), path)
        else:
            save(record(load_world(world), seed, seconds, progress=progress), path)
    return load(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Record logs of beliefs and actions.")
    parser.add_argument("world")
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--folder", type=Path, default=Path("runs/logs"))
    parser.add_argument("--states", action="store_true")
    given = parser.parse_args()
    for each in given.seeds:
        get(given.world, each, given.seconds, given.folder, states=given.states, progress=True)
