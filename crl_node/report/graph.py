"""The causal graph drawn: what the robot believes beside what is the case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from crl_node.evaluation.edges import EdgeScore, MechanismScore

#: Edges less probable than this are not drawn.
SHOWN = 0.1
_BOX = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": "0.4"}
#: How an edge's main mechanism is coloured.
STYLES = {"SPRING": "#D55E00", "LIT_BY": "#E69F00", "TOGGLE_BY": "#E69F00"}


def draw(edges: Sequence[EdgeScore], mechanisms: Sequence[MechanismScore]) -> Figure:
    """Two panels of nodes on a circle: arrows as wide as they are probable, true ones, missed and wrong ones."""
    figure = Figure(figsize=(13, 6.6), layout="constrained")
    special = {(m.cause, m.effect): m.kind for m in mechanisms}
    names = list(dict.fromkeys([e.cause for e in edges] + [e.effect.rsplit(".", 1)[0] for e in edges]))
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    left.set_title("what the robot believes (numbers: probability)")
    right.set_title("what is the case")
    for axes in (left, right):
        nodes(axes, names)
    places = spots(names)
    for edge in edges:
        kind = special.get((edge.cause, edge.effect))
        owner, variable = edge.effect.rsplit(".", 1)
        if edge.true:
            arrow(
                right,
                places[edge.cause],
                places[owner],
                1.0,
                STYLES.get(kind or "", "0.25"),
                variable,
                _words(kind),
            )
        if edge.probability >= SHOWN:
            colour = STYLES.get(kind or "", "#0072B2") if edge.true else "#CC0033"
            # Collisions are many and alike: their width says enough.
            telling = kind is not None or not edge.true or edge.cause in ("action", "body") or owner == "body"
            label = f"{edge.probability:.2f}" + (f" {_words(kind)}" if kind else "") if telling else ""
            arrow(left, places[edge.cause], places[owner], edge.probability, colour, variable, label)
    left.text(
        0.0, -1.42,
        "blue: right   red: there is no such edge   orange: spring or lamp   dashed: acts on brightness",
        ha="center", fontsize=8, color="0.3",
    )  # fmt: skip
    return figure


def _words(kind: str | None) -> str:
    return (kind or "").lower().replace("_", " ")


def spots(names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Nodes on a circle, the first on top."""
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(names)) / max(len(names), 1)
    return {n: (float(np.cos(a)), float(np.sin(a))) for n, a in zip(names, angles, strict=True)}


def nodes(axes: Any, names: Sequence[str]) -> None:
    """Boxes with the names, on the circle."""
    for name, (x, y) in spots(names).items():
        label = {"body": "pusher", "action": "motor command"}.get(name, name.replace("_", " "))
        axes.text(1.08 * x, 1.08 * y, label, ha="center", va="center", bbox=_BOX, zorder=5, fontsize=9)
    axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.3), aspect="equal")
    axes.axis("off")


def arrow(
    axes: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    weight: float,
    colour: str,
    variable: str,
    label: str,
) -> None:
    """An arrow as wide as `weight` [0..1], dashed for brightness, with a label where it bulges."""
    dashed = variable == "brightness"
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle="arc3,rad=0.14",
            arrowstyle="-|>",
            mutation_scale=11,
            shrinkA=20,
            shrinkB=20,
            linewidth=0.4 + 2.0 * weight,
            alpha=0.25 + 0.7 * weight,
            color=colour,
            linestyle="--" if dashed else "-",
            zorder=2,
        )
    )
    if label:
        # Where the arc bulges, so that the two directions of a pair keep their numbers apart.
        middle = 0.5 * (np.array(start) + end)
        along = np.array(end) - start
        at = middle + 0.1 * np.array([along[1], -along[0]]) - 0.12 * along
        axes.text(*at, label, fontsize=6.5, color=colour, ha="center", va="center", zorder=4)
