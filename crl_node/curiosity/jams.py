"""Notices that the tip does not get where it was told to, and remembers where and in which direction.

A thing pressed against the rim or an immovable one stops the tip; a model that does not know that yet believes it
can pass, and would lean on it for ever. One that knows it would lean as well, for what it expects to learn of the
block: but the commander waits for a tip that does not follow, so that after a few steps nothing is commanded and
nothing learned any more. So what counts is what was asked for. Remembered jams hold the tip back in the planner's
rollouts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array, Plan
from crl_node.export.spec import JAM_FRICTION, JAM_RADIUS, JAMS

#: Steps over which way made and way asked for are compared.
WINDOW = 3
#: Way asked for [m] below which nothing can be said, and share of it below which the tip is jammed.
LEAST_WAY, LEAST_SHARE = 0.025, 0.35
#: Plans over which the tip asked for more way than the second [m] but stayed within the third [m]: it lingers.
LINGER_PLANS, LINGER_ASKED, LINGER_RADIUS = 15, 0.12, 0.02
#: How many places where it lingered or jammed are remembered as tedious.
MOST_TEDIOUS = 8


@dataclass
class JamMemory:
    """The last few jams, each forgotten after `keep` seconds."""

    keep: float = 5.0  # s
    tedious_time: float = 20.0  # s for which a place where the tip lingered is worth less
    leave_time: float = 1.5  # s for which only what leads away is proposed after lingering
    penalty_time: float = 3.0  # s for which the experiment that jammed is not proposed again
    box: Array = field(default_factory=lambda: np.array([-np.inf, np.inf, -np.inf, np.inf]))  # [4] m, workspace
    _steps: deque[tuple[Array, Array]] = field(default_factory=lambda: deque(maxlen=WINDOW))  # asked, made
    _jams: list[tuple[float, Array, Array]] = field(default_factory=list)  # stamp, place, direction
    _labels: dict[str, float] = field(default_factory=dict)  # label -> stamp
    _recent: deque[tuple[Array, float]] = field(default_factory=lambda: deque(maxlen=LINGER_PLANS))  # tip, asked m
    _leave_until: float = -np.inf
    _tedious: list[tuple[float, Array]] = field(default_factory=list)  # stamp, place
    _tip: Array | None = None
    _stamp: float = -np.inf

    def observe(self, stamp: float, tip: Array, previous: Plan | None, dt: float) -> str | None:
        """Call once per plan, before it. `tip` [2] m. The label of the plan that jammed just now, or None."""
        self._jams = [jam for jam in self._jams if 0 <= stamp - jam[0] < self.keep]
        self._labels = {k: s for k, s in self._labels.items() if 0 <= stamp - s < self.penalty_time}
        self._tedious = [entry for entry in self._tedious if 0 <= stamp - entry[0] < self.tedious_time]
        before, gap = self._tip, stamp - self._stamp
        self._tip, self._stamp = np.array(tip, float), stamp
        fresh = previous is not None and before is not None and abs(stamp - previous.stamp - gap) < 1e-6
        if previous is None or before is None or not fresh or not 0.5 * dt < gap < 1.5 * dt:
            self._steps.clear()
            self._recent.clear()
            return None
        # Nobody is jammed at the border of the workspace: what leads out of it is not even tried.
        asked = np.clip(before + previous.chosen.actions[0] * dt, self.box[0::2], self.box[1::2]) - before
        self._notice_lingering(stamp, tip, float(np.linalg.norm(asked)))
        self._steps.append((asked, tip - before))
        if len(self._steps) < WINDOW:
            return None
        meant = np.sum([step[0] for step in self._steps], axis=0)
        made = np.sum([step[1] for step in self._steps], axis=0)
        way = float(np.linalg.norm(meant))
        if way < LEAST_WAY or float(made @ meant) > LEAST_SHARE * way**2:
            return None
        short = meant - made
        direction = short / float(np.linalg.norm(short))
        # One direction at a place is enough: two that are alike would throw the tip back.
        self._jams = [
            jam
            for jam in self._jams
            if np.linalg.norm(jam[1] - tip) > JAM_RADIUS or float(jam[2] @ direction) < 0.3
        ]
        self._jams = [*self._jams, (stamp, np.array(tip, float), direction)][-JAMS:]
        self._labels[previous.chosen.label] = stamp
        self._bored(stamp, tip)
        self._steps.clear()
        return previous.chosen.label

    def _notice_lingering(self, stamp: float, tip: Array, asked: float) -> None:
        """Little can be learned where the tip leans on something for seconds, whatever the model promises."""
        self._recent.append((np.array(tip, float), asked))
        if len(self._recent) < LINGER_PLANS or sum(way for _, way in self._recent) < LINGER_ASKED:
            return
        tips = np.array([place for place, _ in self._recent])
        if np.linalg.norm(tips - tips.mean(0), axis=1).max() < LINGER_RADIUS:
            self._leave_until = stamp + self.leave_time
            self._bored(stamp, tips.mean(0))
            self._recent.clear()

    def _bored(self, stamp: float, place: Array) -> None:
        """What was promised at `place` [2] m did not come: worth less for a while, the latest of places near it."""
        self._tedious = [e for e in self._tedious if np.linalg.norm(e[1] - place) > LINGER_RADIUS]
        self._tedious = [*self._tedious, (stamp, np.array(place, float))][-MOST_TEDIOUS:]

    @property
    def leave(self) -> bool:
        """The tip should go somewhere else."""
        return self._stamp < self._leave_until

    @property
    def tedious(self) -> Array:
        """[T, 2] m, places where the tip lingered or jammed lately: what was promised there did not come."""
        return np.array([place for _, place in self._tedious]).reshape(-1, 2)

    @property
    def banned(self) -> frozenset[str]:
        """Labels of experiments that jammed lately."""
        return frozenset(self._labels)

    def array(self) -> NDArray[np.float32]:
        """[JAMS, 4] x, y m, unit direction; zeros where there is none."""
        out = np.zeros((JAMS, 4), np.float32)
        for row, (_, place, direction) in zip(out, self._jams, strict=False):
            row[:2], row[2:] = place, direction
        return out


def paths(tip: Array, actions: NDArray[np.floating], jams: NDArray[np.floating], box: Array, dt: float) -> Array:
    """[N, H, 2] m, where a tip that obeys gets with `actions` [N, H, 2] m/s, held back at `jams` [J, 4].

    The rule of the planning graph (`MotionGraph.held_back`), for what is judged before it is rolled out.
    """
    at = np.tile(np.asarray(tip, float), (len(actions), 1))
    low, high = box[0::2], box[1::2]
    known = np.asarray(jams, float)[np.any(np.asarray(jams)[:, 2:] != 0.0, axis=1)]
    place, along = known[:, :2], known[:, 2:]
    out = np.empty(actions.shape)
    for h in range(actions.shape[1]):
        step = actions[:, h] * dt
        if len(known):
            here = np.linalg.norm(at[:, None] - place, axis=2) < JAM_RADIUS  # [N, J]
            into = np.maximum(step @ along.T, 0.0) * here
            step = step - into @ along
            size = np.maximum(np.linalg.norm(step, axis=1), 1e-9)
            step = step * np.maximum(1.0 - JAM_FRICTION * into.sum(1) / size, 0.0)[:, None]
        at = np.clip(at + step, low, high)
        out[:, h] = at
    return out
