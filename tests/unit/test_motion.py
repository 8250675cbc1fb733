"""What shakes and flickers by itself: never the same step twice, the same in every run of a seed, near its place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.data import Array
from crl_node.simulator.causality import true_graph
from crl_node.simulator.engine import Simulator
from crl_node.simulator.motion import quiet
from crl_node.simulator.placement import place
from crl_node.simulator.scripted import scripted_pushes
from crl_node.simulator.world import Shake, World, load_world

PROFILE = load_profile("iiwa_sim")


def watched(world: World, seed: int, frames: int) -> tuple[Array, Array]:
    """Positions [T, N, 2] m and brightness [T, N], the arm at home."""
    positions, brightness = [], []
    with Simulator(world, PROFILE, seed) as simulator:
        for _ in range(frames):
            truth = simulator.truth()
            positions.append(truth.positions)
            brightness.append([thing.brightness for thing in truth.objects])
            simulator.advance(0.1)
    return np.array(positions), np.array(brightness)


@pytest.fixture(scope="module")
def seen() -> tuple[Array, Array]:
    return watched(load_world("noisy_tv"), 0, 300)


def test_it_shakes_by_about_its_step_around_its_home_and_the_others_stay(seen: tuple[Array, Array]) -> None:
    world = load_world("noisy_tv")
    shaker = world.names.index("shaker")
    shake = world.things[shaker].shake
    assert shake is not None
    path = seen[0][:, shaker]
    steps = np.diff(path, axis=0)
    # The edge of its disc cuts steps short.
    assert 0.6 * shake.step < steps.std() < 1.1 * shake.step
    assert np.linalg.norm(path - path[0], axis=1).max() < 2.5 * shake.radius
    assert np.ptp(np.delete(seen[0], shaker, axis=1), axis=0).max() < 1e-3


def test_the_next_step_does_not_follow_from_the_last_one(seen: tuple[Array, Array]) -> None:
    steps = np.diff(seen[0][:, load_world("noisy_tv").names.index("shaker")], axis=0)
    assert abs(np.mean(steps[1:] * steps[:-1]) / np.mean(steps**2)) < 0.2


def test_the_screen_takes_a_new_brightness_in_every_period_between_its_bounds(seen: tuple[Array, Array]) -> None:
    levels = seen[1][:, load_world("noisy_tv").names.index("screen")]
    assert len(set(levels)) == len(levels)
    assert 0.4 <= levels.min() < 0.45 and 0.95 < levels.max() <= 1.0
    assert abs(np.corrcoef(levels[1:], levels[:-1])[0, 1]) < 0.2


def test_the_picture_shows_the_brightness_that_the_truth_tells() -> None:
    world = load_world("noisy_tv")
    screen = next(thing for thing in world.things if thing.name == "screen")
    with Simulator(world, PROFILE, 1) as simulator:
        ratios = []
        for _ in range(5):
            state = simulator.truth().of("screen")
            column, row = simulator.camera.project(state.position[None])[0]
            ratios.append(simulator.render()[int(row), int(column)] / 255 / state.brightness)
            simulator.advance(0.1)
        assert np.ptp(ratios, axis=0).max() < 0.02
        assert np.argmax(ratios[0]) == np.argmax(screen.colour)


def test_a_seed_is_a_run_and_another_seed_another_one(seen: tuple[Array, Array]) -> None:
    world = load_world("noisy_tv")
    with Simulator(world, PROFILE, 5):  # another world in this process takes none of its draws
        again = watched(world, 0, 60)
    np.testing.assert_array_equal(again[0], seen[0][:60])
    np.testing.assert_array_equal(again[1], seen[1][:60])
    other = watched(world, 1, 10)
    assert not np.isin(other[1][:, world.names.index("screen")], again[1]).any()


def test_its_draws_do_not_depend_on_what_the_arm_does() -> None:
    """One cannot stop it: the screen flickers on, and the shaker takes the same random steps from where it is."""
    world = load_world("noisy_tv")
    screen = world.names.index("screen")
    left_alone = watched(world, 2, 12)[1][:, screen]
    with Simulator(world, PROFILE, 2) as simulator:
        levels = []
        for joint in np.linspace(0, 0.3, 12):
            levels.append(simulator.truth().objects[screen].brightness)
            simulator.set_arm(PROFILE.vector(PROFILE.home) + joint)
            simulator.advance(0.1)
    np.testing.assert_array_equal(levels, left_alone)


def test_the_pusher_pushes_it_away_and_it_shakes_on_where_it_is() -> None:
    world = load_world("noisy_tv")
    poses = {"shaker": (0.55, 0.0, 0.0), "red_cube": (0.7, 0.2, 0.0)}
    things = tuple(replace(t, pose=poses.get(t.name)) for t in world.things if t.name in poses)
    gently = Shake(step=0.003, radius=0.008, period=0.1, force=2.0)  # so that it does not slip off to the side
    things = tuple(replace(t, shake=gently) if t.shake else t for t in things)
    arm = Arm(PROFILE)
    with Simulator(replace(world, things=things), PROFILE, 0) as simulator:
        simulator.set_arm(arm.solve(np.array([0.45, 0.0, PROFILE.tip_height]), arm.home))
        commander = TipCommander(PROFILE, arm)
        names, q, dq, _ = simulator.joint_state()
        commander.reset(dict(zip(names, q, strict=True)), 0.0)
        for _ in range(14):
            names, q, dq, _ = simulator.joint_state()
            now = (dict(zip(names, q, strict=True)), dict(zip(names, dq, strict=True)))
            chunk = commander.chunk(*now, np.array([0.2, 0.0]), start=simulator.time)
            simulator.set_trajectory(chunk.trajectory, simulator.time)
            simulator.advance(0.1)
        pushed = simulator.truth().of("shaker").position[:2]
        tip = simulator.tip()[:2]
        assert np.linalg.norm(pushed - [0.55, 0.0]) > 0.08
        # The arm is not moved by it: it went its 28 cm.
        assert tip[0] > 0.70
        path = []
        for _ in range(50):
            simulator.advance(0.1)
            path.append(simulator.truth().of("shaker").position[:2])
    assert np.diff(path, axis=0).std() > 0.0015
    middle = np.mean(path, axis=0)
    assert np.linalg.norm(middle - pushed) < 0.03 < 0.08 < np.linalg.norm(middle - [0.55, 0.0])


def test_it_begins_with_room_for_all_of_its_disc() -> None:
    world = load_world("noisy_tv")
    shaker = world.thing("shaker")
    assert shaker.shake is not None and shaker.roam == shaker.reach + shaker.shake.radius
    for seed in range(30):
        poses = place(world, seed, (0.42, 0.0, 0.025))
        for other in world.things:
            if other is not shaker:
                room = math.dist(poses["shaker"][:2], poses[other.name][:2]) - shaker.reach - other.reach
                assert room >= shaker.shake.radius + world.gap


def test_noise_is_no_cause_so_the_true_graph_is_that_of_the_quiet_world() -> None:
    world = load_world("noisy_tv")
    assert true_graph(world, PROFILE) == true_graph(quiet(world), PROFILE)
    edges = true_graph(world, PROFILE).edges
    assert [cause for (cause, effect), true in edges.items() if true and effect == "screen.brightness"] == []
    assert edges["body", "shaker.position"] and edges["shaker", "red_cube.position"]


def test_held_out_pushes_ask_for_mechanisms_and_not_for_noise() -> None:
    steps = scripted_pushes(load_world("noisy_tv"), PROFILE, 7, 2)
    for step in steps:
        if not step.contacts["shaker"]:
            np.testing.assert_allclose(
                step.after.of("shaker").position, step.before.of("shaker").position, atol=2e-3
            )
        assert step.after.of("screen").brightness == 0.0
