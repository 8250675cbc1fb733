"""Robot profiles: what they hold, and that every mistake is named with file, line and field."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from crl_node.arm.profile import ProfileError, RobotProfile, ToolLean, load_profile
from crl_node.paths import share

SOURCE = share() / "config" / "robots" / "iiwa_sim.yaml"


def edited(folder: Path, old: str, new: str) -> tuple[Path, int]:
    """A copy of the shipped profile with one edit, and the line of that edit."""
    text = SOURCE.read_text()
    assert text.count(old) == 1, f"'{old}' must stand once in the profile"
    path = folder / "arm.yaml"
    path.write_text(text.replace(old, new))
    return path, text[: text.index(old)].count("\n") + 1


def refusal(path: Path) -> str:
    with pytest.raises(ProfileError) as error:
        load_profile(path)
    return str(error.value)


@pytest.fixture(scope="module")
def profile() -> RobotProfile:
    return load_profile("iiwa_sim")


def test_limits_are_the_urdfs_less_a_margin(profile: RobotProfile) -> None:
    np.testing.assert_allclose(profile.limits.velocity, 1.7)
    assert profile.limits.upper[3] == pytest.approx(2.09439510239 - 0.02)
    assert profile.limits.lower[3] == pytest.approx(-2.09439510239 + 0.02)
    assert (profile.limits.acceleration > 0).all()


def test_a_vector_is_built_by_name_in_any_order(profile: RobotProfile) -> None:
    shuffled = dict(reversed(list(profile.home.items())))
    np.testing.assert_array_equal(profile.vector(shuffled), profile.vector(profile.home))
    assert profile.named(profile.vector(profile.home)) == profile.home


def test_an_absent_joint_is_named(profile: RobotProfile) -> None:
    positions = dict(profile.home)
    del positions["lbr_iiwa_joint_4"]
    with pytest.raises(ProfileError, match=r"joint 'lbr_iiwa_joint_4' is absent \(got 6 names"):
        profile.vector(positions)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("tip_height: 0.02", "tip_hight: 0.02", "lacks the field 'tip_height'"),
        ("tip_height: 0.02", "tip_height: 0.02\nhands: 2", "hands is an unknown field"),
        ("tip_height: 0.02", "tip_height: high", "tip_height is 'high'; allowed: a number"),
        ("tip_height: 0.02", "tip_height: .nan", "tip_height is nan; allowed: a number"),
        ("tip_height: 0.02", "tip_height: 0.2", "tip_height is 0.2, outside workspace.z"),
        ("tip_height: 0.02", "tip_height: 0.02\ntip_height: 0.03", "not valid YAML: found duplicate key"),
        (
            "x: [0.40, 0.80]",
            "x: [0.80, 0.40]",
            "workspace.x is \\[0.8, 0.4\\]; allowed: the smaller number first",
        ),
        ("x: [0.40, 0.80]", "x: [0.80]", "workspace.x is \\[0.8\\]; allowed: a list of 2 numbers"),
        ("command_ramp: 0.1 ", "command_ramp: 0.15 ", "at most 0.2 s is allowed"),
        ("max_tip_acceleration: 5.0", "max_tip_acceleration: 1.0", "too little to stop"),
        ("resync_tolerance: 0.12", "resync_tolerance: 0.3", "the gate would reject what the commander makes"),
        ("tip_frame: pusher_tip", "tip_frame: finger", "tip_frame is 'finger', which is no link of"),
        ("link: pusher,", "link: pushr,", "self_filter\\[8\\].link is 'pushr', which is no link"),
        (
            "far: [0.85, 0.226]",
            "far: [0.60, 0.226]",
            "tool_lean.far begins at 0.6 m, not further than vertical",
        ),
        (
            "urdf: sim/robots/iiwa_pusher.urdf",
            "urdf: nowhere.urdf",
            "urdf is 'nowhere.urdf': no such file",
        ),
        (
            "  lbr_iiwa_joint_1: {home: 0.0,",
            "  joint_1: {home: 0.0,",
            "joints.joint_1 is no movable joint of the URDF",
        ),
        (
            "  lbr_iiwa_joint_1: {home: 0.0,",
            "  lbr_iiwa_joint_1: {velocity: 2.0, home: 0.0,",
            "lbr_iiwa_joint_1.velocity is 2 rad/s, more than the URDF's 1.7: a profile can only tighten",
        ),
        (
            "  lbr_iiwa_joint_1: {home: 0.0,",
            "  lbr_iiwa_joint_1: {position: [-3, 0.5], home: 0.0,",
            "wider than the URDF's .*: a profile can only tighten",
        ),
        (
            "  lbr_iiwa_joint_1: {home: 0.0,",
            "  lbr_iiwa_joint_1: {home: 3.0,",
            "lbr_iiwa_joint_1.home is 3, outside the limits",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_field(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path, line = edited(tmp_path, old, new)
    text = refusal(path)
    assert text.startswith(f"{path}:")
    assert re.search(sentence, text), text
    named = int(text[len(str(path)) + 1 :].split(":")[0])
    missing_field = "lacks" in text
    assert missing_field or line <= named <= line + new.count("\n")


def test_a_forgotten_joint_is_named(tmp_path: Path) -> None:
    lines = [line for line in SOURCE.read_text().splitlines() if "lbr_iiwa_joint_5:" not in line]
    path = tmp_path / "arm.yaml"
    path.write_text("\n".join(lines))
    assert "lacks joint 'lbr_iiwa_joint_5' of the URDF (it has 6 of 7)" in refusal(path)


def test_a_file_that_is_no_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "arm.yaml"
    path.write_text("name: a\nurdf: [\n")
    assert refusal(path).startswith(f"{path}:3: is not valid YAML")
    path.write_text("- 1\n")
    assert "the file holds [1]; allowed: a mapping of fields" in refusal(path)
    path.write_text("")
    assert "the file holds None; allowed: a mapping of fields" in refusal(path)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="'robbie' is not in .*there: .*iiwa_sim"):
        load_profile("robbie")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "absent.yaml: cannot be read" in refusal(tmp_path / "absent.yaml")


def test_the_lean_and_its_slope_are_continuous() -> None:
    lean = ToolLean(near=(0.4, -0.13), vertical=(0.5, 0.7), far=(0.85, 0.226))
    for edge in (0.5, 0.7):
        for side in (-1e-7, 1e-7):
            assert lean.at(edge + side) == pytest.approx((0.0, 0.0), abs=1e-5)
    assert lean.at(0.4)[0] == pytest.approx(-0.13)
    assert lean.at(0.85)[0] == pytest.approx(0.226)
    for radius in (0.42, 0.6, 0.8):
        slope = (lean.at(radius + 1e-6)[0] - lean.at(radius - 1e-6)[0]) / 2e-6
        assert lean.at(radius)[1] == pytest.approx(slope, abs=1e-6)
