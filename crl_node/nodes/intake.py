"""Serialised messages of many topics, fetched when there is time for them instead of one wake-up each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class Intake:
    """Subscriptions of a hidden node that no executor serves: DDS queues what comes, `fetch` takes it out.

    An executor of rclpy spends .2 to .4 ms on each message, however small; fetching one takes a tenth of that.
    """

    def __init__(self, node: Node) -> None:
        """The hidden node is a neighbour of `node`, in its context."""
        self._node = Node(
            f"_{node.get_name()}_intake",
            namespace=node.get_namespace(),
            context=node.context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
            parameter_overrides=[Parameter("use_sim_time", value=False)],
        )

    def subscribe(self, kind: Any, topic: str, qos: QoSProfile) -> Subscription:
        """A subscription to fetch from. `topic` is a full name; the depth of `qos` must hold what comes meanwhile."""
        silent = SubscriptionEventCallbacks(use_default_callbacks=False)
        return self._node.create_subscription(
            kind, topic, lambda data: None, qos, raw=True, event_callbacks=silent
        )

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; what it still holds is lost."""
        self._node.destroy_subscription(subscription)

    @staticmethod
    def fetch(subscription: Subscription, most: int) -> Iterator[tuple[bytes, dict[str, int]]]:
        """Up to `most` messages that have arrived, oldest first; with each what rclpy knows about it (times in ns)."""
        with subscription.handle:
            for _ in range(most):
                taken = subscription.handle.take_message(subscription.msg_type, True)
                if taken is None:
                    return
                yield taken

    def close(self) -> None:
        """End all subscriptions."""
        self._node.destroy_node()
