"""The true graph says what the world file means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crl_node.arm.profile import load_profile
from crl_node.simulator.causality import true_graph
from crl_node.simulator.world import Button, World, load_world, world_names


def test_every_ordered_pair_but_a_variable_with_its_own_thing_is_decided() -> None:
    for name in world_names():
        world = load_world(name)
        graph = true_graph(world)
        things = len(world.things)
        # Effects: one position of the body, two variables of each thing; causes: action, body, things.
        assert len(graph.edges) == (1 + 2 * things) * (things + 2) - (1 + 2 * things)
        assert all(effect.split(".")[0] != cause for cause, effect in graph.edges)


def test_tabletop_has_its_spring_both_ways_and_its_button_lights_its_lamp() -> None:
    graph = true_graph(load_world("tabletop"))
    assert set(graph.mechanisms) == {
        ("SPRING", "green_box", "purple_cylinder.position"),
        ("SPRING", "purple_cylinder", "green_box.position"),
        ("LIT_BY", "pink_button", "lamp.brightness"),
    }
    assert [pair for pair, true in graph.edges.items() if true and pair[1].endswith("brightness")] == [
        ("pink_button", "lamp.brightness")
    ]


def test_a_toggle_button_has_its_own_mechanism() -> None:
    world = load_world("tabletop")
    things = tuple(replace(t, button=Button("lamp", "toggle")) if t.button else t for t in world.things)
    assert ("TOGGLE_BY", "pink_button", "lamp.brightness") in true_graph(
        replace(world, things=things)
    ).mechanisms


@pytest.mark.parametrize("name", ["tabletop", "four_cubes", "clutter"])
def test_things_move_movable_things_block_the_body_only_if_immovable_and_nothing_moves_the_immovable(
    name: str,
) -> None:
    world: World = load_world(name)
    edges = true_graph(world).edges
    assert edges["action", "body.position"]
    for thing in world.things:
        assert edges["body", f"{thing.name}.position"] == thing.movable
        assert edges[thing.name, "body.position"] == (not thing.movable)
        assert not edges["action", f"{thing.name}.position"]
        for other in world.things:
            if other is not thing:
                assert edges[other.name, f"{thing.name}.position"] == thing.movable


def test_a_lamp_out_of_the_arms_reach_does_not_block_it() -> None:
    world, profile = load_world("tabletop"), load_profile("iiwa_sim")
    assert not true_graph(world, profile).edges["lamp", "body.position"]
    assert true_graph(world, profile).edges["pink_button", "body.position"]
