"""Running nodes open no socket to the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ros


def sockets(pid: int) -> list[str]:
    """Lines of /proc/net/{udp,tcp}* that belong to a descriptor of `pid`."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("udp", "udp6", "tcp", "tcp6", "raw", "raw6"):
        path = Path("/proc/net") / table
        if path.exists():
            found += [f"{table}: {line}" for line in path.read_text().splitlines()[1:] if line.split()[9] in inodes]
    return found


def test_nodes_that_talk_to_each_other_have_no_network_socket(ros_domain: Any, node_process: Any) -> None:
    nodes = [node_process(name) for name in ("gate", "manager")]
    assert ros_domain.transition("gate", "configure")  # over shared memory
    for node in nodes:
        assert sockets(node.popen.pid) == []


def test_a_network_socket_would_be_seen() -> None:
    import os
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        assert len(sockets(os.getpid())) >= 1
