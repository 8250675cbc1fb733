"""The slot model in the simulator's worlds, the arm in view and pushing: positions, identities, the lamp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.data import Belief, Frame
from crl_node.perception.slots import SlotEncoder
from crl_node.simulator.engine import Simulator, Truth
from crl_node.simulator.world import World, load_world

PROFILE = load_profile("iiwa_sim")
DT = 0.1


@dataclass
class Record:
    world: World
    truths: list[Truth]
    beliefs: list[Belief]

    def positions(self) -> np.ndarray:
        """True positions [T, N, 2] m."""
        return np.array([truth.positions for truth in self.truths])

    def identities(self) -> np.ndarray:
        """Slot id [T, N] nearest to each thing, within 5 cm and nearer to no other thing; -1 where none."""
        found = np.full(self.positions().shape[:2], -1)
        for t, (truth, belief) in enumerate(zip(self.positions(), self.beliefs, strict=True)):
            if len(belief.ids) < 2:
                continue
            distance = np.linalg.norm(truth[:, None] - belief.mean[None, 1:, :2], axis=2)
            for thing, slot in enumerate(np.argmin(distance, axis=1)):
                if distance[thing, slot] < 0.05 and np.argmin(distance[:, slot]) == thing:
                    found[t, thing] = belief.ids[slot + 1]
        return found


def watch(name: str, seed: int, frames: int) -> Record:
    """Push thing after thing: the tip goes straight to each, through what is in its way, and 6 cm on."""
    world = load_world(name)
    arm = Arm(PROFILE)
    commander = TipCommander(PROFILE, arm)
    record = Record(world, [], [])
    with Simulator(world, PROFILE, seed) as simulator:
        encoder = SlotEncoder(simulator.camera, (*world.table.x, *world.table.y), PROFILE.tool_radius)
        target, left, goal = 0, 0, np.zeros(2)
        for _ in range(frames):
            names, position, speed, _ = simulator.joint_state()
            q = dict(zip(names, map(float, position), strict=True))
            dq = dict(zip(names, map(float, speed), strict=True))
            tip = arm.tip(q)
            velocity = arm.tip_velocity_at(PROFILE.vector(q), PROFILE.vector(dq))[:2]
            frame = Frame(simulator.time, simulator.render(), q)
            record.truths.append(simulator.truth())
            record.beliefs.append(encoder.encode(frame, tip, velocity, arm.capsules(q)))
            if left == 0:
                target, left = (target + 1) % len(world.things), 25
                way = record.truths[-1].positions[target] - tip[:2]
                goal = tip[:2] + way * (1 + 0.06 / np.linalg.norm(way))
            left -= 1
            way = goal - tip[:2]
            wanted = way / max(float(np.linalg.norm(way)), 1e-9) * min(0.2, float(np.linalg.norm(way)) / DT)
            chunk = commander.chunk(q, dq, wanted, start=simulator.time)
            simulator.set_trajectory(chunk.trajectory, simulator.time)
            simulator.advance(DT)
    return record


@pytest.fixture(scope="module", params=["tabletop", "four_cubes", "clutter", "noisy_tv"])
def record(request: pytest.FixtureRequest) -> Record:
    return watch(request.param, seed=3, frames=150)


def test_things_move_or_the_rest_says_nothing(record: Record) -> None:
    path = record.positions()
    assert (np.linalg.norm(path[-1] - path[0], axis=1) > 0.03).sum() >= 2


def test_everything_in_view_is_a_slot_within_five_seconds_and_nothing_else_ever_is(record: Record) -> None:
    assert np.all((record.identities()[:50] >= 0).any(axis=0))
    assert len({int(i) for belief in record.beliefs for i in belief.ids}) == len(record.world.things) + 1


def test_no_identity_is_swapped(record: Record) -> None:
    identities = record.identities()
    for thing in range(identities.shape[1]):
        assert len(set(identities[:, thing]) - {-1}) == 1
    assert len({max(column) for column in identities.T}) == identities.shape[1]


def test_positions_are_right_with_the_arm_in_view(record: Record) -> None:
    identities, truth = record.identities(), record.positions()
    variance = truth.reshape(-1, 2).var(axis=0).mean()
    scores = []
    for thing in range(truth.shape[1]):
        slot = int(identities[:, thing].max())
        rows = [belief.index_of(slot) for belief in record.beliefs]
        error = [
            belief.mean[row, :2] - truth[t, thing]
            for t, (belief, row) in enumerate(zip(record.beliefs, rows, strict=True))
            if row is not None
        ]
        scores.append(1 - np.mean(np.square(error)) / variance)
    assert np.median(scores) > 0.99
    assert min(scores) > 0.97


def test_errors_are_within_what_the_covariance_says(record: Record) -> None:
    identities, truth = record.identities(), record.positions()
    squares = []
    for thing in range(truth.shape[1]):
        for t, belief in enumerate(record.beliefs):
            row = belief.index_of(int(identities[:, thing].max()))
            if row is not None:
                error = belief.mean[row, :2] - truth[t, thing]
                squares.append(error @ np.linalg.solve(belief.cov[row, :2, :2], error))
    assert 0.1 < np.mean(squares) < 4.0  # 2 if exact
    assert np.quantile(squares, 0.95) < 12.0


def test_the_lamp_can_be_told_from_its_brightness() -> None:
    world = load_world("tabletop")
    lamp = next(thing for thing in world.things if thing.lamp is not None)
    brightness: dict[bool, list[float]] = {False: [], True: []}
    record = watch("tabletop", seed=0, frames=150)
    slot = int(record.identities()[:, [t.name for t in world.things].index(lamp.name)].max())
    for truth, belief in zip(record.truths, record.beliefs, strict=True):
        row = belief.index_of(slot)
        if row is not None:
            brightness[truth.of(lamp.name).brightness > 0.5].append(float(belief.mean[row, 4]))
    assert min(len(values) for values in brightness.values()) >= 3
    assert min(brightness[True]) > max(brightness[False])
