"""Does the arm do what it was told? Compares measured joints with the trajectory that acts at their stamp.

The gate holds an arm that does not follow; the learner does not learn from what such an arm did (`alignment.py`).
"""

from __future__ import annotations

from collections import deque

import numpy as np

from crl_node.arm.trajectory import JointTrajectory
from crl_node.data import Array

#: A joint further than this from where it was told to be does not follow, rad. An arm that presses on something stays
#: below it: the commander's reference waits for the tip (`max_tip_lag`).
TOLERANCE = 0.1
#: For this long before it counts, s.
PATIENCE = 0.3
#: Share of the tolerance below which an arm follows again, and for how long, s. A reference that is given up for the
#: measured state makes the distance small for a moment only, again and again, when the arm falls or is dragged along.
_AGAIN, _CALM = 0.5, 0.1


class Following:
    """Watches one arm; `joint_names` give the order of positions [J] rad. Times are stamps in s, on one clock."""

    def __init__(self, joint_names: tuple[str, ...], tolerance: float = TOLERANCE, patience: float = PATIENCE) -> None:
        self.joint_names, self.tolerance, self.patience = joint_names, tolerance, patience
        self.problem = ""  # a sentence while the arm does not follow
        self.error = 0.0  # rad, largest of the joints in the newest state
        self._acting: deque[tuple[float, JointTrajectory]] = deque(maxlen=16)  # start s, in order of arrival
        self._since: float | None = None  # s, since when it strays (with moments between)
        self._calm: float | None = None  # s, since when it is near
        self._joint = 0

    def forget(self) -> None:
        """Nothing was told so far."""
        self._acting.clear()
        self._since, self._calm, self.problem, self.error = None, None, "", 0.0

    def told(self, start: float, trajectory: JointTrajectory) -> None:
        """From `start` s on `trajectory` (joints in this order) is executed instead of what was before."""
        self._acting.append((start, trajectory))

    def untold(self) -> None:
        """The last of what was told is not executed: it was not sent."""
        if self._acting:
            self._acting.pop()

    def reference(self, stamp: float) -> Array | None:
        """Position [J] rad it was told to be at, at `stamp` s; None when nothing was told for that time."""
        return next((t.sample(stamp - start)[0] for start, t in reversed(self._acting) if start <= stamp), None)

    def observe(self, stamp: float, position: Array) -> str:
        """Take the measured `position` [J] rad of `stamp` s; a sentence while the arm does not follow, else nothing."""
        reference = self.reference(stamp)
        if reference is None:
            self.error = 0.0
        else:
            away = np.abs(position - reference)
            self._joint, self.error = int(np.argmax(away)), float(away.max())
        if self.error > _AGAIN * self.tolerance:
            self._calm = None
        elif self._calm is None or stamp < self._calm:
            self._calm = stamp
        if self.error > self.tolerance and (self._since is None or stamp < self._since):
            self._since = stamp
        calm = self._calm is not None and stamp - self._calm >= (self.patience if self.problem else _CALM) - 1e-6
        if calm:
            self._since, self.problem = None, ""
        elif self._since is not None and self.error > self.tolerance and stamp - self._since >= self.patience - 1e-6:
            self.problem = self.problem or self._sentence()
        return self.problem

    def _sentence(self) -> str:
        return (
            f"the arm does not follow: joint '{self.joint_names[self._joint]}' has been more than "
            f"{self.tolerance:g} rad from where it was told to be for {self.patience:g} s ({self.error:.3f} rad now)"
        )
