"""The simulator: the same bytes again, springs that pull, buttons that light, and nothing that explodes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.simulator.controller import TrajectoryRejectedError
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import Button, Spring, World, WorldError, load_world, world_names

PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
FREE = (0.60, 0.24)  # where nothing of `arranged` stands


def arranged(name: str, poses: dict[str, tuple[float, float]], **changes: Any) -> World:
    """A shipped world with fixed poses for all its movable things, buttons included."""
    world = load_world(name)
    things = tuple(replace(t, pose=(*poses[t.name], 0.0)) if t.name in poses else t for t in world.things)
    return replace(world, things=things, **changes)


TABLETOP = {
    "red_box": (0.55, 0.0),
    "green_box": (0.55, -0.18),
    "purple_cylinder": (0.71, -0.18),
    "yellow_ball": (0.60, 0.15),
    "pink_button": (0.72, 0.06),
}


class Driver:
    """Moves the tip of a simulator's arm by velocities."""

    def __init__(self, simulator: Simulator, start: tuple[float, float]) -> None:
        self.simulator = simulator
        simulator.set_arm(ARM.solve(np.array([*start, PROFILE.tip_height]), ARM.home))
        self.commander = TipCommander(PROFILE, ARM)
        self.commander.reset(self._state()[0], simulator.time)

    def _state(self) -> tuple[dict[str, float], dict[str, float]]:
        names, q, dq, _ = self.simulator.joint_state()
        return dict(zip(names, q, strict=True)), dict(zip(names, dq, strict=True))

    def go(self, velocity: tuple[float, float], steps: int = 1) -> None:
        for _ in range(steps):
            chunk = self.commander.chunk(*self._state(), np.array(velocity), start=self.simulator.time)
            self.simulator.set_trajectory(chunk.trajectory, self.simulator.time)
            self.simulator.advance(0.1)


@pytest.fixture
def tabletop() -> Iterator[Simulator]:
    with Simulator(arranged("tabletop", TABLETOP), PROFILE, 0) as simulator:
        yield simulator


def brightness_seen(simulator: Simulator) -> float:
    """Mean of the lamp's own pixels, 0..1."""
    lamp = simulator.truth().of("lamp")
    column, row = simulator.camera.project(lamp.position[None])[0]
    image = simulator.render()
    return float(image[int(row) - 1 : int(row) + 2, int(column) - 1 : int(column) + 2].mean() / 255)


def run_bytes(seed: int) -> bytes:
    """Images and joint states of a run with contact, as bytes."""
    with Simulator(load_world("clutter"), PROFILE, seed) as simulator:
        driver = Driver(simulator, (0.42, 0.0))
        parts = []
        for angle in (0.3, -0.2, 0.1, 0.0):
            driver.go((0.25 * math.cos(angle), 0.25 * math.sin(angle)), 3)
            parts += [simulator.render().tobytes(), *(a.tobytes() for a in simulator.joint_state()[1:])]
        return b"".join(parts)


def test_the_same_seed_and_commands_give_the_same_bytes_and_another_seed_others() -> None:
    first = run_bytes(4)
    with Simulator(load_world("tabletop"), PROFILE, 1):  # a second world in this process disturbs nothing
        assert run_bytes(4) == first
    assert run_bytes(5) != first


@pytest.mark.parametrize("name", ["tabletop", "four_cubes", "clutter"])
@pytest.mark.parametrize("seed", range(5))
def test_random_poses_do_not_overlap_leave_room_to_the_rim_and_the_pusher_and_stay_put(
    name: str, seed: int
) -> None:
    world = load_world(name)
    with Simulator(world, PROFILE, seed) as simulator:
        before = simulator.truth()
        for i, one in enumerate(world.things):
            x, y = before.objects[i].position[:2]
            if one.pose is None:
                assert min(x - world.table.x[0], world.table.x[1] - x) > one.reach + 0.03
                assert min(y - world.table.y[0], world.table.y[1] - y) > one.reach + 0.03
            assert math.dist((x, y), before.tip[:2]) > one.reach + PROFILE.tool_radius
            for j in range(i):
                distance = math.dist((x, y), before.objects[j].position[:2])
                assert distance > one.reach + world.things[j].reach
        simulator.advance(1.0)
        after = simulator.truth()
        np.testing.assert_allclose(after.positions, before.positions, atol=1e-3)
        np.testing.assert_allclose(after.tip, before.tip, atol=1e-3)
        assert not any(thing.contacts or thing.pressed or thing.brightness for thing in after.objects)


def test_the_arm_starts_at_home_and_follows_a_trajectory(tabletop: Simulator) -> None:
    names, q, _, _ = tabletop.joint_state()
    np.testing.assert_allclose(q, PROFILE.vector(PROFILE.home))
    goal = q + 0.1
    goal[1] = q[1] - 0.1  # lifts the tip off the table
    points = np.stack([q, goal])
    tabletop.set_trajectory(JointTrajectory(names, np.array([0.0, 0.5]), points, np.zeros_like(points)), 0.0)
    tabletop.advance(0.6)
    np.testing.assert_allclose(tabletop.joint_state()[1], goal, atol=1e-3)


def test_a_trajectory_with_nan_is_refused_and_the_arm_stays(tabletop: Simulator) -> None:
    names, q, _, _ = tabletop.joint_state()
    points = np.stack([q, q * np.nan])
    with pytest.raises(TrajectoryRejectedError, match="not finite"):
        tabletop.set_trajectory(
            JointTrajectory(names, np.array([0.0, 0.1]), points, np.zeros_like(points)), 0.0
        )
    tabletop.advance(0.3)
    np.testing.assert_allclose(tabletop.joint_state()[1], q, atol=1e-3)


def test_a_push_moves_the_thing_with_the_pusher_and_is_noted_as_contact(tabletop: Simulator) -> None:
    driver = Driver(tabletop, (0.47, 0.0))
    driver.go((0.2, 0.0), 6)
    box = tabletop.truth().of("red_box")
    assert box.position[0] > 0.60 and abs(box.position[1]) < 0.01
    assert box.contacts == ("body",) and tabletop.body_contacts == ("red_box",)
    assert box.brightness == 0.0


def test_the_spring_drags_its_other_end_along_and_back_and_the_camera_does_not_see_it(
    tabletop: Simulator,
) -> None:
    with Simulator(replace(tabletop.world, springs=()), PROFILE, 0) as without:
        np.testing.assert_array_equal(tabletop.render(), without.render())
        moved = {}
        for simulator in (tabletop, without):
            driver = Driver(simulator, (0.45, -0.18))
            driver.go((0.2, 0.0), 6)
            moved[simulator] = simulator.truth().of("purple_cylinder").position[0] - 0.71
        assert moved[tabletop] > 0.02
        assert abs(moved[without]) < 1e-3


def test_a_stretched_spring_pulls_both_ends_together() -> None:
    spring = Spring("red_box", "yellow_ball", 0.10, 80.0, 2.0, 4.0)
    with Simulator(arranged("tabletop", TABLETOP, springs=(spring,)), PROFILE, 0) as simulator:

        def distance() -> float:
            truth = simulator.truth()
            return float(
                np.linalg.norm(truth.of("red_box").position[:2] - truth.of("yellow_ball").position[:2])
            )

        start = distance()
        simulator.advance(2.0)
        assert distance() < start - 0.03
        assert distance() > 0.08


def test_a_pushed_ball_rolls_on_and_stops_by_itself(tabletop: Simulator) -> None:
    driver = Driver(tabletop, (0.51, 0.15))
    driver.go((0.25, 0.0), 5)
    driver.go((-0.1, 0.0))
    released = tabletop.truth().of("yellow_ball")
    driver.go((0.0, 0.0), 15)
    ball = tabletop.truth().of("yellow_ball")
    assert ball.position[0] > released.position[0] + 0.005
    assert np.linalg.norm(ball.velocity) < 1e-3


def test_the_button_lights_its_lamp_while_it_is_touched(tabletop: Simulator) -> None:
    dark = brightness_seen(tabletop)
    driver = Driver(tabletop, (0.65, 0.06))
    driver.go((0.15, 0.0), 4)
    truth = tabletop.truth()
    assert truth.of("pink_button").pressed and truth.of("lamp").brightness == 1.0
    assert brightness_seen(tabletop) > 2.5 * dark
    driver.go((-0.2, 0.0), 4)
    truth = tabletop.truth()
    assert not truth.of("pink_button").pressed and truth.of("lamp").brightness == 0.0
    assert brightness_seen(tabletop) == pytest.approx(dark)


def test_a_toggle_button_switches_its_lamp_with_every_touch() -> None:
    world = arranged("tabletop", TABLETOP)
    things = tuple(replace(t, button=Button("lamp", "toggle")) if t.button else t for t in world.things)
    with Simulator(replace(world, things=things), PROFILE, 0) as simulator:
        driver = Driver(simulator, (0.65, 0.06))
        states = []
        for _ in range(2):
            driver.go((0.15, 0.0), 4)
            driver.go((-0.15, 0.0), 4)
            states.append(simulator.truth().of("lamp").brightness)
        assert states == [1.0, 0.0]


def test_a_thing_pushed_against_the_button_presses_it_too() -> None:
    poses = TABLETOP | {"red_box": (0.60, 0.06), "yellow_ball": (0.5, 0.2)}
    with Simulator(arranged("tabletop", poses), PROFILE, 0) as simulator:
        Driver(simulator, (0.53, 0.06)).go((0.2, 0.0), 6)
        button = simulator.truth().of("pink_button")
        assert button.pressed and "red_box" in button.contacts


def test_what_is_immovable_does_not_move_and_the_arm_stalls_on_it_at_its_height(tabletop: Simulator) -> None:
    driver = Driver(tabletop, (0.65, 0.06))
    for _ in range(25):
        driver.go((0.25, 0.0))
        tip = tabletop.tip()
        assert PROFILE.workspace.z[0] < tip[2] < PROFILE.workspace.z[1]
    truth = tabletop.truth()
    np.testing.assert_allclose(truth.of("pink_button").position[:2], TABLETOP["pink_button"], atol=1e-9)
    assert np.linalg.norm(truth.tip[:2] - TABLETOP["pink_button"]) > 0.03
    driver.go((-0.2, 0.0), 3)
    assert tabletop.tip()[0] < 0.65  # free again


@pytest.mark.parametrize("name", ["tabletop", "clutter"])
def test_after_a_lot_of_rough_pushing_everything_is_finite_on_the_table_and_slow(name: str) -> None:
    rng = np.random.default_rng(0)
    world = load_world(name)
    with Simulator(world, PROFILE, 2) as simulator:
        driver = Driver(simulator, (0.42, 0.0))
        for _ in range(60):
            angle = rng.uniform(-math.pi, math.pi)
            driver.go((0.25 * math.cos(angle), 0.25 * math.sin(angle)), 4)
            truth = simulator.truth()
            assert np.isfinite(simulator.joint_state()[1]).all() and np.isfinite(truth.tip).all()
            for thing, state in zip(world.things, truth.objects, strict=True):
                x, y, z = state.position
                assert world.table.x[0] < x < world.table.x[1] and world.table.y[0] < y < world.table.y[1]
                assert 0.3 * thing.height < z < thing.height
                assert np.linalg.norm(state.velocity) < 1.0


def test_time_is_counted_in_physics_steps_so_that_tenths_are_exact(tabletop: Simulator) -> None:
    for _ in range(7):
        tabletop.advance(0.1)
    assert tabletop.time == 0.7 and tabletop.time_ns == 700_000_000


@pytest.mark.parametrize("name", ["tabletop", "four_cubes", "clutter"])
def test_every_thing_is_in_the_picture_in_its_own_colour(name: str) -> None:
    world = load_world(name)
    with Simulator(world, PROFILE, 0) as simulator:
        image = simulator.render()
        assert image.shape == (96, 96, 3) and image.dtype == np.uint8
        for thing, state in zip(world.things, simulator.truth().objects, strict=True):
            column, row = simulator.camera.project(state.position[None])[0]
            seen = image[int(row), int(column)] / 255
            level = thing.lamp.off if thing.lamp else 1.0
            wanted = np.array(thing.colour) * level
            assert np.linalg.norm(seen / np.linalg.norm(seen) - wanted / np.linalg.norm(wanted)) < 0.25, (
                thing.name
            )


def test_a_fixed_pose_on_the_pushers_home_and_a_table_too_full_are_named() -> None:
    with pytest.raises(
        WorldError, match=r"four_cubes.yaml:\d+: pose of 'red_cube' .* from the pusher's home"
    ):
        Simulator(arranged("four_cubes", {"red_cube": (0.42, 0.0)}), PROFILE, 0)
    with pytest.raises(WorldError, match="do not fit into placement"):
        Simulator(replace(load_world("clutter"), room=(0.5, 0.6, -0.1, 0.1)), PROFILE, 0)


def test_every_shipped_world_is_built_for_many_seeds() -> None:
    for name in world_names():
        for seed in range(6, 20):
            Simulator(load_world(name), PROFILE, seed).close()
