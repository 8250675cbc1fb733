"""The GFlowNet and the amortised policy against exact enumeration, and side by side with torchgfn.

`python -m benchmarks.structure_gflownet [--problems 60] [--columns 14] [--seconds 20] [--out FILE]` prints JSON.
torchgfn is needed for its rows only (`pip install --no-deps -r requirements/bench.txt`); without it they say so.
Seconds are processor time of this process, so they hold on a busy machine too (caches shared with others aside).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.data import Array
from crl_node.structure.amortised import AmortisedEngine
from crl_node.structure.draws import DrawConfig, draw, problem_of
from crl_node.structure.engine import Engine, Support
from crl_node.structure.evidence import Problem
from crl_node.structure.exact import ExactEngine
from crl_node.structure.gflownet import GFlowNetConfig, GFlowNetEngine

#: Seed of the first problem of `agreement`.
FIRST = 1000


def on_all_sets(support: Support) -> Array:
    """[2^F] probability by the number whose bits are the set."""
    out = np.zeros(1 << support.sets.shape[1])
    out[support.sets @ (1 << np.arange(support.sets.shape[1]))] = np.exp(support.log_probability)
    return out


def divergence(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence, nats."""
    middle = 0.5 * (p + q)
    return float(sum(0.5 * np.sum(a[a > 0] * np.log(a[a > 0] / middle[a > 0])) for a in (p, q)))


def exact_of(problem: Problem) -> tuple[Array, Array]:
    """Posterior over all sets [2^F] and inclusion probabilities [F]."""
    engine = ExactEngine()
    engine.update([problem])
    return on_all_sets(engine.support(0)), engine.inclusion()[0]


def _modes(probability: Array) -> list[int]:
    """Sets of at least 1 % that no set differing in one column beats."""
    columns = int(np.log2(len(probability)))
    numbers = np.arange(len(probability))
    best = np.max([probability[numbers ^ (1 << c)] for c in range(columns)], axis=0)
    return [int(n) for n in np.flatnonzero((probability >= 0.01) & (probability >= best))]


def _summary(values: list[float], digits: int = 5) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), digits),
        "p90": round(float(np.quantile(values, 0.9)), digits),
        "worst": round(float(np.max(values)), digits),
    }


def _timed(engine: Engine, problems: list[Problem]) -> tuple[float, Array]:
    began = time.process_time()
    engine.update(problems)
    inclusion = engine.inclusion()
    return time.process_time() - began, inclusion


def agreement(problems: int = 60, columns: int = 14, kinds: str = "") -> list[dict[str, Any]]:
    """One row per engine (whose name begins with `kinds`): JSD to exact, largest error of an inclusion probability,
    modes found, seconds a problem."""
    config = DrawConfig(columns=columns)
    makers: dict[str, Any] = {
        "gflownet": lambda: GFlowNetEngine(0),
        "gflownet, untrained": lambda: GFlowNetEngine(0, GFlowNetConfig(rounds=0)),
        "amortised, raw": lambda: AmortisedEngine(corrected=False),
        "amortised, corrected with 32 sets": lambda: AmortisedEngine(samples=32),
        "amortised, corrected with 512 sets": lambda: AmortisedEngine(samples=512),
    }
    makers = {name: make for name, make in makers.items() if name.startswith(kinds)}
    found: dict[str, dict[str, list[float]]] = {n: {"jsd": [], "error": [], "seconds": [], "modes": []} for n in makers}
    total = 0
    for number in range(problems):
        problem = draw(np.random.default_rng(FIRST + number), config).problem
        truth, inclusion = exact_of(problem)
        modes = _modes(truth)
        total += len(modes)
        for name, make in makers.items():
            engine = make()
            seconds, own = _timed(engine, [problem])
            probability = on_all_sets(engine.support(0))
            row = found[name]
            row["jsd"].append(divergence(truth, probability))
            row["error"].append(float(np.abs(own[0] - inclusion).max()))
            row["seconds"].append(seconds)
            row["modes"].append(sum(probability[m] > 0.5 * truth[m] for m in modes))
    return [
        {
            "engine": name, "problems": problems, "columns": columns, "jsd": _summary(row["jsd"]),
            "inclusion_error": _summary(row["error"], 4), "modes_found": int(sum(row["modes"])), "modes": total,
            "seconds": _summary(row["seconds"], 4),
        }
        for name, row in found.items()
    ]  # fmt: skip


def warm(problems: int = 20, columns: int = 14) -> dict[str, Any]:
    """JSD and seconds of the GFlowNet's update after its rows have grown by 15 %."""
    apart, seconds = [], []
    config = DrawConfig(columns=columns)
    for number in range(problems):
        drawn = draw(np.random.default_rng(FIRST + number), config)
        engine = GFlowNetEngine(0)
        parts = [int(len(drawn.change) / 1.15), len(drawn.change)]
        first, second = (
            problem_of(drawn.features[:n], drawn.change[:n], drawn.problem.prior_std, config) for n in parts
        )
        engine.update([first])
        seconds.append(_timed(engine, [second])[0])
        apart.append(divergence(exact_of(second)[0], on_all_sets(engine.support(0))))
    return {"engine": "gflownet, warm", "problems": problems, "jsd": _summary(apart), "seconds": _summary(seconds, 3)}


def amortised_speed(columns: int = 14, repeats: int = 7) -> list[dict[str, Any]]:
    """Milliseconds a variable from statistics to inclusion probabilities: best and median of the repeats."""
    rows = []
    for corrected in (False, True):
        engine = AmortisedEngine(corrected=corrected)
        for size in (1, 10, 50):
            problems = [
                draw(np.random.default_rng(FIRST + k), DrawConfig(columns=columns)).problem for k in range(size)
            ]
            times = sorted(_timed(engine, problems)[0] * 1e3 / size for _ in range(repeats))
            rows.append({
                "engine": "amortised, corrected" if corrected else "amortised, raw", "variables": size,
                "ms_per_variable": {"best": round(times[0], 3), "median": round(times[repeats // 2], 3)},
            })  # fmt: skip
    return rows


def twins(pairs: tuple[int, ...] = (1, 2, 3, 4), columns: int = 10) -> list[dict[str, Any]]:
    """Of the 2^k equally good sets of k causes with exact copies: how many get at least half their probability."""
    rows = []
    for k in pairs:
        rng = np.random.default_rng(5)
        phi = rng.normal(size=(200, columns))
        phi[:, k : 2 * k] = phi[:, :k]
        y = phi[:, :k] @ np.linspace(1.0, 2.0, k) + 0.3 * rng.normal(size=200)
        problem = problem_of(phi, y, np.full(columns, 8.0), DrawConfig(columns=columns))
        truth, _ = exact_of(problem)
        modes = [sum(1 << (c if bits >> c & 1 else c + k) for c in range(k)) for bits in range(2**k)]
        for name, engine in (("gflownet", GFlowNetEngine(0)), ("amortised, raw", AmortisedEngine(corrected=False))):
            engine.update([problem])
            own = on_all_sets(engine.support(0))
            found = sum(bool(own[m] > 0.5 * truth[m]) for m in modes)
            rows.append({"engine": name, "modes": len(modes), "found": found, "jsd": round(divergence(truth, own), 6)})
    return rows


def against_torchgfn(seed: int = FIRST, columns: int = 10, seconds: float = 20.0) -> list[dict[str, Any]]:
    """JSD against seconds on one problem: ours after 0, 2, 4 ... rounds, torchgfn's along its way."""
    problem = draw(np.random.default_rng(seed), DrawConfig(columns=columns)).problem
    truth, _ = exact_of(problem)
    ours: list[dict[str, float]] = []
    GFlowNetEngine(0, GFlowNetConfig(rounds=1)).update([problem])  # what torch does once is not what is compared
    for rounds in (0, 2, 4, 8, 12):
        engine = GFlowNetEngine(0, GFlowNetConfig(rounds=rounds))
        spent = _timed(engine, [problem])[0]
        ours.append({"seconds": round(spent, 3), "jsd": round(divergence(truth, on_all_sets(engine.support(0))), 6)})
    about = {"problem_seed": seed, "columns": columns, "entropy": round(_entropy(truth), 3)}
    rows: list[dict[str, Any]] = [{"engine": "gflownet", **about, "trace": ours}]
    try:
        import gfn  # noqa: F401
    except ImportError as error:
        why = f"torchgfn cannot be imported ({error}); pip install --no-deps -r requirements/bench.txt"
        rows.append({"engine": "torchgfn", **about, "skipped": why})
    else:
        rows.append({"engine": "torchgfn", **about, "trace": _torchgfn_trace(truth, columns, seconds)})
    return rows


def _entropy(p: Array) -> float:
    return float(-np.sum(p[p > 0] * np.log(p[p > 0])))


def _torchgfn_trace(truth: Array, columns: int, seconds: float) -> list[dict[str, float]]:
    """The library's trajectory balance, set-building environment, MLP policies both ways, settings of its tutorials.

    The log reward is looked up in a table of exact log probabilities (log Z = 0), which costs it no time.
    """
    import torch
    from gfn.estimators import DiscretePolicyEstimator
    from gfn.gflownet import TBGFlowNet
    from gfn.gym.set_addition import SetAddition
    from gfn.samplers import Sampler
    from gfn.utils.modules import MLP

    torch.set_num_threads(1)
    torch.manual_seed(0)
    table = torch.from_numpy(np.log(np.maximum(truth, 1e-30)).astype(np.float32))
    bits = 2 ** torch.arange(columns)

    class TermSets(SetAddition):
        """All subsets of the columns, the empty one too; a trajectory adds columns in any order."""

        def log_reward(self, final_states: Any) -> torch.Tensor:
            return table[(final_states.tensor.long() * bits).sum(dim=-1)]

    env = TermSets(columns, columns, lambda states: states)
    forward = MLP(columns, env.n_actions, hidden_dim=256, n_hidden_layers=2)
    backward = MLP(columns, env.n_actions - 1, hidden_dim=256, n_hidden_layers=2, trunk=forward.trunk)
    pf = DiscretePolicyEstimator(forward, env.n_actions)
    pb = DiscretePolicyEstimator(backward, env.n_actions, is_backward=True)
    flow = TBGFlowNet(pf, pb, init_logZ=0.0)
    sampler = Sampler(pf)
    log_z = dict(flow.named_parameters())["logZ"]
    weights = [p for name, p in flow.named_parameters() if name != "logZ"]
    optimiser = torch.optim.Adam([{"params": weights, "lr": 1e-3}, {"params": [log_z], "lr": 1e-1}])
    trace, spent, step, mark = [], 0.0, 0, 0.0
    while spent < seconds:
        began = time.process_time()
        paths = sampler.sample_trajectories(env, n=64, save_logprobs=False, epsilon=0.05)
        loss = flow.loss(env, paths, recalculate_all_logprobs=True)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        spent += time.process_time() - began
        step += 1
        if spent >= mark or spent >= seconds:
            own = _terminating(forward, columns)
            trace.append({"seconds": round(spent, 2), "steps": step, "jsd": round(divergence(truth, own), 5)})
            mark = spent + seconds / 8
    return trace


def _terminating(forward: Any, columns: int) -> Array:
    """[2^F] exact probability that the policy ends in each set: a sum over all orders, by dynamic programming."""
    import torch

    numbers = np.arange(1 << columns)
    sets = (numbers[:, None] >> np.arange(columns)) & 1
    with torch.no_grad():
        logits = forward(torch.from_numpy(sets.astype(np.float32))).double()
    logits[:, :-1][torch.from_numpy(sets.astype(bool))] = -torch.inf
    policy = torch.softmax(logits, dim=1).numpy()
    reach = np.zeros(len(numbers))
    reach[0] = 1.0
    size = sets.sum(axis=1)
    for k in range(columns):
        mine = numbers[size == k]
        for c in range(columns):
            free = mine[sets[mine, c] == 0]
            reach[free | (1 << c)] += reach[free] * policy[free, c]
    return np.asarray(reach * policy[:, -1])


def main() -> None:
    """Run everything, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--columns", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=20.0, help="that torchgfn gets a problem")
    parser.add_argument("--only", choices=["gflownet", "amortised", "warm", "speed", "twins", "torchgfn"], default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    parts: dict[str, Any] = {
        "gflownet": lambda: agreement(options.problems, options.columns, "gflownet"),
        "amortised": lambda: agreement(options.problems, options.columns, "amortised"),
        "warm": lambda: warm(max(options.problems // 3, 1), options.columns),
        "speed": lambda: amortised_speed(options.columns),
        "twins": twins,
        "torchgfn": lambda: [
            row for k in range(3) for row in against_torchgfn(FIRST + k, seconds=options.seconds)
        ],
    }
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    for name, part in parts.items():
        if options.only in (None, name):
            before = os.getloadavg()[0]
            result[name] = part()
            result[f"{name}_load"] = [round(before, 1), round(os.getloadavg()[0], 1)]
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
