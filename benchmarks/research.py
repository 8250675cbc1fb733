"""Four research questions, each measured and drawn: `crl bench research`. docs/research.md says what came out.

1. Is the world a sparse core plus a dense tail? Shares of variance in our worlds, after a curious run without ROS.
2. How many particles before planning stops improving? The same runs with K of the posterior's particles.
3. Iterative or amortised inference: quality against time, from the problems of `crl bench structure`.
4. Point estimate + Laplace or the full posterior: predictions of held-out rows on problems from the prior.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import t as student

from crl_node.arm.profile import load_profile
from crl_node.curiosity.planner import Planner
from crl_node.data import BODY, Posterior
from crl_node.evaluation.contact import Pushes, contact_r2
from crl_node.evaluation.pushes import held_out_pushes
from crl_node.loop import ClosedLoop
from crl_node.metrics import calibration_error, match
from crl_node.paths import share
from crl_node.posterior import sealed
from crl_node.simulator.world import World, load_world
from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.evidence import Problem
from crl_node.structure.exact import ExactPosterior

Say = Callable[[str], None]
PROFILE = "iiwa_sim"
#: Where single runs are kept, so that an interrupted benchmark goes on; None: nowhere.
RUNS: Path | None = None


def thinned(posterior: Posterior, particles: int) -> Posterior:
    """The same posterior with its first `particles` particles repeated: what a planner with so few would see."""
    chosen = np.arange(len(posterior.particle_log_weight)) % particles
    return sealed(
        replace(
            posterior, weight_set_mean=posterior.weight_set_mean[chosen], weight_sample=posterior.weight_sample[chosen]
        )
    )


class ThinnedPlanner(Planner):
    """A planner that only sees some of the particles it is sent."""

    particles = 16

    def swap(self, posterior: Posterior) -> float:
        """See `Planner.swap`."""
        return super().swap(thinned(posterior, self.particles))


def run(
    world: World, seed: int, steps: int, pushes: Pushes, marks: tuple[int, ...], particles: int = 16
) -> dict[str, Any]:
    """One curious run of `steps` control steps from pixels, without ROS; held-out contact R^2 at `marks`."""
    kept = RUNS / f"{world.name}-seed{seed}-{steps}steps-k{particles}.json" if RUNS is not None else None
    if kept is not None and kept.is_file():
        return dict(json.loads(kept.read_text()))
    profile = load_profile(PROFILE)
    model = next(iter(sorted((share() / "models").glob("plan_*.onnx"))))
    planner = ThinnedPlanner(model, seed=seed)
    planner.particles = particles
    curve: dict[str, float | None] = {}
    with ClosedLoop(world, profile, planner, seed=seed) as loop:
        start = np.array([loop.simulator.truth().of(name).position[:2] for name in world.names])
        moved = np.zeros(len(start))
        for step in range(1, steps + 1):
            belief = loop.step().belief
            now = np.array([loop.simulator.truth().of(name).position[:2] for name in world.names])
            moved += np.linalg.norm(now - start, axis=1)
            start = now
            if step in marks:
                distance = np.linalg.norm(belief.mean[1:, None, :2] - now[None], axis=-1)
                pairs = match(distance, limit=0.05)
                mapping = {int(belief.ids[1 + row]): world.names[column] for row, column in pairs.items()}
                curve[str(step)] = contact_r2(loop.model.posterior(), pushes, mapping)
        shares = [value for slot, value in loop.model.shares().items() if slot != BODY]
    found = {
        "world": world.name, "seed": seed, "particles": particles, "contact_r2": curve,
        "things_moved": int((moved > 0.05).sum()), "metres": float(moved.sum()), "shares": shares,
    }  # fmt: skip
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(found))
    return found


def core_and_tail(quick: bool, say: Say, seeds: int = 2) -> dict[str, Any]:
    """Question 1: shares of core, tail and noise of every thing's motion after 20 s in three worlds."""
    rows = []
    for name in ("four_cubes",) if quick else ("four_cubes", "tabletop", "clutter"):
        world = load_world(name)
        pushes = held_out_pushes(world, load_profile(PROFILE), pushes=4 if quick else 30)
        for seed in range(1 if quick else seeds):
            rows.append(run(world, seed, 40 if quick else 200, pushes, ()))
            say(f"core and tail: {name} seed {seed}: {_words(rows[-1]['shares'])}")
    return {"rows": rows}


def _words(shares: list[Any]) -> str:
    mean = np.mean([_means(s) for s in shares], axis=0) if shares else np.zeros(3)
    return "core {:.2f}, tail {:.3f}, noise {:.2f}".format(*mean)


def _means(share: Any) -> list[float]:
    """Core, tail, noise of one thing, with or without intervals."""
    return [float(np.ravel(part)[0]) for part in share]


def particles(quick: bool, say: Say, seeds: int = 4) -> dict[str, Any]:
    """Question 2: held-out contact R^2 and things moved against the number of particles that the planner sees."""
    world = load_world("four_cubes")
    pushes = held_out_pushes(world, load_profile(PROFILE), pushes=4 if quick else 30)
    marks = (20, 40) if quick else (50, 100, 200)
    rows = []
    for seed in range(1 if quick else seeds):
        for count in (1, 16) if quick else (1, 4, 16):
            rows.append(run(world, seed, marks[-1], pushes, marks, count))
            say(f"particles: K = {count}, seed {seed}: {rows[-1]['contact_r2']}, {rows[-1]['metres']:.1f} m")
    return {"marks": list(marks), "rows": rows}


def point(quick: bool, say: Say, seeds: int = 0) -> dict[str, Any]:
    """Question 4: likeliest set with its exact Gaussian/Student weights against the average over all sets.

    Half of each problem's rows are learned from, the others predicted: mean log density, coverage of 90 % intervals,
    and how calibrated inclusion is (a point estimate says 0 or 1).
    """
    config = DrawConfig(columns=10, rows=(12, 200))
    density: dict[str, list[float]] = {"point": [], "full": []}
    covered: dict[str, list[float]] = {"point": [], "full": []}
    by_rows, truth, inclusion, best_sets = [], [], [], []
    for k in range(20 if quick else 300):
        drawn = draw(np.random.default_rng([4, k]), config)
        half = len(drawn.change) // 2
        seen = _problem(drawn.features[:half], drawn.change[:half], drawn.problem)
        exact = ExactPosterior()
        exact.update(seen)
        support = exact.support()
        order = np.argsort(-support.log_probability)[:200]
        weight = np.exp(support.log_probability[order])
        weight /= weight.sum()
        parts = [_predict(seen, np.flatnonzero(support.sets[o]), drawn.features[half:]) for o in order]
        target = drawn.change[half:]
        log_density = np.stack([student.logpdf(target, df, mean, scale) for df, mean, scale in parts])
        below = np.stack([student.cdf(target, df, mean, scale) for df, mean, scale in parts])
        full = np.log(np.maximum(weight @ np.exp(log_density), 1e-300))
        for name, value, level in (("point", log_density[0], below[0]), ("full", full, weight @ below)):
            density[name].append(float(value.mean()))
            covered[name].append(float(((level > 0.05) & (level < 0.95)).mean()))
        by_rows.append(half)
        truth.append(drawn.truth)
        inclusion.append(exact.inclusion())
        best_sets.append(support.sets[order[0]].astype(float))
    label, full_p, point_p = np.stack(truth), np.stack(inclusion), np.stack(best_sets)
    out = {
        "problems": len(by_rows), "rows": by_rows, "log_density": density, "covered": covered,
        "mean_log_density": {name: float(np.mean(v)) for name, v in density.items()},
        "coverage_of_90_percent": {name: float(np.mean(v)) for name, v in covered.items()},
        "inclusion_ece": {"point": calibration_error(label, point_p), "full": calibration_error(label, full_p)},
    }  # fmt: skip
    say(f"point against full: log density {out['mean_log_density']}, coverage {out['coverage_of_90_percent']}")
    return out


def _problem(features: np.ndarray, change: np.ndarray, like: Problem) -> Problem:
    from crl_node.structure.draws import problem_of

    return problem_of(features, change, like.prior_std, DrawConfig(columns=features.shape[1]))


def _predict(problem: Problem, members: np.ndarray, features: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Student t predictive of rows given one set: degrees of freedom, mean [n], scale [n] (Murphy 2012, eq. 7.76)."""
    scale = problem.prior_std[members]
    covariance = np.linalg.inv(problem.precision[np.ix_(members, members)])
    mean = covariance @ problem.linear[members]
    left = problem.rate - 0.5 * float(problem.linear[members] @ mean)
    phi = features[:, members] * scale
    spread = np.sqrt(left / problem.shape * (1.0 + np.einsum("ni,ij,nj->n", phi, covariance, phi)))
    return 2.0 * problem.shape, phi @ mean, spread


def inference(quick: bool, say: Say, seeds: int = 0, structure: dict[str, Any] | None = None) -> dict[str, Any]:
    """Question 3: divergence against processor seconds; `structure` are results of `crl bench structure`."""
    if structure is None or "time" not in structure or "agreement" not in structure:
        say("inference: run `crl bench structure` first; this question is read off its results")
        return {}
    out = {"curves": structure["time"]["curves"], "exact_seconds": structure["time"]["exact_seconds"], "amortised": {}}
    for name in ("amortised", "amortised_raw"):
        entry = structure["agreement"]["engines"].get(name)
        if entry:
            out["amortised"][name] = {"seconds": entry["seconds"]["median"], "jsd": entry["jsd"]}
    return out


def draw_core_and_tail(result: dict[str, Any], path: Path) -> None:
    """A bar of core, tail and noise for every world: mean over things and seeds."""
    worlds = list(dict.fromkeys(row["world"] for row in result["rows"]))
    figure, axis = plt.subplots(figsize=(6, 0.6 * len(worlds) + 1.2))
    for place, world in enumerate(worlds):
        things = [_means(s) for row in result["rows"] if row["world"] == world for s in row["shares"]]
        left = 0.0
        for value, (name, colour) in zip(np.mean(things, axis=0), _PARTS, strict=True):
            axis.barh(place, value, left=left, color=colour, label=name if place == 0 else None)
            left += value
        axis.plot([t[0] for t in things], [place + 0.33] * len(things), "|", color="black", ms=5)
    axis.set(yticks=range(len(worlds)), xlabel="share of the variance of motion (ticks: core of each thing)")
    axis.set_xlim(0, 1)
    axis.set_yticklabels(worlds)
    axis.legend(fontsize=8, loc="lower left")
    _save(figure, path)


def draw_particles(result: dict[str, Any], path: Path) -> None:
    """Contact R^2 against K, one line a mark, single runs as dots."""
    counts = sorted({row["particles"] for row in result["rows"]})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for mark in map(str, result["marks"]):
        values = [[r["contact_r2"][mark] for r in result["rows"] if r["particles"] == k] for k in counts]
        line = axes[0].plot(counts, [np.median(v) for v in values], "o-", ms=4, label=f"after {mark} steps")[0]
        for k, group in zip(counts, values, strict=True):
            axes[0].plot([k] * len(group), group, ".", ms=3, color=line.get_color(), alpha=0.5)
    metres = [[r["metres"] for r in result["rows"] if r["particles"] == k] for k in counts]
    axes[1].plot(counts, [np.median(v) for v in metres], "o-", ms=4)
    for k, group in zip(counts, metres, strict=True):
        axes[1].plot([k] * len(group), group, ".", ms=3, color="0.5")
    axes[0].set(xscale="log", xlabel="particles the planner sees", ylabel="held-out contact R²", xticks=counts)
    axes[1].set(xscale="log", xlabel="particles the planner sees", ylabel="metres pushed", xticks=counts)
    for axis in axes:
        axis.set_xticklabels(counts)
        axis.minorticks_off()
    axes[0].legend(fontsize=8)
    _save(figure, path)


def draw_inference(result: dict[str, Any], path: Path) -> None:
    """Divergence against processor seconds: lines for iterative engines, stars for the network."""
    figure, axis = plt.subplots(figsize=(6.5, 3.6))
    for name, points in result["curves"].items():
        divergence = [max(p["jsd"]["median"], 1e-8) for p in points]
        axis.plot([p["seconds"] for p in points], divergence, "o-", ms=4, label=name)
    for name, entry in result["amortised"].items():
        axis.plot(entry["seconds"], max(entry["jsd"]["median"], 1e-8), "*", ms=13, label=name)
    axis.axvline(result["exact_seconds"], color="0.7", ls="--", label="exact enumeration")
    axis.set(xscale="log", yscale="log", xlabel="processor seconds a problem", ylabel="JSD to exact, median, nats")
    axis.legend(fontsize=8)
    _save(figure, path)


def draw_point(result: dict[str, Any], path: Path) -> None:
    """Gain of averaging over sets against the rows learned from; coverage of 90 % intervals."""
    rows = np.array(result["rows"])
    gain = np.array(result["log_density"]["full"]) - np.array(result["log_density"]["point"])
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    axes[0].plot(rows, gain, ".", ms=4, alpha=0.5)
    edges = np.quantile(rows, np.linspace(0, 1, 7))
    groups = [(rows >= a) & (rows <= b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    axes[0].plot([np.median(rows[g]) for g in groups], [gain[g].mean() for g in groups], "o-", color="black", ms=4)
    axes[0].axhline(0.0, color="0.7")
    axes[0].set(xscale="log", xlabel="rows learned from", ylabel="log density gained a held-out row, nats")
    axes[0].set_ylim(np.quantile(gain, 0.01) - 0.02, np.quantile(gain, 0.99) + 0.02)
    for name, marker in (("point", "s"), ("full", "o")):
        covered = np.array(result["covered"][name])
        means = [covered[g].mean() for g in groups]
        axes[1].plot([np.median(rows[g]) for g in groups], means, f"{marker}-", ms=4, label=name)
    axes[1].axhline(0.9, color="0.7", ls="--")
    axes[1].set(xscale="log", xlabel="rows learned from", ylabel="held-out rows inside 90 % intervals")
    axes[1].legend(fontsize=8)
    _save(figure, path)


_PARTS = (("core", "tab:blue"), ("tail", "tab:orange"), ("noise", "0.75"))


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


#: Question: (measure, draw).
QUESTIONS: dict[str, tuple[Callable[..., dict[str, Any]], Callable[[dict[str, Any], Path], None]]] = {
    "core_and_tail": (core_and_tail, draw_core_and_tail),
    "particles": (particles, draw_particles),
    "inference": (inference, draw_inference),
    "point": (point, draw_point),
}
