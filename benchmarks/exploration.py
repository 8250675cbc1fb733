"""What finds things out sooner? Policies side by side in the closed loop, in lockstep, paired by seed.

Used by `crl bench exploration`. Every episode is a file of its own, so that an interrupted sweep goes on where it
stopped, and a policy or a world can be added later. Figures in `exploration_plots.py`.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from crl_node.arm.profile import RobotProfile, load_profile
from crl_node.curiosity.assembly import default_model
from crl_node.curiosity.planner import Planner, PlannerConfig
from crl_node.evaluation.contact import Pushes
from crl_node.evaluation.pushes import held_out_pushes
from crl_node.exploration.episode import EpisodeSpec, run_episode
from crl_node.loop import Plans
from crl_node.simulator.world import World, load_world

PROFILE = "iiwa_sim"
#: What counts as found out.
R2_BAR, AUROC_BAR = 0.8, 0.95


def specs(
    worlds: list[str], seeds: list[int], policies: list[str], sight: str, steps: int, every: int = 5
) -> list[EpisodeSpec]:
    """All combinations, seeds outermost so that an interrupted sweep has whole pairs."""
    return [
        EpisodeSpec(world, seed, policy, sight, steps, every)
        for seed, world, policy in product(seeds, worlds, policies)
    ]


@cache
def _world(name: str) -> tuple[World, RobotProfile, Pushes]:
    world, profile = load_world(name), load_profile(PROFILE)
    return world, profile, held_out_pushes(world, profile)


def episode(spec: EpisodeSpec) -> dict[str, Any]:
    """One episode with the shipped planning file and default settings."""
    world, profile, pushes = _world(spec.world)

    def make(policy: str, seed: int) -> Plans:
        config = PlannerConfig(table=(*world.table.x, *world.table.y), camera=tuple(world.camera.eye))
        return Planner(default_model(), policy, seed, config, evaluate=policy in REFINED)

    return run_episode(spec, world, profile, pushes, make)


#: Policies whose plans are made in the planning graph.
REFINED = frozenset({"curious"})


def run_all(todo: list[EpisodeSpec], folder: Path, jobs: int = 1) -> Iterator[tuple[EpisodeSpec, dict[str, Any]]]:
    """Each episode as it is done: read from `folder` when it is there, else run and written there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for spec in todo:
        path = folder / f"{spec.name}.json"
        if path.is_file():
            yield spec, json.loads(path.read_text())
        else:
            missing.append(spec)
    context = multiprocessing.get_context("spawn")  # PyBullet and ONNX Runtime do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(episode, spec): spec for spec in missing}
        for future in as_completed(futures):
            spec, found = futures[future], future.result()
            path = folder / f"{spec.name}.json"
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(found))
            partial.replace(path)
            yield spec, found


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


def ratio_of_medians(rows: list[dict[str, Any]], key: Callable[[dict[str, Any]], int | None], limit: int) -> float:
    """Median over episodes of a number of steps; what was never reached counts as `limit`."""
    return median(limit if key(row) is None else int(key(row) or 0) for row in rows)


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
        "median_steps_to_r2": ratio_of_medians(every, lambda r: r["steps_to_r2"], limit),
        "median_steps_to_auroc": ratio_of_medians(every, lambda r: r["steps_to_auroc"], limit),
        "median_mean_r2": median(row["mean_r2"] for row in every),
        "median_final_r2": median(row["final_r2"] for row in every),
        "median_things_moved": median(row["things_moved"] for row in every),
        "median_steps_to_found": {
            name: ratio_of_medians(every, lambda r, n=name: r["found"].get(n), limit) for name in mechanisms  # type: ignore[misc]
        },
        "time_near": {
            name: round(float(np.mean([row["time_near"][name] for row in every])), 4)
            for name in every[0]["time_near"] if all(name in row["time_near"] for row in every)
        },
        "processor_ms_per_step": median(row["processor_ms_per_step"] for row in every),
    }  # fmt: skip
    shared = sorted(set(rows) & set(reference or {}))
    if reference is not None and shared:
        faster = [_steps(reference[s]) - _steps(rows[s]) for s in shared]
        area = [reference[s]["mean_r2"] - rows[s]["mean_r2"] for s in shared]
        result |= {
            "reference_ahead": sum(d < 0 for d in faster), "reference_level": sum(d == 0 for d in faster),
            "paired_steps": faster, "paired_mean_r2": [round(d, 4) for d in area],
            "reference_ahead_in_mean_r2": sum(d > 0 for d in area), "pairs": len(shared),
        }  # fmt: skip
    return result


def _steps(row: dict[str, Any]) -> int:
    return int(row["steps"] if row["steps_to_r2"] is None else row["steps_to_r2"])
