"""The system as data: which nodes there are, with which parameters, in which environment.

`crl sim` (through `supervisor.py`) and the launch files start exactly what this file says.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import yaml

from crl_node.arm.profile import DescriptionNeededError, load_profile
from crl_node.arm.profile_types import CameraSource, Controller, JointStatesSource, RobotProfile
from crl_node.calibration import Calibration, load_calibration
from crl_node.parameter_spec import ParameterError, check_overrides
from crl_node.paths import dds_profile
from crl_node.shared_memory import domain_in_use

#: Numbers pools that would each start one thread a core: our arrays are small, and two such pools on a busy
#: machine are several times slower than one thread.
THREAD_PINS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
#: Domains handed out when the user names none; 0 is everybody's default.
DOMAINS = range(1, 102)


def ros_environment(
    domain_id: int, *, run_dir: Path | None = None, base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of every process of one run: shared-memory DDS, own domain, one thread per numeric library.

    A user's own DDS profile (FASTRTPS_DEFAULT_PROFILES_FILE set to another file) stays, with their discovery range:
    that is how nodes are spread over machines. `base` defaults to this process's environment.
    """
    environment = dict(os.environ if base is None else base)
    environment["ROS_DOMAIN_ID"] = str(domain_id)
    if environment.get("FASTRTPS_DEFAULT_PROFILES_FILE", str(dds_profile())) == str(dds_profile()):
        environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(dds_profile())
        environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
        environment.pop("ROS_LOCALHOST_ONLY", None)
    for name in THREAD_PINS:
        environment.setdefault(name, "1")
    environment["PYTHONUNBUFFERED"] = "1"
    environment.setdefault("RCUTILS_COLORIZED_OUTPUT", "0")
    # get_package_share_directory looks here; the wheels install into the environment's own prefix.
    if (Path(sys.prefix) / "share" / "ament_index").is_dir():
        prefixes = [p for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        if sys.prefix not in prefixes:
            environment["AMENT_PREFIX_PATH"] = os.pathsep.join([*prefixes, sys.prefix])
    if run_dir is not None:
        environment["ROS_LOG_DIR"] = str(Path(run_dir) / "logs" / "ros")
    return environment


class DomainLease:
    """A ROS domain no other run of this user on this machine has; it is free again when the process is gone."""

    def __init__(self, domain_id: int, lock: IO[str] | None) -> None:
        self.domain_id = domain_id
        self._lock = lock

    def release(self) -> None:
        """Give the domain back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def lease_domain(wanted: int | None = None) -> DomainLease:
    """`wanted`, else the user's ROS_DOMAIN_ID, else a random free one (locked until released or the process ends)."""
    given = os.environ.get("ROS_DOMAIN_ID", "") if wanted is None else str(wanted)
    if given:
        if not given.isdigit() or int(given) > 232:
            raise ParameterError(f"ROS_DOMAIN_ID is '{given}', it must be a whole number from 0 to 232")
        return DomainLease(int(given), None)
    folder = Path(tempfile.gettempdir()) / f"crl_node_domains.{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for domain in random.SystemRandom().sample(DOMAINS, len(DOMAINS)):
        if domain_in_use(domain):
            continue
        lock = (folder / str(domain)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        return DomainLease(domain, lock)
    raise ParameterError("every ROS domain from 1 to 101 is in use on this machine; set ROS_DOMAIN_ID yourself")


@dataclass(frozen=True)
class NodeSpec:
    """One node of the system."""

    name: str
    executable: str  # crl_node.nodes.<executable>, lib/crl_node/<executable>
    parameters: dict[str, Any] = field(default_factory=dict)
    remappings: dict[str, str] = field(default_factory=dict)


def ros_arguments(
    spec: NodeSpec, *, namespace: str = "", params_file: Path | None = None, log_level: str = "info"
) -> list[str]:
    """Command line after the executable: `--ros-args ...`. The user's params file goes last, where it wins."""
    arguments = ["--ros-args", "-r", f"__node:={spec.name}", "--log-level", log_level]
    if namespace:
        arguments += ["-r", f"__ns:=/{namespace.strip('/')}"]
    for source, target in spec.remappings.items():
        arguments += ["-r", f"{source}:={target}"]
    for name, value in spec.parameters.items():
        arguments += ["-p", f"{name}:={yaml_value(value)}"]
    if params_file is not None:
        arguments += ["--params-file", str(params_file)]
    return arguments


def yaml_value(value: Any) -> str:
    """`value` as rcl's YAML reads it back with the same type (1.0 stays a float, 'on' a string)."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**9).removesuffix("\n...\n").strip()


def node_command(
    spec: NodeSpec, *, namespace: str = "", params_file: Path | None = None, log_level: str = "info"
) -> list[str]:
    """The process that runs `spec` with this Python."""
    arguments = ros_arguments(spec, namespace=namespace, params_file=params_file, log_level=log_level)
    return [sys.executable, "-m", "crl_node.nodes", spec.executable, *arguments]


#: Order in which the nodes become active; they stop in the reverse order.
MANAGED = ("recorder", "learner", "gate", "planner", "sim")
#: Nodes beside the managed ones, or of other systems than the closed loop.
OTHERS = ("manager", "mock", "player")
#: Started again by whoever started it; the manager then brings it up from its checkpoint.
RESPAWNED = ("learner", "planner", "recorder")


@dataclass(frozen=True)
class LoopOptions:
    """What every system is made of, simulated or real."""

    out: Path = Path("runs/latest")  # the run's folder
    seed: int = 0
    policy: str = "curious"  # one of POLICIES
    robot: str = "iiwa_sim"  # profile in config/robots, or path
    autostart: bool = True
    use_sim_time: bool = True


@dataclass(frozen=True)
class SimOptions(LoopOptions):
    """What one simulated run is made of."""

    world: str = "tabletop"  # name in sim/worlds, or path
    seconds: float = 180.0  # simulated; 0 goes on until it is stopped
    rtf: float = 1.0  # simulated seconds per second, without effect in lockstep
    lockstep: bool = False  # simulated time waits for every command: same seed, same bytes


@dataclass(frozen=True)
class RobotOptions(LoopOptions):
    """What a run on a real arm is made of; camera driver and controller are the robot's own."""

    camera: str = ""  # calibration in config/cameras, or path; empty: the profile's, as everything below
    image_topic: str = ""
    joint_states_topic: str = ""
    controller_topic: str = ""
    use_sim_time: bool = False
    mock: bool = False  # a node stands for the arm, its controller and the camera
    mock_parameters: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0  # 0 goes on until it is stopped
    without: tuple[str, ...] = ()  # nodes that are not started (a calibration needs no learner)


@dataclass(frozen=True)
class ReplayOptions:
    """A recorded run learned again by live nodes."""

    bag: Path = Path("bag")
    out: Path = Path("runs/replay")  # the new run's folder
    rate: float = 1.0  # recorded seconds per second, without effect in lockstep
    lockstep: bool = False  # every frame waits for the belief about the one before
    record: bool = True
    autostart: bool = True
    use_sim_time: bool = True


def nodes(options: SimOptions) -> list[NodeSpec]:
    """The nodes of a simulated run, manager last. WorldError, ParameterError: a sentence about the user's input."""
    from crl_node.simulator.world import load_world  # only the simulated system needs it

    world = load_world(options.world)
    # The learner is told how its camera stands and where the table is, as a calibration would. Of the things on the
    # table it is told nothing.
    calibration = {
        "camera_width": world.camera.width,
        "camera_height": world.camera.height,
        "camera_fov": world.camera.fov_y,
        "camera_eye": list(world.camera.eye),
        "camera_target": list(world.camera.target),
        "table": [*world.table.x, *world.table.y],
        "period": 1.0 / world.camera.rate,
    }
    simulator = {
        "world": world.reference,  # nodes may run in another folder than the user
        "robot": options.robot,
        "seed": options.seed,
        "lockstep": options.lockstep,
        "rtf": options.rtf,
        "duration": options.seconds,
    }
    profile = _profile(options.robot)
    if profile is None:
        raise ParameterError(f"robot '{options.robot}' takes its URDF from a topic; the simulator needs a file")
    specs = [*_loop(options, calibration, list(world.camera.eye), options.lockstep), NodeSpec("sim", "sim", simulator)]
    if profile.controller.topic != "arm_controller/joint_trajectory":  # what the simulator listens to
        to_simulator = {profile.controller.topic: "arm_controller/joint_trajectory"}
        specs = [replace(spec, remappings=to_simulator) if spec.name == "gate" else spec for spec in specs]
    return [checked(spec) for spec in [*specs, _manager(options, specs)]]


def robot_nodes(options: RobotOptions) -> list[NodeSpec]:
    """The nodes of a run on an arm, real or mocked, manager last. A sentence about the user's input is raised."""
    source = robot_source(options)
    specs = [
        NodeSpec(spec.name, spec.executable, spec.parameters, source.remappings)
        for spec in _loop(options, source.calibration.parameters(), source.calibration.eye, lockstep=False)
    ]
    specs = [spec for spec in specs if spec.name not in options.without]
    managed = _manager(options, specs)
    hardware = [mock_node(options, source)] if options.mock else []
    return [checked(spec) for spec in [*hardware, *specs, managed]]


def calibration_nodes(options: RobotOptions, measurements: Path, touch: float, columns: int) -> list[NodeSpec]:
    """Gate and calibrator in the planner's place, manager last; with a mock before them."""
    source = robot_source(options)
    calibrator = {"robot": options.robot, "out": str(measurements), "touch_depth": touch, "columns": columns}
    specs = [
        NodeSpec("gate", "gate", {"profile": options.robot, "planner": "calibrator"}, source.remappings),
        NodeSpec("calibrator", "calibrator", calibrator, source.remappings),
    ]
    hardware = [mock_node(options, source)] if options.mock else []
    return [checked(spec) for spec in [*hardware, *specs, _manager(options, specs)]]


@dataclass(frozen=True)
class RobotSource:
    """Where a robot's data come from, once profile and options are put together."""

    calibration: Calibration
    remappings: dict[str, str]  # of the topics' names in our nodes


def robot_source(options: RobotOptions) -> RobotSource:
    """Topics and camera of the profile, unless the options name others."""
    profile = _profile(options.robot)
    controller, joints, camera = (
        (profile.controller, profile.joint_states, profile.camera)
        if profile is not None
        else (Controller(), JointStatesSource(), CameraSource())
    )
    target = options.controller_topic or controller.topic
    wanted = [
        ("camera/image_raw", options.image_topic or camera.image_topic),
        ("camera/camera_info", camera.info_topic),
        ("joint_states", options.joint_states_topic or joints.topic),
        (controller.topic, target),
    ]
    if not controller.streams:
        # What records trajectories knows them by the default name.
        wanted.append(("arm_controller/joint_trajectory", target))
    remappings = {name: topic for name, topic in wanted if name != topic}
    return RobotSource(load_calibration(options.camera or camera.calibration), remappings)


def mock_node(options: RobotOptions, source: RobotSource) -> NodeSpec:
    """The node that stands for arm, controller and camera."""
    parameters = {
        "robot": options.robot,
        "camera": str(source.calibration.path),
        "seed": options.seed,
        **options.mock_parameters,
    }
    return NodeSpec("mock", "mock", parameters, source.remappings)


def _profile(robot: str) -> RobotProfile | None:
    """The profile, whose mistakes are told now and not in the logs of three nodes; None when its URDF is on a topic."""
    try:
        return load_profile(robot)
    except DescriptionNeededError:
        return None


def replay_nodes(options: ReplayOptions) -> list[NodeSpec]:
    """The nodes of a replay by live nodes, manager last. BagError, ReplayError, ParameterError: a sentence."""
    from crl_node.bags.reader import BagReader
    from crl_node.replay.settings import read_settings  # needs this module

    reader = BagReader(options.bag)
    out, common = Path(options.out).absolute(), {"use_sim_time": options.use_sim_time}
    learner = {**read_settings(reader).parameters["learner"], **common, "lockstep": options.lockstep}
    learner |= {"checkpoint": str(out / "checkpoint.npz"), "resume": False}
    # An empty list has no type on a command line; where one was recorded it is the default.
    learner = {name: value for name, value in learner.items() if value != []}
    player = {**common, "bag": str(reader.path.absolute()), "rate": options.rate, "lockstep": options.lockstep}
    specs = [NodeSpec("learner", "learner", learner), NodeSpec("player", "player", player)]
    if options.record:
        specs.insert(0, NodeSpec("recorder", "recorder", {**common, "output": str(out / "bag")}))
    manager = {"nodes": [spec.name for spec in specs], "autostart": options.autostart}
    return [checked(spec) for spec in [*specs, NodeSpec("manager", "manager", manager)]]


def _loop(options: LoopOptions, calibration: dict[str, Any], eye: list[float], lockstep: bool) -> list[NodeSpec]:
    """Recorder, learner, gate and planner: the same for a simulated and a real arm."""
    out = Path(options.out).absolute()
    common = {"use_sim_time": options.use_sim_time}
    loop = {**common, "robot": options.robot, "seed": options.seed, "lockstep": lockstep}
    shared = {"table": calibration["table"], "period": calibration["period"], "camera_eye": eye}
    return [
        NodeSpec("recorder", "recorder", {**common, "output": str(out / "bag")}),
        NodeSpec("learner", "learner", {**loop, **calibration, "checkpoint": str(out / "checkpoint.npz")}),
        NodeSpec("gate", "gate", {**common, "profile": options.robot, "lockstep": lockstep, "planner": "planner"}),
        NodeSpec("planner", "planner", {**loop, **shared, "policy": options.policy, "model": str(out / "model.onnx")}),
    ]


def _manager(options: LoopOptions, specs: list[NodeSpec]) -> NodeSpec:
    managed = [spec.name for spec in specs]
    return NodeSpec("manager", "manager", {"nodes": managed, "autostart": options.autostart})


def read_params_file(path: Path) -> dict[str, dict[str, Any]]:
    """Node name -> parameters of a ROS params file, checked; ParameterError says what is wrong with it."""
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ParameterError(f"cannot read the params file {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"the params file {path} is not YAML: {' '.join(str(error).split())}") from error
    result: dict[str, dict[str, Any]] = {}
    for key, entry in (raw or {}).items() if isinstance(raw, dict) else ():
        parameters = entry.get("ros__parameters") if isinstance(entry, dict) else None
        if not isinstance(parameters, dict):
            raise ParameterError(f"{path}: '{key}' must hold 'ros__parameters:' with the parameters below it")
        name = str(key).rsplit("/", 1)[-1]
        if "*" in name:
            continue  # for every node: each takes what it declares
        if name not in (*MANAGED, *OTHERS):
            raise ParameterError(f"{path}: there is no node '{key}'; nodes are {', '.join((*MANAGED, *OTHERS))}")
        try:
            result[name] = check_overrides(name, parameters)
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from error
    if not result and not isinstance(raw, dict):
        raise ParameterError(f"{path} must map node names to 'ros__parameters:', it holds {type(raw).__name__}")
    return result


def checked(spec: NodeSpec) -> NodeSpec:
    """`spec` with its parameters typed as declared; ParameterError names the first that is unknown or wrong."""
    return NodeSpec(spec.name, spec.executable, check_overrides(spec.executable, spec.parameters), spec.remappings)
