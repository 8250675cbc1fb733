"""Kinematics: the tip where it should be, by name, over the whole workspace."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.arm.kinematics import Arm, UnreachableError
from crl_node.arm.profile import ProfileError, load_profile

CORNERS = [(x, y) for x in (0.40, 0.60, 0.80) for y in (-0.28, 0.0, 0.28)]


@pytest.fixture(scope="module")
def arm() -> Arm:
    return Arm(load_profile("iiwa_sim"))


def test_home_has_the_tip_at_the_near_edge_of_the_table(arm: Arm) -> None:
    np.testing.assert_allclose(arm.tip(arm.profile.home), [0.42, 0.0, 0.02], atol=2e-4)


def test_joints_are_found_by_name_not_by_place(arm: Arm) -> None:
    shuffled = dict(reversed(list(arm.profile.home.items())))
    np.testing.assert_array_equal(arm.tip(shuffled), arm.tip(arm.profile.home))
    with pytest.raises(ProfileError, match="joint 'lbr_iiwa_joint_7' is absent"):
        arm.tip({k: v for k, v in arm.profile.home.items() if k != "lbr_iiwa_joint_7"})


@pytest.mark.parametrize("place", CORNERS)
def test_every_corner_of_the_workspace_is_reached_within_limits(arm: Arm, place: tuple[float, float]) -> None:
    target = np.array([*place, arm.profile.tip_height])
    q = arm.solve(target, arm.home)
    position, rotation = arm.tip_pose_at(q)
    np.testing.assert_allclose(position, target, atol=1e-6)
    np.testing.assert_allclose(rotation[:, 2], arm.tool_direction(target), atol=1e-5)
    limits = arm.profile.limits
    assert np.minimum(q - limits.lower, limits.upper - q).min() > 0.04


def test_in_the_middle_of_the_table_the_tool_is_vertical(arm: Arm) -> None:
    np.testing.assert_allclose(arm.tool_direction(np.array([0.6, 0.1, 0.02])), [0, 0, -1], atol=1e-12)


def test_a_place_has_one_configuration_whatever_the_way_there(arm: Arm) -> None:
    target = np.array([0.7, 0.1, 0.02])
    one = arm.solve(target, arm.home)
    q = arm.home
    for place in CORNERS:
        q = arm.solve(np.array([*place, 0.02]), q)
    np.testing.assert_allclose(arm.solve(target, q), one, atol=1e-5)


@pytest.mark.parametrize("place", CORNERS)
def test_full_tip_speed_in_any_direction_is_within_joint_velocity_limits(
    arm: Arm, place: tuple[float, float]
) -> None:
    target = np.array([*place, 0.02])
    q = arm.solve(target, arm.home)
    for angle in np.linspace(0, 2 * np.pi, 8, endpoint=False):
        velocity = arm.profile.max_tip_speed * np.array([np.cos(angle), np.sin(angle), 0.0])
        dq = arm.joint_velocity(q, target, velocity)
        assert (np.abs(dq) < 0.8 * arm.profile.limits.velocity).all()
        np.testing.assert_allclose(arm.tip_velocity_at(q, dq), velocity, atol=2e-3)


def test_the_tip_velocity_is_the_derivative_of_the_tip(arm: Arm) -> None:
    rng = np.random.default_rng(0)
    dq = rng.normal(size=7) * 0.3
    step = 1e-6
    numeric = (arm.tip_at(arm.home + step * dq) - arm.tip_at(arm.home - step * dq)) / (2 * step)
    np.testing.assert_allclose(arm.tip_velocity_at(arm.home, dq), numeric, atol=1e-6)


def test_a_place_out_of_reach_is_refused_with_a_sentence(arm: Arm) -> None:
    with pytest.raises(
        UnreachableError, match=r"'iiwa_sim' found no configuration for its tip at \[1.200, 0.000, 0.020\]"
    ):
        arm.solve(np.array([1.2, 0.0, 0.02]), arm.home)


def test_the_capsules_move_with_the_arm_and_end_at_the_tip(arm: Arm) -> None:
    q = arm.profile.named(arm.solve(np.array([0.7, 0.2, 0.02]), arm.home))
    capsules = arm.capsules(q)
    assert len(capsules) == len(arm.profile.self_filter)
    _, end, radius = capsules[-1]
    assert np.linalg.norm(end - arm.tip(q)) < radius
    still, moved = arm.capsules(arm.profile.home)[0], capsules[0]
    np.testing.assert_allclose(still[0], moved[0])  # the base stands still


def test_an_arm_that_only_prefers_a_direction_gets_to_every_corner_of_its_workspace() -> None:
    """Its free roll was once asked to settle within one millisecond of every command: the arm stood still."""
    from crl_node.arm.commander import TipCommander

    profile = load_profile("so101")
    arm, box = Arm(profile), profile.workspace
    commander = TipCommander(profile, arm)
    q, dq = arm.home, np.zeros(5)
    for corner in ((box.x[0], box.y[1]), (box.x[1], box.y[1]), (box.x[1], box.y[0])):
        target = np.array(corner) + 0.01 * np.sign(np.array([np.mean(box.x), np.mean(box.y)]) - corner)
        for _ in range(160):
            way = target - arm.tip_at(q)[:2]
            if np.linalg.norm(way) < 0.003:
                break
            trajectory = commander.chunk(profile.named(q), profile.named(dq), np.clip(3 * way, -0.06, 0.06)).trajectory
            q, dq = trajectory.sample(profile.command_duration)
        assert np.linalg.norm(way) < 0.003, f"the tip stays at {arm.tip_at(q)} on its way to {target}"
