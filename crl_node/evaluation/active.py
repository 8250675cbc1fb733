"""Is the graph *now* the true one? Edges said to act, against what really touches what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crl_node.bags.messages import Truth
from crl_node.data import ACTION_PARENT, Array, Edge
from crl_node.evaluation.edges import slot_name
from crl_node.metrics import auprc, auroc

#: An edge is said to act from this probability on.
ACTS = 0.5
#: s, a graph is compared with the contacts of the step after it and of the one it was made in.
AHEAD = 0.15


@dataclass(frozen=True)
class ActiveScore:
    """Edges between positions over time. Scores are None where they are not defined."""

    times: Array  # [T] s, stamps of the graphs
    edges: tuple[tuple[str, str], ...]  # N (cause, effect thing)
    now: Array  # [T, N] probability that the edge acts
    touching: np.ndarray  # [T, N] bool, truth
    auroc: float | None
    auprc: float | None
    precision: float | None  # of what was said to act, the share that touched
    recall: float | None  # of what touched, the share that was said to act: touching at rest is no push


def score_active(
    graphs: Sequence[tuple[float, Sequence[Edge]]], truths: Sequence[Truth], mapping: Mapping[int, str]
) -> ActiveScore | None:
    """Compare `Edge.now` of (stamp, edges) with the contacts; None when there is nothing to compare."""
    stamps = np.array([truth.stamp for truth in truths])
    rows: list[tuple[float, dict[tuple[str, str], float], set[tuple[str, str]]]] = []
    for stamp, edges in graphs:
        near = np.flatnonzero((stamps > stamp - 1e-3) & (stamps < stamp + AHEAD))
        if not near.size:
            continue
        touching = {
            (other, name) for k in near.tolist() for name, met in zip(truths[k].names, truths[k].contacts, strict=True)
            for other in met
        }  # fmt: skip
        said: dict[tuple[str, str], float] = {}
        for edge in edges:
            cause, effect = slot_name(edge.cause_slot, mapping), mapping.get(edge.effect_slot)
            if edge.cause_slot == ACTION_PARENT or not edge.effect.endswith(".position"):
                continue
            if cause is not None and effect is not None:
                said[cause, effect] = edge.now
        rows.append((stamp, said, touching))
    names = tuple(sorted({pair for _, said, _ in rows for pair in said}))
    if not names:
        return None
    now = np.array([[said.get(pair, 0.0) for pair in names] for _, said, _ in rows])
    truth = np.array([[pair in touching for pair in names] for _, _, touching in rows])
    acts = now >= ACTS
    return ActiveScore(
        np.array([stamp for stamp, _, _ in rows]), names, now, truth, auroc(truth.ravel(), now.ravel()),
        auprc(truth.ravel(), now.ravel()), float(truth[acts].mean()) if acts.any() else None,
        float(acts[truth].mean()) if truth.any() else None,
    )  # fmt: skip
