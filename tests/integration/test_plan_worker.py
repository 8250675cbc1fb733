"""Plans in a thread: what arrives meanwhile is read before a plan is delivered, and nothing changes under it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")

pytestmark = pytest.mark.ros


class Bench:
    """A spun node with a worker; `said` is what happened, in order."""

    def __init__(self, domain: Any) -> None:
        import rclpy
        from rclpy.context import Context
        from std_msgs.msg import Int32

        from crl_node.nodes.base import Guard, make_executor
        from crl_node.nodes.plan_worker import PlanWorker

        self.said: list[Any] = []
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain.id)

        class Node(Guard, rclpy.node.Node):
            error_counts: Any = {}  # an error in a test is an error

        self.node = Node("worker", context=self.context)
        self.executor = make_executor(self.context)
        self.executor.add_node(self.node)
        self.node.create_subscription(Int32, "numbers", lambda m: self.said.append(m.data), 10)
        self.numbers = self.node.create_publisher(Int32, "numbers", 10)
        self.worker = PlanWorker(
            self.node,  # type: ignore[arg-type]
            lambda made: self.said.append(made if isinstance(made, str) else f"error: {made}"),
            lambda: self.said.append("idle"),
        )
        self.open = threading.Event()

    def make(self) -> Any:
        assert self.open.wait(60.0)
        return "plan"

    def fail(self) -> Any:
        raise ValueError("no body")

    def spin_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60.0
        while not condition():
            self.executor.spin_once(timeout_sec=0.05)
            assert time.monotonic() < deadline, self.said

    def send(self, number: int) -> None:
        from std_msgs.msg import Int32

        self.numbers.publish(Int32(data=number))

    def close(self) -> None:
        self.open.set()
        self.worker.wait()
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def bench(ros_domain: Any) -> Iterator[Bench]:
    bench = Bench(ros_domain)
    yield bench
    bench.close()


def test_the_node_reads_on_while_a_plan_is_made_and_the_plan_comes_after_what_arrived(bench: Bench) -> None:
    bench.worker.start(bench.make)
    bench.send(1)
    bench.spin_until(lambda: bench.said == [1])  # not blocked by the plan
    bench.send(2)
    while bench.node.executor is None or not bench.numbers.wait_for_all_acked():
        pass
    bench.open.set()
    bench.spin_until(lambda: "idle" in bench.said)
    from rclpy.executors import SingleThreadedExecutor

    if isinstance(bench.executor, SingleThreadedExecutor):  # an older rclpy: order is not promised
        assert set(bench.said) >= {1, "plan", "idle"}
    else:
        assert bench.said == [1, 2, "plan", "idle"]


def test_what_would_change_the_planner_waits_for_the_plan_and_comes_before_the_next(bench: Bench) -> None:
    bench.worker.when_idle(lambda: bench.said.append("at once"))
    bench.worker.start(bench.make)
    bench.worker.when_idle(lambda: bench.said.append("swap"))
    with pytest.raises(RuntimeError, match="being made already"):
        bench.worker.start(bench.make)
    bench.open.set()
    bench.spin_until(lambda: "idle" in bench.said)
    assert bench.said == ["at once", "plan", "swap", "idle"]


def test_a_plan_that_is_not_wanted_any_more_is_not_delivered_and_the_next_one_is(bench: Bench) -> None:
    bench.worker.start(bench.make)
    bench.worker.drop()
    bench.open.set()
    bench.spin_until(lambda: "idle" in bench.said)
    assert bench.said == ["idle"] and not bench.worker.busy
    bench.worker.start(bench.make)
    bench.spin_until(lambda: bench.said.count("idle") == 2)
    assert bench.said == ["idle", "plan", "idle"]


def test_what_is_wrong_with_a_belief_is_delivered(bench: Bench) -> None:
    bench.worker.start(bench.fail)
    bench.spin_until(lambda: "idle" in bench.said)
    assert bench.said == ["error: no body", "idle"]


def test_a_plan_that_was_waited_for_is_not_delivered_later(bench: Bench) -> None:
    bench.worker.start(bench.make)
    bench.worker.when_idle(lambda: bench.said.append("swap"))
    bench.open.set()
    bench.worker.wait()
    assert bench.said == ["swap"] and not bench.worker.busy
    bench.send(1)
    bench.spin_until(lambda: 1 in bench.said)
    bench.worker.start(bench.make)
    bench.spin_until(lambda: "idle" in bench.said)
    assert bench.said == ["swap", 1, "plan", "idle"]
