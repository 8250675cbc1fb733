"""The scripted pushes of the simulator as arrays for `contact.py`. The only part of the evaluation that simulates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from crl_node.evaluation.contact import Pushes

if TYPE_CHECKING:
    from crl_node.arm.profile import RobotProfile
    from crl_node.simulator.scripted import PushStep
    from crl_node.simulator.world import World

#: Seed of the held-out placements: no run uses it for its own.
HELD_OUT_SEED = 7919
PUSHES = 30


def held_out_pushes(world: World, profile: RobotProfile, *, pushes: int = PUSHES) -> Pushes:
    """The fixed script in `world`, run now in simulators of its own."""
    from crl_node.simulator.scripted import scripted_pushes

    return from_steps(scripted_pushes(world, profile, HELD_OUT_SEED, pushes), world.names)


def from_steps(steps: Sequence[PushStep], names: tuple[str, ...]) -> Pushes:
    """Steps as arrays; velocities are the displacement of the step before over its time (0 in a push's first)."""
    count, things = len(steps), len(names)
    before, after = np.zeros((count, things, 2)), np.zeros((count, things, 2))
    velocity, contact = np.zeros((count, things, 2)), np.zeros((count, things), bool)
    tip, tip_velocity, action = np.zeros((count, 2)), np.zeros((count, 2)), np.zeros((count, 2))
    for m, step in enumerate(steps):
        before[m] = [step.before.of(name).position[:2] for name in names]
        after[m] = [step.after.of(name).position[:2] for name in names]
        contact[m] = [bool(step.contacts.get(name)) for name in names]
        tip[m], action[m] = step.before.tip[:2], step.action[:2]
        previous = steps[m - 1] if m and steps[m - 1].push == step.push else None
        if previous is not None:
            dt = step.before.time - previous.before.time
            velocity[m] = (before[m] - before[m - 1]) / dt
            tip_velocity[m] = (tip[m] - tip[m - 1]) / dt
    return Pushes(names, before, velocity, after, tip, tip_velocity, action, contact)
