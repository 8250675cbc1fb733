"""Runs every shipped profile on mock hardware and measures from the bag how the arm moved against its limits.

python benchmarks/robots.py --seconds 20 --robots ur5e,franka,so101

Two accelerations, both over 25 ms and as shares of the limit: that of what the mock's controller was made to follow,
which is what commands can break, and that of the measured joints, in which the tip's blows against things are too.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from crl_node.arm.profile import load_profile, profile_path
from crl_node.arm.schema import CONTROLLERS
from crl_node.bags.reader import BagReader
from crl_node.evaluation.motion import motion

HEAD = (
    "profile", "s", "tip moved m", "outside position limits rad", "velocity", "acceleration followed",
    "acceleration measured", "commands accepted, refused by the gate", "silences", "load",
)  # fmt: skip


def main() -> None:
    """Print one line a robot; exit 1 when one left its limits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--robots", default="ur5e,franka,so101")
    parser.add_argument("--policy", default="curious")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--lead", type=float, default=0.03, help="of the planner, s; at most 0.1")
    parser.add_argument("--latency", type=float, help="instead of the profile's controller.latency, s")
    parser.add_argument("--kind", choices=tuple(CONTROLLERS), default="joint_trajectory", help="of controller")
    parser.add_argument("--rate", type=float, help="of a stream, instead of the profile's controller.rate, Hz")
    parser.add_argument("--delay", type=float, default=0.005, help="from a command's arrival to its effect, s")
    parser.add_argument("--things", type=int, default=3, help="on the table; without any nothing is hit")
    parser.add_argument("--busy", type=int, default=0, help="processes that do nothing but compute meanwhile")
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="crl_robots_"))
    folder.mkdir(parents=True, exist_ok=True)
    parameters = folder / "parameters.yaml"
    parameters.write_text(
        f"planner:\n  ros__parameters:\n    lead: {given.lead}\n"
        f"mock:\n  ros__parameters:\n    delay: {given.delay}\n    things: {given.things}\n"
    )
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(given.busy)]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    try:
        failed = sum(not _measure(name, given, folder, parameters) for name in given.robots.split(","))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    print(f"load average {os.getloadavg()[0]:.1f}; runs in {folder}")
    sys.exit(1 if failed else 0)


def _measure(name: str, given: argparse.Namespace, folder: Path, parameters: Path) -> bool:
    """Print the robot's row; whether it ran and kept its limits."""
    run, profile_file = folder / Path(name).stem, _profile(name, given, folder)
    command = [sys.executable, "-c", "from crl_node.cli import main; main()", "robot", "run", str(profile_file)]
    command += ["--mock", "--seconds", str(given.seconds), "--policy", given.policy, "--out", str(run)]
    result = subprocess.run([*command, "--params-file", str(parameters)], capture_output=True, text=True, check=False)
    if result.returncode:
        print(result.stdout[-2000:], result.stderr[-2000:], file=sys.stderr)
        return False
    profile = load_profile(profile_file)
    moved, told = motion(run / "bag", profile), _told(run / "bag")
    hardware = told["mock: hardware"]
    shares, followed = moved.shares(profile), float(hardware["followed_acceleration"])
    if hardware["errors"] != "0":
        print(f"{name}: the mock counts {hardware['errors']} errors; see {run}/logs/mock.log", file=sys.stderr)
        return False
    gate = next(values for key, values in told.items() if key.endswith(": gate"))
    row = (
        name, f"{moved.seconds:.0f}", f"{moved.tip_path:.2f}", f"{shares['position']:+.3f}",
        f"{100 * shares['velocity']:.0f} %", f"{100 * followed:.0f} %", f"{100 * shares['acceleration']:.0f} %",
        f"{gate['accepted']}, {gate['rejected']}", hardware["silences"], f"{os.getloadavg()[0]:.1f}",
    )  # fmt: skip
    print(f"| {' | '.join(row)} |", flush=True)
    return shares["position"] <= 1e-3 and shares["velocity"] <= 1 and followed <= 1.02


def _profile(name: str, given: argparse.Namespace, folder: Path) -> Path:
    """The profile with the controller asked for."""
    text, source = profile_path(name).read_text(), load_profile(name)
    wanted = f"type: {given.kind}" + ("" if given.latency is None else f", latency: {given.latency}")
    if given.rate is not None:
        wanted += f", rate: {given.rate}"
    text, count = re.subn(r"type: joint_trajectory(?=[,}])", wanted, text)
    if count != 1:
        raise SystemExit(f"{name}: the profile has no line with 'type: joint_trajectory'")
    if source.urdf.is_file():
        text = re.sub(r"(?m)^urdf:.*$", f"urdf: {source.urdf}", text)
    path = folder / f"{Path(name).stem}.yaml"
    path.write_text(text)
    return path


def _told(bag: Path) -> dict[str, dict[str, str]]:
    """The last diagnostics of every node in the bag, by name."""
    found: dict[str, dict[str, str]] = {}
    for decoded in BagReader(bag).messages(["/diagnostics"]):
        for status in decoded.message.status:
            found[status.name] = {entry.key: entry.value for entry in status.values}
    return found


if __name__ == "__main__":
    main()
