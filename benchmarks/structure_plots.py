"""Figures of `crl bench structure`, from its JSON alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

#: One colour for each engine, the same in every figure.
COLOURS = {
    "exact": "black", "greedy": "tab:gray", "mcmc": "tab:blue", "particles": "tab:green", "gflownet": "tab:red",
    "amortised": "tab:purple", "amortised_raw": "tab:pink",
}  # fmt: skip
#: What agreement is asked for: median, worst Jensen-Shannon divergence.
TARGETS = {"mcmc": (0.005, 0.05), "gflownet": (0.02, 0.1), "amortised": (0.01, 0.01), "amortised_raw": (0.05, 0.05)}
#: nats, what logarithmic axes show for 0.
_LEAST = 1e-8


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def agreement(result: dict[str, Any], path: Path) -> None:
    """Median and worst divergence of each engine beside what was asked for."""
    names = list(result["engines"])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True)
    for axis, key, title in (
        (axes[0], "jsd", "between posteriors over sets"),
        (axes[1], "inclusion_jsd", "between inclusion probabilities, mean over columns"),
    ):
        for row, name in enumerate(names):
            values = result["engines"][name][key]
            median, worst = max(values["median"], _LEAST), max(values["worst"], _LEAST)
            axis.plot([median, worst], [row, row], color=COLOURS.get(name), lw=2)
            axis.plot(median, row, "o", color=COLOURS.get(name))
            axis.plot(worst, row, "|", color=COLOURS.get(name), ms=14)
            if key == "jsd" and name in TARGETS:
                axis.plot(TARGETS[name], [row - 0.25] * 2, "^", color="0.6", ms=4)
        axis.set_xscale("log")
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("Jensen-Shannon divergence to exact [nats]", fontsize=8)
    axes[0].set_yticks(range(len(names)), names)
    figure.suptitle(
        f"{result['problems']} problems, {result['columns']} columns: median (dot), worst (bar); triangles: aims",
        fontsize=9,
    )
    _save(figure, path)


def time(result: dict[str, Any], path: Path) -> None:
    """Divergence against processor seconds."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True)
    for name, points in result["curves"].items():
        seconds = [p["seconds"] for p in points]
        for axis, key in zip(axes, ("jsd", "inclusion_jsd"), strict=True):
            for statistic, style in (("median", "-o"), ("worst", ":")):
                values = [max(p[key][statistic], _LEAST) for p in points]
                label = name if statistic == "median" else None
                axis.plot(seconds, values, style, color=COLOURS.get(name), ms=4, label=label)
    for axis, title in zip(axes, ("over sets", "inclusion"), strict=True):
        axis.axvline(result["exact_seconds"], color="black", lw=0.8)
        axis.set(xscale="log", yscale="log", xlabel="processor seconds a problem (line: exact)")
        axis.set_title(title, fontsize=9)
    axes[0].set_ylabel("JSD to exact [nats]")
    axes[0].legend(fontsize=8)
    figure.suptitle("median (solid) and worst (dotted)", fontsize=9)
    _save(figure, path)


def calibration(result: dict[str, Any], path: Path) -> None:
    """Reliability diagrams: engines on draws from the prior, and the exact posterior under wrong noise."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True)
    groups = (("engines", "noise as assumed"), ("noise", "exact posterior, other noise"))
    for axis, (key, title) in zip(axes, groups, strict=True):
        axis.plot([0, 1], [0, 1], color="0.8")
        for name, found in result[key].items():
            stated = np.array([np.nan if v is None else v for v in found["stated"]])
            true = np.array([np.nan if v is None else v for v in found["true"]])
            label = f"{name}: ECE {found['ece']:.3f}"
            (line,) = axis.plot(stated, true, "-", color=COLOURS.get(name), lw=0.8, label=label)
            # A bin with few edges says little: its dot is small.
            axis.scatter(stated, true, s=4.0 * np.log2(1.0 + np.array(found["count"])), color=line.get_color())
        axis.set(xlabel="stated probability", title=title)
        axis.legend(fontsize=7)
    axes[0].set_ylabel("share that is true")
    _save(figure, path)


def modes(result: dict[str, Any], path: Path) -> None:
    """Share of the equally good explanations that each engine names, and that are among K samples."""
    rows = result["rows"]
    counts = result["draws"]
    names = list(dict.fromkeys(row["engine"] for row in rows))
    figure, axes = plt.subplots(1, len(counts) + 1, figsize=(2.4 * (len(counts) + 1), 3.2), sharey=True)
    for name in names:
        mine = [row for row in rows if row["engine"] == name]
        pairs = [row["pairs"] for row in mine]
        named = [row["named"] / row["modes"] for row in mine]
        axes[0].plot(pairs, named, "o-", ms=3, color=COLOURS.get(name), label=name)
        for axis, count in zip(axes[1:], counts, strict=True):
            share = [row["sampled"][str(count)] / row["modes"] for row in mine]
            axis.plot(pairs, share, "o-", ms=3, color=COLOURS.get(name))
    axes[0].set_title("named by the engine", fontsize=9)
    axes[0].set_ylabel("share of the modes found")
    axes[0].legend(fontsize=7)
    for axis, count in zip(axes[1:], counts, strict=True):
        axis.set_title(f"among {count} samples", fontsize=9)
        axis.plot(pairs, [min(1.0, count / 2**p) for p in pairs], color="0.7", ls="--")
    for axis in axes:
        axis.set_xlabel("pairs of look-alikes (2^k modes)", fontsize=8)
    _save(figure, path)


def discover(result: dict[str, Any], path: Path) -> None:
    """Edge AUROC of every family, ours beside PCMCI and lasso: median and worst over seeds."""
    summary = result["dynamics"]["summary"]
    figure, axis = plt.subplots(figsize=(9, 0.34 * len(summary) + 1.2))
    rows = np.arange(len(summary))
    for shift, (name, colour) in zip((-0.2, 0.0, 0.2), METHODS, strict=True):
        scores = [entry[name].get("auroc") for entry in summary.values()]
        for row, score in zip(rows, scores, strict=True):
            if score is not None:
                axis.plot([score["worst"], score["median"]], [row + shift] * 2, color=colour, lw=1)
                axis.plot(score["median"], row + shift, "o", ms=4, color=colour)
    for name, colour in METHODS:
        axis.plot([], [], "o-", ms=4, color=colour, label=name)
    axis.axvline(0.95, color="0.7", ls="--")
    axis.set(yticks=rows, xlabel="edge AUROC (dot: median, line: to the worst seed)", xlim=(0.5, 1.01))
    axis.set_yticklabels(list(summary), fontsize=8)
    axis.invert_yaxis()
    axis.legend(fontsize=8, loc="lower left")
    _save(figure, path)


def growth(result: dict[str, Any], path: Path) -> None:
    """Processor time of a step and of a refresh against the number of steps."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3))
    tenths = np.array(result["step_cpu_ms_by_tenth"])
    axes[0].plot((np.arange(len(tenths)) + 0.5) * result["steps"] / len(tenths), tenths, "o-", ms=3)
    axes[0].set(title="one step, mean of each tenth", xlabel="steps", ylabel="processor ms", ylim=(0, None))
    steps = [r["step"] for r in result["refreshes"]]
    axes[1].plot(steps, [r["cpu_s"] for r in result["refreshes"]], "o-", ms=3)
    axes[1].set(title="one refresh", xlabel="steps", ylabel="processor s", xscale="log", ylim=(0, None))
    _save(figure, path)


#: What discovery is compared with.
METHODS = (("ours", "tab:blue"), ("pcmci", "tab:orange"), ("lasso", "tab:green"))

PLOTS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "agreement": agreement, "time": time, "calibration": calibration, "modes": modes,
    "discover": discover, "growth": growth,
}  # fmt: skip
