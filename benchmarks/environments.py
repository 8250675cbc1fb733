"""Environments: calibration of P(invariant), changes of simulated worlds by name, and PC on the same data.

Used by `crl bench environments`. Everything follows from seeds; `worlds` learns from recorded logs (`belief_logs.py`).
"""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from crl_node.data import Array
from crl_node.metrics import auroc, calibration_error
from crl_node.structure.engine import OneVariable
from crl_node.structure.environments import InvarianceConfig, invariance
from crl_node.structure.evidence import make_conjugate_problem
from crl_node.structure.greedy import GreedyPosterior


def sums(data: list[tuple[Array, Array]]) -> tuple[Array, Array, Array, Array]:
    """gram [E, F, F], cross [E, F], square [E], rows [E] of (features, changes) by environment."""
    return (
        np.array([x.T @ x for x, _ in data]), np.array([x.T @ y for x, y in data]),
        np.array([y @ y for _, y in data]), np.array([float(len(y)) for _, y in data]),
    )  # fmt: skip


def calibration(seeds: list[int], *, problems: int = 70, columns: int = 6, rate: float = 0.2) -> dict[str, Any]:
    """Problems drawn from the prior of `invariance`, correlated features, two environments: ECE, AUROC, time."""
    said: list[Array] = []
    true: list[Array] = []
    began = time.perf_counter()
    for seed in seeds:
        rng = np.random.default_rng([7, seed])
        for _ in range(problems):
            noise = float(np.sqrt(1.0 / rng.gamma(2.0)))
            std = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
            weights = np.where(rng.random(columns) < 0.3, std * noise * rng.standard_normal(columns), 0.0)
            changed = rng.random(columns) < rate
            other = weights + np.where(changed, std * noise * rng.standard_normal(columns), 0.0)
            mix = np.eye(columns) + 0.4 * rng.standard_normal((columns, columns))
            data = []
            for w in (weights, other):
                x = rng.standard_normal((int(np.exp(rng.uniform(np.log(10), np.log(300)))), columns)) @ mix
                data.append((x, x @ w + noise * rng.standard_normal(len(x))))
            found = invariance(
                *sums(data), prior_std=np.full(columns, std), log_prior_odds=np.full(columns, logit(0.3)), shape=2.0,
                rate=1.0, config=InvarianceConfig(change_rate=rate, noise_change_rate=1e-9),
            )  # fmt: skip
            said.append(found.invariant)
            true.append(~changed)
    p, truth = np.concatenate(said), np.concatenate(true)
    return {
        "engine": "greedy", "problems": problems * len(seeds), "mechanisms": len(p),
        "calibration_error": calibration_error(truth, p), "auroc": auroc(truth, p),
        "ms_per_problem": 1e3 * (time.perf_counter() - began) / (problems * len(seeds)),
    }  # fmt: skip


def series(rng: np.random.Generator, variables: int, steps: int) -> tuple[Array, Array]:
    """A stable linear system with 20 % of all lagged edges: states [T, D] and the true edges [D, D] (effect, cause)."""
    edges = rng.random((variables, variables)) < 0.2
    np.fill_diagonal(edges, True)
    weight = np.where(edges, rng.uniform(0.2, 0.6, edges.shape) * rng.choice([-1, 1], edges.shape), 0.0)
    weight *= 0.9 / max(float(np.abs(np.linalg.eigvals(weight)).max()), 0.9)
    state = np.zeros((steps, variables))
    for t in range(1, steps):
        state[t] = weight @ state[t - 1] + rng.standard_normal(variables)
    return state, edges


def pc_edges(now: Array, later: Array, *, alpha: float = 0.01) -> np.ndarray | None:
    """[N', N] edges from columns of `now` [T, N] to those of `later` [T, N'] by PC (Fisher z).

    None when causal-learn is not installed.
    """
    if importlib.util.find_spec("causallearn") is None:
        return None
    from causallearn.graph.GraphNode import GraphNode
    from causallearn.search.ConstraintBased.PC import pc
    from causallearn.utils.PCUtils.BackgroundKnowledge import BackgroundKnowledge

    data = np.hstack([now, later])
    knowledge = BackgroundKnowledge()
    for k in range(data.shape[1]):
        knowledge.add_node_to_tier(GraphNode(f"X{k + 1}"), int(k >= now.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pc(data, alpha, "fisherz", True, background_knowledge=knowledge, show_progress=False)
    graph = found.G.graph  # graph[j, i] = 1 and graph[i, j] = -1: i -> j
    first = now.shape[1]
    return np.asarray((graph[first:, :first] == 1) & (graph[:first, first:] == -1).T)


def our_edges(now: Array, later: Array) -> Array:
    """[N', N] inclusion probabilities of a linear term of each column of `now` in each of `later`."""
    scale = np.maximum(now.std(axis=0), 1e-9)
    x = (now - now.mean(axis=0)) / scale
    size = x.shape[1]
    out = np.zeros((later.shape[1], size))
    for i in range(later.shape[1]):
        y = (later[:, i] - later[:, i].mean()) / max(float(later[:, i].std()), 1e-9)
        engine: OneVariable = GreedyPosterior()
        engine.update(
            make_conjugate_problem(
                x.T @ x, x.T @ y, float(y @ y), float(len(y)), prior_mean=np.zeros(size), prior_std=np.ones(size),
                group=np.arange(size, dtype=np.int32), log_prior_odds=np.full(size, logit(0.2)), rate=0.5,
            )  # fmt: skip
        )
        out[i] = engine.inclusion()
    return out


def scores(truth: np.ndarray, probability: Array) -> dict[str, float | None]:
    """AUROC, and precision and recall at 0.5."""
    acts = probability >= 0.5
    return {
        "auroc": auroc(truth.ravel(), np.asarray(probability, float).ravel()),
        "precision": float(truth[acts].mean()) if acts.any() else None,
        "recall": float(acts[truth].mean()) if truth.any() else None,
    }


def against_pc(seeds: list[int], *, variables: int = 8, steps: int = 500) -> dict[str, Any]:
    """Edges of linear time series by PC and by the posterior, on the same arrays."""
    rows = []
    for seed in seeds:
        state, truth = series(np.random.default_rng([11, seed]), variables, steps)
        began = time.perf_counter()
        ours = scores(truth, our_edges(state[:-1], state[1:]))
        between = time.perf_counter()
        found = pc_edges(state[:-1], state[1:])
        rows.append(
            {
                "seed": seed, "ours": ours, "ours_s": between - began,
                "pc": None if found is None else scores(truth, found), "pc_s": time.perf_counter() - between,
            }
        )  # fmt: skip
    missing = any(row["pc"] is None for row in rows)
    note = "PC left out: causal-learn is not installed (requirements/bench.txt)" if missing else ""
    return {"variables": variables, "steps": steps, "rows": rows, "note": note}


def worlds(seeds: list[int], folder: Path, *, states: bool = True) -> dict[str, Any]:
    """The shipped changing world: probability of invariance of every mechanism after each of its changes, by seed.

    Environments begin where the world changes. The log of a seed is recorded (minutes) unless it lies in `folder`.
    """
    sys.path.insert(0, str(Path(__file__).parent))
    import belief_logs

    from crl_node import environments
    from crl_node.simulator.world import load_world
    from crl_node.world_model import ModelConfig, WorldModel

    world = load_world("changing")
    kinds = {"friction": ("INERTIA",), "rewire": ("LIT_BY", "TOGGLE_BY"), "cut": ("SPRING",)}
    rows = []
    for seed in seeds:
        log = belief_logs.get("changing", seed, 240.0, folder, states=states)
        model = WorldModel(ModelConfig(wall=(*world.table.x, *world.table.y)))
        starts = {round(change.at / belief_logs.DT): change for change in world.changes}
        ends = {start + 600: change for start, change in starts.items()}
        for t, (belief, action) in enumerate(log.transitions()):
            if t in ends or t == len(log.beliefs) - 1:
                change = ends.get(t, world.changes[-1])
                model.refresh_all()
                model.refresh_all()
                listed = environments.mechanisms(model)
                changed = [m for m in listed if m.kind.name in kinds[change.kind] and _touches(m, change, log, belief)]
                rest = [m.invariant for m in listed if m not in changed and m.inclusion > 0.5]
                rows.append(
                    {
                        "seed": seed, "change": change.kind,
                        "changed": {str(m): round(m.invariant, 4) for m in changed},
                        "others": len(rest), "others_above_0.9": int(sum(p > 0.9 for p in rest)),
                        "others_least": min(rest, default=None),
                    }
                )  # fmt: skip
            if t in starts:
                model.refresh_all()
                model.begin_environment(f"after {t}")
            model.observe(belief, action)
            if t % 20 == 0:
                model.refresh()
    return {"states": states, "rows": rows}


def worlds_against_pc(seeds: list[int], folder: Path, *, steps: int = 600) -> dict[str, Any]:
    """Edges between positions in the changing world before its first change: our graph and PC on the same latents.

    PC sees the velocities of body and things and the action, and the velocities one step later: an edge between two
    things is one between any of their axes. True is what the world file says (any two movable things can collide).
    Only logs of true states are used, in which slot i + 1 is thing i.
    """
    sys.path.insert(0, str(Path(__file__).parent))
    import belief_logs

    from crl_node.simulator.causality import true_graph
    from crl_node.simulator.world import load_world
    from crl_node.world_model import ModelConfig, WorldModel

    world = load_world("changing")
    truth = true_graph(world).edges
    rows = []
    for seed in seeds:
        log = belief_logs.get("changing", seed, 240.0, folder, states=True)
        model = WorldModel(ModelConfig(wall=(*world.table.x, *world.table.y)))
        for t, (belief, action) in enumerate(log.transitions(0, steps)):
            model.observe(belief, action)
            if t % 20 == 0:
                model.refresh()
        model.refresh_all()
        model.refresh_all()
        nodes = ("body", *log.names)
        ours = {
            (nodes[e.cause_slot], nodes[e.effect_slot]): e.probability
            for e in model.graph() if e.cause_slot >= 0 and e.effect.endswith("position")
        }  # fmt: skip
        speed = np.array([b.mean[:, 2:4].ravel() for b in log.beliefs[:steps]])
        found = pc_edges(np.hstack([speed[:-1], log.actions[: steps - 1]]), speed[1:])
        pairs = [(a, b) for a in nodes for b in nodes if a != b]
        true = np.array([truth[a, f"{b}.position"] for a, b in pairs])
        row: dict[str, Any] = {"seed": seed, "ours": scores(true, np.array([ours.get(pair, 0.0) for pair in pairs]))}
        if found is not None:
            blocks = found[:, : 2 * len(nodes)].reshape(len(nodes), 2, len(nodes), 2).any(axis=(1, 3))
            row["pc"] = scores(true, np.array([float(blocks[nodes.index(b), nodes.index(a)]) for a, b in pairs]))
        rows.append(row)
    return {"steps": steps, "rows": rows}


#: Steps after a change in which is learned, and those (held out) on which errors are taken.
LEARNED, HELD_OUT = (25, 50, 100, 200), (200, 595)


def recovery(
    seeds: list[int], folder: Path, *, kinds: tuple[str, ...] = ("friction", "rewire", "cut")
) -> dict[str, Any]:
    """One-step errors on held-out steps after each change, by steps learned since; medians over `seeds`.

    `anew`: only what changed is learned anew (an environment begins); `scratch`: everything is; `on`: nobody noticed.
    Rewired: RMSE of the lamp's brightness where it is lit, just was, or a button is touched. Cut: of both ends'
    positions, mm, where one of them moves. Friction: of the puck's position, mm, where it moves. Before each change
    the model has learned everything, with the environments of the changes before.
    """
    sys.path.insert(0, str(Path(__file__).parent))
    import copy

    import belief_logs

    from crl_node.simulator.world import load_world
    from crl_node.world_model import ModelConfig, WorldModel

    world = load_world("changing")
    config = ModelConfig(wall=(*world.table.x, *world.table.y))
    found: dict[str, dict[str, list[list[float]]]] = {}
    for seed in seeds:
        log = belief_logs.get("changing", seed, 240.0, folder, states=True)
        model = WorldModel(config)
        starts = {round(change.at / belief_logs.DT): change for change in world.changes}
        due = set(kinds)
        for t, (belief, action) in enumerate(log.transitions()):
            change = starts.get(t)
            if not due:
                break
            if change is not None and change.kind not in kinds:
                model.refresh_all()
                model.begin_environment(f"after {t}")
            elif change is not None:
                due.discard(change.kind)
                model.refresh_all()
                models = {"anew": copy.deepcopy(model), "on": copy.deepcopy(model), "scratch": WorldModel(config)}
                models["anew"].begin_environment("after")
                chosen = _held_out(log, change, t)
                for name, each in models.items():
                    errors = _learned(each, log, t, change, chosen)
                    found.setdefault(change.kind, {}).setdefault(name, []).append(errors)
                model.begin_environment(f"after {t}")
            model.observe(belief, action)
            if t % 20 == 0:
                model.refresh()
    return {
        "seeds": seeds, "steps": list(LEARNED),
        "median": {
            kind: {name: np.median(rows, axis=0).tolist() for name, rows in by_name.items()}
            for kind, by_name in found.items()
        },
        "every": found,
    }  # fmt: skip


def _held_out(log: Any, change: Any, start: int) -> list[tuple[int, int]]:
    """(step, slot) pairs on which the change of a mechanism can show."""
    out = []
    buttons = [log.names.index(name) + 1 for name in log.names if name.endswith("button")]
    names = {change.thing, change.a, change.b, change.lamp} - {""}
    slots = [n + 1 for n, name in enumerate(log.names) if name in names]
    for t in range(start + HELD_OUT[0], min(start + HELD_OUT[1], len(log.beliefs) - 1)):
        pressed = log.contacts[t : t + 2, buttons].any()
        lit = log.brightness[t : t + 2].max() > 0.5
        moved = [np.linalg.norm(log.positions[t + 1, i - 1] - log.positions[t, i - 1]) > 0.002 for i in slots]
        if (pressed or lit) if change.kind == "rewire" else any(moved):
            out += [(t, i) for i in slots]
    return out


def _learned(model: Any, log: Any, start: int, change: Any, chosen: list[tuple[int, int]]) -> list[float]:
    errors = []
    for t in range(start, start + LEARNED[-1] + 1):
        model.observe(log.beliefs[t], log.actions[t - 1] if t > start else None)
        if t - start in LEARNED:
            model.refresh_all()
            model.refresh_all()
            errors.append(_error(model, log, chosen, light=change.kind == "rewire"))
    return errors


def _error(model: Any, log: Any, chosen: list[tuple[int, int]], *, light: bool) -> float:
    """RMSE of brightness, or of position in mm, over (step, slot) pairs."""
    squares, last, mean = [], -1, np.zeros((0, 3))
    for t, i in chosen:
        if t != last:
            mean, _ = model.predict(log.beliefs[t], log.actions[t])
            last = t
        step = log.beliefs[t + 1].mean[i] - log.beliefs[t].mean[i]
        squares.append((step[4] - mean[i, 2]) ** 2 if light else 1e6 * np.square(step[:2] - mean[i, :2]).sum())
    return float(np.sqrt(np.mean(squares))) if squares else float("nan")


def _touches(mechanism: Any, change: Any, log: Any, belief: Any) -> bool:
    """The mechanism belongs to the things the change speaks of (slots are matched to things by their last places)."""
    names = {change.thing, change.a, change.b, change.lamp} - {""}
    row = belief.index_of(mechanism.effect_slot)
    if row is None or mechanism.effect_slot == 0:
        return False
    step = round(belief.stamp / 0.1)
    there = log.positions[min(step, len(log.positions) - 1)]
    nearest = int(np.argmin(np.linalg.norm(there - belief.mean[row, :2], axis=1)))
    return log.names[nearest] in names


def plot(result: dict[str, Any], path: Path) -> None:
    """Bars of AUROC, precision and recall, ours beside PC; invariance by kind of change where worlds were run."""
    from matplotlib.figure import Figure

    recovery = result.get("recovery")
    figure = Figure(figsize=(8, 6 if recovery else 3), layout="constrained")
    panels = figure.subplots(2 if recovery else 1, 2 if not recovery else 3).ravel()
    one, other = panels[:2]
    names = ("auroc", "precision", "recall")
    for offset, who in ((-0.2, "ours"), (0.2, "pc")):
        rows = [row[who] for row in result["pc"]["rows"] if row[who] is not None]
        if rows:
            values = [np.mean([row[name] for row in rows if row[name] is not None]) for name in names]
            one.bar(np.arange(3) + offset, values, 0.4, label=who)
    one.set_xticks(range(3), names)
    one.set_title("lagged edges of linear series", fontsize=9)
    one.legend()
    for row in result.get("worlds", {}).get("rows", []):
        at = ("friction", "rewire", "cut").index(row["change"])
        for value in row["changed"].values():
            other.plot(at, value, "o", color="#D55E00", alpha=0.6)
        if row["others_least"] is not None:
            other.plot(at + 0.2, row["others_least"], "v", color="#0072B2", alpha=0.6)
    other.set_xticks(range(3), ("friction", "rewire", "cut"))
    other.set_ylim(-0.02, 1.02)
    other.set_title("P(invariant): changed (o), least of the others (v)", fontsize=9)
    if recovery:
        panels[2].set_axis_off()
        units = {"friction": "puck, mm", "rewire": "lamp, brightness", "cut": "ends of the spring, mm"}
        for axes, (kind, by_name) in zip(panels[3:], recovery["median"].items(), strict=True):
            for name, errors in by_name.items():
                axes.plot(recovery["steps"], errors, "o-", label={"on": "not noticed"}.get(name, name))
            axes.set(title=kind, xlabel="steps since the change", ylabel=f"RMSE, {units[kind]}", ylim=(0, None))
        panels[3].legend(fontsize=8)
    figure.savefig(path, dpi=120)
