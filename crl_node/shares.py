"""Shares of core, tail and noise of every slot's motion as text: the learner tells them in /diagnostics."""

from __future__ import annotations

import json

import numpy as np

from crl_node.data import Array
from crl_node.structure import dense
from crl_node.world_model import WorldModel

PARTS = ("core", "tail", "noise")
#: The learner's value in /diagnostics.
KEY = "shares"


def intervals(model: WorldModel) -> dict[int, Array]:
    """[2, 3] by slot identity: 5 % and 95 % of the shares of core, tail and noise; `model.shares()` are the means."""
    both = np.stack([model.motion.share_low, model.motion.share_high], axis=1)
    return {int(model.registry.ids[i]): both[i].copy() for i in np.flatnonzero(model.registry.used)}


def tail_probability(model: WorldModel) -> dict[int, float]:
    """Probability, by slot identity, that a dense tail of small effects moves it beside its sparse core."""
    present = 1.0 - model.motion.tail_scale[:, dense.SCALES == 0.0].sum(axis=1)
    return {int(model.registry.ids[i]): float(present[i]) for i in np.flatnonzero(model.registry.used)}


def to_text(model: WorldModel) -> str:
    """JSON by slot identity: every part as [mean, 5 %, 95 %], and the probability that there is a tail at all."""
    mean, ends, tails = model.shares(), intervals(model), tail_probability(model)
    found = {
        str(i): {
            **{name: [round(float(v), 4) for v in (mean[i][k], *ends[i][:, k])] for k, name in enumerate(PARTS)},
            "tail_probability": round(tails[i], 4),
        }
        for i in mean
    }
    return json.dumps(found)
