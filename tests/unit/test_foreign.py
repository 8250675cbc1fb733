"""Who is a stranger on a command topic, from what the graph says of its publishers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from crl_node.nodes import foreign
from crl_node.nodes.foreign import NAMED_FOR, UNNAMED_FOR, ForeignWatch

PLANNER, STRANGER, NOBODY = ("planner", b"1"), ("other", b"2"), ("_NODE_NAME_UNKNOWN_", b"3")


class Graph:
    """Stands for the graph of a node `gate` in the namespace /arm; the time is `now`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, expected: str = "planner") -> None:
        self.now, self.publishers = 100.0, [PLANNER]
        monkeypatch.setattr(foreign.time, "monotonic", lambda: self.now)
        self.watch = ForeignWatch(self, {"planner/command": expected})  # type: ignore[arg-type]

    def resolve_topic_name(self, topic: str) -> str:
        return f"/arm/{topic}"

    def get_namespace(self) -> str:
        return "/arm"

    def get_publishers_info_by_topic(self, topic: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(node_name=n, node_namespace="/arm", endpoint_gid=g) for n, g in self.publishers]

    def look_for(self, seconds: float) -> str:
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            self.watch.look()
        return self.watch.problem


def test_the_planner_alone_is_nobody_strange(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Graph(monkeypatch).look_for(5.0) == ""


def test_another_node_is_named_after_a_moment_and_forgotten_when_it_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(monkeypatch)
    graph.publishers.append(STRANGER)
    assert graph.look_for(0.15) == ""  # discovery may be under way
    assert graph.look_for(NAMED_FOR + 0.2) == "/arm/other publishes on /arm/planner/command"
    graph.publishers.remove(STRANGER)
    assert graph.look_for(0.3) == ""


def test_a_publisher_without_a_name_counts_later(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(monkeypatch)
    graph.publishers.append(NOBODY)
    assert graph.look_for(UNNAMED_FOR - 0.3) == ""
    assert graph.look_for(0.7) == "a participant without a name publishes on /arm/planner/command"


def test_a_planner_that_was_stopped_and_lost_its_name_is_still_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(monkeypatch)
    graph.look_for(0.5)
    graph.publishers[:] = []
    graph.look_for(0.5)
    graph.publishers[:] = [("_NODE_NAME_UNKNOWN_", PLANNER[1])]
    assert graph.look_for(UNNAMED_FOR + 1.0) == ""


def test_without_a_name_to_expect_one_publisher_is_welcome_and_two_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(monkeypatch, expected="")
    graph.publishers[:] = [STRANGER]
    assert graph.look_for(3.0) == ""
    graph.publishers.append(PLANNER)
    problem = graph.look_for(1.0)
    assert "/arm/other" in problem and "/arm/planner" in problem
