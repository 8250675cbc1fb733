"""What the simulator publishes, as messages."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from crl_interfaces.msg import GroundTruth, ObjectTruth
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header

from crl_node.camera import Camera
from crl_node.data import Array
from crl_node.simulator.engine import Truth

NANOSECONDS = 1_000_000_000


def nanoseconds_to_stamp(nanoseconds: int) -> Time:
    """`builtin_interfaces/Time`, exact."""
    return Time(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def stamp_to_nanoseconds(stamp: Time | Duration) -> int:
    """Nanoseconds of a `builtin_interfaces/Time` or `Duration`, exact; divided by 1e9 they give the nearest double."""
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def image_message(image: NDArray[np.uint8], stamp: Time, frame_id: str) -> Image:
    """`image` [height, width, 3] as rgb8."""
    height, width, _ = image.shape
    message = Image(header=Header(stamp=stamp, frame_id=frame_id), height=height, width=width)
    message.encoding, message.is_bigendian, message.step = "rgb8", 0, 3 * width
    message.data = array.array("B", image.tobytes())
    return message


def camera_info_message(camera: Camera, stamp: Time, frame_id: str) -> CameraInfo:
    """A camera without distortion."""
    message = CameraInfo(
        header=Header(stamp=stamp, frame_id=frame_id), height=camera.height, width=camera.width
    )
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = camera.intrinsics.ravel()
    message.r = np.eye(3).ravel()
    message.p = np.column_stack([camera.intrinsics, np.zeros(3)]).ravel()
    return message


def joint_state_message(
    names: tuple[str, ...], q: Array, dq: Array, effort: Array, stamp: Time
) -> JointState:
    """Positions [J] rad, velocities [J] rad/s, efforts [J] N m."""
    return JointState(
        header=Header(stamp=stamp),
        name=list(names),
        position=q.tolist(),
        velocity=dq.tolist(),
        effort=effort.tolist(),
    )


def truth_message(truth: Truth, stamp: Time, frame_id: str) -> GroundTruth:
    """For evaluation only."""
    message = GroundTruth(header=Header(stamp=stamp, frame_id=frame_id), changes=list(truth.changes))
    message.tip.x, message.tip.y, message.tip.z = map(float, truth.tip)
    for thing in truth.objects:
        entry = ObjectTruth(name=thing.name, brightness=thing.brightness, pressed=thing.pressed)
        entry.contacts = list(thing.contacts)
        position, orientation = entry.pose.position, entry.pose.orientation
        position.x, position.y, position.z = map(float, thing.position)
        orientation.x, orientation.y, orientation.z, orientation.w = map(float, thing.orientation)
        linear, angular = entry.twist.linear, entry.twist.angular
        linear.x, linear.y, linear.z = map(float, thing.velocity)
        angular.x, angular.y, angular.z = map(float, thing.angular_velocity)
        message.objects.append(entry)
    return message
