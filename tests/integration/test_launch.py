"""The launch files describe the same system as `crl sim`, and start it for real where launch_ros is installed.

PyPI's `launch` is an unrelated program; without ROS's own `launch` these tests are skipped, visibly.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not installed (it is not on PyPI)")
pytest.importorskip("launch.launch_description_sources", reason="the 'launch' installed is not ROS's")

LAUNCH = Path(__file__).parents[2] / "launch"


def actions_of(name: str, **arguments: str) -> list[Any]:
    """The Node actions that launch file `name` makes of `arguments`."""
    from launch import LaunchContext
    from launch.actions import DeclareLaunchArgument, OpaqueFunction
    from launch_ros.actions import Node

    spec = importlib.util.spec_from_file_location("described", LAUNCH / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    context = LaunchContext(argv=[])
    context.launch_configurations.update(arguments)
    found: list[Any] = []
    for entity in module.generate_launch_description().entities:
        if isinstance(entity, DeclareLaunchArgument | OpaqueFunction):
            found += entity.execute(context) or []
    return [action for action in found if isinstance(action, Node)]


def test_sim_launch_starts_what_crl_sim_starts(tmp_path: Path) -> None:
    from crl_node.system import SimOptions, nodes

    actions = actions_of("sim.launch.py", world="four_cubes", out=str(tmp_path), lockstep="true", seed="4")
    specs = nodes(SimOptions(world="four_cubes", out=tmp_path, lockstep=True, seed=4))
    assert [action.node_executable for action in actions] == [spec.executable for spec in specs]


def test_robot_launch_has_no_simulator(tmp_path: Path) -> None:
    actions = actions_of("robot.launch.py", out=str(tmp_path))
    names = [action.node_executable for action in actions]
    assert names == ["recorder", "learner", "gate", "planner", "manager"]


def test_replay_launch_starts_what_crl_replay_live_starts(tmp_path: Path) -> None:
    from crl_node.system import ReplayOptions, replay_nodes
    from tests.support.recorded_pushes import record_pushes

    bag = record_pushes(tmp_path / "bag", seed=0, steps=3)
    actions = actions_of("replay.launch.py", bag=str(bag), out=str(tmp_path / "run"))
    specs = replay_nodes(ReplayOptions(bag=bag, out=tmp_path / "run"))
    assert [action.node_executable for action in actions] == [spec.executable for spec in specs]
    assert [spec.name for spec in specs] == ["recorder", "learner", "player", "manager"]


@pytest.mark.parametrize("robot", ["ur5e", "franka", "so101"])
def test_robot_launch_with_a_mock_starts_what_crl_robot_run_starts(tmp_path: Path, robot: str) -> None:
    from crl_node.system import RobotOptions, robot_nodes

    actions = actions_of("robot.launch.py", out=str(tmp_path), robot=robot, mock="true")
    specs = robot_nodes(RobotOptions(out=tmp_path, robot=robot, mock=True))
    assert [action.node_executable for action in actions] == [spec.executable for spec in specs]
    assert actions[0].node_executable == "mock"


@pytest.mark.parametrize("name", ["sim.launch.py", "robot.launch.py"])
def test_every_promised_argument_is_declared(name: str) -> None:
    spec = importlib.util.spec_from_file_location("described", LAUNCH / name)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    declared = {argument.name for argument in module.generate_launch_description().get_launch_arguments()}
    promised = {"namespace", "use_sim_time", "params_file", "autostart", "log_level", "seed", "policy", "robot", "out"}
    assert promised <= declared
    assert ("world" in declared) == (name == "sim.launch.py")


def ros2_launch(ros_domain: Any, tmp_path: Path, name: str, *arguments: str) -> Any:
    """`ros2 launch crl_node <name>` as a process; skips where it cannot run."""
    if importlib.util.find_spec("ros2launch") is None:
        pytest.skip("ros2launch is not installed")
    if not (Path(sys.prefix) / "share/crl_node/launch/sim.launch.py").exists() and shutil.which("ros2") is None:
        pytest.skip("the package is in no ament prefix here ('make venv' or colcon puts it there)")
    ros_domain.environment["ROS_LOG_DIR"] = str(tmp_path / "log")
    command = [sys.executable, "-c", "import sys; from ros2cli.cli import main; sys.exit(main())"]
    return ros_domain.process("ros2launch", [*command, "launch", "crl_node", name, *arguments])


def stop(process: Any, nodes: int) -> None:
    """Ctrl-C; every node must have ended by itself."""
    os.kill(process.popen.pid, signal.SIGINT)
    process.popen.wait(timeout=60)
    assert process.log().count("process has finished cleanly") == nodes, process.log()[-3000:]


@pytest.mark.ros
def test_ros2_launch_runs_the_loop_and_stops_on_ctrl_c(ros_domain: Any, tmp_path: Path) -> None:
    from crl_interfaces.msg import Belief

    process = ros2_launch(ros_domain, tmp_path, "sim.launch.py", f"out:={tmp_path / 'run'}", "namespace:=bench")
    beliefs = ros_domain.collect(Belief, "/bench/learner/belief", matched=False)
    ros_domain.wait_until(lambda: len(beliefs) > 3, "beliefs of the launched system", patience=120.0)
    stop(process, nodes=6)


@pytest.mark.ros
def test_robot_launch_drives_an_arm_with_topics_of_its_own(
    ros_domain: Any, node_process: Any, tmp_path: Path
) -> None:
    """The simulator stands for the real arm: started apart, with other topic names, unknown to the launch file."""
    from std_srvs.srv import Trigger
    from trajectory_msgs.msg import JointTrajectory

    names = {"camera/image_raw": "/cam/color", "joint_states": "/arm/joints",
             "arm_controller/joint_trajectory": "/arm/trajectory"}  # fmt: skip
    node_process("sim", {"world": "tabletop"}, remappings=names)
    assert ros_domain.transition("sim", "configure") and ros_domain.transition("sim", "activate")
    process = ros2_launch(
        ros_domain, tmp_path, "robot.launch.py", f"out:={tmp_path / 'run'}", "namespace:=arm1", "autostart:=false",
        "use_sim_time:=true", "image_topic:=/cam/color", "joint_states_topic:=/arm/joints",
        "controller_topic:=/arm/trajectory",
    )  # fmt: skip
    commands = ros_domain.collect(JointTrajectory, "/arm/trajectory", matched=False)
    ros_domain.wait_until(lambda: "manager" in process.log(), "the manager", patience=120.0)
    assert ros_domain.state("/arm1/gate") == "unconfigured"
    assert commands == []  # nothing moves before somebody says so
    assert ros_domain.call(Trigger, "/arm1/manager/startup").success
    ros_domain.wait_until(lambda: len(commands) > 5, "commands to the arm", patience=120.0)
    stop(process, nodes=5)
