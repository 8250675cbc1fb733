"""Shares of core, tail and noise of every slot's motion as text: the learner tells them in /diagnostics."""

from __future__ import annotations

import json

from crl_node.world_model import WorldModel

PARTS = ("core", "tail", "noise")
#: The learner's value in /diagnostics.
KEY = "shares"


def to_text(model: WorldModel) -> str:
    """JSON by slot identity: every part as [mean, 5 %, 95 %], and the probability that there is a tail at all."""
    mean, ends, tails = model.shares(), model.share_intervals(), model.tail_probability()
    found = {
        str(i): {
            **{name: [round(float(v), 4) for v in (mean[i][k], *ends[i][:, k])] for k, name in enumerate(PARTS)},
            "tail_probability": round(tails[i], 4),
        }
        for i in mean
    }
    return json.dumps(found)
