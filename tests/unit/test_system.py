"""The shared description of the system: parameters are checked, commands quote right, domains are one's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from crl_node import system
from crl_node.parameter_spec import ParameterError, load_specs, read_specs
from crl_node.simulator.world import load_world
from crl_node.system import RobotOptions, SimOptions
from crl_node.yaml_fields import CameraError


@pytest.mark.parametrize("world", ["tabletop", "four_cubes", "clutter"])
def test_every_world_gives_nodes_whose_parameters_exist(world: str, tmp_path: Path) -> None:
    specs = system.nodes(SimOptions(world=world, out=tmp_path, lockstep=True))
    assert [spec.name for spec in specs] == ["recorder", "learner", "gate", "planner", "sim", "manager"]
    assert specs[-1].parameters["nodes"] == ["recorder", "learner", "gate", "planner", "sim"]
    for spec in specs:
        known = {*load_specs(spec.executable), "use_sim_time"}
        assert set(spec.parameters) <= known


def test_only_the_simulator_is_told_which_world_it_is(tmp_path: Path) -> None:
    world = load_world("tabletop")
    things = {thing.name for thing in world.things}
    for spec in system.nodes(SimOptions(out=tmp_path)):
        if spec.name == "sim":
            continue
        text = repr(spec.parameters)
        assert "world" not in spec.parameters
        assert not any(name in text for name in things)


def test_seed_and_policy_reach_the_nodes_they_are_meant_for(tmp_path: Path) -> None:
    specs = {s.name: s.parameters for s in system.nodes(SimOptions(out=tmp_path, seed=7, policy="skills", rtf=2))}
    assert [specs[name]["seed"] for name in ("sim", "learner", "planner")] == [7, 7, 7]
    assert specs["planner"]["policy"] == "skills"
    assert specs["sim"]["rtf"] == 2.0


def test_an_unknown_policy_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'policy' is 'lazy', it must be one of curious, skills, random"):
        system.nodes(SimOptions(out=tmp_path, policy="lazy"))


def test_a_real_arm_has_no_simulator_and_its_own_topics(tmp_path: Path) -> None:
    specs = system.robot_nodes(RobotOptions(out=tmp_path, image_topic="/camera/color/image_raw"))
    assert [spec.name for spec in specs] == ["recorder", "learner", "gate", "planner", "manager"]
    assert specs[1].remappings == {"camera/image_raw": "/camera/color/image_raw"}
    assert specs[1].parameters["use_sim_time"] is False


def test_the_shipped_camera_file_is_the_camera_of_the_shipped_worlds() -> None:
    camera = load_world("tabletop").camera
    calibration = system.load_calibration("front").parameters()
    assert calibration["camera_eye"] == list(camera.eye)
    assert calibration["camera_fov"] == pytest.approx(camera.fov_y, abs=1e-4)


def test_a_camera_file_with_a_wrong_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "camera.yaml"
    path.write_text("camera_width: 96\nfov: 1\n")
    with pytest.raises(CameraError, match=r"camera.yaml:1: the file lacks the field 'camera_height'"):
        system.load_calibration(str(path))
    with pytest.raises(CameraError, match="there is no camera 'nowhere' in .*there is .*front"):
        system.load_calibration("nowhere")


@pytest.mark.parametrize("value", [1.0, 3, True, "on", "a b: c", "", [0.1, 2.0], ["x", "1.0"], 1e-9, -0.5])
def test_values_survive_the_command_line(value: object) -> None:
    text = system.yaml_value(value)
    assert "\n" not in text
    back = yaml.safe_load(text)
    assert back == value and type(back) is type(value)


def test_a_params_file_is_checked_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("manager:\n  ros__parameters: {attempts: 3}\n/ns/gate:\n  ros__parameters: {use_sim_time: true}\n")
    assert system.read_params_file(path) == {"manager": {"attempts": 3}, "gate": {"use_sim_time": True}}
    for text, sentence in (
        ("manager:\n  ros__parameters: {attempst: 3}\n", "node 'manager' has no parameter 'attempst'"),
        ("manager:\n  ros__parameters: {attempts: 0}\n", "'attempts' is 0, it must be >= 1 and <= 100"),
        ("manger:\n  ros__parameters: {attempts: 3}\n", "there is no node 'manger'"),
        ("manager: {attempts: 3}\n", "must hold 'ros__parameters:'"),
        ("just text", "must map node names"),
        ("a: [", "is not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ParameterError, match=sentence):
            system.read_params_file(path)
    with pytest.raises(ParameterError, match="cannot read the params file"):
        system.read_params_file(tmp_path / "absent.yaml")


def test_the_environment_uses_shared_memory_only_and_one_thread(tmp_path: Path) -> None:
    environment = system.ros_environment(17, run_dir=tmp_path, base={"ROS_LOCALHOST_ONLY": "1"})
    assert environment["ROS_DOMAIN_ID"] == "17"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SYSTEM_DEFAULT"
    assert Path(environment["FASTRTPS_DEFAULT_PROFILES_FILE"]).name == "shm_only.xml"
    assert "ROS_LOCALHOST_ONLY" not in environment
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["ROS_LOG_DIR"] == str(tmp_path / "logs" / "ros")


def test_a_users_own_dds_profile_is_left_alone() -> None:
    base = {"FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    environment = system.ros_environment(0, base=base)
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SUBNET"


def test_two_leases_never_share_a_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    leases = [system.lease_domain() for _ in range(20)]
    assert len({lease.domain_id for lease in leases}) == 20
    for lease in leases:
        lease.release()


def test_the_users_domain_is_respected_and_nonsense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    assert system.lease_domain().domain_id == 42
    monkeypatch.setenv("ROS_DOMAIN_ID", "seven")
    with pytest.raises(ParameterError, match="ROS_DOMAIN_ID is 'seven'"):
        system.lease_domain()


def test_mistakes_in_a_parameter_file_name_the_file_and_the_parameter(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    for text, sentence in (
        ("a: 3", "parameter 'a' holds 3"),
        ("a: {type: float, default: 1.0}", "parameter 'a' has no 'description'"),
        ("a: {type: real, default: 1.0, description: x}", "has type 'real'"),
        ("a: {type: float, default: 1.0, description: x, maximum: 2}", "unknown field 'maximum'"),
        ("a: {type: float, default: 3.0, description: x, max: 2}", "the default of parameter 'a' is 3.0"),
        ("a: {type: int, default: .nan, description: x}", "must be a int"),
        ("- a", "must map parameter names"),
    ):
        path.write_text(text)
        with pytest.raises(ParameterError, match=sentence) as caught:
            read_specs(path)
        assert str(path) in str(caught.value)
