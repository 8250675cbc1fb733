"""Messages that are no messages: bytes that cannot be read, and fields that make no sense. The nodes live on.

What these pin: an exception while a message is taken (not in a callback, which is guarded) ends rclpy's executor.
`CRL_FLOOD=100000 pytest -s tests/faults/test_malformed_messages.py` is the long campaign.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from tests.support.faults import Flood

pytestmark = pytest.mark.ros
MESSAGES = int(os.environ.get("CRL_FLOOD", "1500"))


def test_unreadable_and_senseless_messages_leave_the_gate_alive_and_quiet(ros_domain: Any, node_process: Any) -> None:
    flood = Flood(ros_domain, node_process, random.Random(0))
    flood.send(MESSAGES)
    flood.assert_alive()
    ros_domain.wait_until(lambda: bool(flood.trajectories), "holds in answer to senseless commands")
    assert flood.not_finite() == 0
    assert flood.moves() == 0.0
    print(f"\nMEASURED {MESSAGES} malformed messages: nodes active, {len(flood.trajectories)} holds sent, all finite")
