"""What finds things out sooner? Policies side by side in the closed loop, in lockstep, paired by seed.

Used by `crl bench exploration`; episodes and figures are made in `crl_node/exploration`, here they become one JSON
and the curves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from crl_node.exploration.episode import EpisodeSpec
from crl_node.exploration.summary import AUROC_BAR, R2_BAR, figures, summary
from crl_node.exploration.sweep import run_all

#: One colour for each policy, the same in every figure.
COLOURS = {
    "curious": "tab:red", "skills": "tab:blue", "random": "tab:gray", "disagreement": "tab:green", "rnd": "tab:purple",
}  # fmt: skip
#: Curves: key, label, bar to reach (None: none).
CURVES = (
    ("contact_r2", "held-out contact R²", R2_BAR), ("edge_auroc", "edge AUROC", AUROC_BAR),
    ("things_moved", "things moved", None),
)  # fmt: skip


def measure(
    todo: list[EpisodeSpec], folder: Path, jobs: int, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[tuple[EpisodeSpec, dict[str, Any]]]]:
    """Run what is missing in `folder`; the summary and all results, those that were there included."""
    results = []
    for number, (spec, found) in enumerate(run_all(todo, folder, jobs), 1):
        row = figures(found)
        bar = row["steps_to_r2"] if row["steps_to_r2"] is not None else f"not in {spec.steps}"
        say(
            f"[{number}/{len(todo)}] {spec.world} {spec.sight} seed {spec.seed} {spec.policy}: R² .8 after {bar}, "
            f"{row['final_r2']:.2f} at the end, {row['processor_ms_per_step']} ms of processor time a step"
        )
        results.append((spec, found))
    results.sort(key=lambda item: (item[0].world, item[0].sight, item[0].policy, item[0].seed))
    return {"worlds": summary(results), "episodes": {s.name: figures(f) for s, f in results}}, results


def plot(results: list[tuple[EpisodeSpec, dict[str, Any]]], folder: Path) -> list[Path]:
    """One figure per world and sight: median and middle half over seeds, against control steps. The files written."""
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for spec, found in results:
        kind = "random worlds" if spec.world.startswith("random:") else spec.world
        groups.setdefault((kind, spec.sight), {}).setdefault(spec.policy, []).append(found["curves"])
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (world, sight), policies in sorted(groups.items()):
        picture, axes = plt.subplots(1, len(CURVES), figsize=(4 * len(CURVES), 3.2))
        for axis, (key, label, bar) in zip(axes, CURVES, strict=True):
            for policy, curves in policies.items():
                length = min(len(c["step"]) for c in curves)
                rows = np.array([[np.nan if v is None else v for v in c[key][:length]] for c in curves], float)
                steps = curves[0]["step"][:length]
                low, middle, high = np.nanpercentile(rows, [25, 50, 75], axis=0)
                colour = COLOURS.get(policy)
                axis.plot(steps, middle, color=colour, lw=1.6, label=f"{policy} ({len(curves)})")
                axis.fill_between(steps, low, high, color=colour, alpha=0.18, lw=0)
            if bar is not None:
                axis.axhline(bar, color="0.5", lw=0.8, ls=":")
            if key == "contact_r2":
                axis.set_ylim(-0.1, 1.0)
            axis.set_xlabel("control steps of .1 s")
            axis.set_title(label, fontsize=9)
        axes[0].legend(fontsize=7, loc="lower right")
        seen = "camera pixels" if sight == "pixels" else "true states"
        picture.suptitle(f"{world}, from {seen}: median and middle half over episodes", fontsize=10)
        picture.tight_layout()
        path = folder / f"exploration_{world.replace(' ', '_').replace('/', '_')}_{sight}.png"
        picture.savefig(path, dpi=130)
        plt.close(picture)
        written.append(path)
    return written
