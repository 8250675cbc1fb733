"""Changes of a world in the course of a run: what is different, and since when.

A change replaces one mechanism and leaves all others as they were. It is told to nobody but the ground truth.
"""

from __future__ import annotations

from dataclasses import replace

from crl_node.simulator.world_types import Button, Change, World


def due(world: World, time: float) -> tuple[Change, ...]:
    """The changes that have taken place by `time` s, in the order of their times."""
    return tuple(change for change in world.changes if change.at <= time + 1e-9)


def world_at(world: World, time: float) -> World:
    """The world as it is at `time` s: every change that is due is applied, `changes` stays the whole list."""
    for change in due(world, time):
        world = apply(world, change)
    return world


def apply(world: World, change: Change) -> World:
    """The world after one change."""
    if change.kind == "friction":
        things = tuple(
            replace(
                thing, friction=thing.friction * change.factor, rolling_friction=thing.rolling_friction * change.factor
            )
            if thing.name == change.thing
            else thing
            for thing in world.things
        )  # fmt: skip
        return replace(world, things=things)
    if change.kind == "cut":
        ends = {change.a, change.b}
        return replace(world, springs=tuple(spring for spring in world.springs if {spring.a, spring.b} != ends))
    wired = [thing for thing in world.things if thing.button is not None and thing.button.lamp == change.lamp]
    mode = wired[0].button.mode if wired and wired[0].button is not None else "hold"
    things = tuple(
        replace(thing, button=Button(change.lamp, mode))
        if thing.name == change.button
        else replace(thing, button=None)
        if thing in wired
        else thing
        for thing in world.things
    )
    return replace(world, things=things)


def sentence(change: Change) -> str:
    """The change in words."""
    if change.kind == "friction":
        return f"friction of {change.thing} is multiplied by {change.factor:g}"
    if change.kind == "cut":
        return f"the spring between {change.a} and {change.b} is cut"
    return f"{change.lamp} is wired to {change.button}"
