"""A recorded run learned again by live nodes: `ros2 launch crl_node replay.launch.py bag:=runs/first/bag`.

The bag's camera, joint states and executed commands are published and a learner with the recorded parameters listens.
It ends with the bag.
"""

from datetime import datetime
from pathlib import Path

from launch import LaunchDescription
from launch.actions import SetEnvironmentVariable

from crl_node.nodes.launching import description, node_actions
from crl_node.paths import dds_profile
from crl_node.system import THREAD_PINS, ReplayOptions, replay_nodes

#: name, default, description, choices
ARGUMENTS = (
    ("bag", "", "Folder of the bag, or one .mcap file.", None),
    ("rate", "1.0", "Recorded seconds per second of real time.", None),
    ("lockstep", "false", "As fast as it goes, every frame used: the same bytes as the recorded lockstep run.",
     ("true", "false")),
    ("record", "true", "Record what the learner makes of it.", ("true", "false")),
    ("out", "", "The new run's folder; empty: runs/<time>_replay where you are.", None),
    ("namespace", "", "Namespace of all nodes.", None),
    ("use_sim_time", "true", "Nodes follow /clock.", ("true", "false")),
    ("params_file", "", "A ROS params file; wins over what was recorded.", None),
    ("autostart", "true", "The manager configures and activates the nodes.", ("true", "false")),
    ("log_level", "info", "debug, info, warn or error.", None),
    ("shared_memory_only", "true", "Talk through shared memory and open no socket.", ("true", "false")),
)  # fmt: skip


def start(given: dict[str, str]) -> list:
    """The actions, once the arguments are known."""
    true = {name: given[name].lower() == "true" for name in ("lockstep", "record", "use_sim_time", "autostart")}
    out = Path(given["out"] or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_replay").absolute()
    options = ReplayOptions(out=out, bag=Path(given["bag"]), rate=float(given["rate"]), **true)
    specs = replay_nodes(options)
    out.mkdir(parents=True, exist_ok=True)
    environment = dict.fromkeys(THREAD_PINS, "1")
    if given["shared_memory_only"].lower() == "true":
        environment |= {
            "FASTRTPS_DEFAULT_PROFILES_FILE": str(dds_profile()),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",
        }
    actions: list = [SetEnvironmentVariable(name, value) for name, value in environment.items()]
    return actions + node_actions(specs, given)


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` asks for."""
    return description(ARGUMENTS, start)
