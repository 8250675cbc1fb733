"""From all candidates of all variables to the P most relevant terms and K particles the planner works with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.data import BODY, Array
from crl_node.posterior import PARTICLES, PLANNER_TERMS
from crl_node.structure.variables import Variables

#: The plan graph rolls the body out first, over at most this many of its own motion terms.
MOST_BODY_TERMS = 24
#: Which block of `select` is which.
MOTION, BRIGHTNESS = 0, 1
#: Rows kept for brightness. Among many things pairs that may push each other outnumber what may light a lamp, and what
#: is not in the plan graph is never tried.
LIGHT_TERMS = 24
#: How much more relevant than what things do to each other. Only what is at hand can be tried at once, and among many
#: things the pairs that may push each other, all of them likely, would crowd it out.
AT_HAND = 4.0


@dataclass(frozen=True)
class PlannerTerms:
    """The planner's share of a posterior, see `crl_node.data.Posterior` for the fields."""

    kind: np.ndarray  # [P] int32
    target: np.ndarray  # [P] int32
    parent: np.ndarray  # [P] int32
    length: np.ndarray  # [P] float32, m
    probability: np.ndarray  # [P] float32
    mean: np.ndarray  # [P] float32
    variance: np.ndarray  # [P] float32
    set_mean: np.ndarray  # [K, P] float32
    sample: np.ndarray  # [K, P] float32


def select(blocks: list[tuple[Variables, Array]], present: np.ndarray) -> PlannerTerms:
    """Pick the terms that most particles contain. `blocks` pair variables with lengths [S, F], motion before
    brightness; `present` [S].

    A term that no particle holds cannot change a plan, one that half of them hold is what curiosity is about: so
    relevance is the share of particles, ties broken by inclusion probability, and what a thing does by itself or the
    arm to it counts more (`AT_HAND`). A particle whose alternative of a group was not picked carries its weight on the
    alternative that was.
    """
    rows: list[tuple[float, int, int, int]] = []  # relevance, block, target, column
    for number, (block, _) in enumerate(blocks):
        parent = block.columns.parent
        ok = present[:, None] & ((parent < 0) | present[np.maximum(parent, 0)])[None, :]
        share = (block.set_mean != 0.0).mean(axis=1)  # [S, F]
        score = np.where(ok & ((share > 0) | (block.inclusion > 0.02)), share + 0.5 * block.inclusion, 0.0)
        for i, f in zip(*np.nonzero(score), strict=True):
            at_hand = AT_HAND if i == BODY or parent[f] <= BODY else 1.0
            rows.append((-at_hand * float(score[i, f]), number, int(i), int(f)))
    rows.sort()
    body = [row for row in rows if row[1:3] == (MOTION, BODY)][:MOST_BODY_TERMS]
    rows = [row for row in rows if row[1:3] != (MOTION, BODY) or row in body]
    picked = set([row for row in rows if row[1] == BRIGHTNESS][:LIGHT_TERMS])
    picked.update([row for row in rows if row not in picked][: PLANNER_TERMS - len(picked)])

    p, k = PLANNER_TERMS, PARTICLES
    out = PlannerTerms(
        np.zeros(p, np.int32), np.zeros(p, np.int32), np.full(p, -1, np.int32), np.zeros(p, np.float32),
        np.zeros(p, np.float32), np.zeros(p, np.float32), np.zeros(p, np.float32), np.zeros((k, p), np.float32),
        np.zeros((k, p), np.float32),
    )  # fmt: skip
    representative: dict[tuple[int, int, int], int] = {}
    for n, (_, number, i, f) in enumerate(sorted(picked, key=lambda row: row[1:])):
        block, lengths = blocks[number]
        columns = block.columns
        out.kind[n], out.target[n], out.parent[n] = columns.kind[f], i, columns.parent[f]
        out.length[n] = lengths[i, f]
        out.probability[n] = np.clip(block.inclusion[i, f], 0.0, 1.0)
        out.mean[n] = block.mean[i, f]
        out.variance[n] = block.given[i, f]
        out.set_mean[:, n] = block.set_mean[i, :, f]
        out.sample[:, n] = block.draw[i, :, f]
        group = (number, i, int(columns.group[f]))
        best = representative.get(group)
        if best is None or out.probability[n] > out.probability[best]:
            representative[group] = n
    for _, number, i, f in (row for row in rows if row not in picked):
        block = blocks[number][0]
        place = representative.get((number, i, int(block.columns.group[f])))
        if place is not None:
            out.mean[place] += block.mean[i, f]
            out.set_mean[:, place] += block.set_mean[i, :, f]
            out.sample[:, place] += block.draw[i, :, f]
    return out
