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
#: What the planners of the comparison are called in the figure.
NAMES = {"ours_from_noise": "ours, from noise", "mbrl_icem": "mbrl-lib iCEM", "mppi": "pytorch_mppi"}
#: ms, ticks of the axis of times.
TIMES = (10, 30, 100, 300, 1000, 3000)


def plot(result: dict[str, Any], path: Path) -> None:
    """Growth of a call with each size, and the quality of plans against the time they take."""
    growth, quality = result.get("growth", {}), result.get("quality")
    count = max(len(growth) + bool(quality), 1)
    figure, axes = plt.subplots(-(-count // 3), min(count, 3), figsize=(11, 3.2 * -(-count // 3)), squeeze=False)
    flat = list(axes.flat)
    for axis, (name, rows) in zip(flat, growth.items(), strict=False):
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
        _quality(flat[len(growth)], quality["planners"])
    for axis in flat[count:]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _quality(axis: Any, planners: dict[str, Any]) -> None:
    """Scores against times: a library with more and more iterations is one line."""
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for name, row in planners.items():
        stem, _, iterations = name.rpartition("_")
        known = iterations.isdigit()
        lines.setdefault(stem if known else name, []).append(
            (row["ms_median"], row["score_median"], iterations if known else "")
        )
    for name, points in lines.items():
        times, scores, counts = zip(*points, strict=True)
        axis.plot(times, scores, "o-", label=NAMES.get(name, name))
        for at, count in zip(zip(times, scores, strict=True), counts, strict=True):
            axis.annotate(count, at, xytext=(4, 4), textcoords="offset points", fontsize=7)
    axis.set_xscale("log")
    axis.set_xticks(TIMES, [str(v) for v in TIMES])
    axis.minorticks_off()
    axis.set_xlim(10, 3000)
    axis.set_xlabel("time [ms], iterations beside the points")
    axis.set_ylabel("score on our model [nats]")
    axis.legend(frameon=False, fontsize=7)
