"""`crl doctor`: does everything that a run needs work on this machine?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from crl_node.system import lease_domain, ros_environment

#: In a process of its own, because a broken native library takes the process with it.
_ROUND_TRIP = """
import sys, time
import rclpy
from rclpy.executors import SingleThreadedExecutor
from crl_interfaces.msg import Belief, Slot
rclpy.init()
node = rclpy.create_node("doctor")
received = []
subscription = node.create_subscription(Belief, "doctor/belief", received.append, 10)
publisher = node.create_publisher(Belief, "doctor/belief", 10)
executor = SingleThreadedExecutor()
executor.add_node(node)
deadline = time.monotonic() + 20
while not received and time.monotonic() < deadline:
    publisher.publish(Belief(slots=[Slot(id=7)]))
    executor.spin_once(timeout_sec=0.1)
print(rclpy.get_rmw_implementation_identifier())
node.destroy_node()
rclpy.shutdown()
sys.exit(0 if received and received[0].slots[0].id == 7 else 1)
"""
_PYBULLET = """
import pybullet, pybullet_data, os
client = pybullet.connect(pybullet.DIRECT)
body = pybullet.loadURDF(os.path.join(pybullet_data.getDataPath(), "kuka_iiwa/model.urdf"), physicsClientId=client)
print(pybullet.getNumJoints(body, physicsClientId=client))
"""


class Trouble(Exception):  # noqa: N818 - read by people only
    """A check that failed; the text says what to do."""


def _python(code: str, environment: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=90, check=False
    )
    if result.returncode != 0:
        tail = result.stderr.strip().splitlines()[-1:] or [f"exit code {result.returncode}"]
        raise Trouble(tail[0])
    return result.stdout.strip()


def python() -> str:
    return f"Python {sys.version.split()[0]} at {sys.prefix}."


def ros() -> str:
    lease = lease_domain()
    try:
        rmw = _python(_ROUND_TRIP, ros_environment(lease.domain_id))
    except Trouble as trouble:
        hint = "'make venv' builds the messages" if "crl_interfaces" in str(trouble) else "see the message"
        raise Trouble(f"a Belief did not come back to the process that sent it: {trouble} ({hint})") from None
    finally:
        lease.release()
    return f"rclpy with {rmw.splitlines()[-1]}: a Belief was sent and received."


def shared_memory() -> str:
    usage = shutil.disk_usage("/dev/shm")
    free = usage.free / 2**20
    if free < 200:
        raise Trouble(
            f"/dev/shm has {free:.0f} MiB free; the nodes of one run use about 150 MiB of it (docker: --shm-size=1g)"
        )
    return f"/dev/shm has {free:.0f} MiB free; one run uses about 150 MiB."


def pybullet() -> str:
    joints = _python(_PYBULLET).splitlines()[-1]
    return f"PyBullet runs and loads the KUKA iiwa ({joints} joints)."


def onnxruntime() -> str:
    import onnxruntime as ort

    providers = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()]
    text = f"ONNX Runtime {ort.__version__} offers {', '.join(providers)}"
    devices = list(Path("/dev").glob("nvidia[0-9]*"))
    gpu = f"{len(devices)} NVIDIA device(s) are there" if devices else "no NVIDIA device is here, plans run on the CPU"
    return f"{text}; {gpu}."


def torch() -> str:
    version = _python("import torch; print(torch.__version__)")
    return f"PyTorch {version} imports (exports and checks the ONNX model)."


def kinematics() -> str:
    from crl_node.arm.kinematics import Arm
    from crl_node.arm.profile import load_profile

    profile = load_profile("iiwa_sim")
    tip = Arm(profile).tip(dict(profile.home))
    return f"Pinocchio knows the arm: at home its tip is at ({tip[0]:.2f}, {tip[1]:.2f}, {tip[2]:.2f}) m."


def worlds() -> str:
    from crl_node.simulator.world import load_world, world_names

    names = world_names()
    for name in names:
        load_world(name)
    return f"{len(names)} worlds are there and sound: {', '.join(names)}."


def package() -> str:
    from crl_node.paths import share

    prefix = Path(sys.prefix) / "share" / "ament_index" / "resource_index" / "packages" / "crl_node"
    where = f"Data is read from {share()}"
    if prefix.exists() or os.environ.get("AMENT_PREFIX_PATH"):
        return f"{where}; the ament index knows the package, so `ros2 launch crl_node sim.launch.py` finds it."
    return f"{where}; the package is in no ament index, so `ros2 launch` will not find it ('make venv' puts it there)."


CHECKS: tuple[Callable[[], str], ...] = (
    python, package, ros, shared_memory, pybullet, kinematics, worlds, onnxruntime, torch,
)  # fmt: skip


def examine(console: Console) -> int:
    """Print one sentence for each check; 0 when all are well, else 1."""
    failed = 0
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            text, mark = check(), "[green]✓[/]"
        except Exception as error:
            failed += 1
            text, mark = str(error) or type(error).__name__, "[red]✗[/]"
        console.print(f"{mark} [bold]{name}[/]: {escape(text)}", highlight=False, soft_wrap=True)
    if failed:
        console.print(f"{failed} of {len(CHECKS)} checks failed.", style="red")
    return 1 if failed else 0
