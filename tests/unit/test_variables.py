"""The variables of one type by themselves: what their statistics may and may not be explained with."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.data import MAX_SLOTS, TermKind
from crl_node.mechanisms.grammar import MOTION
from crl_node.structure.variables import MOTION_NOISE, Variables

TARGET, PARENT = 3, 5


def pulled(weight: float, kind: TermKind) -> tuple[Variables, int]:
    """A variable that a term of `kind` moved with `weight` for thirty steps, refreshed; and the term's column."""
    rng = np.random.default_rng(0)
    column = int(np.flatnonzero((MOTION.kind == kind) & (MOTION.parent == PARENT))[0])
    variables = Variables(MOTION, MOTION_NOISE)
    for _ in range(30):
        phi = np.zeros((MAX_SLOTS, len(MOTION), 2))
        phi[TARGET, column] = rng.normal(0.0, 0.02, 2)
        change = weight * phi[:, column] + rng.normal(0.0, 0.001, (MAX_SLOTS, 2))
        only = (np.arange(MAX_SLOTS) == TARGET).astype(float)
        variables.statistics.add(phi.swapaxes(1, 2), change, np.zeros(MAX_SLOTS, int), only)
    odds = np.full(len(MOTION), -np.inf)
    odds[column] = -1.0
    variables.refresh(TARGET, odds, np.random.default_rng(0))
    return variables, column


@pytest.mark.parametrize("kind", [TermKind.SPRING, TermKind.PUSH, TermKind.DRAG])
def test_nothing_pushes_pulls_or_drags_backwards(kind: TermKind) -> None:
    right, column = pulled(0.4, kind)
    assert right.inclusion[TARGET, column] > 0.99
    assert right.mean[TARGET, column] == pytest.approx(0.4, abs=0.05)
    wrong, column = pulled(-0.4, kind)
    assert wrong.inclusion[TARGET, column] < 0.02
    assert not wrong.best[TARGET].any()
    # It is evidence against the term: other edges hear that, not that nothing is known.
    assert wrong.experience.log_bayes_factor[TARGET, MOTION.group[column]] < -2.0
