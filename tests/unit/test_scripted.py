"""Held-out pushes: the same again for the same arguments, from all sides, with contact, one thing into another."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.arm.profile import load_profile
from crl_node.simulator.scripted import PushStep, scripted_pushes
from crl_node.simulator.world import load_world

PROFILE = load_profile("iiwa_sim")


@pytest.fixture(scope="module")
def steps() -> list[PushStep]:
    return scripted_pushes(load_world("tabletop"), PROFILE, 7, 18)


def test_the_same_arguments_give_the_same_steps_and_another_seed_others(steps: list[PushStep]) -> None:
    def positions(some: list[PushStep]) -> bytes:
        return b"".join(step.after.positions.tobytes() for step in some)

    world = load_world("tabletop")
    few = positions(scripted_pushes(world, PROFILE, 7, 2))
    assert few == positions([step for step in steps if step.push < 2])
    assert few != positions(scripted_pushes(world, PROFILE, 8, 2))


def test_steps_of_a_push_follow_each_other(steps: list[PushStep]) -> None:
    for before, after in zip(steps, steps[1:], strict=False):
        if before.push == after.push:
            assert after.index == before.index + 1
            assert after.before.time == before.after.time
            np.testing.assert_array_equal(after.before.positions, before.after.positions)


def test_every_movable_thing_is_pushed_from_several_sides_and_moves(steps: list[PushStep]) -> None:
    world = load_world("tabletop")
    for thing in (t for t in world.things if t.movable):
        mine = [step for step in steps if step.target == thing.name]
        angles = {round(float(np.arctan2(*step.action[::-1])), 1) for step in mine if step.index == 3}
        assert len(angles) >= 3, thing.name
        moves = [s.after.of(thing.name).position - s.before.of(thing.name).position for s in mine]
        assert sum(float(np.linalg.norm(move)) for move in moves) > 0.15, thing.name


def test_some_pushes_drive_one_thing_into_another(steps: list[PushStep]) -> None:
    between = {
        (name, other)
        for step in steps
        if " into " in step.label
        for name, touching in step.contacts.items()
        for other in touching
        if other != "body"
    }
    assert len(between) >= 4  # two pairs, each seen from both ends


def test_contact_flags_say_who_touched_what_and_immovable_things_stay(steps: list[PushStep]) -> None:
    world = load_world("tabletop")
    assert {step.in_contact[step.target] for step in steps} == {True, False}
    for step in steps:
        assert np.isfinite(step.after.positions).all() and np.isfinite(step.action).all()
        assert np.linalg.norm(step.action) <= 1.001 * PROFILE.max_tip_speed
        for thing in world.things:
            if not thing.movable:
                np.testing.assert_allclose(
                    step.after.of(thing.name).position, step.before.of(thing.name).position
                )


def test_a_lamp_out_of_reach_is_nobodys_target(steps: list[PushStep]) -> None:
    assert "lamp" not in {step.target for step in steps}
    assert "pink_button" in {step.target for step in steps}
