"""The report's pictures. Every function returns a matplotlib Figure; nothing here touches pyplot's global state."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from crl_node.bags.messages import Truth
from crl_node.data import Array
from crl_node.evaluation.active import ActiveScore
from crl_node.evaluation.edges import EdgeScore
from crl_node.evaluation.evaluate import Evaluation
from crl_node.evaluation.slots import Track

#: Distinct also for colour-blind readers (Okabe and Ito 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
PARTS = (("structure", COLOURS[0]), ("parameters", COLOURS[1]), ("states", COLOURS[2]))


def png(figure: Figure, *, dpi: int = 110) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def save(figure: Figure, path: Path, *, dpi: int = 130) -> None:
    """Write the figure as a PNG file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(png(figure, dpi=dpi))
    temporary.replace(path)


def _axes(width: float = 7.5, height: float = 3.0) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def smooth(values: Array, width: int = 25) -> Array:
    """Running mean of [T] values over `width` points, shorter at the ends."""
    if len(values) < 3:
        return values
    width = min(width, len(values))
    kernel = np.ones(width)
    return np.asarray(np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same"))


def information_gain(gain: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Expected information gain by part over time, as areas on top of each other."""
    figure, axes = _axes()
    parts = [(name, colour, np.array(gain.get(name) or np.zeros((0, 2)))) for name, colour in PARTS]
    parts = [(name, colour, points) for name, colour, points in parts if len(points)]
    if parts:
        time = parts[0][2][:, 0]
        axes.stackplot(
            time,
            *[np.maximum(smooth(np.interp(time, p[:, 0], p[:, 1])), 0.0) for _, _, p in parts],
            labels=[name for name, _, _ in parts],
            colors=[colour for _, colour, _ in parts],
            alpha=0.8,
        )
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3, frameon=False)
    axes.set(xlabel="time [s]", ylabel="expected gain [nats]")
    return figure


def learning_curve(values: Mapping[str, float], target: float = 0.7) -> Figure:
    """R^2 on held-out pushes over time."""
    figure, axes = _axes()
    points = sorted((float(t), v) for t, v in values.items())
    axes.axhline(target, color="0.75", linewidth=1, linestyle="--")
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", color=COLOURS[0])
    axes.set(
        xlabel="time [s]", ylabel="R² on unseen pushes", ylim=(min(-0.05, *(v for _, v in points), 0), 1.02)
    )
    return figure


def table_tracks(track: Track, mapping: Mapping[int, str], truths: Sequence[Truth]) -> Figure:
    """Where the things really went (lines) and where the robot saw them (dots), from above."""
    figure = Figure(figsize=(6.2, 6.2), layout="constrained")
    axes = figure.add_subplot()
    if truths:
        tip = np.array([t.tip for t in truths])
        axes.plot(tip[:, 1], tip[:, 0], color="0.85", linewidth=0.8, zorder=0, label="pusher")
    for n, name in enumerate(track.names):
        colour = COLOURS[n % len(COLOURS)]
        axes.plot(track.things[:, n, 1], track.things[:, n, 0], color=colour, linewidth=1.5, label=name)
        slot = next((i for i, thing in mapping.items() if thing == name), None)
        if slot is not None and len(track.stamps):
            seen = track.slots[:, int(np.flatnonzero(track.ids == slot)[0])]
            every = max(len(seen) // 300, 1)
            axes.plot(seen[::every, 1], seen[::every, 0], ".", color=colour, markersize=4, alpha=0.35)
        axes.plot(*track.things[-1:, n, ::-1].T, "s", color=colour, markersize=9, markeredgecolor="k")
    axes.invert_xaxis()  # y grows to the robot's left: as seen by one who stands behind it
    axes.set(xlabel="y [m]", ylabel="x [m], away from the robot", aspect="equal")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
    return figure


def edge_maps(edges: Sequence[EdgeScore]) -> Figure:
    """Believed edge probabilities beside the true graph: rows are causes, columns effects."""
    causes = list(dict.fromkeys(e.cause for e in edges))
    effects = list(dict.fromkeys(e.effect for e in edges))
    believed = np.full((len(causes), len(effects)), np.nan)
    true = np.full_like(believed, np.nan)
    for e in edges:
        cell = causes.index(e.cause), effects.index(e.effect)
        believed[cell], true[cell] = e.probability, float(e.true)
    figure = Figure(figsize=(2.4 + 0.9 * len(effects), 1.6 + 0.38 * len(causes)), layout="constrained")
    palette = matplotlib.colormaps["Blues"].with_extremes(bad="0.93")
    for index, (title, values) in enumerate(
        (("what the robot believes", believed), ("what is the case", true))
    ):
        axes = figure.add_subplot(1, 2, index + 1)
        axes.imshow(values, vmin=0, vmax=1, cmap=palette, aspect="auto")
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(effects)), effects, rotation=60, ha="right", fontsize=7)
        axes.set_yticks(range(len(causes)), causes if index == 0 else [], fontsize=8)
        if index == 0:
            for row, column in np.argwhere(np.isfinite(values)):
                value = values[row, column]
                colour = "white" if value > 0.6 else "0.3"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    return figure


def active_edges(score: ActiveScore, start: float, *, most: int = 14) -> Figure | None:
    """Which edges act when (blue), and which pairs touch (orange line below); the busiest `most` edges."""
    weight = score.now.sum(axis=0) + 0.1 * score.touching.sum(axis=0)
    shown = [n for n in np.argsort(-weight, kind="stable")[:most] if weight[n] > 0]
    if not shown:
        return None
    figure, axes = _axes(height=0.8 + 0.24 * len(shown))
    times = score.times - start
    edges = np.append(times, times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1.0))
    axes.pcolormesh(edges, np.arange(len(shown) + 1), score.now[:, shown].T, vmin=0, vmax=1, cmap="Blues")
    for row, n in enumerate(shown):
        touching = np.where(score.touching[:, n], row + 0.12, np.nan)
        axes.plot(times, touching, color=COLOURS[1], lw=1.5, marker=".", ms=2)
    axes.set_yticks(np.arange(len(shown)) + 0.5, [f"{a} → {b}" for a, b in (score.edges[n] for n in shown)], fontsize=7)
    axes.set_xlabel("s")
    axes.invert_yaxis()
    return figure


def latency_bars(latency: Mapping[str, Mapping[str, float | None]]) -> Figure:
    """Median and 99th percentile of each stage."""
    figure, axes = _axes(height=2.4)
    names = [n for n, v in latency.items() if v.get("p50") is not None]
    for row, name in enumerate(names):
        p50, p99 = latency[name]["p50"] or 0.0, latency[name]["p99"] or 0.0
        axes.barh(row, p99, color="0.85")
        axes.barh(row, p50, color=COLOURS[0])
        axes.text(p99, row, f" {p50:.1f} / {p99:.1f} ms", va="center", fontsize=8)
    axes.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set(xlabel="ms (dark: half of the time, light: 99 %)")
    return figure


def moved_bars(evaluation: Evaluation) -> Figure:
    """Metres that each thing was moved."""
    names = list(evaluation.moved)
    figure, axes = _axes(height=1.0 + 0.28 * len(names))
    axes.barh(range(len(names)), [evaluation.moved[n] for n in names], color=COLOURS[2])
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="moved [m]")
    return figure
