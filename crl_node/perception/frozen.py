"""A camera that sends the same picture again and again looks like a world in which nothing happens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array
from crl_node.perception.validate import FrameError

#: The tip may go this far while the picture stays the same to the last bit, m. In 1200 simulated frames of 96 px
#: (6 mm a pixel) a tip that moved by 0.5 mm always changed 38 pixels or more; a real camera's noise changes them
#: always.
MOST_PATH = 0.002


class FrozenPicture:
    """Compares each picture with the one before it. The arm must be in view: it is what moves."""

    def __init__(self, most_path: float = MOST_PATH) -> None:
        self.most_path = most_path
        self.frozen = 0  # pictures refused
        self._image: NDArray[np.generic] | None = None
        self._tip: Array | None = None
        self._path = 0.0  # m, of the tip since the picture last changed

    def look(self, image: NDArray[np.generic], tip: Array) -> None:
        """Raise FrameError when `image` is the last one again although the tip (at [3] m) has moved since."""
        same = self._image is not None and self._image.shape == image.shape and bool(np.array_equal(self._image, image))
        step = 0.0 if self._tip is None else float(np.linalg.norm(tip - self._tip))
        self._path = self._path + step if same else 0.0
        self._image, self._tip = image, np.array(tip, float)
        if self._path > self.most_path:
            self.frozen += 1
            raise FrameError(
                f"the picture is the same to the last bit although the tip has moved {1e3 * self._path:.0f} mm: "
                "the camera is frozen; frame dropped"
            )
