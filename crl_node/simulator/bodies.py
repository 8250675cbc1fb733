"""Table and things as PyBullet bodies."""

from __future__ import annotations

import pybullet

from crl_node.simulator.placement import Pose
from crl_node.simulator.world import Table, Thing

#: Thickness of the table slab and the rim, m.
SLAB, RIM = 0.04, 0.012
#: What keeps things on the table is taller than the rim that is drawn: a thing squeezed against a low rim
#: would climb over it.
FENCE = 0.12


def build_table(table: Table, client: int) -> tuple[int, ...]:
    """The slab with its top at z = 0, and a rim with its fence on each of the four sides; the fences' body ids."""
    (x0, x1), (y0, y1) = table.x, table.y
    x, y = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    half_x, half_y = 0.5 * (x1 - x0), 0.5 * (y1 - y0)
    slab = (half_x + RIM, half_y + RIM, SLAB / 2)
    _static(slab, slab, (x, y, -SLAB / 2), 0.0, table.colour, table.friction, client)
    fences = []
    rim_colour = tuple(0.85 * channel for channel in table.colour)
    for position, size in (
        ((x0 - RIM / 2, y), (RIM / 2, half_y + RIM)),
        ((x1 + RIM / 2, y), (RIM / 2, half_y + RIM)),
        ((x, y0 - RIM / 2), (half_x, RIM / 2)),
        ((x, y1 + RIM / 2), (half_x, RIM / 2)),
    ):
        # Without a visual shape PyBullet draws the collision shape: a rim of no height lies in the slab.
        drawn = max(table.rim / 2, 1e-4)
        offset = drawn - FENCE / 2 if table.rim > 0 else -FENCE / 2 - SLAB / 2
        place = (*position, FENCE / 2)
        fences.append(_static((*size, drawn), (*size, FENCE / 2), place, offset, rim_colour, 0.1, client))
    return tuple(fences)


def _static(
    drawn: tuple[float, ...],
    solid: tuple[float, ...],
    position: tuple[float, ...],
    drawn_offset: float,
    colour: tuple[float, ...],
    friction: float,
    client: int,
) -> int:
    """A static box: half sizes m of what is drawn (`drawn_offset` m above its centre) and what is solid."""
    visual = pybullet.createVisualShape(
        pybullet.GEOM_BOX,
        halfExtents=drawn,
        rgbaColor=[*colour, 1.0],
        visualFramePosition=[0, 0, drawn_offset],
        physicsClientId=client,
    )
    collision = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=solid, physicsClientId=client)
    body = pybullet.createMultiBody(0, collision, visual, position, physicsClientId=client)
    # Bullet multiplies lateral coefficients, and rolling friction is the sum of each body's times the other's lateral
    # one: any rolling friction of the table would brake every ball at once.
    pybullet.changeDynamics(body, -1, lateralFriction=friction, rollingFriction=0.0, physicsClientId=client)
    return int(body)


def build_thing(thing: Thing, pose: Pose, client: int) -> int:
    """The thing standing at `pose`; returns its body id."""
    if thing.shape == "box":
        half = [0.5 * side for side in thing.size]
        collision = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=client)
        visual = pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=half, rgbaColor=[*thing.colour, 1.0], physicsClientId=client
        )
    elif thing.shape == "cylinder":
        radius, height = 0.5 * thing.size[0], thing.size[1]
        collision = pybullet.createCollisionShape(
            pybullet.GEOM_CYLINDER, radius=radius, height=height, physicsClientId=client
        )
        visual = pybullet.createVisualShape(
            pybullet.GEOM_CYLINDER,
            radius=radius,
            length=height,
            rgbaColor=[*thing.colour, 1.0],
            physicsClientId=client,
        )
    else:
        radius = 0.5 * thing.size[0]
        collision = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=radius, physicsClientId=client)
        visual = pybullet.createVisualShape(
            pybullet.GEOM_SPHERE, radius=radius, rgbaColor=[*thing.colour, 1.0], physicsClientId=client
        )
    x, y, yaw = pose
    body = pybullet.createMultiBody(
        thing.mass,
        collision,
        visual,
        [x, y, 0.5 * thing.height],
        pybullet.getQuaternionFromEuler([0, 0, yaw]),
        physicsClientId=client,
    )
    set_friction(body, thing, client)
    pybullet.changeDynamics(body, -1, linearDamping=0.0, angularDamping=0.0, physicsClientId=client)
    return int(body)


def set_friction(body: int, thing: Thing, client: int) -> None:
    """Give the body the thing's coefficients of friction."""
    pybullet.changeDynamics(
        body,
        -1,
        lateralFriction=thing.friction,
        rollingFriction=thing.rolling_friction,
        spinningFriction=thing.rolling_friction,
        physicsClientId=client,
    )
