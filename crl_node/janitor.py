"""Clears up after a supervisor, however it ended: `python -m crl_node.janitor PID DOMAIN`, started by the supervisor.

It reads the names of the nodes' shared memory files from stdin, whose end means that the supervisor is gone. Then it
waits until the nodes are, ends those that stay, and removes the files that nobody uses any more.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from crl_node import shared_memory

#: How long nodes have to end by themselves (they get SIGTERM from the kernel), s.
PATIENCE = 10.0


def nodes_of(supervisor: int) -> list[int]:
    """Living processes that `supervisor` started, by the variable it puts into their environment."""
    mark = f"CRL_NODE_PARENT={supervisor}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def clear_up(supervisor: int, domain: int | None, files: set[Path]) -> None:
    """End what is left of the nodes of `supervisor`, then remove their files."""
    deadline = time.monotonic() + PATIENCE
    while left := nodes_of(supervisor):
        if time.monotonic() > deadline + PATIENCE:
            break  # the kernel holds them: nothing more can be done
        if time.monotonic() > deadline:
            for pid in left:
                files |= shared_memory.files_used_by(pid)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        time.sleep(0.1)
    shared_memory.remove_abandoned(known=files, domain=domain)


def main() -> None:
    """Wait for the supervisor's end, then clear up."""
    supervisor, domain = int(sys.argv[1]), int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when its work is done
    files = {Path(line.strip()) for line in sys.stdin if line.strip()}
    clear_up(supervisor, domain if domain >= 0 else None, files)


if __name__ == "__main__":
    main()
