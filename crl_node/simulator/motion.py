"""What things do by themselves: random motion and random brightness that nobody can foresee, cause or stop.

The draws are a function of the run's seed and of the thing's place in the world file alone, so a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pybullet

from crl_node.data import Array
from crl_node.simulator.world_types import PHYSICS_RATE, Flicker, Shake, Thing, World

#: Natural frequency with which a shaking thing follows its random path, rad/s.
STIFFNESS = 60.0
#: A thing that ends farther than this from where its own step would have led was pushed or stopped, m.
ASTRAY = 0.003


@dataclass
class _Shaking:
    body: int
    mass: float  # kg
    shake: Shake
    rng: np.random.Generator
    every: int  # physics steps between two draws
    home: Array  # [2] m
    start: Array  # [2] m, of the random step under way
    way: Array  # [2] m


@dataclass
class _Flickering:
    thing: Thing
    body: int
    flicker: Flicker
    rng: np.random.Generator
    every: int  # physics steps between two draws


def quiet(world: World) -> World:
    """The same world in which nothing shakes or flickers."""
    return replace(world, things=tuple(replace(thing, shake=None, flicker=None) for thing in world.things))


class OwnMotion:
    """All that shakes and flickers in one simulator."""

    def __init__(self, world: World, seed: int, bodies: Mapping[str, int], client: int) -> None:
        """`bodies`: {name: PyBullet body of `client`}; each stands at its home."""
        self._client = client
        #: {name: level 0..1} of what flickers.
        self.levels: dict[str, float] = {}
        self._shaking: list[_Shaking] = []
        self._flickering: list[_Flickering] = []
        for index, thing in enumerate(world.things):
            body = bodies[thing.name]
            if thing.shake is not None:
                home = self._place(body)[:2]
                rng, every = _draws(seed, index, 0x7368616B), round(thing.shake.period * PHYSICS_RATE)
                self._shaking.append(
                    _Shaking(body, thing.mass, thing.shake, rng, every, home, home.copy(), np.zeros(2))
                )
            if thing.flicker is not None:
                rng, every = _draws(seed, index, 0x666C6963), round(thing.flicker.period * PHYSICS_RATE)
                self._flickering.append(_Flickering(thing, body, thing.flicker, rng, every))
                self._light(self._flickering[-1])

    def drive(self, steps: int) -> None:
        """Forces for the next physics step, when `steps` have been taken."""
        for shaking in self._shaking:
            self._push(shaking, steps)

    def light(self, steps: int) -> None:
        """Levels as they are when `steps` physics steps have been taken."""
        for flickering in self._flickering:
            if steps % flickering.every == 0:
                self._light(flickering)

    def _push(self, shaking: _Shaking, steps: int) -> None:
        position, velocity = self._place(shaking.body), self._velocity(shaking.body)
        shake = shaking.shake
        phase = steps % shaking.every
        if phase == 0:
            # Whoever pushed it away, or stopped it, has moved its home along: it comes back to no place.
            astray = position[:2] - shaking.start - shaking.way
            if np.linalg.norm(astray) > ASTRAY:
                shaking.home = shaking.home + astray
            goal = position[:2] + shaking.rng.normal(0.0, shake.step, 2)
            away = goal - shaking.home
            away *= min(1.0, shake.radius / max(float(np.linalg.norm(away)), 1e-9))
            shaking.start, shaking.way = position[:2], shaking.home + away - position[:2]
        wanted = shaking.start + shaking.way * (phase + 1) / shaking.every
        rate = shaking.way / shake.period
        force = shaking.mass * (
            STIFFNESS**2 * (wanted - position[:2]) + 2 * STIFFNESS * (rate - velocity[:2])
        )
        force *= min(1.0, shake.force / max(float(np.linalg.norm(force)), 1e-9))
        pybullet.applyExternalForce(
            shaking.body,
            -1,
            [float(force[0]), float(force[1]), 0.0],
            position.tolist(),
            pybullet.WORLD_FRAME,
            physicsClientId=self._client,
        )

    def _light(self, flickering: _Flickering) -> None:
        flicker, thing = flickering.flicker, flickering.thing
        level = float(flickering.rng.uniform(flicker.low, flicker.high))
        self.levels[thing.name] = level
        colour = [level * channel for channel in thing.colour]
        pybullet.changeVisualShape(
            flickering.body, -1, rgbaColor=[*colour, 1.0], physicsClientId=self._client
        )

    def _place(self, body: int) -> Array:
        return np.array(pybullet.getBasePositionAndOrientation(body, physicsClientId=self._client)[0])

    def _velocity(self, body: int) -> Array:
        return np.array(pybullet.getBaseVelocity(body, physicsClientId=self._client)[0])


def _draws(seed: int, index: int, kind: int) -> np.random.Generator:
    return np.random.default_rng([seed, kind, index])
