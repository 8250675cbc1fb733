"""The simulator: one world, one arm, one camera, in PyBullet. Same seed and commands, same bytes.

Gravity acts on the things only: like a real iiwa's controller, the arm's compensates its own weight
exactly, so the motors' force limits are what is left for moving and pushing.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pybullet
from numpy.typing import NDArray

from crl_node.arm.profile import RobotProfile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.camera import Camera
from crl_node.data import Array
from crl_node.simulator.arm_body import ArmBody
from crl_node.simulator.bodies import build_table, build_thing, set_friction
from crl_node.simulator.changes import apply, sentence
from crl_node.simulator.controller import TrajectoryController
from crl_node.simulator.motion import OwnMotion
from crl_node.simulator.placement import Pose, place
from crl_node.simulator.view import camera_matrices, matrices_of
from crl_node.simulator.world_types import PHYSICS_RATE, World

#: Physics steps a second.
RATE = PHYSICS_RATE
GRAVITY = 9.81  # m/s^2
#: A button is pressed below this gap and released above the other, m: an arm that stalls on it trembles by 1 mm.
PRESS_GAP, RELEASE_GAP = 0.003, 0.006
#: Two things closer than this touch, m.
TOUCH_GAP = 0.003
#: Every so many physics steps the contacts are looked up for the ground truth.
CONTACT_STRIDE = 4
BODY = "body"


@dataclass(frozen=True)
class ObjectState:
    """What is really the case with one thing."""

    name: str
    position: Array  # [3] m
    orientation: Array  # [4] quaternion x, y, z, w
    velocity: Array  # [3] m/s
    angular_velocity: Array  # [3] rad/s
    brightness: float  # lamps: 0 off, 1 on; what flickers: its level now, 0..1; 0 for everything else
    pressed: bool  # buttons: something touches it
    contacts: tuple[str, ...]  # things (and "body") it touched within the last camera period, sorted


@dataclass(frozen=True)
class Truth:
    """What is really the case in the world. For evaluation only."""

    time: float  # s
    tip: Array  # [3] m
    objects: tuple[ObjectState, ...]  # in the world file's order
    changes: tuple[str, ...] = ()  # the world's changes that have taken place so far, in words

    def of(self, name: str) -> ObjectState:
        """State of the thing of this name; KeyError otherwise."""
        for thing in self.objects:
            if thing.name == name:
                return thing
        raise KeyError(name)

    @property
    def positions(self) -> Array:
        """Planar positions [N, 2] m."""
        return np.array([thing.position[:2] for thing in self.objects]).reshape(-1, 2)


class JointReference(Protocol):
    """What the arm follows."""

    def reference(self, time: float) -> tuple[Array, Array]:
        """Position [J] rad and velocity [J] rad/s wanted at `time` s."""


class Simulator:
    """One world with its arm. Use as a context manager, or call `close`."""

    def __init__(
        self,
        world: World,
        profile: RobotProfile,
        seed: int | None = None,
        *,
        camera: Camera | None = None,
        arm_options: dict[str, Any] | None = None,
        over_fence: bool = False,
    ) -> None:
        """Everything at rest: the arm at `profile.home`, the things where world and seed put them.

        `camera` replaces the world's; `arm_options` go to `ArmBody`. `over_fence`: what keeps things
        on the table, higher than the rim that is drawn, is no obstacle to the arm.
        """
        self._over_fence = over_fence
        self._arm_options = arm_options or {}
        self.driver: JointReference | None = None  # what the arm follows instead of `controller`
        self.world = world  # as it is now: changes replace it
        self._changes = list(world.changes)  # still to come
        self._changed: list[str] = []
        self.profile = profile
        self.seed = world.seed if seed is None else seed
        self.camera: Camera = world.camera.camera() if camera is None else camera
        self._own_camera = camera is not None
        self.client = int(pybullet.connect(pybullet.DIRECT))
        if self.client < 0:
            raise RuntimeError(
                "PyBullet opened no physics server: too many simulators are open in this process"
            )
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        client = self.client
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=1 / RATE,
            numSolverIterations=50,
            deterministicOverlappingPairs=1,
            physicsClientId=client,
        )
        pybullet.setGravity(0, 0, 0, physicsClientId=client)
        fences = build_table(self.world.table, client)
        self._steps = 0
        self._arm = ArmBody(self.profile, client, **self._arm_options)
        if self._over_fence:
            self._arm.ignore(fences)
        self.set_arm(self.profile.vector(self.profile.home))
        tip = self.tip()
        self.poses: dict[str, Pose] = place(
            self.world, self.seed, (float(tip[0]), float(tip[1]), self.profile.tool_radius + 0.01)
        )
        self._bodies = {t.name: build_thing(t, self.poses[t.name], client) for t in self.world.things}
        self._names = {body: name for name, body in self._bodies.items()} | {self._arm.body: BODY}
        self._movable = [(self._bodies[t.name], t.mass * GRAVITY) for t in self.world.things if t.movable]
        self._lit = {t.name: False for t in self.world.things if t.lamp is not None}
        self._pressed = {t.name: False for t in self.world.things if t.button is not None}
        self._tie_springs()
        self._own = OwnMotion(self.world, self.seed, self._bodies, self.client)
        self._touched: dict[tuple[int, int], int] = {}  # pair of bodies -> step at which they last touched
        self._view, self._projection = (
            matrices_of(self.camera) if self._own_camera else camera_matrices(self.world)
        )
        for lamp in self._lit:
            self._show(lamp)

    def _tie_springs(self) -> None:
        self._springs = []
        for spring in self.world.springs:
            start = np.subtract(self.poses[spring.a][:2], self.poses[spring.b][:2])
            length = spring.length if spring.length is not None else float(np.linalg.norm(start))
            self._springs.append((self._bodies[spring.a], self._bodies[spring.b], length, spring))

    def _change(self) -> None:
        """Let the next change take place."""
        change = self._changes.pop(0)
        self.world = apply(self.world, change)
        self._changed.append(sentence(change))
        if change.kind == "friction":
            set_friction(self._bodies[change.thing], self.world.thing(change.thing), self.client)
        elif change.kind == "cut":
            self._tie_springs()
        else:
            self._pressed = {
                t.name: self._pressed.get(t.name, False) for t in self.world.things if t.button is not None
            }
            button = self.world.thing(change.button).button
            if button is not None and button.mode == "hold":
                self._light(change.lamp, self._held(change.lamp))

    @property
    def time(self) -> float:
        """Simulated time, s."""
        return self._steps / RATE

    @property
    def steps(self) -> int:
        """Physics steps since the start."""
        return self._steps

    @property
    def time_ns(self) -> int:
        """Simulated time, ns, rounded to whole ones."""
        return (self._steps * 1_000_000_000 + RATE // 2) // RATE

    def set_trajectory(self, trajectory: JointTrajectory, start_time: float) -> None:
        """Replace the motion in progress by `trajectory`, whose time 0 is `start_time` s.

        Raises TrajectoryRejectedError, and goes on with the motion in progress, when it cannot be executed.
        """
        self.controller.command(
            trajectory.joint_names,
            trajectory.times,
            trajectory.positions,
            trajectory.velocities,
            start=start_time,
            now=self.time,
        )

    def advance(self, dt: float) -> None:
        """Simulate to the physics step nearest to `time + dt` s."""
        self.step(round(dt * RATE))

    def step(self, steps: int) -> None:
        """Simulate `steps` physics steps of 1 / RATE s."""
        for _ in range(steps):
            while self._changes and self._changes[0].at <= self.time + 1e-9:
                self._change()
            now, later = (self._followed().reference(t / RATE) for t in (self._steps, self._steps + 1))
            self._arm.drive(now, later, 1 / RATE)
            self._apply_forces()
            self._own.drive(self._steps)
            pybullet.stepSimulation(physicsClientId=self.client)
            self._steps += 1
            self._own.light(self._steps)
            self._update_buttons()
            if self._steps % CONTACT_STRIDE == 0:
                self._note_contacts()

    def _followed(self) -> JointReference:
        return self.controller if self.driver is None else self.driver

    def set_arm(self, positions: Array) -> None:
        """Put the arm at `positions` [J] rad, at rest, in no time: for scripted experiments."""
        self._arm.place(positions)
        self.controller = TrajectoryController(self.profile.joint_names, positions)

    def _apply_forces(self) -> None:
        """Weight of the things, and the springs between them."""
        client, world_frame = self.client, pybullet.WORLD_FRAME
        for body, weight in self._movable:
            centre, _ = pybullet.getBasePositionAndOrientation(body, physicsClientId=client)
            pybullet.applyExternalForce(
                body, -1, [0, 0, -weight], centre, world_frame, physicsClientId=client
            )
        for a, b, length, spring in self._springs:
            centre_a, _ = pybullet.getBasePositionAndOrientation(a, physicsClientId=client)
            centre_b, _ = pybullet.getBasePositionAndOrientation(b, physicsClientId=client)
            velocity_a, _ = pybullet.getBaseVelocity(a, physicsClientId=client)
            velocity_b, _ = pybullet.getBaseVelocity(b, physicsClientId=client)
            # In the plane: a spring that pulled things off the table would be another mechanism.
            x, y = centre_b[0] - centre_a[0], centre_b[1] - centre_a[1]
            distance = max((x * x + y * y) ** 0.5, 1e-6)
            x, y = x / distance, y / distance
            rate = (velocity_b[0] - velocity_a[0]) * x + (velocity_b[1] - velocity_a[1]) * y
            pull = spring.stiffness * (distance - length) + spring.damping * rate
            pull = min(max(pull, -spring.max_force), spring.max_force)
            for body, centre, sign in ((a, centre_a, 1.0), (b, centre_b, -1.0)):
                force = [sign * pull * x, sign * pull * y, 0.0]
                pybullet.applyExternalForce(body, -1, force, centre, world_frame, physicsClientId=client)

    def _update_buttons(self) -> None:
        for name, was in self._pressed.items():
            now = self._near(self._bodies[name], RELEASE_GAP if was else PRESS_GAP)
            if now == was:
                continue
            self._pressed[name] = now
            button = self.world.thing(name).button
            assert button is not None
            if button.mode == "hold":
                # Several buttons may light one lamp.
                self._light(button.lamp, self._held(button.lamp))
            elif now:
                self._light(button.lamp, not self._lit[button.lamp])

    def _near(self, body: int, gap: float) -> bool:
        """Something (not the table) is within `gap` m of the body. Bullet's own contacts end at a millimetre."""
        low, high = pybullet.getAABB(body, -1, physicsClientId=self.client)
        low, high = [value - gap for value in low], [value + gap for value in high]
        around = pybullet.getOverlappingObjects(low, high, physicsClientId=self.client) or ()
        others = {other for other, _ in around if other != body and other in self._names}
        return any(
            point[8] < gap
            for other in sorted(others)
            for point in pybullet.getClosestPoints(body, other, gap, physicsClientId=self.client)
        )

    def _held(self, lamp: str) -> bool:
        buttons = [
            thing for thing in self.world.things if thing.button is not None and thing.button.lamp == lamp
        ]
        return any(self._pressed[b.name] for b in buttons if b.button is not None and b.button.mode == "hold")

    def _light(self, lamp: str, lit: bool) -> None:
        if self._lit[lamp] != lit:
            self._lit[lamp] = lit
            self._show(lamp)

    def _show(self, name: str) -> None:
        thing = self.world.thing(name)
        assert thing.lamp is not None
        level = thing.lamp.on if self._lit[name] else thing.lamp.off
        colour = [level * channel for channel in thing.colour]
        pybullet.changeVisualShape(
            self._bodies[name], -1, rgbaColor=[*colour, 1.0], physicsClientId=self.client
        )

    def _note_contacts(self) -> None:
        for point in pybullet.getContactPoints(physicsClientId=self.client):
            if point[8] < TOUCH_GAP and point[1] in self._names and point[2] in self._names:
                self._touched[min(point[1], point[2]), max(point[1], point[2])] = self._steps

    def _recent(self) -> list[tuple[str, str]]:
        """Names of the pairs that touched within the last camera period."""
        since = self._steps - RATE / self.world.camera.rate
        return [(self._names[a], self._names[b]) for (a, b), step in self._touched.items() if step > since]

    def limp(self, joint: str) -> None:
        """From now on the motor of `joint` gives no torque; empty: all do. ValueError when there is no such joint."""
        names = self.profile.joint_names
        if joint and joint not in names:
            raise ValueError(f"there is no joint '{joint}' to make limp; the arm has {', '.join(names)}")
        self._arm.limp = names.index(joint) if joint else None

    def joint_state(self) -> tuple[tuple[str, ...], Array, Array, Array]:
        """Joint names, positions [J] rad, velocities [J] rad/s, motor torques [J] N m."""
        q, dq = self._arm.state()
        return self.profile.joint_names, q, dq, self._arm.effort.copy()

    def tip(self) -> Array:
        """Position [3] m of the pusher's tip."""
        return self._arm.tip()

    def render(self) -> NDArray[np.uint8]:
        """The camera's picture [height, width, 3] rgb."""
        width, height, pixels, _, _ = pybullet.getCameraImage(
            self.camera.width,
            self.camera.height,
            self._view,
            self._projection,
            shadow=0,
            flags=pybullet.ER_NO_SEGMENTATION_MASK,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self.client,
        )
        return np.ascontiguousarray(np.asarray(pixels, np.uint8).reshape(height, width, 4)[:, :, :3])

    def truth(self) -> Truth:
        """What is really the case now."""
        touched: dict[str, set[str]] = {name: set() for name in self._bodies}
        for a, b in self._recent():
            for one, other in ((a, b), (b, a)):
                if one in touched:
                    touched[one].add(other)
        states = []
        for name, body in self._bodies.items():
            position, orientation = pybullet.getBasePositionAndOrientation(body, physicsClientId=self.client)
            velocity, angular = pybullet.getBaseVelocity(body, physicsClientId=self.client)
            states.append(
                ObjectState(
                    name,
                    np.array(position),
                    np.array(orientation),
                    np.array(velocity),
                    np.array(angular),
                    brightness=self._own.levels.get(name, float(self._lit.get(name, False))),
                    pressed=self._pressed.get(name, False),
                    contacts=tuple(sorted(touched[name])),
                )
            )
        return Truth(self.time, self.tip(), tuple(states), tuple(self._changed))

    @property
    def body_contacts(self) -> tuple[str, ...]:
        """Things the arm touched within the last camera period, sorted."""
        return tuple(sorted(b if a == BODY else a for a, b in self._recent() if BODY in (a, b)))

    def close(self) -> None:
        """Free the physics server. Closing twice is fine."""
        if self.client >= 0:
            pybullet.disconnect(physicsClientId=self.client)
            self.client = -1

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
