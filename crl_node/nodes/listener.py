"""A node with a context and an executor of its own, for a program that is no ROS node itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from crl_node.nodes.base import make_executor

Kind = TypeVar("Kind", bound=Node)


class Listener(Generic[Kind]):
    """`node` in the domain `domain_id` (None: the environment's). Signals stay the program's own.

    Whoever made it serves it and closes it.
    """

    def __init__(
        self, make: Callable[..., Kind], domain_id: int | None, namespace: str = "", *, raw: bool = False
    ) -> None:  # fmt: skip
        """`make` is called with `context` and `namespace`. `raw`: its subscriptions are to serialised messages."""
        self._context = Context()
        rclpy.init(
            context=self._context, domain_id=domain_id, args=[], signal_handler_options=SignalHandlerOptions.NO
        )
        self.node = make(context=self._context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self._context) if raw else make_executor(self._context)
        self.executor.add_node(self.node)

    def close(self) -> None:
        """Leave the domain."""
        self.executor.shutdown()
        self.node.destroy_node()
        self._context.try_shutdown()
