"""Random worlds: any seed gives a world that loads, fits, can be told apart and is the same in every process."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.colours import angles
from crl_node.simulator.causality import reachable, true_graph
from crl_node.simulator.engine import Simulator
from crl_node.simulator.generator import APART, MOST, random_world, random_world_text
from crl_node.simulator.placement import place
from crl_node.simulator.world import World, WorldError, load_world

PROFILE = load_profile("iiwa_sim")
SEEDS = range(80)


@cache
def drawn(seed: int) -> World:
    return random_world(seed)


def keep_out() -> tuple[float, float, float]:
    tip = Arm(PROFILE).tip_at(PROFILE.vector(PROFILE.home))
    return float(tip[0]), float(tip[1]), PROFILE.tool_radius + 0.01


def digest(seeds: range) -> str:
    return hashlib.sha256("".join(random_world_text(seed) for seed in seeds).encode()).hexdigest()


def test_the_first_worlds_are_as_varied_as_the_readme_says() -> None:
    worlds = [drawn(seed) for seed in SEEDS]
    counts = [sum(1 for t in w.things if t.lamp is None and t.button is None) for w in worlds]
    assert set(counts) == {3, 4, 5, 6}
    with_post = sum(any(not t.movable and not t.lamp and not t.button for t in w.things) for w in worlds)
    for share in (sum(bool(w.springs) for w in worlds), sum(any(t.lamp for t in w.things) for w in worlds), with_post):
        assert 15 < share < 50
    assert {t.shape for w in worlds for t in w.things if t.movable} == {"box", "cylinder", "ball"}
    assert len({w.description for w in worlds}) > 8


@given(st.integers(0, MOST))
@settings(max_examples=60)
def test_any_seed_gives_things_of_the_stated_size_that_the_camera_can_tell_apart_and_the_arm_can_reach(
    seed: int,
) -> None:
    world = random_world(seed)
    assert world.name == f"random_{seed}" and world.seed == seed
    assert load_world(world.reference) == world
    assert sum(t.movable for t in world.things) >= 3
    colours = [np.array(t.colour) for t in world.things]
    for i, colour in enumerate(colours):
        others = np.array([world.table.colour, *colours[:i]])
        assert (angles(others, colour) >= APART - 0.5).all()  # colours are rounded in the file
        assert colour.max() >= 0.6
    for thing in world.things:
        if thing.lamp is None:
            assert all(0.045 <= side <= 0.07 for side in thing.size[:-1]) and 0.04 <= thing.height <= 0.065
            assert reachable(thing, PROFILE)


@given(st.integers(0, MOST), st.integers(0, 1000))
@settings(max_examples=60)
def test_any_seed_of_poses_fits_without_overlap(seed: int, poses: int) -> None:
    world = random_world(seed)
    placed = place(world, poses, keep_out())
    things = world.things
    for i, one in enumerate(things):
        x, y, _ = placed[one.name]
        if one.pose is None:
            box = PROFILE.workspace
            assert box.x[0] < x < box.x[1] and box.y[0] < y < box.y[1]
            room = one.reach + 2 * PROFILE.tool_radius  # for the pusher, on every side
            assert world.table.x[0] + room < x < world.table.x[1] - room
            assert world.table.y[0] + room < y < world.table.y[1] - room
        for other in things[:i]:
            distance = math.dist((x, y), placed[other.name][:2])
            assert distance >= one.reach + other.reach + (world.gap if one.pose is None or other.pose is None else 0)


@pytest.mark.parametrize("seed", range(0, 200, 20))
def test_everything_stands_still_at_first_and_in_view(seed: int) -> None:
    world = random_world(seed)
    with Simulator(world, PROFILE, seed) as simulator:
        before = simulator.truth()
        simulator.advance(0.5)
        after = simulator.truth()
        np.testing.assert_allclose(after.positions, before.positions, atol=1.5e-3)
        assert max(np.linalg.norm(thing.velocity) for thing in after.objects) < 0.01
        assert not any(thing.contacts or thing.pressed or thing.brightness for thing in after.objects)
        pixels = simulator.camera.project(np.array([thing.position for thing in after.objects]))
        assert (pixels > 2).all() and (pixels < 94).all()


def test_the_true_graph_follows_from_the_file() -> None:
    for seed in SEEDS:
        world = drawn(seed)
        graph = true_graph(world, PROFILE)
        assert {kind for kind, _, _ in graph.mechanisms} == {
            *(["SPRING"] if world.springs else []),
            *(["LIT_BY" if t.button.mode == "hold" else "TOGGLE_BY" for t in world.things if t.button]),
        }
        for thing in world.things:
            assert graph.edges["body", f"{thing.name}.position"] == thing.movable


def test_another_process_draws_the_same_worlds() -> None:
    code = (
        "import hashlib; from crl_node.simulator.generator import random_world_text as t;"
        "print(hashlib.sha256(''.join(t(s) for s in range(40)).encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other.splitlines()[-1] == digest(range(40))


@pytest.mark.parametrize("name", ["random:", "random:-1", "random:x", "random:1.5", f"random:{MOST + 1}", "random:²"])
def test_a_seed_that_is_none_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(WorldError, match=r"no world 'random:.*' *: random worlds are random:SEED"):
        load_world(name)
