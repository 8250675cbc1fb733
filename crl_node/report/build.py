"""Builds all files of a report. Every part may fail on its own: it becomes a note, the others are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from crl_node.bags.metadata import write_text
from crl_node.data import Posterior
from crl_node.evaluation.contact import Pushes
from crl_node.evaluation.evaluate import Evaluation, evaluate
from crl_node.evaluation.run import RunData, images, load_run
from crl_node.paths import share
from crl_node.report import animation, graph, plots
from crl_node.report.collect import collect, run_facts
from crl_node.report.page import Picture, page


class ReportError(RuntimeError):
    """There is nothing to report on; the text says where was looked."""


def build(run_dir: Path | str, *, pushes: Pushes | None = None) -> dict[str, Any]:
    """Evaluate the run in `run_dir` and write its report beside it; returns the content of report.json.

    `pushes`: the held-out script for the prediction score, if at hand; else it is simulated in the run's world.
    Raises ReportError when the folder does not exist; whatever else is missing is told in the report's notes.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise ReportError(f"run folder {folder} does not exist; name the folder that `crl sim --out` wrote")
    facts = run_facts(folder)
    run = load_run(folder / "bag")
    evaluation = evaluate(
        run, world=_world(folder, facts), robot=facts.get("robot") or "iiwa_sim", pushes=pushes
    )
    if not facts:
        evaluation.notes.append("run.json is missing or damaged: seed, policy and versions are not known")
    if facts.get("error"):
        evaluation.notes.append(f"the run ended early: {facts['error']}")
    _attempt(evaluation, "model.onnx", lambda: _model(folder, run))
    _attempt(evaluation, "animation.gif", lambda: _animate(folder, run, evaluation))
    report = collect(run, evaluation, facts)
    pictures = _pictures(folder, run, evaluation, report)
    report["notes"] = list(evaluation.notes)
    write_text(folder / "report.json", json.dumps(report, indent=1) + "\n")
    write_text(folder / "report.html", page(report, pictures))
    return report


def _world(folder: Path, facts: dict[str, Any]) -> str | Path | None:
    """The world's file as it was when the run was made, else its name."""
    copy = folder / str(facts.get("world_file") or "world.yaml")
    return copy if copy.is_file() else facts.get("world")


def _attempt(evaluation: Evaluation, what: str, make: Callable[[], Any]) -> Any:
    """`make()`, or None and a note: one part of a report that fails must not take the others along."""
    try:
        return make()
    except Exception as error:
        evaluation.notes.append(f"{what} could not be made: {error or type(error).__name__}")
        return None


def _pictures(
    folder: Path, run: RunData, evaluation: Evaluation, report: dict[str, Any]
) -> dict[str, Picture]:
    makers: dict[str, tuple[str, Callable[[], Figure | None]]] = {
        "gain": (
            "expected information gain over time",
            lambda: plots.information_gain(report["information_gain"]) if run.plans else None,
        ),
        "curve": (
            "prediction of unseen pushes over time",
            lambda: plots.learning_curve(report["contact_r2_at"]) if report["contact_r2_at"] else None,
        ),
        "tracks": (
            "tracks of slots and things from above",
            lambda: (
                plots.table_tracks(evaluation.track, evaluation.mapping, run.truths)
                if evaluation.track is not None
                else None
            ),
        ),
        "edges": (
            "probability of every possible edge beside the true graph",
            lambda: plots.edge_maps(evaluation.graph.edges) if evaluation.graph else None,
        ),
        "graph": ("the causal graph, believed and true", lambda: _graph(folder, evaluation)),
        "active": (
            "which edges act when, and what touches",
            lambda: plots.active_edges(evaluation.active, run.start) if evaluation.active else None,
        ),
        "latency": (
            "latencies by stage",
            lambda: plots.latency_bars(report["latency_ms"]) if run.steps or run.plans else None,
        ),
        "moved": (
            "metres that each thing was moved",
            lambda: plots.moved_bars(evaluation) if evaluation.moved else None,
        ),
    }
    pictures = {}
    for name, (alt, make) in makers.items():
        figure = _attempt(evaluation, f"the picture '{alt}'", make)
        if figure is not None:
            pictures[name] = Picture(plots.png(figure), alt)
    film = folder / "animation.gif"
    if film.is_file():
        pictures["animation"] = Picture(film.read_bytes(), "camera frames with slots and plan", "gif")
    return pictures


def _graph(folder: Path, evaluation: Evaluation) -> Figure | None:
    if evaluation.graph is None:
        return None
    figure = graph.draw(evaluation.graph.edges, evaluation.graph.mechanisms)
    plots.save(figure, folder / "graph.png")
    return figure


def _animate(folder: Path, run: RunData, evaluation: Evaluation) -> None:
    if not run.image_stamps or run.path is None:
        evaluation.notes.append("no camera frame was recorded: there is no animation")
        return
    chosen = {round(run.image_stamps[n], 3) for n in animation.busiest(run.truths, run.image_stamps)}
    animation.write(
        folder / "animation.gif",
        images(run.path, chosen),
        evaluation.world.camera.camera() if evaluation.world is not None else None,
        {round(b.stamp, 3): b for b in run.beliefs},
        {round(p.stamp, 3): p for p in run.plans},
        evaluation.mapping,
        run.start,
        run.goals_at,
    )


def _model(folder: Path, run: RunData) -> None:
    """See to it that model.onnx holds what the run knew at its end, and that its card lies beside it."""
    if not run.posteriors:
        return
    from crl_node.export.card import model_card
    from crl_node.export.onnx_model import ModelError, verify, write_model

    final: Posterior = run.posteriors[-1][1]
    target, card = folder / "model.onnx", folder / "model_card.md"
    try:
        info = verify(target) if target.is_file() else None
    except ModelError:
        info = None
    if info is None or info.posterior_hash != final.hash:
        templates = sorted((share() / "models").glob("plan_*.onnx"))
        if not templates:
            raise FileNotFoundError(f"no plan file lies in {share() / 'models'} to put the model into")
        info = write_model(final, target, target if info is not None else templates[0])
        card.unlink(missing_ok=True)
    if not card.is_file():
        write_text(card, model_card(info, target.stat().st_size))
