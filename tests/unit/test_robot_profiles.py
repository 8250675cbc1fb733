"""Every shipped profile: reaches its workspace, is tighter than its URDF; URDFs from files, packages and topics."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from crl_node.arm import schema
from crl_node.arm.description import angles, rotation
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import DescriptionNeededError, ProfileError, load_profile, profile_names
from crl_node.arm.robot_check import REACH_BOUND, check_profile, reach_errors
from crl_node.paths import share

ROBOTS = share() / "config" / "robots"


def profile_file(folder: Path, *edits: tuple[str, str], of: str = "so101") -> Path:
    """A copy of a shipped profile with edits; each old text must stand once."""
    text = (ROBOTS / f"{of}.yaml").read_text()
    for old, new in edits:
        assert text.count(old) == 1, f"'{old}' stands {text.count(old)} times"
        text = text.replace(old, new)
    path = folder / "arm.yaml"
    path.write_text(text)
    return path


def test_the_four_arms_are_shipped() -> None:
    assert set(profile_names()) >= {"iiwa_sim", "ur5e", "franka", "so101"}


@pytest.mark.parametrize("name", profile_names())
def test_every_place_of_the_workspace_is_reached_within_a_tenth_of_a_millimetre_and_limits(name: str) -> None:
    profile = load_profile(name)
    worst, room, missing = reach_errors(profile, Arm(profile))
    print(f"{name}: worst {worst * 1e3:.5f} mm, {room:.3f} rad from the nearest limit")
    assert missing == []
    assert worst < REACH_BOUND
    assert room >= 0


@pytest.mark.parametrize("name", profile_names())
def test_limits_are_inside_the_urdfs(name: str) -> None:
    profile = load_profile(name)
    assert set(profile.urdf_limits) == set(profile.joint_names)
    for i, joint in enumerate(profile.joint_names):
        lower, upper, velocity = profile.urdf_limits[joint]
        assert lower < profile.limits.lower[i] < profile.limits.upper[i] < upper
        assert profile.limits.velocity[i] <= velocity


@pytest.mark.parametrize("name", profile_names())
def test_a_shipped_profile_has_nothing_to_mend(name: str) -> None:
    _, findings = check_profile(name)
    assert [entry.sentence for entry in findings.entries if not entry.ok and not entry.warning] == []


def test_an_arm_of_five_joints_puts_position_before_direction() -> None:
    """At the workspace's edge the gripper cannot point where the profile wants: the tip still is where it was asked."""
    profile = load_profile("so101")
    arm = Arm(profile)
    place = np.array([0.30, 0.12, 0.055])
    q = arm.solve(place, arm.home, iterations=200)
    tip, turn = arm.tip_pose_at(q)
    assert np.linalg.norm(tip - place) < 1e-4
    assert np.arccos(turn[:, 2] @ arm.tool_direction(place)) > 0.01


def test_a_tool_is_a_frame_of_the_arm_and_is_taken_out_of_the_picture() -> None:
    profile = load_profile("ur5e")
    assert profile.tool is not None
    arm, q = Arm(profile), profile.vector(profile.home)
    flange = arm.model.getFrameId(profile.tool.parent)
    arm.tip_at(q)
    wrist = arm._data.oMf[flange]
    np.testing.assert_allclose(arm.tip_at(q), wrist.translation + wrist.rotation @ profile.tool.xyz, atol=1e-9)
    assert any(c.link == profile.tool.parent for c in profile.self_filter)


def test_locked_joints_are_no_joints_of_the_arm() -> None:
    profile = load_profile("franka")
    assert "panda_finger_joint1" not in profile.joint_names
    assert Arm(profile).model.nq == 7


def test_a_locked_joint_stays_at_its_position(tmp_path: Path) -> None:
    opened = load_profile(profile_file(tmp_path, ("locked: {gripper: 0.0}", "locked: {gripper: 1.0}")))
    closed = load_profile("so101")
    jaws = []
    for profile in (opened, closed):
        model = Arm(profile).model
        jaws.append(model.frames[model.getFrameId("moving_jaw_so101_v1_link")].placement.rotation)
    turned = np.arccos((np.trace(jaws[0].T @ jaws[1]) - 1) / 2)
    assert turned == pytest.approx(1.0, abs=1e-6)


def test_a_table_that_stands_higher_moves_everything_that_is_told_about_the_tip(tmp_path: Path) -> None:
    raised = Arm(load_profile(profile_file(tmp_path, ("name: so101", "name: so101\ntable_plane: {height: 0.01}"))))
    level = Arm(load_profile("so101"))
    np.testing.assert_allclose(level.tip_at(level.home) - raised.tip_at(level.home), [0, 0, 0.01], atol=1e-12)
    place = np.array([0.2, 0.0, 0.02])
    np.testing.assert_allclose(raised.tip_at(raised.solve(place, raised.home, iterations=200)), place, atol=1e-5)


def test_angles_undo_rotation() -> None:
    for rpy in ((0.3, -0.7, 2.0), (0.0, np.pi / 2, 0.4), (3.0, -np.pi / 2, 0.0), (0.0, 0.0, np.pi)):
        np.testing.assert_allclose(rotation(angles(rotation(rpy))), rotation(rpy), atol=1e-9)


SOURCES = [
    ("{package: no_such_package, file: a.urdf}", "the package 'no_such_package' is installed neither as a ROS nor"),
    ("{package: pybullet_data, file: a.urdf}", "there is no 'a.urdf' in .*pybullet_data"),
    ("{package: pybullet_data}", "wants either `topic`, or `file`"),
    ("{file: a.urdf, topic: robot_description}", "wants either `topic`, or `file`"),
    ("{file: nowhere.urdf}", "'nowhere.urdf': no such file"),
    ("config/robots/so101.yaml", "not valid XML"),
]


@pytest.mark.parametrize(("source", "sentence"), SOURCES)
def test_a_urdf_that_cannot_be_found_is_told_with_its_line(tmp_path: Path, source: str, sentence: str) -> None:
    path = profile_file(tmp_path, ("urdf: sim/robots/so101.urdf", f"urdf: {source}"))
    with pytest.raises(ProfileError, match=sentence) as caught:
        load_profile(path)
    assert str(caught.value).startswith(f"{path}:5: urdf")


def test_a_urdf_of_a_topic_is_asked_for_and_then_used(tmp_path: Path) -> None:
    path = profile_file(tmp_path, ("urdf: sim/robots/so101.urdf", "urdf: {topic: robot_description}"))
    with pytest.raises(DescriptionNeededError, match="comes from the topic 'robot_description'") as caught:
        load_profile(path)
    assert caught.value.topic == "robot_description"
    text = (share() / "sim/robots/so101.urdf").read_text()
    heard = load_profile(path, text)
    np.testing.assert_array_equal(heard.limits.upper, load_profile("so101").limits.upper)
    with pytest.raises(ProfileError, match="comes from a topic: topic robot_description:1: not valid XML"):
        load_profile(path, "<robot")


MISTAKES = [
    ("locked: {gripper: 0.0}", "locked: {grippr: 0.0}", "locked.grippr is no movable joint of the URDF"),
    ("locked: {gripper: 0.0}", "", "lacks joint 'gripper' of the URDF .* belongs under 'locked'"),
    ("orientation: prefer ", "orientation: vertical ", "allowed: one of hold, prefer, free"),
    ("type: joint_trajectory}", "type: velocity}", "allowed: one of joint_trajectory, forward_velocity, servo_twist"),
    (
        "type: joint_trajectory}",
        "type: forward_velocity, rate: 10, timeout: 0.1}",
        "controller.timeout is 0.1 s, less than two periods",
    ),
    ("name: so101", "name: so101\ntool: {parent: base_link, xyz: [0, 0, 1]}", "a link of the URDF, but `tool` adds"),
    ("marker: {colour: [0.0, 0.35, 1.0]", "marker: {colour: [0.0, 0.35, 2.0]", "marker.colour has 2"),
    ("home: 1.0855", "home: 62.2", "home is 62.2; allowed: a number from -6.3 to 6.3 rad"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), MISTAKES)
def test_a_mistake_in_a_new_field_is_named(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = profile_file(tmp_path, (old, new))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert re.search(sentence, str(caught.value)), str(caught.value)


def test_the_documentation_lists_the_fields_as_the_parser_knows_them() -> None:
    page = (Path(__file__).parents[2] / "docs" / "robots.md").read_text()
    assert schema.markdown() in page, "docs/robots.md is behind: python -m crl_node.arm.schema prints the table"
