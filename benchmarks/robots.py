"""Runs every shipped profile on mock hardware and measures from the bag how the arm moved against its limits.

python benchmarks/robots.py --seconds 20 --robots ur5e,franka,so101
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from crl_node.arm.profile import load_profile
from crl_node.evaluation.motion import motion


def main() -> None:
    """Print one line a robot; exit 1 when one left its limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--robots", default="ur5e,franka,so101")
    parser.add_argument("--policy", default="curious")
    parser.add_argument("--out", type=Path, help="keep the runs here")
    parser.add_argument("--lead", type=float, default=0.03, help="of the planner, s; at most 0.1")
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp(prefix="crl_robots_"))
    folder.mkdir(parents=True, exist_ok=True)
    parameters = folder / "parameters.yaml"
    parameters.write_text(f"planner:\n  ros__parameters:\n    lead: {given.lead}\n")
    failed = 0
    print("| profile | s | joint states | tip moved m | outside position limits rad | velocity | acceleration |")
    print("|---|---|---|---|---|---|---|")
    for name in given.robots.split(","):
        run = folder / Path(name).stem
        command = [sys.executable, "-c", "from crl_node.cli import main; main()", "robot", "run", name, "--mock"]
        command += ["--seconds", str(given.seconds), "--policy", given.policy, "--out", str(run)]
        command += ["--params-file", str(parameters)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            print(result.stdout[-2000:], result.stderr[-2000:], file=sys.stderr)
            failed += 1
            continue
        profile = load_profile(name)
        moved = motion(run / "bag", profile)
        shares = moved.shares(profile)
        failed += shares["position"] > 1e-3 or shares["velocity"] > 1
        print(
            f"| {name} | {moved.seconds:.0f} | {moved.samples} | {moved.tip_path:.2f} | {shares['position']:+.3f} | "
            f"{100 * shares['velocity']:.0f} % | {100 * shares['acceleration']:.0f} % |",
            flush=True,
        )
    print(f"load average {os.getloadavg()[0]:.1f}; runs in {folder}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
