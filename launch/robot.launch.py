"""The curious arm on a real robot, whose camera driver and trajectory controller run already.

`ros2 launch crl_node robot.launch.py robot:=my_arm.yaml camera:=my_camera.yaml image_topic:=/camera/color/image_raw
joint_states_topic:=/joint_states controller_topic:=/joint_trajectory_controller/joint_trajectory`

Nothing moves before the gate is active: start with autostart:=false and call /manager/startup when you are ready.
"""

from datetime import datetime
from pathlib import Path

from launch import LaunchDescription
from launch.actions import SetEnvironmentVariable

from crl_node.nodes.launching import description, node_actions
from crl_node.system import POLICIES, THREAD_PINS, RobotOptions, robot_nodes

#: name, default, description, choices
ARGUMENTS = (
    ("robot", "iiwa_sim", "Robot profile of config/robots, or a file.", None),
    ("camera", "front", "Camera calibration of config/cameras, or a file.", None),
    ("image_topic", "camera/image_raw", "The camera's images (rgb8).", None),
    ("joint_states_topic", "joint_states", "The arm's joint states.", None),
    ("controller_topic", "arm_controller/joint_trajectory", "The arm's joint_trajectory_controller.", None),
    ("seed", "0", "Seed of the learner and the planner.", None),
    ("policy", "curious", "Who chooses the experiments.", POLICIES),
    ("out", "", "The run's folder; empty: runs/<time>_robot where you are.", None),
    ("namespace", "", "Namespace of all nodes.", None),
    ("use_sim_time", "false", "Nodes follow /clock.", ("true", "false")),
    ("params_file", "", "A ROS params file; wins over everything else.", None),
    ("autostart", "true", "The manager configures and activates the nodes.", ("true", "false")),
    ("log_level", "info", "debug, info, warn or error.", None),
)


def start(given: dict[str, str]) -> list:
    """The actions, once the arguments are known."""
    out = Path(given["out"] or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_robot").absolute()
    options = RobotOptions(
        out=out,
        seed=int(given["seed"]),
        policy=given["policy"],
        robot=given["robot"],
        camera=given["camera"],
        image_topic=given["image_topic"],
        joint_states_topic=given["joint_states_topic"],
        controller_topic=given["controller_topic"],
        autostart=given["autostart"].lower() == "true",
        use_sim_time=given["use_sim_time"].lower() == "true",
    )
    specs = robot_nodes(options)
    out.mkdir(parents=True, exist_ok=True)
    actions: list = [SetEnvironmentVariable(name, "1") for name in THREAD_PINS]
    return actions + node_actions(specs, given)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return description(ARGUMENTS, start)
