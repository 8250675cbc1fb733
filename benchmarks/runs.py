"""Whole runs of the closed loop, one process tree each: worlds x seeds x policies, from `crl sim`.

Used by `crl bench runs`. Every run is a real one (ROS 2 nodes, camera frames, MCAP bag); this file only
starts them, reads their `report.json` and writes one table.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

#: m, a thing whose path is longer was moved.
MOVED = 0.05


@dataclass(frozen=True)
class RunSpec:
    """One run of the matrix."""

    world: str
    seed: int
    policy: str
    seconds: float
    lockstep: bool = True

    @property
    def name(self) -> str:
        return f"{Path(self.world).stem}-{self.policy}-{self.seconds:g}s-seed{self.seed}"


def matrix(
    worlds: list[str], seeds: list[int], policies: list[str], seconds: float, *, lockstep: bool = True
) -> list[RunSpec]:
    """All combinations, seeds outermost so that an interrupted sweep has whole pairs."""
    return [
        RunSpec(world, seed, policy, seconds, lockstep)
        for seed, world, policy in product(seeds, worlds, policies)
    ]


def run_one(spec: RunSpec, folder: Path) -> dict[str, Any]:
    """Run `crl sim` for `spec` unless its report is there; returns the report, or {"error": last lines}."""
    out = folder / spec.name
    report = out / "report.json"
    if not report.is_file():
        shutil.rmtree(out, ignore_errors=True)  # a run that was cut short
        command = [
            sys.executable, "-m", "crl_node.cli", "sim", "--headless", "--world", spec.world, "--seed", str(spec.seed),
            "--policy", spec.policy, "--seconds", f"{spec.seconds:g}", "--out", str(out),
        ]  # fmt: skip
        command += ["--lockstep"] if spec.lockstep else ["--rtf", "1"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.is_file():
            return {"error": (done.stdout + done.stderr)[-2000:], "returncode": done.returncode}
    return dict(json.loads(report.read_text()))


def run_all(specs: list[RunSpec], folder: Path, *, jobs: int = 1) -> Iterator[tuple[RunSpec, dict[str, Any]]]:
    """Runs in the order of `specs`, `jobs` at a time; yields each as it is done."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        yield from zip(specs, pool.map(lambda spec: run_one(spec, folder), specs), strict=True)


def row(spec: RunSpec, report: dict[str, Any]) -> dict[str, Any]:
    """The figures of one run that the results table shows; None where the report does not have them."""
    if "error" in report:
        return {**asdict(spec), "error": report["error"]}
    r2 = [slot["r2"] for slot in report.get("slots", []) if slot.get("r2") is not None]
    mechanisms = {
        f"{m['kind']} {m['cause']}->{m['effect']}": round(m["probability"], 3)
        for m in report.get("mechanisms", [])
    }
    bag = report.get("bag", {}).values()
    sent = sum(topic["sent"] or 0 for topic in bag)
    return {
        **asdict(spec),
        "slot_r2_median": statistics.median(r2) if r2 else None,
        "slot_r2_worst": min(r2) if r2 else None,
        "slots_seen": len(r2),
        "slots_without_thing": len(report.get("slots_without_thing", [])),
        "identity_swaps": report.get("identity_swaps"),
        "lamp_auroc": next(
            (s["lamp_auroc"] for s in report.get("slots", []) if s.get("lamp_auroc") is not None), None
        ),
        "last_first_seen": max(
            (s["first_seen"] for s in report.get("slots", []) if s["first_seen"] is not None), default=None
        ),
        "contact_r2": report.get("contact_r2"),
        "contact_r2_60": report.get("contact_r2_60"),
        "edge_auroc": report.get("edge_auroc"),
        "mechanisms": mechanisms,
        "things_moved": sum(metres > MOVED for metres in report.get("moved", {}).values()),
        "metres_moved": sum(report.get("moved", {}).values()),
        "things_moved_60": sum(metres > MOVED for metres in report.get("moved_60", {}).values()),
        "metres_moved_60": sum(report.get("moved_60", {}).values()),
        "ticks": report.get("ticks"),
        "latency_ms": report.get("latency_ms"),
        "bag_share": sum(topic["recorded"] for topic in bag) / sent if sent else None,
        "memory_mb": report.get("memory_mb"),
        "posterior_hash": report.get("posterior_hash"),
    }


def machine_load() -> dict[str, Any]:
    """Number of cores and the load averages: the context of every timing."""
    return {"cores": os.cpu_count(), "load_average": os.getloadavg()}


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Median and worst over seeds of every number, by world and policy."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in rows:
        if "error" not in entry:
            groups.setdefault(f"{entry['world']} {entry['policy']} {entry['seconds']:g}s", []).append(entry)
    out: dict[str, dict[str, Any]] = {}
    for name, members in groups.items():
        out[name] = {"runs": len(members)}
        for key in (
            "slot_r2_median", "slot_r2_worst", "last_first_seen", "identity_swaps", "lamp_auroc", "contact_r2",
            "contact_r2_60", "edge_auroc", "things_moved", "metres_moved", "things_moved_60", "metres_moved_60",
        ):  # fmt: skip
            values = [m[key] for m in members if m[key] is not None]
            if values:
                out[name][key] = {"min": min(values), "median": statistics.median(values), "max": max(values)}
    return out


def paired(rows: list[dict[str, Any]], key: str, policy: str, other: str) -> list[dict[str, Any]]:
    """`key` under two policies in the same world with the same seed, and which was larger."""
    by_run = {(r["world"], r["seed"], r["policy"]): r.get(key) for r in rows}
    pairs = []
    for (world, seed, name), value in sorted(by_run.items()):
        against = by_run.get((world, seed, other))
        if name == policy and value is not None and against is not None:
            pairs.append(
                {"world": world, "seed": seed, policy: value, other: against, "larger": value > against}
            )
    return pairs
