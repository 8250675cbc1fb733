"""`report.json`: the content of the report as plain data. The schema is documented in docs/report.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from crl_node import __version__
from crl_node.evaluation.evaluate import Evaluation
from crl_node.evaluation.run import RunData
from crl_node.evaluation.slots import path_lengths, total_swaps
from crl_node.report.shares import from_diagnostics
from crl_node.report.words import laws

SCHEMA = 1
#: Whose versions are reported.
PACKAGES = ("numpy", "onnxruntime", "torch", "pybullet", "pin", "mcap", "rosbags")
#: Points kept of a long series: enough for any plot.
SERIES = 2000


def run_facts(folder: Path) -> dict[str, Any]:
    """`run.json` of a run folder; empty when it is missing or damaged."""
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def versions() -> dict[str, str]:
    """Versions of this package and of what it stands on, as installed here."""
    found = {"crl_node": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def collect(run: RunData, evaluation: Evaluation, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in `report.json`; values that could not be had are null, and `notes` says why."""
    final = run.posteriors[-1][1] if run.posteriors else None
    graph = evaluation.graph
    ticks = evaluation.ticks
    last_edges = run.graphs[-1][1] if run.graphs else ()
    sixty = nearest(evaluation.contact_r2_at, 60.0)
    report: dict[str, Any] = _plain(
        {
            "schema": SCHEMA,
            "posterior_hash": final.hash if final else None,
            "posterior_version": final.version if final else None,
            "world": facts.get("world") or (evaluation.world.name if evaluation.world else None),
            "seed": facts.get("seed"),
            "policy": facts.get("policy") or (run.plans[-1].policy if run.plans else None),
            "seconds": round(run.end - run.start, 3),
            "mode": facts.get("mode"),
            "outcome": facts.get("outcome"),
            "restarts": facts.get("restarts") or {},
            "steps": final.step if final else None,
            "ticks": {
                "planned": ticks.planned if ticks else 0,
                "missed": ticks.missed if ticks else 0,
                "held": ticks.held if ticks else 0,
                "reasons": list(ticks.reasons) if ticks else [],
            },
            "latency_ms": evaluation.latency_ms,
            "slots": [
                {
                    "name": f"slot_{s.slot}" if s.slot is not None else None,
                    "object": s.object,
                    "r2": s.r2,
                    "r2_own": s.r2_own,
                    "rmse": s.rmse,
                    "visible": s.visible,
                    "present": s.present,
                    "first_seen": s.first_seen,
                    "swaps": s.swaps,
                    "identities": s.identities,
                    "lamp_auroc": s.lamp_auroc,
                }
                for s in evaluation.slots
            ],
            "slots_without_thing": [f"slot_{i}" for i in evaluation.spurious],
            "identity_swaps": total_swaps(evaluation.track) if evaluation.track is not None else None,
            "contact_r2": evaluation.contact_r2,
            "contact_r2_at": {f"{t:g}": v for t, v in evaluation.contact_r2_at.items()},
            "contact_r2_60": sixty,
            "contact_r2_things": evaluation.contact_r2_things,
            "edges": [
                {"cause": e.cause, "effect": e.effect, "probability": e.probability, "true": e.true}
                for e in (graph.edges if graph else ())
            ],
            "now_auroc": evaluation.active.auroc if evaluation.active else None,
            "now_auprc": evaluation.active.auprc if evaluation.active else None,
            "now_precision": evaluation.active.precision if evaluation.active else None,
            "now_recall": evaluation.active.recall if evaluation.active else None,
            "world_changes": list(evaluation.changes),
            "edge_auroc": graph.auroc if graph else None,
            "edge_auprc": graph.auprc if graph else None,
            "edge_brier": graph.brier if graph else None,
            "edge_calibration_error": graph.calibration_error if graph else None,
            "mechanisms": [
                {
                    "kind": m.kind,
                    "cause": m.cause,
                    "effect": m.effect,
                    "probability": m.probability,
                    "edge_probability": m.edge_probability,
                    "believed": m.believed,
                    "found": m.found,
                }
                for m in (graph.mechanisms if graph else ())
            ],
            "laws": [
                {"text": law.text, "probability": law.probability, "weight": law.weight, "std": law.std}
                for law in laws(last_edges, evaluation.mapping)
            ],
            "shares": from_diagnostics(run.diagnostics, evaluation.mapping),
            "information_gain": {
                part: series([(p.stamp - run.start, getattr(p.gain, part)) for p in run.plans])
                for part in ("structure", "parameters", "states")
            },
            "goals": [
                {"time": round(stamp - run.start, 3), "note": note, "goals": [asdict(goal) for goal in goals]}
                for stamp, goals, note in run.goals
            ],
            "surprise": series([(s.stamp - run.start, s.surprise) for s in run.steps]),
            "moved": evaluation.moved,
            "moved_60": path_lengths([t for t in run.truths if t.stamp - run.start <= 60.0]),
            "providers": sorted({p.provider for p in run.plans if p.provider}),
            "versions": facts.get("versions") or versions(),
            "memory_mb": memory(facts),
            "bag": {
                topic: {"sent": run.sent.get(topic), "recorded": run.recorded.get(topic, 0)}
                for topic in sorted(set(run.recorded) | {t for t, n in run.sent.items() if n})
            },
            "frames": frames(run),
            "notes": evaluation.notes,
        }
    )
    return report


def nearest(values: Mapping[float, float], wanted: float) -> float | None:
    """The value at `wanted`, None when there is none within half a second."""
    return next((v for t, v in values.items() if abs(t - wanted) < 0.5), None)


def memory(facts: Mapping[str, Any]) -> dict[str, float]:
    """Peak memory by process in MB, as whoever ran the processes measured it."""
    given = facts.get("peak_memory_mb") or {}
    return (
        {str(k): v for k, v in given.items() if isinstance(v, int | float)} if isinstance(given, dict) else {}
    )


def frames(run: RunData) -> dict[str, int]:
    """What became of the camera frames, in the learner's own count."""
    if not run.steps:
        return {"recorded": len(run.image_stamps)}
    last = run.steps[-1]
    return {
        "recorded": len(run.image_stamps),
        "learned_from": last.step,
        "dropped": last.dropped,
        "rejected": last.rejected,
        "pairs_rejected": last.pairs_rejected,
    }


def series(points: Iterable[tuple[float, float]]) -> list[list[float]]:
    """[[t, value], …], thinned evenly to at most `SERIES` points."""
    kept = [p for p in points if math.isfinite(p[1])]
    if len(kept) > SERIES:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, SERIES).astype(int)]
    return [[round(t, 3), float(f"{v:.6g}")] for t, v in kept]


def _plain(value: Any) -> Any:
    """JSON's own types; numbers that JSON cannot hold become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
