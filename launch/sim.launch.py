"""The curious arm in simulation: `ros2 launch crl_node sim.launch.py world:=four_cubes seed:=3`."""

from datetime import datetime
from pathlib import Path

from launch import LaunchDescription
from launch.actions import SetEnvironmentVariable

from crl_node.curiosity.names import POLICIES
from crl_node.nodes.launching import description, node_actions
from crl_node.paths import dds_profile
from crl_node.system import THREAD_PINS, SimOptions, nodes

#: name, default, description, choices
ARGUMENTS = (
    ("world", "tabletop", "A world of sim/worlds by name, random:SEED, or a world file.", None),
    ("seed", "0", "Seed of the world, the learner and the planner.", None),
    ("policy", "curious", "Who chooses the experiments.", POLICIES),
    ("seconds", "0", "Simulated seconds after which time stands still; 0: never.", None),
    ("rtf", "1.0", "Simulated seconds per second of real time.", None),
    ("lockstep", "false", "Simulated time waits for every command.", ("true", "false")),
    ("robot", "iiwa_sim", "Robot profile of config/robots, or a file.", None),
    ("out", "", "The run's folder; empty: runs/<time>_<world> where you are.", None),
    ("namespace", "", "Namespace of all nodes.", None),
    ("use_sim_time", "true", "Nodes follow /clock.", ("true", "false")),
    ("params_file", "", "A ROS params file; wins over everything else.", None),
    ("autostart", "true", "The manager configures and activates the nodes.", ("true", "false")),
    ("log_level", "info", "debug, info, warn or error.", None),
    ("shared_memory_only", "true", "Talk through shared memory and open no socket.", ("true", "false")),
)


def start(given: dict[str, str]) -> list:
    """The actions, once the arguments are known."""
    true = {name: given[name].lower() == "true" for name in ("lockstep", "use_sim_time", "autostart")}
    stamp = f"{datetime.now():%Y%m%d-%H%M%S}_{Path(given['world']).stem.replace(':', '_')}"
    out = Path(given["out"] or Path("runs") / stamp).absolute()
    options = SimOptions(
        world=given["world"],
        out=out,
        seed=int(given["seed"]),
        policy=given["policy"],
        seconds=float(given["seconds"]),
        rtf=float(given["rtf"]),
        robot=given["robot"],
        **true,
    )
    specs = nodes(options)
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
