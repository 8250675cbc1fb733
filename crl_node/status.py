"""What a run looks like from outside, in plain words: filled by `nodes/status.py`, drawn by `cli/live.py`."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from crl_node.colours import colour_name
from crl_node.data import ACTION_PARENT, BODY, Edge, InformationGain, TermKind

#: Verbs by term kind, for "cause verb effect".
_VERBS = {
    TermKind.ACTION: "moves",
    TermKind.PUSH: "pushes",
    TermKind.DRAG: "drags along",
    TermKind.SPRING: "pulls",
    TermKind.LIT_BY: "lights",
    TermKind.TOGGLE_BY: "switches",
    TermKind.TOUCH: "lights by touching",
}


@dataclass
class SlotView:
    """One slot as shown."""

    id: int
    x: float  # m
    y: float  # m
    colour: tuple[float, float, float]  # rgb 0..1
    brightness: float  # 0..1
    visible: float  # 0..1
    moved: float = 0.0  # m, path length so far


@dataclass(frozen=True)
class GoalView:
    """Where a thing is wanted."""

    slot: int  # id
    name: str  # its colour in a word
    x: float  # m
    y: float  # m


@dataclass
class Status:
    """The run at one moment."""

    time: float = 0.0  # s, simulated
    slots: dict[int, SlotView] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    gain: InformationGain | None = None
    gain_history: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=3000))  # (s, nats)
    doing: str = ""  # label of the chosen experiment
    preference: float = 0.0  # nats, how much nearer the chosen experiment brings things to their goals
    goals: tuple[GoalView, ...] = ()
    provider: str = ""
    policy: str = ""
    posterior_version: int = 0
    transitions: int = 0
    frames: int = 0
    dropped: int = 0
    rejected: int = 0
    commands: int = 0
    holds: int = 0
    surprise: float = float("nan")  # nats
    latency_ms: dict[str, deque[float]] = field(default_factory=dict)
    phase: str = "starting"  # the manager's word for the system
    phase_note: str = ""
    node_states: dict[str, str] = field(default_factory=dict)
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=5))

    def note_latency(self, part: str, milliseconds: float) -> None:
        """Remember one measurement of `part`."""
        self.latency_ms.setdefault(part, deque(maxlen=300)).append(milliseconds)

    def median_ms(self, part: str) -> float | None:
        """Median of the last measurements of `part`, or None before the first."""
        values = self.latency_ms.get(part)
        return float(np.median(values)) if values else None


def where(x: float, y: float, table: tuple[float, float, float, float]) -> str:
    """A place on the table in words, as the robot sees it: 'near, left'."""
    x_min, x_max, y_min, y_max = table
    depth = (x - x_min) / (x_max - x_min)
    side = (y - y_min) / (y_max - y_min)
    first = "near" if depth < 1 / 3 else "far" if depth > 2 / 3 else "middle"
    second = "right" if side < 1 / 3 else "left" if side > 2 / 3 else "centre"
    return f"{first}, {second}"


def name_of(slot_id: int, slots: dict[int, SlotView]) -> str:
    """'the arm', 'its command', 'the red thing 3'."""
    if slot_id == ACTION_PARENT:
        return "its command"
    if slot_id == BODY:
        return "the arm"
    slot = slots.get(slot_id)
    return f"the {colour_name(slot.colour)} thing {slot_id}" if slot is not None else f"thing {slot_id}"


def goal_words(status: Status) -> tuple[str, ...]:
    """Every goal in words: 'the red thing 3 to 60, 10 cm (4 cm to go)'."""
    words = []
    for goal in status.goals:
        slot = status.slots.get(goal.slot)
        left = "out of sight" if slot is None else f"{100 * math.hypot(slot.x - goal.x, slot.y - goal.y):.0f} cm to go"
        words.append(f"the {goal.name} thing {goal.slot} to {100 * goal.x:.0f}, {100 * goal.y:.0f} cm ({left})")
    return tuple(words)


def sentence(edge: Edge, slots: dict[int, SlotView]) -> str:
    """An edge in words: 'the arm pushes the red thing 3'."""
    cause, effect = name_of(edge.cause_slot, slots), name_of(edge.effect_slot, slots)
    strongest = max(edge.terms, key=lambda entry: entry[1])[0].kind if edge.terms else None
    fallback = "changes the brightness of" if edge.effect.endswith("brightness") else "moves"
    return f"{cause} {_VERBS.get(strongest, fallback) if strongest is not None else fallback} {effect}"
