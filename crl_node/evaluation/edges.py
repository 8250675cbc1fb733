"""Is the graph the true one? Edge probabilities and mechanisms by the names of the true things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crl_node.data import ACTION_PARENT, BODY, Edge, TermKind
from crl_node.metrics import auprc, auroc, brier, calibration_error

#: A mechanism counts as found from this inclusion probability on.
FOUND = 0.5


@dataclass(frozen=True)
class EdgeScore:
    """One possible edge with what is believed and what is the case."""

    cause: str
    effect: str  # "<thing>.position", "<thing>.brightness", "body.position"
    probability: float
    true: bool


@dataclass(frozen=True)
class MechanismScore:
    """One special mechanism of the world and whether it was found."""

    kind: str  # TermKind name
    cause: str
    effect: str
    probability: float  # of this very kind
    edge_probability: float  # that the cause acts on the effect, by whatever mechanism
    believed: str | None  # the most probable kind of mechanism there
    found: bool  # this very kind is more probable than not


@dataclass(frozen=True)
class GraphScore:
    """All possible edges of the world, scored. Scores are None where one class is empty."""

    edges: tuple[EdgeScore, ...]
    auroc: float | None
    auprc: float | None
    brier: float | None
    calibration_error: float | None
    mechanisms: tuple[MechanismScore, ...]
    unmatched: tuple[str, ...]  # edges of slots that stand for no thing, in words


def slot_name(slot_id: int, mapping: Mapping[int, str]) -> str | None:
    """Name of the thing (or "body", "action") that a slot id stands for."""
    if slot_id == ACTION_PARENT:
        return "action"
    if slot_id == BODY:
        return "body"
    return mapping.get(slot_id)


def score_graph(
    edges: Sequence[Edge],
    truth: Mapping[tuple[str, str], bool],
    mechanisms: Sequence[tuple[str, str, str]],
    mapping: Mapping[int, str],
) -> GraphScore:
    """Compare a graph with the truth.

    truth: every possible edge {(cause, effect): is it one}; what the graph does not mention has probability 0.
    mechanisms: (kind, cause, effect) that the world hides. mapping: {slot id: thing}.
    """
    believed: dict[tuple[str, str], float] = {}
    terms: dict[tuple[str, str, str], float] = {}
    unmatched = []
    for edge in edges:
        cause, owner = slot_name(edge.cause_slot, mapping), slot_name(edge.effect_slot, mapping)
        if cause is None or owner is None:
            unmatched.append(f"{edge.cause} -> {edge.effect} ({edge.probability:.2f})")
            continue
        effect = f"{owner}.{edge.effect.rsplit('.', 1)[-1]}"
        believed[cause, effect] = max(edge.probability, believed.get((cause, effect), 0.0))
        for term, probability, _, _ in edge.terms:
            key = (TermKind(term.kind).name, cause, effect)
            # Terms of one kind with different lengths are alternatives, of which at most one is in.
            terms[key] = min(terms.get(key, 0.0) + probability, edge.probability)
    scored = tuple(EdgeScore(c, e, believed.get((c, e), 0.0), bool(t)) for (c, e), t in truth.items())
    labels, values = [e.true for e in scored], [e.probability for e in scored]
    found = []
    for kind, cause, effect in mechanisms:
        effect = effect if "." in effect else f"{effect}.{'position' if kind == 'SPRING' else 'brightness'}"
        probability = terms.get((kind, cause, effect), 0.0)
        kinds = {k: p for (k, c, e), p in terms.items() if (c, e) == (cause, effect)}
        likeliest = max(kinds, key=lambda k: kinds[k], default=None)
        edge_probability = believed.get((cause, effect), 0.0)
        found.append(
            MechanismScore(
                kind, cause, effect, probability, edge_probability, likeliest, probability >= FOUND
            )
        )
    return GraphScore(
        scored,
        auroc(labels, values),
        auprc(labels, values),
        brier(labels, values),
        calibration_error(labels, values),
        tuple(found),
        tuple(unmatched),
    )
