"""Many episodes, each a file of its own, so that an interrupted sweep goes on where it stopped."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from crl_node.arm.profile import RobotProfile, load_profile
from crl_node.curiosity.assembly import shipped_model
from crl_node.curiosity.planner import Planner, PlannerConfig
from crl_node.curiosity.policies import Policy, make_policy
from crl_node.evaluation.contact import Pushes
from crl_node.evaluation.pushes import held_out_pushes
from crl_node.exploration.episode import EpisodeSpec, run_episode
from crl_node.export.onnx_model import write_atomically
from crl_node.loop import Plans
from crl_node.simulator.world import World, load_world

PROFILE = "iiwa_sim"


def specs(
    worlds: list[str], seeds: list[int], policies: list[str], sight: str, steps: int, every: int = 5, model: str = ""
) -> list[EpisodeSpec]:
    """All combinations, seeds outermost so that an interrupted sweep has whole pairs."""
    return [
        EpisodeSpec(world, seed, policy, sight, steps, every, model)
        for seed, world, policy in product(seeds, worlds, policies)
    ]


@cache
def _world(name: str) -> tuple[World, RobotProfile, Pushes]:
    world, profile = load_world(name), load_profile(PROFILE)
    return world, profile, held_out_pushes(world, profile)


def episode(spec: EpisodeSpec) -> dict[str, Any]:
    """One episode with default settings."""
    world, profile, pushes = _world(spec.world)

    def make(policy: str, seed: int) -> Plans:
        return planner_for(world, policy, seed, spec.model)

    return run_episode(spec, world, profile, pushes, make)


def planner_for(world: World, policy: str | Policy, seed: int, model: str = "") -> Planner:
    """A planner with the plan file `model` ("": the default) in `world`; `policy` by name, or with other settings.

    What is not refined in the graph is not valued by it either: gains NaN.
    """
    x, y, z = world.camera.eye
    config = PlannerConfig(table=(*world.table.x, *world.table.y), camera=(x, y, z))
    chosen = make_policy(policy) if isinstance(policy, str) else policy
    return Planner(shipped_model(model), chosen, seed, config, provider="cpu", evaluate=chosen.refine)


def run_all(todo: list[EpisodeSpec], folder: Path, jobs: int = 1) -> Iterator[tuple[EpisodeSpec, dict[str, Any]]]:
    """Each episode as it is done: read from `folder` when it is there, else run and written there."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = []
    for spec in todo:
        path = folder / f"{spec.name}.json"
        if path.is_file():
            yield spec, json.loads(path.read_text())
        else:
            missing.append(spec)
    context = multiprocessing.get_context("spawn")  # PyBullet and ONNX Runtime do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(episode, spec): spec for spec in missing}
        for future in as_completed(futures):
            spec, found = futures[future], future.result()
            write_atomically(json.dumps(found).encode(), folder / f"{spec.name}.json")
            yield spec, found
