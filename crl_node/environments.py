"""What the model says about environments: which mechanisms are the same, which changed, in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from crl_node.data import ACTION_PARENT, BODY, Edge, TermKind
from crl_node.graph import variable_name
from crl_node.structure.variables import Variables
from crl_node.world_model import WorldModel

#: How a step report says that somebody asked for a new environment before its frame; a name in JSON's quotes follows.
_ASKED = "begun on request: "
#: A mechanism whose probability of having changed is above this is named.
CHANGED = 0.5
#: Mechanisms less probable than this, before and after, are not listed.
_LEAST = 0.05


@dataclass(frozen=True)
class Mechanism:
    """One mechanism (a term, with its alternatives) in the live environment and the ones before it."""

    effect: str  # "slot_3.position"
    effect_slot: int
    kind: TermKind
    cause: str  # "slot_4", "action", or "" for terms without a parent
    cause_slot: int | None
    inclusion: float  # probability that it acts now
    invariant: float  # probability that it is the same as before
    before: float  # mean weight in the environments before
    after: float  # in the live one
    after_std: float

    def __str__(self) -> str:
        what = self.kind.name.lower() + (f"({self.cause})" if self.cause else "")
        return f"{what} of {self.effect} changed: {self.before:.2f} -> {self.after:.2f} +- {self.after_std:.2f}"


def mechanisms(model: WorldModel) -> tuple[Mechanism, ...]:
    """All mechanisms that act, or did, with their probability of being invariant; the least invariant first."""
    out: list[Mechanism] = []
    for block, variable in ((model.motion, "position"), (model.brightness, "brightness")):
        for slot in np.flatnonzero(model.registry.used):
            if variable == "brightness" and slot == BODY:
                continue
            out += _of_variable(model, block, int(slot), variable)
    return tuple(sorted(out, key=lambda m: m.invariant))


def _of_variable(model: WorldModel, block: Variables, slot: int, variable: str) -> list[Mechanism]:
    columns, found = block.columns, block.compared.get(slot)
    live = block.environments.live
    inclusion = np.bincount(columns.group, block.inclusion[slot], columns.groups)
    before = inclusion if live is None else np.bincount(columns.group, live.inclusion[slot], columns.groups)
    changed = np.zeros(columns.groups) if found is None else found.changed
    effect_id = int(model.registry.ids[slot])
    out = []
    for g in np.flatnonzero((inclusion > _LEAST) | (before > _LEAST) | (changed > CHANGED)):
        members = np.flatnonzero(columns.group == g)
        weights = block.mean[slot] if found is None else np.maximum(np.abs(found.before), np.abs(found.after))
        f = members[np.argmax(np.abs(weights[members]))]
        parent = int(columns.group_parent[g])
        cause_slot: int | None = None
        cause = ""
        if parent == ACTION_PARENT:
            cause, cause_slot = "action", ACTION_PARENT
        elif parent >= 0:
            cause_slot = int(model.registry.ids[parent])
            cause = variable_name(cause_slot)
        now = float(block.mean[slot, f])
        out.append(
            Mechanism(
                f"{variable_name(effect_id)}.{variable}", effect_id, TermKind(int(columns.group_kind[g])), cause,
                cause_slot, float(inclusion[g]), 1.0 - float(changed[g]),
                now if found is None else float(found.before[f]), now if found is None else float(found.after[f]),
                float(block.std[slot, f] if found is None else found.after_std[f]),
            )
        )  # fmt: skip
    return out


def changes(model: WorldModel) -> tuple[Mechanism, ...]:
    """The mechanisms that changed when the live environment began, most probable first."""
    return tuple(m for m in mechanisms(model) if m.invariant < 1.0 - CHANGED)


def with_invariance(edges: Sequence[Edge], model: WorldModel) -> tuple[Edge, ...]:
    """`edges` with `Edge.invariant` filled in: the probability that all mechanisms of the edge are as before."""
    kept: dict[tuple[int, str], float] = {}
    for m in mechanisms(model):
        if m.cause_slot is not None:
            key = m.cause_slot, m.effect
            kept[key] = kept.get(key, 1.0) * m.invariant
    return tuple(replace(edge, invariant=kept.get((edge.cause_slot, edge.effect), 1.0)) for edge in edges)


def asked_note(names: Sequence[str]) -> str:
    """The note of the first frame of environments that were begun on request, from which `asked_in` reads them."""
    return _ASKED + json.dumps(list(names)) if names else ""


def asked_in(note: str) -> tuple[str, ...]:
    """Names of the environments that were begun on request before the frame of a step report with this note.

    ValueError when the note speaks of some but cannot be read.
    """
    _, found, rest = note.partition(_ASKED)
    if not found:
        return ()
    names, _ = json.JSONDecoder().raw_decode(rest)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the note '{note}' does not name environments")
    return tuple(names)
