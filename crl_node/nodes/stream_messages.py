"""Messages of velocity and twist controllers. What is not finite raises: a motor is not the place to find out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

from crl_node.data import Array
from crl_node.nodes.convert import header


def velocities_to_message(velocities: Array, names: Sequence[str]) -> Float64MultiArray:
    """Joint velocities [J] rad/s. The controllers go by position; the label says which joints are meant."""
    if not np.isfinite(velocities).all():
        raise ValueError(f"joint velocities {velocities.tolist()} are not finite; nothing was sent")
    dimension = MultiArrayDimension(label=",".join(names), size=len(names), stride=len(names))
    return Float64MultiArray(layout=MultiArrayLayout(dim=[dimension]), data=velocities.tolist())


def twist_to_message(twist: Array, stamp: float, frame_id: str) -> TwistStamped:
    """Twist [6] m/s, rad/s of the tip in `frame_id`'s axes."""
    if not np.isfinite(twist).all():
        raise ValueError(f"twist {twist.tolist()} is not finite; nothing was sent")
    message = TwistStamped(header=header(stamp, frame_id))
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = map(float, twist)
    return message
