"""The shares that the learner told in /diagnostics, for the report."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from crl_node.evaluation.edges import slot_name
from crl_node.shares import KEY, PARTS


def from_diagnostics(values: Mapping[str, Mapping[str, str]], mapping: Mapping[int, str]) -> list[dict[str, Any]]:
    """The last shares in a run's diagnostics, by thing; what is absent or not of this form gives no rows."""
    out: list[dict[str, Any]] = []
    for status in values.values():
        try:
            found = json.loads(status.get(KEY) or "{}")
            rows: list[dict[str, Any]] = [
                {
                    "name": slot_name(int(i), mapping) or f"slot_{i}",
                    **{part: [float(v) for v in entry[part]] for part in PARTS},
                    "tail_probability": float(entry["tail_probability"]),
                }
                for i, entry in found.items()
            ]
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # a bag of another version: the report says nothing about shares then
        if all(len(row[part]) == 3 and all(math.isfinite(v) for v in row[part]) for row in rows for part in PARTS):
            out += rows
    return out
