"""Figures of episodes, medians by policy, and differences paired by seed."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from crl_node.exploration.episode import EpisodeSpec

#: What counts as found out.
R2_BAR, AUROC_BAR = 0.8, 0.95
#: What takes more than one push of most things: how hard one is pushed is expected of all others.
HIGH_R2_BAR = 0.85


def first_step(steps: list[int], reached: list[bool]) -> int | None:
    """The first of `steps` at which it was `reached`, None when it never was."""
    return next((step for step, yes in zip(steps, reached, strict=True) if yes), None)


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """The figures of one episode that tables show."""
    curves = found["curves"]
    steps = curves["step"]
    r2 = np.array([np.nan if v is None else v for v in curves["contact_r2"]])
    auroc = list(curves["edge_auroc"])
    kinds = [m[0] for m in found["mechanisms"]]
    seen = {
        name: first_step(steps, [any(row[k] for k in picked) for row in curves["found"]])
        for name, picked in (
            ("spring", [k for k, kind in enumerate(kinds) if kind == "SPRING"]),
            ("lamp", [k for k, kind in enumerate(kinds) if kind in ("LIT_BY", "TOGGLE_BY")]),
        )
        if picked
    }
    return {
        "steps_to_r2": first_step(steps, [bool(v >= R2_BAR) for v in r2]),
        "steps_to_high_r2": first_step(steps, [bool(v >= HIGH_R2_BAR) for v in r2]),
        "steps_to_auroc": first_step(steps, [v is not None and v >= AUROC_BAR for v in auroc]),
        "steps_to_all_touched": _all_touched(found),
        "mean_r2": float(np.nanmean(np.clip(r2, -1.0, 1.0))), "final_r2": float(r2[-1]),
        "final_auroc": auroc[-1], "things_moved": curves["things_moved"][-1], "metres": curves["metres"][-1],
        "found": seen, "time_near": found["time_near"],
        "processor_ms_per_step": round(1e3 * found["processor_seconds"] / steps[-1], 1),
    }  # fmt: skip


def _all_touched(found: dict[str, Any]) -> int | None:
    times = list(found["first_touched"].values())
    return None if any(time is None for time in times) else max(times)


def median_steps(steps: list[int | None], limit: int) -> float:
    """Median over episodes; what was never reached counts as `limit`."""
    return median(limit if step is None else step for step in steps)


def summary(results: list[tuple[EpisodeSpec, dict[str, Any]]], reference: str = "curious") -> dict[str, Any]:
    """Medians by world, sight and policy, and differences to `reference` paired by seed.

    Steps that a bar was not reached in count as the whole episode: medians and ratios are then lower bounds for the
    slower policy.
    """
    tables: dict[str, Any] = {}
    for spec, found in results:
        table = tables.setdefault(f"{spec.world}/{spec.sight}", {})
        table.setdefault(spec.policy, {})[spec.seed] = figures(found) | {"steps": spec.steps}
    out: dict[str, Any] = {}
    for name, table in tables.items():
        out[name] = {policy: _policy(rows, table.get(reference)) for policy, rows in table.items()}
    return out


def _policy(rows: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]] | None) -> dict[str, Any]:
    every = list(rows.values())
    limit = max(row["steps"] for row in every)
    mechanisms = sorted({name for row in every for name in row["found"]})
    result: dict[str, Any] = {
        "episodes": len(every), "seeds": sorted(rows),
        "steps_to_r2": [row["steps_to_r2"] for row in every],
        "median_steps_to_r2": median_steps([row["steps_to_r2"] for row in every], limit),
        "steps_to_high_r2": [row["steps_to_high_r2"] for row in every],
        "median_steps_to_high_r2": median_steps([row["steps_to_high_r2"] for row in every], limit),
        "median_steps_to_auroc": median_steps([row["steps_to_auroc"] for row in every], limit),
        "median_mean_r2": median(row["mean_r2"] for row in every),
        "median_final_r2": median(row["final_r2"] for row in every),
        "median_things_moved": median(row["things_moved"] for row in every),
        "median_steps_to_found": {
            name: median_steps([row["found"].get(name) for row in every], limit) for name in mechanisms
        },
        "time_near": {
            name: round(float(np.mean([row["time_near"][name] for row in every])), 4)
            for name in every[0]["time_near"] if all(name in row["time_near"] for row in every)
        },
        "processor_ms_per_step": median(row["processor_ms_per_step"] for row in every),
    }  # fmt: skip
    shared = sorted(set(rows) & set(reference or {}))
    if reference is not None and shared:
        faster, faster_to_high = (
            [_steps(reference[s], bar) - _steps(rows[s], bar) for s in shared]
            for bar in ("steps_to_r2", "steps_to_high_r2")
        )
        area = [reference[s]["mean_r2"] - rows[s]["mean_r2"] for s in shared]
        result |= {
            "reference_ahead": sum(d < 0 for d in faster), "reference_level": sum(d == 0 for d in faster),
            "paired_steps": faster, "paired_steps_to_high_r2": faster_to_high,
            "reference_ahead_to_high_r2": sum(d < 0 for d in faster_to_high),
            "paired_mean_r2": [round(d, 4) for d in area],
            "reference_ahead_in_mean_r2": sum(d > 0 for d in area), "pairs": len(shared),
        }  # fmt: skip
    return result


def _steps(row: dict[str, Any], bar: str) -> int:
    return int(row["steps"] if row[bar] is None else row[bar])
