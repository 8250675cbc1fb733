"""One episode: a policy drives the closed loop in lockstep, the world model learns, the truth keeps the score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from crl_node.arm.profile import RobotProfile
from crl_node.bags.messages import Truth
from crl_node.data import Belief, Edge, Posterior
from crl_node.evaluation.contact import Pushes, contact_r2
from crl_node.evaluation.edges import score_graph
from crl_node.evaluation.slots import align, match_slots, path_lengths
from crl_node.exploration.sight import TrueSight
from crl_node.loop import ClosedLoop, Plans
from crl_node.simulator.causality import true_graph
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import World

SIGHTS = ("pixels", "truth")
#: m, a thing whose path is longer was moved.
MOVED = 0.05
#: m, the arm spends its time on a thing when the gap between the two is smaller.
NEAR = 0.03


@dataclass(frozen=True)
class EpisodeSpec:
    """Which episode. Equal specs give equal results."""

    world: str  # name or file
    seed: int  # of placement, model and policy
    policy: str
    sight: str = "pixels"
    steps: int = 400  # control steps
    every: int = 10  # steps between two points of the curves
    model: str = ""  # plan file: a path or a name in models/; "": the default

    def __post_init__(self) -> None:
        if self.sight not in SIGHTS:
            raise ValueError(f"sight is '{self.sight}', it must be one of {', '.join(SIGHTS)}")
        if min(self.steps, self.every) < 1:
            raise ValueError(f"steps {self.steps} and every {self.every} must be at least 1")

    @property
    def name(self) -> str:
        """File name of the result, without its ending."""
        world = self.world.replace("/", "_").replace(":", "-").removesuffix(".yaml")
        graph = f"-{Path(self.model).stem}" if self.model else ""
        return f"{world}-{self.sight}-{self.policy}{graph}-{self.steps}x{self.every}-seed{self.seed}"


class MakesPlans(Protocol):
    """Makes the planner of an episode."""

    def __call__(self, policy: str, seed: int) -> Plans:
        """A planner that has seen nothing yet."""
        ...


@dataclass(frozen=True)
class _Point:
    step: int
    posterior: Posterior
    edges: tuple[Edge, ...]


def as_truth(simulator: Simulator) -> Truth:
    """What is the case now, in the form in which bags hold it."""
    truth = simulator.truth()
    return Truth(
        stamp=truth.time, tip=truth.tip[:2], names=tuple(thing.name for thing in truth.objects),
        positions=truth.positions, velocities=np.array([t.velocity[:2] for t in truth.objects]).reshape(-1, 2),
        brightness=np.array([t.brightness for t in truth.objects]),
        contacts=tuple(thing.contacts for thing in truth.objects), changes=truth.changes,
    )  # fmt: skip


def run_episode(
    spec: EpisodeSpec, world: World, profile: RobotProfile, pushes: Pushes, make: MakesPlans,
    on_step: Callable[[int], None] = lambda step: None,
) -> dict[str, Any]:  # fmt: skip
    """Run it and score it; what comes back is plain data for JSON. `pushes`: the held-out script of this world.

    The truth is read beside the loop, after each step, and used when the episode is over.
    """

    planner = make(spec.policy, spec.seed)
    began = time.process_time()
    truths: list[Truth] = []
    beliefs: list[Belief] = []
    points: list[_Point] = []
    labels: Counter[str] = Counter()
    gains: list[list[float]] = []
    milliseconds: Counter[str] = Counter()
    sight = TrueSight if spec.sight == "truth" else None
    with ClosedLoop(world, profile, planner, seed=spec.seed, sight=sight) as loop:
        for step in range(1, spec.steps + 1):
            truths.append(as_truth(loop.simulator))
            done = loop.step()
            beliefs.append(done.belief)
            gain = done.plan.chosen.gain
            gains.append([gain.structure, gain.parameters, gain.states])
            labels[done.plan.chosen.label.split(" slot")[0]] += 1
            milliseconds.update(done.milliseconds)
            if step % spec.every == 0 or step == spec.steps:
                points.append(_Point(step, loop.model.posterior(), loop.model.graph()))
            on_step(step)
        truths.append(as_truth(loop.simulator))
    result = {
        "spec": asdict(spec), "labels": dict(labels.most_common()),
        "processor_seconds": round(time.process_time() - began, 2),
        "milliseconds": {part: round(total / spec.steps, 3) for part, total in milliseconds.items()},
        "gain": np.round(gains, 4).tolist(),
    }  # fmt: skip
    return result | _scores(world, profile, pushes, truths, beliefs, points)


def _scores(
    world: World, profile: RobotProfile, pushes: Pushes, truths: list[Truth], beliefs: list[Belief],
    points: list[_Point],
) -> dict[str, Any]:  # fmt: skip
    """Curves and totals. Slots are matched to things once, over the whole episode."""
    mapping = match_slots(align(beliefs, truths))
    graph = true_graph(world, profile)
    curves: dict[str, list[Any]] = {
        name: [] for name in ("step", "contact_r2", "edge_auroc", "things_moved", "metres", "found")
    }
    for point in points:
        scored = score_graph(point.edges, graph.edges, graph.mechanisms, mapping)
        paths = path_lengths(truths[: point.step + 1])
        curves["step"].append(point.step)
        curves["contact_r2"].append(contact_r2(point.posterior, pushes, mapping))
        curves["edge_auroc"].append(scored.auroc)
        curves["things_moved"].append(sum(way > MOVED for way in paths.values()))
        curves["metres"].append(round(sum(paths.values()), 4))
        curves["found"].append([mechanism.found for mechanism in scored.mechanisms])
    positions = np.array([truth.positions for truth in truths])
    tips = np.array([truth.tip for truth in truths])
    reach = np.array([thing.extent for thing in world.things]) + profile.tool_radius + NEAR
    near = np.linalg.norm(positions - tips[:, None], axis=2) < reach
    touched = [{name for name, met in zip(t.names, t.contacts, strict=True) if "body" in met} for t in truths]
    first = {name: next((k for k, names in enumerate(touched) if name in names), None) for name in world.names}
    return {
        "curves": curves, "mechanisms": [[m[0], m[1], m[2]] for m in graph.mechanisms],
        "things": list(world.names), "matched": sorted(mapping.values()),
        "time_near": {name: round(float(near[:, n].mean()), 4) for n, name in enumerate(world.names)},
        "first_touched": first,
    }  # fmt: skip
