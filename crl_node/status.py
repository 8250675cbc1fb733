"""What a run looks like from outside, in plain words: filled by `nodes/status.py`, drawn by `cli/live.py`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

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


@dataclass
class Status:
    """The run at one moment."""

    time: float = 0.0  # s, simulated
    slots: dict[int, SlotView] = field(default_factory=dict)
    edges: tuple[Edge, ...] = ()
    gain: InformationGain | None = None
    gain_history: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=3000))  # (s, nats)
    doing: str = ""  # label of the chosen experiment
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


_COLOURS = {
    "red": (0.85, 0.1, 0.1), "green": (0.1, 0.6, 0.15), "blue": (0.1, 0.2, 0.75), "yellow": (0.95, 0.88, 0.1),
    "purple": (0.5, 0.1, 0.6), "pink": (1.0, 0.45, 0.7), "cyan": (0.1, 0.85, 0.85), "orange": (0.95, 0.5, 0.1),
    "white": (0.95, 0.95, 0.95), "grey": (0.5, 0.5, 0.5), "black": (0.08, 0.08, 0.08), "brown": (0.45, 0.28, 0.12),
}  # fmt: skip


def colour_name(colour: tuple[float, float, float]) -> str:
    """The nearest everyday word for an rgb colour in 0..1, by hue and shade rather than by brightness."""
    rgb = np.clip(np.asarray(colour, float), 0, 1)
    best, name = np.inf, "grey"
    for word, reference in _COLOURS.items():
        other = np.asarray(reference)
        chroma = (rgb - rgb.mean()) / (rgb.max() + 0.15) - (other - other.mean()) / (other.max() + 0.15)
        distance = float(np.sum(chroma**2) + 0.15 * (rgb.mean() - other.mean()) ** 2)
        if distance < best:
            best, name = distance, word
    return name


def name_of(slot_id: int, slots: dict[int, SlotView]) -> str:
    """'the arm', 'its command', 'the red thing 3'."""
    if slot_id == ACTION_PARENT:
        return "its command"
    if slot_id == BODY:
        return "the arm"
    slot = slots.get(slot_id)
    return f"the {colour_name(slot.colour)} thing {slot_id}" if slot is not None else f"thing {slot_id}"


def sentence(edge: Edge, slots: dict[int, SlotView]) -> str:
    """An edge in words: 'the arm pushes the red thing 3'."""
    cause, effect = name_of(edge.cause_slot, slots), name_of(edge.effect_slot, slots)
    strongest = max(edge.terms, key=lambda entry: entry[1])[0].kind if edge.terms else None
    fallback = "changes the brightness of" if edge.effect.endswith("brightness") else "moves"
    return f"{cause} {_VERBS.get(strongest, fallback) if strongest is not None else fallback} {effect}"
