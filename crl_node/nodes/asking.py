"""Service calls to a running system, for a program that is no ROS node itself."""

from __future__ import annotations

import time
from functools import partial

from crl_interfaces.srv import SetGoal
from rclpy.node import Node

from crl_node.nodes.listener import Listener


def ask_goal(
    domain: int, namespace: str, thing: str, clear: bool, x: float, y: float, weight: float, hold: float, wait: float
) -> tuple[bool, str] | None:
    """What the planner of that ROS domain says to a goal: (success, sentence); None when none answers for `wait` s."""
    caller = Listener(partial(Node, "crl_goal"), domain, namespace)
    try:
        client = caller.node.create_client(SetGoal, "planner/set_goal")
        deadline = time.monotonic() + wait
        if not client.wait_for_service(timeout_sec=wait):
            return None
        request = SetGoal.Request(thing=thing, clear=clear, x=x, y=y, weight=weight, hold=hold)
        future = client.call_async(request)
        caller.executor.spin_until_future_complete(future, timeout_sec=max(deadline - time.monotonic(), 1.0))
        if not future.done():
            return None
        response = future.result()
        return bool(response.success), str(response.message)
    finally:
        caller.close()
