"""TipCommander: chunks that join smoothly, stay in the workspace, and end at rest."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.arm.commander import Chunk, TipCommander
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array

PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
STILL = dict.fromkeys(PROFILE.joint_names, 0.0)


class Loop:
    """A commander whose arm follows perfectly: what the reference says is what is measured."""

    def __init__(self, place: tuple[float, float] | None = None) -> None:
        self.commander = TipCommander(PROFILE, ARM)
        self.q = ARM.home if place is None else ARM.solve(np.array([*place, PROFILE.tip_height]), ARM.home)
        self.dq = np.zeros(7)
        self.commander.reset(PROFILE.named(self.q))

    @property
    def tip(self) -> Array:
        return ARM.tip_at(self.q)

    def step(self, velocity: tuple[float, float] | Array) -> Chunk:
        chunk = self.commander.chunk(PROFILE.named(self.q), PROFILE.named(self.dq), np.asarray(velocity))
        np.testing.assert_allclose(chunk.trajectory.positions[0], self.q, atol=1e-9)
        np.testing.assert_allclose(chunk.trajectory.velocities[0], self.dq, atol=1e-9)
        self.q, self.dq = chunk.trajectory.sample(PROFILE.command_duration)
        return chunk


def test_every_chunk_ends_at_rest_within_limits_and_continues_the_one_before() -> None:
    loop, rng = Loop((0.6, 0.0)), np.random.default_rng(1)
    for _ in range(60):
        chunk = loop.step(rng.normal(size=2) * 0.3)  # `step` checks continuity of position and velocity
        assert chunk.trajectory.ends_at_rest
        assert chunk.trajectory.duration <= 0.2 + 1e-9
        assert (chunk.trajectory.max_velocity() <= PROFILE.limits.velocity).all()
        assert (chunk.trajectory.max_acceleration() <= PROFILE.limits.acceleration).all()


def test_the_tip_keeps_its_height_its_lean_and_the_workspace() -> None:
    loop, rng = Loop((0.75, 0.2)), np.random.default_rng(2)
    low, high = PROFILE.workspace.low[:2], PROFILE.workspace.high[:2]
    for _ in range(40):
        chunk = loop.step(rng.uniform(-0.1, 0.3, size=2))
        for time in np.linspace(0, 0.2, 9):
            tip, rotation = ARM.tip_pose_at(chunk.trajectory.sample(time)[0])
            assert abs(tip[2] - PROFILE.tip_height) < 1e-3
            assert (tip[:2] > low - 1e-5).all()
            assert (tip[:2] < high + 1e-5).all()
            assert rotation[:, 2] @ ARM.tool_direction(tip) > np.cos(1e-2)


def test_the_tip_slides_along_the_border_instead_of_stopping() -> None:
    loop = Loop((0.80, 0.0))
    for _ in range(5):
        chunk = loop.step((0.2, 0.15))
    assert loop.tip[0] == pytest.approx(0.80, abs=1e-4)
    np.testing.assert_allclose(chunk.velocity, [0.0, 0.15], atol=1e-3)


def test_a_steady_command_moves_the_tip_at_just_that_velocity() -> None:
    loop = Loop((0.5, -0.2))
    loop.step((0.1, 0.15))
    before = loop.tip
    chunk = loop.step((0.1, 0.15))
    np.testing.assert_allclose((loop.tip - before)[:2] / 0.1, [0.1, 0.15], atol=1e-4)
    np.testing.assert_allclose(chunk.velocity, [0.1, 0.15], atol=1e-4)


def test_the_reported_velocity_is_the_mean_over_the_step_also_while_accelerating() -> None:
    loop = Loop((0.5, 0.0))
    before = loop.tip
    chunk = loop.step((0.25, 0.0))
    np.testing.assert_allclose((loop.tip - before)[:2] / 0.1, chunk.velocity, atol=1e-4)
    assert 0.15 < chunk.velocity[0] < 0.25
    np.testing.assert_allclose(chunk.final_velocity, [0.25, 0.0], atol=1e-9)


def test_a_velocity_above_the_largest_speed_is_scaled_not_turned() -> None:
    loop = Loop((0.6, 0.0))
    loop.step((3.0, 4.0))
    chunk = loop.step((3.0, 4.0))
    np.testing.assert_allclose(chunk.velocity, [0.15, 0.20], atol=1e-4)


def test_hold_brings_the_tip_to_rest() -> None:
    loop = Loop((0.6, 0.0))
    loop.step((0.2, 0.0))
    chunk = loop.commander.hold(PROFILE.named(loop.q))
    np.testing.assert_allclose(chunk.final_velocity, 0.0, atol=1e-9)
    rest, velocity = chunk.trajectory.sample(0.15)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-6)
    np.testing.assert_allclose(rest, chunk.trajectory.positions[-1], atol=1e-6)


def test_a_small_difference_to_the_measured_state_is_left_to_the_controller() -> None:
    loop = Loop((0.6, 0.0))
    loop.step((0.2, 0.0))
    off = loop.q + 0.002
    chunk = loop.commander.chunk(PROFILE.named(off), PROFILE.named(loop.dq), np.array([0.2, 0.0]))
    assert not chunk.resynchronised
    np.testing.assert_allclose(chunk.trajectory.positions[0], loop.q, atol=1e-9)


def test_an_arm_that_was_moved_is_taken_where_it_is_and_the_height_comes_back() -> None:
    loop = Loop((0.6, 0.0))
    loop.step((0.2, 0.0))
    stuck = loop.q.copy()
    stuck[0] += 0.2  # far from the reference
    stuck[1] -= 0.02  # and lifted
    chunk = loop.commander.chunk(PROFILE.named(stuck), STILL, np.array([0.2, 0.0]))
    assert chunk.resynchronised
    # The posture that belongs to this tip, as far as the gate lets a command start.
    first = chunk.trajectory.positions[0]
    assert np.abs(first - stuck).max() < PROFILE.start_tolerance
    np.testing.assert_allclose(ARM.tip_at(first), ARM.tip_at(stuck), atol=2e-3)
    np.testing.assert_allclose(chunk.trajectory.velocities[0], 0.0)
    loop.q, loop.dq = chunk.trajectory.sample(0.1)
    for _ in range(12):
        chunk = loop.step((0.0, 0.0))
        assert (chunk.trajectory.max_acceleration() <= PROFILE.limits.acceleration).all()
    assert abs(loop.tip[2] - PROFILE.tip_height) < 1e-3


def test_the_reference_waits_for_a_tip_that_is_blocked_and_keeps_its_posture() -> None:
    """Past bug: the reference ran on, was given up for the tilted arm, and tilted it further, until it jammed."""
    loop = Loop((0.6, 0.0))
    wall, lags = loop.q.copy(), []
    for _ in range(12):
        chunk = loop.commander.chunk(PROFILE.named(wall), STILL, np.array([0.25, 0.0]))
        assert not chunk.resynchronised or not lags
        q = chunk.trajectory.sample(0.1)[0]
        tip, rotation = ARM.tip_pose_at(q)
        lags.append(tip[0] - 0.6)
        assert rotation[:, 2] @ ARM.tool_direction(tip) > np.cos(1e-3)
    assert max(lags) < 0.026
    assert max(lags[-5:]) < PROFILE.max_tip_lag + 1e-3
    assert min(lags[-5:]) > 0.0


def test_a_blocked_tip_still_moves_sideways_and_back() -> None:
    loop = Loop((0.6, 0.0))
    for _ in range(6):
        loop.commander.chunk(PROFILE.named(loop.q), STILL, np.array([0.25, 0.0]))
    sideways = loop.commander.chunk(PROFILE.named(loop.q), STILL, np.array([0.25, 0.1]))
    assert sideways.final_velocity[1] > 0.08
    back = loop.commander.chunk(PROFILE.named(loop.q), STILL, np.array([-0.25, 0.0]))
    assert back.final_velocity[0] < -0.15


def test_a_tip_outside_the_workspace_is_led_back() -> None:
    loop = Loop((0.60, 0.28))
    loop.q = ARM.solve(np.array([0.60, 0.30, 0.02]), loop.q)
    loop.commander.reset(PROFILE.named(loop.q))
    for _ in range(4):
        loop.step((0.1, 0.2))
    assert loop.tip[1] <= 0.28 + 1e-4


def test_a_start_time_given_late_continues_from_where_the_reference_is_by_then() -> None:
    loop = Loop((0.6, 0.0))
    first = loop.commander.chunk(PROFILE.named(loop.q), STILL, np.array([0.2, 0.0]), start=10.0)
    q, dq = first.trajectory.sample(0.13)
    second = loop.commander.chunk(PROFILE.named(q), PROFILE.named(dq), np.array([0.2, 0.0]), start=10.13)
    np.testing.assert_allclose(second.trajectory.positions[0], q, atol=1e-9)
    np.testing.assert_allclose(second.trajectory.velocities[0], dq, atol=1e-9)
    np.testing.assert_allclose(loop.commander.reference(10.13)[0], q, atol=1e-9)


@pytest.mark.parametrize("velocity", [[np.nan, 0.0], [0.0, np.inf], [0.1, 0.1, 0.1]])
def test_a_velocity_that_is_no_planar_number_is_refused(velocity: list[float]) -> None:
    with pytest.raises(ValueError, match="not finite and planar"):
        Loop().step(np.array(velocity))


def test_a_measured_state_that_is_not_finite_is_refused() -> None:
    loop = Loop()
    loop.q[2] = np.nan
    with pytest.raises(ValueError, match="not finite and planar"):
        loop.commander.chunk(PROFILE.named(loop.q), STILL, np.zeros(2))


def test_without_a_reference_there_is_a_sentence() -> None:
    with pytest.raises(RuntimeError, match="no reference yet"):
        TipCommander(PROFILE, ARM).reference(0.0)


def test_after_adopting_a_hold_the_next_chunk_goes_on_from_it() -> None:
    profile = load_profile("iiwa_sim")
    commander = TipCommander(profile)
    rest = dict.fromkeys(profile.joint_names, 0.0)
    commander.reset(profile.home)
    moving = commander.chunk(profile.home, rest, np.array([0.1, 0.0]), start=0.0)
    held = JointTrajectory.resting(profile.joint_names, moving.trajectory.sample(0.05)[0])
    commander.adopt(held, 0.05)
    q, dq = commander.reference(0.1)
    assert np.array_equal(q, held.positions[-1]) and not dq.any()
    after = commander.chunk(profile.named(q), rest, np.array([0.1, 0.0]), start=0.1)
    assert np.allclose(after.trajectory.positions[0], q) and not after.trajectory.velocities[0].any()
