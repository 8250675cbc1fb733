"""Held-out pushes for evaluation: the same for every model, never seen by the one that learns.

Each push is an experiment of its own: a fresh placement, the pusher put behind a thing, a straight push.
Things are taken in turn; directions go round in golden angles, so that any number of pushes covers them
evenly; every third push drives a thing into its nearest neighbour; every fourth is off the centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crl_node.arm.commander import TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import RobotProfile
from crl_node.data import Array
from crl_node.simulator.causality import reachable
from crl_node.simulator.engine import Simulator, Truth
from crl_node.simulator.motion import quiet
from crl_node.simulator.world import Thing, World

GOLDEN = math.pi * (3 - math.sqrt(5))  # rad
SPEEDS = (0.25, 0.15, 0.20)  # m/s
#: Room between pusher and thing before the push, m.
LEAD = 0.03
#: Steps of a push and of the rest after it.
PUSH_STEPS, REST_STEPS = 10, 3
#: Directions tried for one push before the thing is passed over.
TRIES = 24


@dataclass(frozen=True)
class PushStep:
    """One control step of a scripted push."""

    push: int  # counts the pushes
    index: int  # counts the steps of this push
    label: str  # "push red_box" or "push red_box into green_box"
    target: str  # the thing that is pushed
    action: Array  # [2] m/s, mean planar tip velocity commanded
    before: Truth
    after: Truth
    contacts: dict[str, tuple[str, ...]]  # who touched each thing during the step, "body" included

    @property
    def in_contact(self) -> dict[str, bool]:
        """Did the body or another thing touch it during the step?"""
        return {name: bool(touching) for name, touching in self.contacts.items()}


@dataclass(frozen=True)
class _Push:
    label: str
    target: str
    start: Array  # [2] m
    direction: Array  # [2] unit vector


def scripted_pushes(world: World, profile: RobotProfile, seed: int, pushes: int) -> list[PushStep]:
    """Steps of `pushes` scripted pushes in placements drawn from `seed`; a function of its arguments only.

    Use a seed that no run uses for its own placement: the placements are those of seed * 100003 + push.
    What shakes or flickers by itself is still: asked is what contacts do, and no model can foresee that noise.
    """
    world = quiet(world)
    arm = Arm(profile)
    steps: list[PushStep] = []
    for number in range(pushes):
        with Simulator(world, profile, (seed * 100003 + number) % 2**31) as simulator:
            push = _choose(simulator, number)
            if push is not None:
                steps += _execute(simulator, arm, push, number)
    return steps


def _choose(simulator: Simulator, number: int) -> _Push | None:
    """The push of this number in this placement; None when the pusher gets behind nothing."""
    things = [thing for thing in simulator.world.things if reachable(thing, simulator.profile)]
    # Movable things are pushed twice as often as immovable ones: pushing against those is soon understood.
    turn = [t for t in things if t.movable] * 2 + [t for t in things if not t.movable]
    for shift in range(len(turn)):
        thing = turn[(number + shift) % len(turn)]
        if number % 3 == 2 and thing.movable:
            push = _into_neighbour(simulator, thing, number)
        else:
            push = _around(simulator, thing, number)
        if push is not None:
            return push
    return None


def _around(simulator: Simulator, thing: Thing, number: int) -> _Push | None:
    centre = np.array(simulator.poses[thing.name][:2])
    for attempt in range(TRIES):
        angle = GOLDEN * number + 2 * math.pi * attempt / TRIES
        direction = np.array([math.cos(angle), math.sin(angle)])
        off = 0.4 * thing.extent * (-1) ** (number // 4) if number % 4 == 3 else 0.0
        side = off * np.array([-direction[1], direction[0]])
        start = centre - direction * _standoff(simulator, thing) + side
        if _free(simulator, thing, start):
            return _Push(f"push {thing.name}", thing.name, start, direction)
    return None


def _into_neighbour(simulator: Simulator, thing: Thing, number: int) -> _Push | None:
    centre = np.array(simulator.poses[thing.name][:2])
    others = [
        (np.array(simulator.poses[t.name][:2]) - centre, t.name)
        for t in simulator.world.things
        if t is not thing
    ]
    for offset, name in sorted(others, key=lambda pair: (float(np.linalg.norm(pair[0])), pair[1])):
        direction = offset / np.linalg.norm(offset)
        start = centre - direction * _standoff(simulator, thing)
        if _free(simulator, thing, start):
            return _Push(f"push {thing.name} into {name}", thing.name, start, direction)
    return None


def _standoff(simulator: Simulator, thing: Thing) -> float:
    return thing.reach + simulator.profile.tool_radius + LEAD


def _free(simulator: Simulator, target: Thing, start: Array) -> bool:
    """The tip may stand at `start` [2] m: inside the workspace, clear of every thing."""
    box = simulator.profile.workspace
    if not (box.x[0] <= start[0] <= box.x[1] and box.y[0] <= start[1] <= box.y[1]):
        return False
    return all(
        math.dist(start, simulator.poses[thing.name][:2])
        > thing.reach + simulator.profile.tool_radius + 0.002
        for thing in simulator.world.things
    )


def _execute(simulator: Simulator, arm: Arm, push: _Push, number: int) -> list[PushStep]:
    profile = simulator.profile
    dt = 1 / simulator.world.camera.rate
    place = np.array([*push.start, profile.tip_height])
    simulator.set_arm(arm.solve(place, _seed_towards(arm, place)))
    names, q, dq, _ = simulator.joint_state()
    commander = TipCommander(profile, arm)
    commander.reset(dict(zip(names, map(float, q), strict=True)), simulator.time)
    steps = []
    speed = SPEEDS[number % len(SPEEDS)]
    for index in range(PUSH_STEPS + REST_STEPS):
        velocity = speed * push.direction if index < PUSH_STEPS else np.zeros(2)
        before = simulator.truth()
        names, q, dq, _ = simulator.joint_state()
        measured = dict(zip(names, map(float, q), strict=True))
        rates = dict(zip(names, map(float, dq), strict=True))
        chunk = commander.chunk(measured, rates, velocity, start=simulator.time)
        simulator.set_trajectory(chunk.trajectory, simulator.time)
        simulator.advance(dt)
        after = simulator.truth()
        contacts = {state.name: state.contacts for state in after.objects}
        steps.append(
            PushStep(number, index, push.label, push.target, chunk.velocity, before, after, contacts)
        )
    return steps


def _seed_towards(arm: Arm, place: Array) -> Array:
    """Joints near those of `place` [3] m, by walking the tip there from home: far jumps confuse the solver."""
    seed = arm.home
    start = arm.tip_at(seed)
    for share in np.linspace(0.0, 1.0, 6)[1:-1]:
        seed = arm.solve(start + share * (place - start), seed)
    return seed
