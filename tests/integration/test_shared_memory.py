"""What a closed participant and a killed peer leave in /dev/shm is removed at once, and nobody else's."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from crl_node import shared_memory

pytestmark = pytest.mark.ros

TALKER = """
import rclpy
from std_msgs.msg import String

rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(String, "talk", 10)
node.create_timer(0.02, lambda: publisher.publish(String(data="x" * 1000)))
rclpy.spin(node)
"""


def segments(files: set[Path]) -> set[Path]:
    return {path for path in files if "port" not in path.name and not path.name.endswith("_el")}


def test_a_killed_peers_segment_goes_although_this_process_has_it_mapped_still(ros_domain: Any) -> None:
    from rclpy.node import Node
    from std_msgs.msg import String

    from crl_node.nodes.listener import Listener

    process = ros_domain.process("talker", [sys.executable, "-c", TALKER])
    heard: list[str] = []

    def make(**options: object) -> Node:
        node = Node("hearer", **options)  # type: ignore[arg-type]
        node.create_subscription(String, "talk", lambda message: heard.append(message.data), 10)
        return node

    own = shared_memory.OwnFiles()
    listener = Listener(make, ros_domain.id)
    deadline = time.monotonic() + 60.0
    while len(heard) < 3:
        listener.executor.spin_once(timeout_sec=0.1)
        assert process.popen.poll() is None and time.monotonic() < deadline
    peers = segments(shared_memory.files_used_by(process.popen.pid))
    peers_segment = peers & segments(shared_memory.files_used_by(os.getpid()))
    assert peers_segment, "nothing went through shared memory"
    own.look()
    removed = shared_memory.remove_abandoned(known=peers_segment, released=peers_segment)
    assert removed == [], "the peer uses it"
    process.kill()
    assert not peers & set(shared_memory.remove_abandoned(known=peers)), "in use here: the participant is not closed"
    listener.close()
    left = peers & shared_memory.files_used_by(os.getpid())
    removed = own.remove(known=peers, domain=ros_domain.id)
    assert not (peers | own.look()) & shared_memory.fastdds_files()
    assert not {path for path in shared_memory.fastdds_files() if shared_memory.domain_of(path) == ros_domain.id}
    if left:  # the case this is about: Fast DDS lets go of it seconds later, and leaves the file
        assert peers & set(removed)
