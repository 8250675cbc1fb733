"""The causal graph between variables, with the terms that carry each edge."""

from __future__ import annotations

import numpy as np

from crl_node.data import ACTION_PARENT, BODY, Array, Edge, Term, TermKind
from crl_node.mechanisms.registry import Registry
from crl_node.structure.variables import Variables

#: Terms less probable than this are not listed with their edge.
LEAST_TERM = 0.01


def variable_name(slot_id: int) -> str:
    """Name of a slot as cause: "body" or "slot_3"."""
    return "body" if slot_id == 0 else f"slot_{slot_id}"


def edges(
    registry: Registry, motion: Variables, brightness: Variables, lengths: tuple[Array, Array]
) -> tuple[Edge, ...]:
    """All ordered pairs (cause, effect variable) of the slots there are, most probable first."""
    out: list[Edge] = []
    slots = np.flatnonzero(registry.used)
    for block, length, variable in ((motion, lengths[0], "position"), (brightness, lengths[1], "brightness")):
        for target in slots:
            if block is brightness and target == BODY:
                continue
            for parent in [ACTION_PARENT, *slots]:
                if parent == target:
                    continue
                out.append(_edge(registry, block, length, variable, int(target), int(parent)))
    return tuple(sorted(out, key=lambda edge: -edge.probability))


def _edge(registry: Registry, block: Variables, length: Array, variable: str, target: int, parent: int) -> Edge:
    columns = np.flatnonzero(block.columns.parent == parent)
    inclusion = block.inclusion[target, columns]
    if parent == ACTION_PARENT:
        probability = float(inclusion.sum())
    else:
        probability = float(block.edge[target, parent])
    listed = []
    for f, p in zip(columns, inclusion, strict=True):
        if p < LEAST_TERM:
            continue
        kind = TermKind(int(block.columns.kind[f]))
        term = Term(kind, target, parent, float(length[target, f]))
        # block.mean is averaged over structures: undo the share in which the term is out.
        listed.append((term, float(p), float(block.mean[target, f] / p), float(block.std[target, f])))
    effect_id = int(registry.ids[target])
    cause_id = ACTION_PARENT if parent == ACTION_PARENT else int(registry.ids[parent])
    return Edge(
        cause="action" if parent == ACTION_PARENT else variable_name(cause_id),
        effect=f"{variable_name(effect_id)}.{variable}",
        cause_slot=cause_id,
        effect_slot=effect_id,
        probability=float(np.clip(probability, 0.0, 1.0)),
        terms=tuple(sorted(listed, key=lambda item: -item[1])),
    )
