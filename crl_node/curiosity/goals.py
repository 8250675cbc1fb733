"""Goals as people give them: a thing by its number or colour, a place on the table, for how long.

What a goal is worth to a plan stands in `export/information.py`; here is which thing is meant, whether the place makes
sense, and when a goal is reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crl_node.colours import WORDS, colour_name, distance
from crl_node.curiosity.scene import EXISTS
from crl_node.data import BODY, Belief

if TYPE_CHECKING:
    from crl_node.curiosity.planner import Planner

#: Worth of a metre nearer where nobody says, nats: an informative push is worth a few nats.
WEIGHT = 100.0
#: A thing this near to its place has reached it, m.
REACHED = 0.02
#: A colour that no word of the display names is taken for the one asked for only when it is this like it.
ALIKE = 0.25
#: And only when the next thing is so many times as unlike.
CLEARLY = 1.5


class GoalError(ValueError):
    """A goal that cannot be followed; the text says why."""


@dataclass(frozen=True)
class Goal:
    """Where one thing is wanted."""

    slot: int  # id of the thing
    name: str  # its colour in a word
    place: tuple[float, float]  # m, base frame
    weight: float = WEIGHT  # nats/m
    hold: float = 0.0  # s at the place after which it is given up as reached; 0: never

    def __str__(self) -> str:
        x, y = self.place
        return f"the {self.name} thing {self.slot} is wanted at ({x:.2f}, {y:.2f}) m"


def things(belief: Belief) -> dict[int, str]:
    """Colour words of all things in the belief by id."""
    rows = range(len(belief.ids))
    return {
        int(belief.ids[i]): colour_name(belief.colour[i])
        for i in rows
        if belief.ids[i] != BODY and belief.existence[i] >= EXISTS
    }


def find(belief: Belief, thing: str) -> int:
    """Id of the slot that `thing` means: its number, or a word for its colour. GoalError lists what there is."""
    seen = things(belief)
    listed = ", ".join(f"{slot} ({name})" for slot, name in seen.items()) or "nothing"
    word = thing.strip().lower()
    number = word.removeprefix("slot_")
    if number.isascii() and number.isdecimal():
        if int(number) in seen:
            return int(number)
        arm = "0 is the arm itself; " if int(number) == BODY else ""
        raise GoalError(f"there is no thing {number}: {arm}the things are {listed}")
    if word not in WORDS:
        words = ", ".join(sorted(WORDS))
        raise GoalError(f"'{thing}' is no thing's number and no colour of {words}: the things are {listed}")
    called = [slot for slot, name in seen.items() if name == word]
    if len(called) == 1:
        return called[0]
    if called:
        raise GoalError(f"{len(called)} things are {word}; name one by its number: the things are {listed}")
    rows = {int(belief.ids[i]): i for i in range(len(belief.ids))}
    unlike = sorted((distance(belief.colour[rows[slot]], word), slot) for slot in seen)
    if not unlike or unlike[0][0] > ALIKE or (len(unlike) > 1 and unlike[1][0] < CLEARLY * unlike[0][0]):
        raise GoalError(f"no thing is {word}, or none more than another: the things are {listed}")
    return unlike[0][1]


class Goals:
    """The goals there are, by thing; one that is held long enough is given up."""

    def __init__(self, table: tuple[float, float, float, float], workspace: tuple[float, float, float, float]) -> None:
        """`table`: its inside, `workspace`: of the tip; each x_min, x_max, y_min, y_max in m."""
        self._table, self._workspace = table, workspace
        self._goals: dict[int, Goal] = {}
        self._since: dict[int, float] = {}  # slot id: stamp from which on it has been at its place

    @property
    def all(self) -> tuple[Goal, ...]:
        """By slot id."""
        return tuple(self._goals[slot] for slot in sorted(self._goals))

    def set(self, belief: Belief, thing: str, x: float, y: float, weight: float = 0.0, hold: float = 0.0) -> Goal:
        """A new goal, in place of the thing's earlier one. GoalError, nothing is changed, when it makes no sense."""
        for name, value in (("x", x), ("y", y), ("weight", weight), ("hold", hold)):
            if not math.isfinite(value):
                raise GoalError(f"{name} is {value}: it must be a finite number")
        for name, value, unit in (("weight", weight, "nats/m"), ("hold", hold, "s")):
            if value < 0:
                raise GoalError(f"{name} is {value:g} {unit}: it must not be negative")
        slot = find(belief, thing)
        row = belief.index_of(slot)
        assert row is not None
        self._check(x, y, float(belief.extent[row]))
        goal = Goal(slot, things(belief)[slot], (x, y), weight or WEIGHT, hold)
        self._goals[slot] = goal
        self._since.pop(slot, None)
        return goal

    def _check(self, x: float, y: float, extent: float) -> None:
        # The tip stays inside its workspace, and pushes from outside the thing: half a thing farther it gets it.
        limits = []
        for axis, value, (low, high), (near, far) in (
            ("x", x, self._table[:2], self._workspace[:2]), ("y", y, self._table[2:], self._workspace[2:]),
        ):  # fmt: skip
            least, most = max(low + extent, near - extent), min(high - extent, far + extent)
            limits.append((axis, value, least, most))
        if any(not least <= value <= most for _, value, least, most in limits):
            allowed = ", ".join(f"{axis} from {least:.2f} to {most:.2f}" for axis, _, least, most in limits)
            raise GoalError(
                f"({x:g}, {y:g}) m is no place on the table to which the arm can push a thing of this size; allowed: "
                f"{allowed} m"
            )

    def clear(self, belief: Belief | None, thing: str) -> tuple[Goal, ...]:
        """Give up the goal of `thing`, or all (empty); those given up. GoalError when it has none."""
        if not thing:
            gone = self.all
        else:
            word = thing.strip().lower()
            number = word.removeprefix("slot_")
            slots = [int(number)] if number.isdecimal() else [g.slot for g in self.all if g.name == word]
            if not slots and belief is not None:
                slots = [find(belief, thing)]
            gone = tuple(self._goals[slot] for slot in slots if slot in self._goals)
            if not gone:
                have = ", ".join(f"{g.slot} ({g.name})" for g in self.all) or "none"
                raise GoalError(f"'{thing}' has no goal; goals: {have}")
        for goal in gone:
            del self._goals[goal.slot]
            self._since.pop(goal.slot, None)
        return gone

    def observe(self, belief: Belief) -> tuple[Goal, ...]:
        """What of the goals the belief shows as reached and held; they are given up."""
        done = []
        for goal in self.all:
            row = belief.index_of(goal.slot)
            if row is None or math.dist(belief.mean[row, :2], goal.place) > REACHED:
                self._since.pop(goal.slot, None)
                continue
            since = self._since.setdefault(goal.slot, belief.stamp)
            if goal.hold > 0 and belief.stamp - since >= goal.hold - 1e-9:
                done.append(goal)
        for goal in done:
            del self._goals[goal.slot], self._since[goal.slot]
        return tuple(done)

    def restore(self, goals: tuple[Goal, ...]) -> None:
        """These goals, and no others."""
        self._goals = {goal.slot: goal for goal in goals}
        self._since = {slot: since for slot, since in self._since.items() if slot in self._goals}


def hand_over(planner: Planner, goals: tuple[Goal, ...]) -> None:
    """The planner follows these goals and no others."""
    if goals:
        planner.set_goal({g.slot: g.place for g in goals}, {g.slot: g.weight for g in goals})
    else:
        planner.clear_goal()
