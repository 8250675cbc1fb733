"""The learned laws in words that a stranger understands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crl_node.data import Edge, TermKind
from crl_node.evaluation.edges import slot_name

#: Laws less probable than this are left out of the text.
LIKELY = 0.8


@dataclass(frozen=True)
class Law:
    """One believed mechanism."""

    text: str
    probability: float
    weight: float
    std: float


def laws(edges: Sequence[Edge], mapping: Mapping[int, str], *, least: float = LIKELY) -> tuple[Law, ...]:
    """Every mechanism at least `least` probable as a sentence, most probable first."""
    found = []
    for edge in edges:
        cause = slot_name(edge.cause_slot, mapping) or edge.cause
        effect = slot_name(edge.effect_slot, mapping) or edge.effect.rsplit(".", 1)[0]
        for term, probability, mean, std in edge.terms:
            if probability >= least:
                text = sentence(TermKind(term.kind), _the(cause), _the(effect), term.length, mean)
                found.append(Law(text, probability, mean, std))
    return tuple(sorted(found, key=lambda law: (-law.probability, law.text)))


def _the(name: str) -> str:
    if name == "body":
        return "the pusher"
    if name == "action":
        return "the motor command"
    if name.startswith("slot_"):
        return f"the unknown thing {name}"
    return f"the {name.replace('_', ' ')}"


def sentence(kind: TermKind, cause: str, effect: str, length: float, weight: float) -> str:
    """One mechanism in words. length in m, weight in the term's own unit."""
    near = f"{100 * length:.1f} cm"
    patterns = {
        TermKind.INERTIA: f"{effect} goes on moving by itself: {100 * weight:.0f} % of its last step",
        TermKind.ACTION: f"{effect} follows {cause}: it goes {100 * weight:.0f} % of the way it is told to",
        TermKind.DRIFT_X: f"{effect} drifts {'away from' if weight > 0 else 'towards'} the robot by itself",
        TermKind.DRIFT_Y: f"{effect} drifts {'left' if weight > 0 else 'right'} by itself",
        TermKind.PUSH: f"{cause} pushes {effect} away when nearer than {near}"
        if weight >= 0
        else f"{cause} draws {effect} in when nearer than {near}",
        TermKind.DRAG: f"{cause} drags {effect} along sideways when nearer than {near}",
        TermKind.SPRING: f"a hidden spring ties {effect} to {cause}, at rest at {near}"
        if weight >= 0
        else f"{effect} and {cause} are driven away from a distance of {near}",
        TermKind.WALL: f"{effect} stops at the table's edge",
        TermKind.DECAY: f"{effect} grows dark by itself",
        TermKind.GLOW: f"{effect} brightens by itself",
        TermKind.LIT_BY: f"{effect} shines while something touches {cause}",
        TermKind.TOGGLE_BY: f"{effect} is switched each time something touches {cause}",
        TermKind.TOUCH: f"{effect} shines while {cause} touches it",
    }
    text = patterns[kind]
    return text[0].upper() + text[1:]
