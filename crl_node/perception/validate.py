"""Checks at the door: an image that cannot be trusted never reaches the slots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Encodings of sensor_msgs/Image that are turned into rgb: channels in memory and their order.
_ENCODINGS: dict[str, tuple[int, tuple[int, ...]]] = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
}


class FrameError(ValueError):
    """An image was not usable; the text says what was wrong, what was received and that it was dropped."""


def decode_image(
    data: bytes | bytearray | memoryview | NDArray[np.uint8],
    *,
    width: int,
    height: int,
    step: int,
    encoding: str,
    expected: tuple[int, int],
) -> NDArray[np.uint8]:
    """Rgb copy [height, width, 3] of the fields of a sensor_msgs/Image; `expected` is (width, height) px.

    Raises FrameError on a wrong encoding, size, step or length of data.
    """
    if encoding not in _ENCODINGS:
        known = ", ".join(_ENCODINGS)
        raise FrameError(f"image encoding '{encoding}' is not one of {known}; frame dropped")
    if (width, height) != expected:
        raise FrameError(
            f"image is {width}x{height} px but the camera was described as {expected[0]}x{expected[1]} px; "
            "frame dropped"
        )
    channels, order = _ENCODINGS[encoding]
    if step < width * channels:
        raise FrameError(
            f"image step is {step} bytes, less than the {width * channels} bytes of one row "
            f"({width} px of {encoding}); frame dropped"
        )
    buffer = np.frombuffer(data, np.uint8)
    if buffer.size != step * height:
        raise FrameError(
            f"image holds {buffer.size} bytes but step {step} x height {height} makes {step * height}; frame dropped"
        )
    rows = buffer.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    return np.ascontiguousarray(rows[:, :, list(order)])


def check_image(image: NDArray[np.generic], *, width: int, height: int) -> NDArray[np.float64]:
    """The image as float64 rgb in 0..1 [height, width, 3]; float images are accepted when finite and in 0..1.

    A constant image is accepted: a dark room is not an error. Raises FrameError otherwise.
    """
    if not isinstance(image, np.ndarray):
        raise FrameError(f"image is a {type(image).__name__}, not an array; frame dropped")
    if image.shape != (height, width, 3):
        raise FrameError(
            f"image has shape {image.shape} but the camera gives ({height}, {width}, 3) rgb; frame dropped"
        )
    if image.dtype == np.uint8:
        return image.astype(np.float64) / 255.0
    if not np.issubdtype(image.dtype, np.floating):
        raise FrameError(f"image values are {image.dtype}, expected uint8 or float in 0..1; frame dropped")
    values = image.astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise FrameError(f"image holds {bad} non-finite values of {values.size}; frame dropped")
    if values.min() < 0.0 or values.max() > 1.0:
        raise FrameError(
            f"float image spans {values.min():.3g} to {values.max():.3g}, expected 0 to 1; frame dropped"
        )
    return values
