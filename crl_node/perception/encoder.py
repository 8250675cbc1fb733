"""What every encoder does: an image and the previous belief go in, a belief over slots comes out.

Two more encoders are to come behind this protocol: an amortised one (a small network trained online to give
the iterative answer in one pass) and a neural one for observations that are not made of things.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array, Belief, Frame

#: One part of the robot, a segment with a radius: (start [3] m, end [3] m, radius m), base frame.
Capsule = tuple[Array, Array, float]


@runtime_checkable
class Encoder(Protocol):
    """Image -> belief. Holds the previous belief itself; calls come in the order of the stamps."""

    def encode(self, frame: Frame, tip: Array, tip_velocity: Array, capsules: list[Capsule]) -> Belief:
        """Belief at `frame.stamp`, given the tip at [3] m moving at [2] m/s and the robot's parts `capsules`.

        Raises FrameError when the image cannot be used; the encoder's state is then unchanged.
        """
        ...

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything needed to go on later, as plain arrays (copies)."""
        ...

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Go on from what `state()` gave; raises ValueError naming the array that does not fit."""
        ...
