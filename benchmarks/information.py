"""Is the curiosity calibrated? Information expected of what was done against information really gained, over runs.

Used by `crl bench information`. Every run is a file of its own, so that an interrupted measurement goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from crl_node.arm.profile import load_profile
from crl_node.exploration.information import agreement, windows
from crl_node.exploration.sight import TrueSight
from crl_node.exploration.sweep import planner_for
from crl_node.export.onnx_model import write_atomically
from crl_node.loop import ClosedLoop
from crl_node.simulator.world import load_world

PROFILE = "iiwa_sim"
PARTS = ("structure", "parameters", "states")
#: Slopes between these mean that expectation and outcome agree.
BAR = (0.8, 1.2)


def run(world_name: str, seed: int, sight: str, steps: int, width: int, policy: str = "curious") -> dict[str, Any]:
    """One run in windows; plain data for JSON."""
    world, profile = load_world(world_name), load_profile(PROFILE)
    planner = planner_for(world, policy, seed)
    with ClosedLoop(world, profile, planner, seed=seed, sight=TrueSight if sight == "truth" else None) as loop:
        found = windows(loop, planner, steps, width)
    return {
        "world": world_name, "seed": seed, "sight": sight, "steps": steps, "width": width, "policy": policy,
        "windows": [asdict(window) for window in found],
    }  # fmt: skip


def measure(
    worlds: list[str], seeds: list[int], sights: list[str], steps: int, width: int, folder: Path, again: bool,
    say: Callable[[str], None],
) -> dict[str, Any]:  # fmt: skip
    """All runs, and how expectation and outcome agree by world, sight and part."""
    folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed, world, sight in product(seeds, worlds, sights):
        file = folder / f"{world}-{sight}-{steps}x{width}-seed{seed}.json"
        if file.is_file() and not again:
            runs.append(json.loads(file.read_text()))
            say(f"{file.stem}: measured before")
            continue
        runs.append(run(world, seed, sight, steps, width))
        # Whole or not at all: an interrupted run leaves no half file to be taken for a result.
        write_atomically(json.dumps(runs[-1], default=float).encode(), file)
        say(f"{file.stem}: total {_words(_sums([runs[-1]], 'expected', PARTS), _sums([runs[-1]], 'gained', PARTS))}")
    groups = {f"{world}, {sight}": [r for r in runs if (r["world"], r["sight"]) == (world, sight)]
              for world, sight in product(worlds, sights)}  # fmt: skip
    return {
        "steps": steps, "width": width, "seeds": seeds, "bar": BAR,
        "agreement": {name: _table(rows) for name, rows in {**groups, "all": runs}.items()}, "runs": runs,
    }  # fmt: skip


def _sums(runs: list[dict[str, Any]], key: str, parts: tuple[str, ...]) -> np.ndarray:
    """[W] nats of the windows of all runs."""
    return np.array([sum(window[key][part] for part in parts) for r in runs for window in r["windows"]])


def _words(expectation: np.ndarray, outcome: np.ndarray) -> str:
    found = agreement(expectation, outcome)
    return f"{found.gained:.1f} nats gained of {found.expected:.1f} expected, slope {found.slope:.2f}"


def _table(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Agreement by part; `model`: of the features that were met, which leaves the roll-outs out."""
    rows = {part: ("expected", (part,)) for part in PARTS}
    rows |= {
        "total": ("expected", PARTS),
        "structure and parameters": ("expected", PARTS[:2]),
        "model": ("designed", PARTS[:2]),
    }
    out = {}
    for name, (key, parts) in rows.items():
        found = agreement(_sums(runs, key, parts), _sums(runs, "gained", parts))
        out[name] = asdict(found) | {"ratio": found.ratio}
    return out


def picture(result: dict[str, Any], path: Path) -> None:
    """Gained against expected, a point a window, one panel a part."""
    rows = (("total", "expected", PARTS), *((part, "expected", (part,)) for part in PARTS[:2]),
            ("met features", "designed", PARTS[:2]))  # fmt: skip
    figure, axes = plt.subplots(1, len(rows), figsize=(13, 3.6))
    for axis, (name, key, parts) in zip(axes, rows, strict=True):
        top = 0.1
        for world in sorted({r["world"] for r in result["runs"]}):
            runs = [r for r in result["runs"] if r["world"] == world]
            x, y = _sums(runs, key, parts), _sums(runs, "gained", parts)
            axis.scatter(x, y, s=9, alpha=0.6, label=world)
            top = max(top, x.max(initial=0.0), y.max(initial=0.0))
        found = agreement(_sums(result["runs"], key, parts), _sums(result["runs"], "gained", parts))
        axis.plot([0, top], [0, top], color="black", lw=0.8)
        axis.plot([0, top], [0, found.slope * top], color="tab:red", lw=0.8)
        axis.set(xlabel="expected [nats]", ylabel="gained [nats]", xscale="symlog", yscale="symlog")
        axis.set_title(f"{name}: slope {found.slope:.2f}, sums {found.ratio:.2f}")
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
