"""Figures of `crl bench planner`, from its JSON alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

#: Axis labels by the name of the size.
LABELS = {
    "candidates": "candidates N", "horizon": "steps H", "particles": "particles K", "slots": "slots S"
}  # fmt: skip


def plot(result: dict[str, Any], path: Path) -> None:
    """Growth of a call with each size, and the quality of plans against the time they take."""
    growth, quality = result.get("growth", {}), result.get("quality")
    figure, axes = plt.subplots(1, max(len(growth) + bool(quality), 1), figsize=(3.2 * (len(growth) + 1.4), 3.2))
    axes = [axes] if not hasattr(axes, "__len__") else list(axes)
    for axis, (name, rows) in zip(axes, growth.items(), strict=False):
        x = [row[name] for row in rows]
        for key, style in (("p50", "o-"), ("p99", ".:")):
            axis.plot(x, [row["ms"][key] for row in rows], style, color="tab:blue", label=key)
        axis.set_xlabel(LABELS[name])
        axis.set_ylabel("one call [ms]")
        axis.set_xscale("log", base=2)
        axis.set_xticks(x, [str(v) for v in x])
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
    if quality:
        axis = axes[-1]
        for name, row in quality["planners"].items():
            axis.plot(row["ms_median"], row["score_median"], "o")
            axis.annotate(name, (row["ms_median"], row["score_median"]), fontsize=7, rotation=20)
        axis.set_xscale("log")
        axis.set_xlabel("time [ms], median over scenes")
        axis.set_ylabel("score on our model [nats]")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
