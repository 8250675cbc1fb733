"""A discovery drawn: the matrix of probabilities, the likely graph, and what core, tail and noise explain."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from crl_node.discovery.result import Discovery
from crl_node.report.graph import arrow, nodes, spots

#: Edges less probable than this are not drawn as arrows.
SHOWN = 0.5
#: Variables up to which a graph on a circle can be read.
MOST_NODES = 24
_PARTS = (("core", "#0072B2"), ("tail", "#E69F00"), ("noise", "0.75"))


def draw(found: Discovery) -> Figure:
    """Three panels; of a graph with more than MOST_NODES variables the circle is left out."""
    circle = len(found.names) <= MOST_NODES
    figure = Figure(figsize=(17 if circle else 11, 5.6), layout="constrained")
    panels = figure.subplots(1, 3 if circle else 2, width_ratios=(1.15, 1.1, 0.8) if circle else (1.2, 0.8))
    _matrix(panels[0], found)
    if circle:
        axes = panels[1]
        axes.set_title(f"edges with probability of {SHOWN:g} or more")
        nodes(axes, found.names)
        places = spots(found.names)
        for i, j in zip(*np.nonzero(found.inclusion >= SHOWN), strict=True):
            cause, effect, p = found.names[j], found.states[i], float(found.inclusion[i, j])
            if cause != effect:
                arrow(axes, places[cause], places[effect], p, "#0072B2", "", f"{p:.2f}" if p < 0.995 else "")
    _shares(panels[-1], found)
    return figure


def _matrix(axes, found: Discovery) -> None:  # type: ignore[no-untyped-def]
    image = axes.imshow(found.inclusion, vmin=0.0, vmax=1.0, cmap="Blues", aspect="auto")
    axes.set(
        title="probability that the column drives the row", xlabel="cause", ylabel="effect",
        xticks=range(len(found.names)), yticks=range(len(found.states)),
    )  # fmt: skip
    axes.set_xticklabels(found.names, rotation=90 if len(found.names) > 8 else 0)
    axes.set_yticklabels(found.states)
    if found.inclusion.size <= 200:
        for (i, j), p in np.ndenumerate(found.inclusion):
            axes.text(j, i, f"{p:.2f}", ha="center", va="center", fontsize=7, color="white" if p > 0.6 else "0.2")
    axes.figure.colorbar(image, ax=axes, shrink=0.8)


def _shares(axes, found: Discovery) -> None:  # type: ignore[no-untyped-def]
    left = np.zeros(len(found.states))
    rows = np.arange(len(found.states))
    for k, (part, colour) in enumerate(_PARTS):
        mean, low, high = found.shares[:, k].T
        axes.barh(rows, mean, left=left, color=colour, label=part)
        if part != "noise":
            error = np.abs(np.stack([mean - low, high - mean]))
            axes.errorbar(left + mean, rows, xerr=error, fmt="none", ecolor="0.2", capsize=2, linewidth=0.8)
        left = left + mean
    axes.set(title="what explains the change (5-95 %)", xlabel="share of variance", yticks=rows, xlim=(0.0, 1.0))
    axes.set_yticklabels(found.states)
    axes.invert_yaxis()
    axes.legend(loc="lower right", fontsize=8)
