"""How well goals are followed: a random thing to a random place after a little learning, from pixels.

    python -m benchmarks.goals [--world four_cubes] [--seeds 0-5] [--learn 100] [--steps 200] [--out FILE]

Each seed is run twice, with the goal and without it: curiosity alone moves things too.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.arm.profile import load_profile
from crl_node.curiosity.assembly import default_model
from crl_node.curiosity.goals import REACHED
from crl_node.curiosity.planner import Planner, PlannerConfig
from crl_node.data import Array
from crl_node.loop import ClosedLoop
from crl_node.simulator.world import World, load_world

#: Room between the place and where anything else stands, and the least way there, m.
CLEAR, LEAST = 0.09, 0.08


def choose(world: World, positions: Array, rng: np.random.Generator) -> tuple[int, tuple[float, float]]:
    """A movable thing (row of `positions` [N, 2] m) and a place for it, clear of all others."""
    movable = [i for i, thing in enumerate(world.things) if thing.movable]
    x_min, x_max, y_min, y_max = world.room
    while True:
        thing = int(rng.choice(movable))
        place = rng.uniform([x_min, y_min], [x_max, y_max])
        away = np.linalg.norm(positions - place, axis=1)
        if away[thing] > LEAST and (np.delete(away, thing) > CLEAR).all():
            return thing, (float(place[0]), float(place[1]))


def course(world: World, seed: int, learn: int, steps: int, *, follow: bool) -> dict[str, Any]:
    """One run; distances in m, true ones."""
    profile = load_profile("iiwa_sim")
    table = (*world.table.x, *world.table.y)
    planner = Planner(default_model(), "curious", seed, PlannerConfig(table=table))
    began = time.process_time()
    with ClosedLoop(world, profile, planner, seed=seed) as loop:
        step = loop.step()
        for _ in range(learn - 1):
            step = loop.step()
        positions = loop.simulator.truth().positions
        thing, place = choose(world, positions, np.random.default_rng([seed, 0x676F616C]))
        away = np.linalg.norm(step.belief.mean[1:, :2] - positions[thing], axis=1)
        slot = int(step.belief.ids[1:][np.argmin(away)])
        if follow:
            planner.set_goal({slot: place})
        path = [math.dist(positions[thing], place)]
        for _ in range(steps):
            loop.step()
            path.append(math.dist(loop.simulator.truth().positions[thing], place))
    first = next((k for k, distance in enumerate(path) if distance < REACHED), None)
    return {
        "seed": seed, "goal": follow, "thing": world.names[thing], "place": [round(v, 4) for v in place],
        "start": path[0], "nearest": min(path), "end": path[-1], "steps_to_2_cm": first,
        "cpu_s": time.process_time() - began,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="four_cubes")
    parser.add_argument("--seeds", default="0-5", help="from-to, both included")
    parser.add_argument("--learn", type=int, default=100, help="steps of curiosity before the goal")
    parser.add_argument("--steps", type=int, default=200, help="steps with the goal")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    low, high = (int(part) for part in (given.seeds.split("-") * 2)[:2])
    world, rows = load_world(given.world), []
    for seed in range(low, high + 1):
        for follow in (True, False):
            rows.append(course(world, seed, given.learn, given.steps, follow=follow))
            row = rows[-1]
            print(
                f"seed {seed} {'goal' if follow else 'none'} {row['thing']}: {100 * row['start']:.1f} cm -> "
                f"{100 * row['end']:.1f} cm, 2 cm after {row['steps_to_2_cm']} steps, {row['cpu_s']:.0f} s cpu",
                flush=True,
            )
    for follow in (True, False):
        mine = [row for row in rows if row["goal"] is follow]
        near = sum(row["end"] < 0.04 for row in mine)
        there = [row["steps_to_2_cm"] for row in mine if row["steps_to_2_cm"] is not None]
        median = f" (median after {np.median(there):g} steps)" if there else ""
        print(
            f"{'with the goal' if follow else 'without'}: {near} of {len(mine)} within 4 cm at the end, {len(there)} "
            f"were within 2 cm{median}"
        )
    if given.out:
        content = {"world": world.name, "learn": given.learn, "load_average": os.getloadavg()[0], "rows": rows}
        given.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
