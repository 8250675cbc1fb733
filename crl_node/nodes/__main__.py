"""Runs one node: `python -m crl_node.nodes learner --ros-args ...`."""

from __future__ import annotations

import importlib
import sys

from crl_node.supervisor import die_with_parent

NAMES = ("sim", "learner", "planner", "gate", "recorder", "player", "manager", "mock", "calibrator")


def main(name: str | None = None) -> None:
    """Run the node called `name` (default: the first argument) in this process."""
    if name is None:
        if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
            given = sys.argv[1] if len(sys.argv) > 1 else "nothing"
            sys.exit(f"name the node to run: one of {', '.join(NAMES)} (got {given})")
        name = sys.argv.pop(1)
    die_with_parent()
    importlib.import_module(f"crl_node.nodes.{name}").main()


if __name__ == "__main__":
    main()
