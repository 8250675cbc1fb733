"""Asks every node of the system for its parameters, so that a bag says by itself with which it was recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.msg import ParameterEvent
from rcl_interfaces.srv import GetParameters, ListParameters
from rclpy.client import Client
from rclpy.node import Node
from rclpy.parameter import parameter_value_to_python


@dataclass
class _Asked:
    """One node's two services, and how far the conversation has come."""

    names: Client
    values: Client
    started: bool = False
    done: bool = False


class SettingsListener:
    """Collects `values` (full node name -> parameter -> value) and calls `on_change` whenever they have grown.

    Asks with services and never waits: `look` is called by a timer. A node that came late is asked then; one that
    changes a parameter says so on /parameter_events. A node that does not answer is only missing.
    """

    def __init__(self, node: Node, on_change: Callable[[], None]) -> None:
        self._node, self._on_change = node, on_change
        self.values: dict[str, dict[str, Any]] = {}
        self._asked: dict[str, _Asked] = {}
        self._events = node.create_subscription(ParameterEvent, "/parameter_events", self._on_event, 100)

    def look(self) -> None:
        """Ask the nodes that were not asked yet."""
        for name, namespace in self._node.get_node_names_and_namespaces():
            full = f"{namespace.rstrip('/')}/{name}"
            if name.startswith("_") or full in self._asked:
                continue
            self._asked[full] = _Asked(
                self._node.create_client(ListParameters, f"{full}/list_parameters"),
                self._node.create_client(GetParameters, f"{full}/get_parameters"),
            )
        for full, asked in self._asked.items():
            if asked.done:
                self._hang_up(asked)
            elif not asked.started and asked.names.service_is_ready() and asked.values.service_is_ready():
                asked.started = True
                request = ListParameters.Request()
                asked.names.call_async(request).add_done_callback(partial(self._on_names, full))

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._events)
        for asked in self._asked.values():
            self._hang_up(asked)
        self._asked = {}

    def _on_names(self, full: str, future: Any) -> None:
        answer, asked = future.result(), self._asked.get(full)
        if answer is None or asked is None:
            return
        names = list(answer.result.names)
        request = GetParameters.Request(names=names)
        asked.values.call_async(request).add_done_callback(partial(self._on_values, full, names))

    def _on_values(self, full: str, names: list[str], future: Any) -> None:
        answer, asked = future.result(), self._asked.get(full)
        if answer is None or asked is None:
            return
        asked.done = True  # its clients go with the next look: not from inside their own callback
        self.values[full] = {
            name: _plain(parameter_value_to_python(value)) for name, value in zip(names, answer.values, strict=False)
        }
        self._on_change()

    def _on_event(self, event: ParameterEvent) -> None:
        known = self.values.get(event.node)
        if known is None:
            return  # it is asked for all of them anyway
        for parameter in (*event.new_parameters, *event.changed_parameters):
            known[parameter.name] = _plain(parameter_value_to_python(parameter.value))
        for parameter in event.deleted_parameters:
            known.pop(parameter.name, None)
        self._on_change()

    def _hang_up(self, asked: _Asked) -> None:
        for client in (asked.names, asked.values):
            self._node.destroy_client(client)


def _plain(value: Any) -> Any:
    """JSON's own types."""
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    return [_plain(v) for v in value]
