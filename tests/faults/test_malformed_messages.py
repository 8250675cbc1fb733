"""Messages that are no messages: bytes that cannot be read, and fields that make no sense. The nodes live on.

What these pin: an exception while a message is taken (not in a callback, which is guarded) ends rclpy's executor.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from tests.support.faults import Flood

pytestmark = pytest.mark.ros


def test_unreadable_and_senseless_messages_leave_the_gate_alive_and_quiet(ros_domain: Any, node_process: Any) -> None:
    flood = Flood(ros_domain, node_process, random.Random(0))
    sent = flood.send(1500)
    assert sent == 1500
    flood.assert_alive()
    ros_domain.wait_until(lambda: bool(flood.trajectories), "holds in answer to senseless commands")
    assert flood.not_finite() == 0
    assert flood.moves() == 0.0
