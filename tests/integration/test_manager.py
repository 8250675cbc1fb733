"""The manager brings nodes up in order, again after they were killed, and down in reverse."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

NODE = """
import pathlib, sys
name, life, fail = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
from crl_node.nodes import parameters
parameters.load_specs = lambda name: {}
from crl_node.nodes.base import ManagedNode, run

class Fake(ManagedNode):
    def __init__(self):
        super().__init__(name)
        if fail == "answers":  # they are lost on the way
            self._service_change_state.send_response = lambda response, header: None
    def note(self, what):
        with life.open("a") as file:
            file.write(f"{what} {name}\\n")
        if what == fail:
            raise RuntimeError("on purpose")
    def setup(self): self.note("setup")
    def start(self): self.note("start")
    def stop(self): self.note("stop")
    def teardown(self): self.note("teardown")

run(Fake)
"""


@pytest.fixture
def fake(ros_domain: Any, tmp_path: Path) -> Any:
    script = tmp_path / "fake.py"
    script.write_text(NODE)
    life = tmp_path / "life.txt"
    life.touch()

    def start(name: str, fail: str = "never") -> Any:
        return ros_domain.process(name, [sys.executable, str(script), name, str(life), fail])

    start.life = lambda: life.read_text().splitlines()  # type: ignore[attr-defined]
    return start


def system_phases(ros_domain: Any) -> list[str]:
    from diagnostic_msgs.msg import DiagnosticArray

    phases: list[str] = []

    def note(message: Any) -> None:
        phases.extend(s.message for s in message.status if s.name == "manager")

    ros_domain.node.create_subscription(DiagnosticArray, "/diagnostics", note, 10)
    return phases


def test_nodes_come_up_in_order_and_go_down_in_reverse(ros_domain: Any, node_process: Any, fake: Any) -> None:
    from std_srvs.srv import Trigger

    for name in ("c", "a", "b"):
        fake(name)
    node_process("manager", {"nodes": ["a", "b", "c"]})
    phases = system_phases(ros_domain)
    ros_domain.wait_until(lambda: "running" in phases, "the system to run")
    assert [line for line in fake.life() if line.startswith("start")] == ["start a", "start b", "start c"]
    assert ros_domain.call(Trigger, "manager/shutdown").success
    ros_domain.wait_until(lambda: "stopped" in phases, "the system to stop")
    assert [line for line in fake.life() if line.startswith("stop")] == ["stop c", "stop b", "stop a"]
    assert sorted(line for line in fake.life() if line.startswith("teardown")) == [
        "teardown a", "teardown b", "teardown c",
    ]  # fmt: skip


def test_a_killed_node_is_brought_up_again_and_the_others_are_left_alone(
    ros_domain: Any, node_process: Any, fake: Any
) -> None:
    fake("a")
    victim = fake("b")
    node_process("manager", {"nodes": ["a", "b"]})
    phases = system_phases(ros_domain)
    ros_domain.wait_until(lambda: "running" in phases, "the system to run")
    victim.kill(signal.SIGKILL)
    fake("b")
    ros_domain.wait_until(lambda: fake.life().count("start b") == 2, "b to be active again")
    assert fake.life().count("start a") == 1
    assert "stop a" not in fake.life()


def test_a_node_that_cannot_be_configured_fails_the_system_with_its_name(
    ros_domain: Any, node_process: Any, fake: Any
) -> None:
    fake("a")
    fake("b", fail="setup")
    manager = node_process("manager", {"nodes": ["a", "b"]})
    phases = system_phases(ros_domain)
    ros_domain.wait_until(lambda: "failed" in phases, "the system to fail")
    assert "'b' failed to configure (2 of 2 attempts)" in manager.log()


def test_lost_answers_do_not_hold_the_system_up(ros_domain: Any, node_process: Any, fake: Any) -> None:
    fake("a", fail="answers")
    node_process("manager", {"nodes": ["a"], "configure_timeout": 3600.0})
    phases = system_phases(ros_domain)
    ros_domain.wait_until(lambda: "running" in phases, "the system to run")
    assert fake.life() == ["setup a", "start a"]


def test_without_autostart_nothing_moves_until_startup_is_called(
    ros_domain: Any, node_process: Any, fake: Any
) -> None:
    from std_srvs.srv import Trigger

    fake("a")
    node_process("manager", {"nodes": ["a"], "autostart": False})
    phases = system_phases(ros_domain)
    ros_domain.wait_until(lambda: phases.count("waiting to be started") >= 2, "two reports")
    assert fake.life() == []
    assert ros_domain.call(Trigger, "manager/startup").success
    ros_domain.wait_until(lambda: "running" in phases, "the system to run")
    assert fake.life() == ["setup a", "start a"]


def test_a_node_that_does_not_answer_is_silent_and_answers_again(
    ros_domain: Any, node_process: Any, fake: Any
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    victim = fake("a")
    fake("b")
    manager = node_process("manager", {"nodes": ["a", "b"], "heartbeat_timeout": 1.0})
    phases = system_phases(ros_domain)
    ros_domain.wait_until(lambda: "running" in phases, "the system to run")
    states: dict[str, tuple[Any, str]] = {}

    def note(message: Any) -> None:
        states.update({s.name: (s.level, s.message) for s in message.status})

    ros_domain.node.create_subscription(DiagnosticArray, "/diagnostics", note, 10)
    victim.popen.send_signal(signal.SIGSTOP)

    def told() -> tuple[str, str]:
        return states.get("lifecycle/a", (b"", ""))[1], states.get("lifecycle/b", (b"", ""))[1]

    # A busy machine may keep an answer of b waiting as well; that passes.
    ros_domain.wait_until(lambda: told() == ("silent", "active"), "silence of a alone told")
    assert states["lifecycle/a"][0] == b"\x02"
    assert "although it is there: it is silent" in manager.log()
    victim.popen.send_signal(signal.SIGCONT)
    ros_domain.wait_until(lambda: told() == ("active", "active"), "an answer")
    assert "a answers again" in manager.log()
    assert [line for line in fake.life() if line.startswith("start")] == ["start a", "start b"]
