"""The whole evaluation of one run: what it knew, against what is the case."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crl_node.data import Posterior
from crl_node.evaluation.active import ActiveScore, score_active
from crl_node.evaluation.contact import Pushes, contact_r2, predict, score_prediction
from crl_node.evaluation.edges import GraphScore, score_graph
from crl_node.evaluation.run import RunData
from crl_node.evaluation.slots import (
    SlotScore,
    Track,
    align,
    match_slots,
    path_lengths,
    score_slots,
    spurious,
)
from crl_node.evaluation.timing import Ticks, count_ticks, latencies

if TYPE_CHECKING:
    from crl_node.simulator.world import World

#: s between two points of the learning curve; 60 s is always among them when the run lasts that long.
CURVE_STEP = 15.0


@dataclass
class Evaluation:
    """What `evaluate` found. What could not be evaluated is None or empty, and `notes` says why."""

    slots: tuple[SlotScore, ...] = ()
    mapping: dict[int, str] = field(default_factory=dict)  # {slot id: thing}
    spurious: list[int] = field(default_factory=list)  # slots that stand for no thing
    track: Track | None = None
    graph: GraphScore | None = None
    active: ActiveScore | None = None  # the graph now against true contacts
    changes: tuple[str, ...] = ()  # of the world, as they took place
    contact_r2: float | None = None
    contact_r2_at: dict[float, float] = field(default_factory=dict)  # {s since start: R^2}
    contact_r2_things: dict[str, float] = field(default_factory=dict)  # at the end
    ticks: Ticks | None = None
    latency_ms: dict[str, dict[str, float | None]] = field(default_factory=dict)
    moved: dict[str, float] = field(default_factory=dict)  # m
    world: World | None = None
    notes: list[str] = field(default_factory=list)


def evaluate(
    run: RunData, *, world: str | Path | None, robot: str | Path = "iiwa_sim", pushes: Pushes | None = None
) -> Evaluation:
    """Evaluate a loaded run. `pushes`: the held-out script if it is at hand; else it is simulated now."""
    result = Evaluation(notes=list(run.notes))
    result.ticks, result.latency_ms = count_ticks(run), latencies(run)
    result.moved = path_lengths(run.truths)
    if not run.truths:
        result.notes.append("no ground truth was recorded: slots, edges and mechanisms are not scored")
    elif not run.beliefs:
        result.notes.append("no belief was recorded: there are no slots to score")
    else:
        track = align(run.beliefs, run.truths)
        if track.stamps.size == 0:
            result.notes.append("no belief has the stamp of a ground truth: slots are not scored")
        else:
            result.track = track
            result.mapping = match_slots(track)
            result.slots = score_slots(track, run.truths, run.start)
            result.spurious = spurious(track, result.mapping)
            result.active = score_active(run.graphs, run.truths, result.mapping)
        result.changes = run.truths[-1].changes
    profile = _world_and_robot(result, world, robot)
    if result.world is None or profile is None:
        return result
    _score_graph(result, run, profile)
    _score_contacts(result, run, profile, pushes)
    return result


def _world_and_robot(result: Evaluation, world: str | Path | None, robot: str | Path) -> Any | None:
    if world is None:
        result.notes.append("which world it was is not known (no run.json): the graph is not scored")
        return None
    try:
        from crl_node.arm.profile import load_profile
        from crl_node.simulator.world import load_world

        result.world = load_world(world)
        return load_profile(robot)
    except (ImportError, OSError, ValueError) as error:
        result.notes.append(f"world or robot cannot be loaded, the graph is not scored: {error}")
        return None


def _score_graph(result: Evaluation, run: RunData, profile: Any) -> None:
    from crl_node.simulator.causality import true_graph
    from crl_node.simulator.changes import world_at

    assert result.world is not None
    if not run.graphs:
        result.notes.append("no causal graph was recorded: edges are not scored")
        return
    truth = true_graph(world_at(result.world, run.end), profile)
    result.graph = score_graph(run.graphs[-1][1], truth.edges, truth.mechanisms, result.mapping)


def _score_contacts(result: Evaluation, run: RunData, profile: Any, pushes: Pushes | None) -> None:
    if not run.posteriors:
        result.notes.append("no posterior was recorded: predictions are not scored")
        return
    if not result.mapping:
        result.notes.append("no slot stands for a thing: predictions are not scored")
        return
    if pushes is None:
        from crl_node.evaluation.pushes import held_out_pushes

        assert result.world is not None
        try:
            pushes = held_out_pushes(result.world, profile)
        except (ImportError, RuntimeError, ValueError) as error:
            result.notes.append(
                f"the held-out pushes could not be simulated, predictions are not scored: {error}"
            )
            return
    final: Posterior = run.posteriors[-1][1]
    predicted = predict(final, pushes, result.mapping)
    result.contact_r2, result.contact_r2_things = score_prediction(predicted, pushes)
    for elapsed in curve_times(run.end - run.start):
        posterior = run.posterior_at(elapsed)
        if posterior is not None:
            known = posterior is final
            score = result.contact_r2 if known else contact_r2(posterior, pushes, result.mapping)
            if score is not None:
                result.contact_r2_at[elapsed] = score


def curve_times(duration: float) -> list[float]:
    """Instants of the learning curve, s since the start: every 15 s (finer in short runs), and the end."""
    step = CURVE_STEP if duration >= 2 * CURVE_STEP else max(duration / 4, 0.1)
    times = [float(round(t, 3)) for t in np.arange(step, duration + 1e-6, step)]
    if not times or duration - times[-1] > 0.5:
        times.append(round(duration, 3))
    return times
