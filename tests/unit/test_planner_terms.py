"""Which terms the planner works with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from crl_node.data import BODY, MAX_SLOTS, TermKind
from crl_node.posterior import PARTICLES, PLANNER_TERMS
from crl_node.structure.planner_terms import LIGHT_TERMS, MOST_BODY_TERMS, select

PRESENT = np.ones(MAX_SLOTS, bool)


def block(kind: TermKind, columns: int, share: float, weight: float) -> Any:
    """Every slot has `columns` terms of `kind`, each in a `share` of the particles."""
    shape = (MAX_SLOTS, columns)
    held = np.arange(PARTICLES) < share * PARTICLES
    set_mean = np.where(held[None, :, None], weight, 0.0) * np.ones((MAX_SLOTS, PARTICLES, columns))
    return SimpleNamespace(
        columns=SimpleNamespace(
            parent=np.arange(columns) % MAX_SLOTS, kind=np.full(columns, int(kind)), group=np.arange(columns)
        ),
        set_mean=set_mean, draw=set_mean, inclusion=np.full(shape, share), mean=np.full(shape, weight * share),
        given=np.full(shape, 0.1),
    )  # fmt: skip


def picked(motion: Any, brightness: Any) -> Any:
    lengths = np.full((MAX_SLOTS, 40), 0.05)
    return select([(motion, lengths), (brightness, lengths)], PRESENT)


def test_among_many_pairs_that_may_push_there_is_room_for_what_may_light_a_lamp() -> None:
    terms = picked(block(TermKind.PUSH, 40, 0.9, 1.0), block(TermKind.LIT_BY, 12, 0.1, 0.6))
    assert (terms.kind == TermKind.LIT_BY).sum() == LIGHT_TERMS
    assert (terms.kind == TermKind.PUSH).sum() == PLANNER_TERMS - LIGHT_TERMS
    body = (terms.kind == TermKind.PUSH) & (terms.target == 0)
    assert body.sum() <= MOST_BODY_TERMS


def test_rows_that_brightness_does_not_need_go_to_motion_and_the_other_way_round() -> None:
    none = picked(block(TermKind.PUSH, 40, 0.9, 1.0), block(TermKind.LIT_BY, 12, 0.0, 0.0))
    assert (none.kind == TermKind.PUSH).sum() == PLANNER_TERMS
    few = picked(block(TermKind.PUSH, 1, 0.9, 1.0), block(TermKind.LIT_BY, 12, 0.9, 0.6))
    assert (few.mean[few.kind == TermKind.LIT_BY] != 0).sum() == PLANNER_TERMS - MAX_SLOTS


def test_a_push_by_the_arm_that_may_be_is_kept_though_pairs_would_fill_the_plan() -> None:
    motion = block(TermKind.PUSH, MAX_SLOTS, 1.0, 1.0)
    by_arm = motion.columns.parent == BODY
    motion.set_mean[:, PARTICLES // 2 :, by_arm] = 0.0
    motion.inclusion[:, by_arm] = 0.5
    terms = picked(motion, block(TermKind.LIT_BY, 12, 0.0, 0.0))
    kept = terms.target[(terms.parent == BODY) & (terms.probability == 0.5)]
    assert set(kept) == set(range(MAX_SLOTS))
    assert (terms.parent > BODY).sum() == PLANNER_TERMS - MAX_SLOTS
