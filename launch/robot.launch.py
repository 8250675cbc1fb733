"""The curious arm on a real robot, whose camera driver and controller run already, or on mock hardware.

`ros2 launch crl_node robot.launch.py robot:=ur5e` or `robot:=my_arm.yaml`; everything that is not given comes from the
profile. `mock:=true` starts a node that stands for arm, controller and camera.

Nothing moves before the gate is active: start with autostart:=false and call /manager/startup when you are ready.
"""

from datetime import datetime
from pathlib import Path

from launch import LaunchDescription
from launch.actions import SetEnvironmentVariable

from crl_node.curiosity.names import POLICIES
from crl_node.nodes.launching import description, node_actions
from crl_node.system import THREAD_PINS, RobotOptions, robot_nodes

#: name, default, description, choices
ARGUMENTS = (
    ("robot", "iiwa_sim", "Robot profile of config/robots, or a file.", None),
    ("mock", "false", "A node stands for arm, controller and camera.", ("true", "false")),
    ("camera", "", "Camera calibration of config/cameras, or a file; empty: the profile's.", None),
    ("image_topic", "", "The camera's rectified images (rgb8); empty: the profile's.", None),
    ("joint_states_topic", "", "The arm's joint states; empty: the profile's.", None),
    ("controller_topic", "", "The controller's command topic; empty: the profile's.", None),
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
        mock=given["mock"].lower() == "true",
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
