"""The simpler policies from true states: what the world model learns from their behaviour, under other settings.

`models` measures the forward model of `disagreement` and `rnd` alone: how well it predicts each step of
recorded pushes before it learns from it.

    python -m benchmarks.baselines policies --only skills,skills-long --seeds 0,1,2 --out baselines.json
    python -m benchmarks.baselines models --out models.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.belief_logs import DT, Log, record_states, world_robot
from crl_node.arm.profile import load_profile
from crl_node.curiosity.disagreement import Disagreement
from crl_node.curiosity.dynamics import Dynamics, DynamicsConfig
from crl_node.curiosity.planner import Planner
from crl_node.curiosity.policies import Policy, Random, Skills
from crl_node.curiosity.rnd import Distillation
from crl_node.curiosity.scene import scene_from
from crl_node.evaluation.contact import Pushes
from crl_node.evaluation.pushes import held_out_pushes
from crl_node.exploration.episode import EpisodeSpec, run_episode
from crl_node.exploration.sweep import planner_for
from crl_node.simulator.world import World, load_world

#: Settings that are compared; the first of each policy is what ships.
POLICIES: dict[str, Callable[[], Policy]] = {
    "skills": Skills,
    "skills-long": lambda: Skills(length=0.12),
    "skills-longer": lambda: Skills(length=0.16),
    "skills-fast": lambda: Skills(speed=0.25),
    "skills-long-fast": lambda: Skills(length=0.12, speed=0.25),
    "skills-pause": lambda: Skills(pause=0.5),
    "random": Random,
    "random-slow": lambda: Random(spread=0.12),
    "random-long": lambda: Random(memory=0.97),
    "random-faster-long": lambda: Random(spread=0.25, memory=0.97),
    "disagreement": Disagreement,
    "disagreement-alone": lambda: Disagreement(proposals=False),
    "disagreement-keen": lambda: Disagreement(worth=3.0),
    "rnd": Distillation,
    "rnd-alone": lambda: Distillation(proposals=False),
    "rnd-keen": lambda: Distillation(worth=3.0),
}
#: Changes to `DynamicsConfig` that are compared.
MODELS: dict[str, dict[str, float]] = {
    "as it ships": {},
    "rate 0.001": {"rate": 1e-3},
    "rate 0.01": {"rate": 1e-2},
    "2 updates": {"updates": 2},
    "10 updates": {"updates": 10},
    "no averaging": {"memory": 0.0},
    "memory 0.99": {"memory": 0.99},
    "events as they come": {"events": 0.0},
    "narrow (24, 8)": {"width": 24, "message": 8},
    "wide (96, 32)": {"width": 96, "message": 32},
    "no decay": {"decay": 0.0},
}


def episode(name: str, world: World, pushes: Pushes, seed: int, steps: int, every: int) -> dict[str, Any]:
    """One policy, one placement, from true states: the curve, its mean, what was moved."""

    def make(policy: str, seed: int) -> Planner:
        return planner_for(world, POLICIES[policy](), seed)

    spec = EpisodeSpec(world.name, seed, name, "truth", steps, every)
    out = run_episode(spec, world, load_profile(world_robot()), pushes, make)
    curves = out["curves"]
    curve = [0.0 if value is None else value for value in curves["contact_r2"]]
    return {
        "policy": name, "world": world.name, "seed": seed, "every": every, "contact_r2": np.round(curve, 4).tolist(),
        "mean_r2": round(float(np.mean(curve)), 4), "moved": curves["things_moved"][-1],
        "metres": round(curves["metres"][-1], 3), "step_ms": round(1e3 * out["processor_seconds"] / steps, 1),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def predicted(logs: list[Log], rims: list[tuple[float, ...]], config: DynamicsConfig) -> dict[str, Any]:
    """R^2 of each step's prediction before it is learned, over slots to which something happened."""
    parts = ((0, 100), (100, 200), (200, 10**9))
    scores, began, steps = [], time.process_time(), 0
    for log, rim in zip(logs, rims, strict=True):
        rng = np.random.default_rng(0)
        dynamics, scenes = Dynamics(config, rng), [scene_from(belief, None) for belief in log.beliefs]
        rows, errors, sizes = dynamics.thing_rows, np.zeros(len(scenes)), np.zeros(len(scenes))
        for k in range(len(scenes) - 1):
            first = rows.count
            dynamics.observe(scenes[k], log.actions[k], scenes[k + 1], np.array(rim), DT)
            new = np.arange(first, rows.count)
            new = new[rows.event[new]]
            if len(new):
                answer = dynamics.things.answer(rows.own[new][None], rows.pair[new][None]).mean(0)
                errors[k], sizes[k] = np.square(answer - rows.answer[new]).sum(), np.square(rows.answer[new]).sum()
            dynamics.train(rng)
        steps += len(scenes)
        scores.append([1.0 - errors[a:b].sum() / max(sizes[a:b].sum(), 1e-12) for a, b in parts])
    return {
        "r2": np.round(np.mean(scores, axis=0), 3).tolist(), "load": round(os.getloadavg()[0], 1),
        "ms": round(1e3 * (time.process_time() - began) / steps, 2),
    }  # fmt: skip


def main() -> None:
    """Measure, print a line for each, keep all in one JSON file; what is in it already is not measured again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("policies", "models"))
    parser.add_argument("--only", default="", help="names, with commas")
    parser.add_argument("--worlds", default="four_cubes")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("baselines.json"))
    given = parser.parse_args()
    seeds, worlds = [int(seed) for seed in given.seeds.split(",")], given.worlds.split(",")
    done: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}

    def keep(key: str, measure: Callable[[], dict[str, Any]]) -> None:
        if key not in done:
            done[key] = measure()
            given.out.write_text(json.dumps(done, indent=1))
        print(key, {k: v for k, v in done[key].items() if k != "contact_r2"}, flush=True)

    if given.what == "models":
        wanted = given.only.split(",") if given.only else list(MODELS)
        made = [load_world(world) for world in worlds]
        logs = [record_states(world, seed, given.steps * DT) for world in made for seed in seeds]
        rims = [(*world.table.x, *world.table.y) for world in made for _ in seeds]
        for name in wanted:
            config = replace(DynamicsConfig(), **MODELS[name])  # type: ignore[arg-type]
            keep(f"{name} {given.worlds} {given.seeds}", lambda config=config: predicted(logs, rims, config))
        return
    for name in given.only.split(",") if given.only else POLICIES:
        for path in worlds:
            world = load_world(path)
            pushes = held_out_pushes(world, load_profile(world_robot()))
            for seed in seeds:
                keep(
                    f"{name} {path} {seed}",
                    lambda name=name, world=world, pushes=pushes, seed=seed: episode(
                        name, world, pushes, seed, given.steps, given.every
                    ),
                )


if __name__ == "__main__":
    main()
