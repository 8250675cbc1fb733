"""Do found contact radii help? Recorded runs learned again with and without induction.

    python -m benchmarks.induction FOLDER SECONDS WORLD:SEED…

Runs are recorded into FOLDER first (camera, `belief_logs.record`: random pushes) unless they are there. Prints held-out
contact R^2, edge AUROC, processor time of learning a step, and the lengths that were found.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from benchmarks.belief_logs import Log, get, world_robot
from crl_node.arm.profile import load_profile
from crl_node.evaluation.contact import Pushes, contact_r2
from crl_node.evaluation.edges import score_graph
from crl_node.evaluation.pushes import held_out_pushes
from crl_node.simulator.causality import true_graph
from crl_node.simulator.world import load_world
from crl_node.world_model import ModelConfig, WorldModel


def mapping_of(log: Log) -> dict[int, str]:
    """Slot identity -> thing, by mean distance over the run."""
    ids = sorted({int(i) for belief in log.beliefs for i in belief.ids} - {0})
    far = np.full((len(ids), len(log.names)), 1.0)
    for n, slot in enumerate(ids):
        at = [(t, b.mean[np.flatnonzero(b.ids == slot)[0], :2]) for t, b in enumerate(log.beliefs) if slot in b.ids]
        steps = np.array([t for t, _ in at])
        distance = np.linalg.norm(np.array([p for _, p in at])[:, None] - log.positions[steps], axis=-1)
        far[n] = distance.mean(axis=0)
    rows, columns = linear_sum_assignment(far)
    return {ids[r]: log.names[c] for r, c in zip(rows, columns, strict=True) if far[r, c] < 0.05}


def learn(log: Log, wall: tuple[float, float, float, float], induce: bool) -> tuple[WorldModel, float, list[str]]:
    """The model after the whole log, processor time a step in ms, and what it says it found."""
    model, notes = WorldModel(ModelConfig(wall=wall, induce=induce), seed=0), []
    began = time.process_time()
    for belief, action in log.transitions():
        model.observe(belief, action)
        note = model.refresh()
        notes += [note] * bool(note)
    spent = time.process_time() - began
    for _ in range(2):
        model.refresh_all()
    return model, 1e3 * spent / len(log.beliefs), notes


def main(folder: Path, seconds: float, runs: list[str]) -> None:
    """Print one line a run."""
    profile, scripts = load_profile(world_robot()), dict[str, Pushes]()
    for run in runs:
        name, seed = run.split(":")
        world = load_world(name)
        log = get(name, int(seed), seconds, folder)
        if name not in scripts:
            scripts[name] = held_out_pushes(world, profile)
        mapping, truth = mapping_of(log), true_graph(world, profile)
        wall = (*world.table.x, *world.table.y)
        for induce in (False, True):
            model, spent, notes = learn(log, wall, induce)
            r2 = contact_r2(model.posterior(), scripts[name], mapping)
            graph = score_graph(model.graph(), truth.edges, truth.mechanisms, mapping)
            found = model.induction
            kept = "" if found is None else f", {found.reservoir.size} kept, {int((found.length > 0).sum())} replaced"
            score = "none" if r2 is None else f"{r2:.3f}"
            print(f"{run} induce={induce}: contact R2 {score}, edge AUROC {graph.auroc:.3f}, {spent:.2f} ms{kept}")
            for note in notes:
                print(f"    {note}")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
