"""Shares of core, tail and noise on their way from the model through /diagnostics into the report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from crl_node.data import Belief
from crl_node.report.page import _shares
from crl_node.report.shares import from_diagnostics
from crl_node.shares import to_text
from crl_node.world_model import WorldModel


def model() -> WorldModel:
    out = WorldModel()
    mean = np.array([[0.5, 0.0, 0, 0, 0], [0.6, 0.1, 0, 0, 0]], float)
    belief = Belief(
        0.0, np.array([0, 7]), mean, np.tile(np.eye(5) * 1e-6, (2, 1, 1)), np.zeros((2, 3)), np.full(2, 0.02),
        np.ones(2), np.ones(2),
    )  # fmt: skip
    for _ in range(6):
        out.observe(belief, None)
    row = out.registry.index(7)
    out.motion.shares[row] = 0.7, 0.1, 0.2
    out.motion.share_low[row], out.motion.share_high[row] = (0.6, 0.05, 0.1), (0.8, 0.2, 0.3)
    out.motion.tail_scale[row] = [0.25, 0.75, 0, 0, 0, 0]
    return out


def test_the_report_shows_what_the_model_told_under_the_things_name() -> None:
    told = {"shares": to_text(model()), "message": "learning"}
    rows = from_diagnostics({"/learner: learner": told}, {7: "blue_ball"})
    ball = next(row for row in rows if row["name"] == "blue_ball")
    assert ball["core"] == [0.7, 0.6, 0.8]
    assert ball["tail_probability"] == 0.75
    page = _shares({"shares": rows})
    assert "blue_ball" in page
    assert "70% (60% to 80%)" in page


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps({"7": {"core": 1}}), json.dumps({"7": 3})])
def test_diagnostics_of_another_version_give_no_rows(text: str) -> None:
    assert from_diagnostics({"a": {"shares": text}}, {}) == []
    assert _shares({"shares": []}) == ""
