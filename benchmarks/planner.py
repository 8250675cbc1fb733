"""One planning call against other planners, in one process and one run: sizes, growth, speed, quality of the plans."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from crl_node.curiosity.policies import coloured_noise
from crl_node.curiosity.session import CUDA, PlanSession
from crl_node.export.onnx_model import ModelError, load, verify
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import PlanShape, Values, all_inputs, call_inputs, defaults, initial_values, outputs
from crl_node.paths import share

#: What the growth starts from, and what is asked for: 15 ms at N = 128, H = 30, K = 16, 3 iterations.
BASE, BAR = PlanShape(candidates=64, iterations=2), PlanShape(candidates=128, iterations=3)
SWEEPS: dict[str, tuple[int, ...]] = {
    "candidates": (32, 64, 128, 256), "horizon": (15, 30, 60), "particles": (4, 16, 64), "slots": (6, 12, 24)
}  # fmt: skip
Say = Callable[[str], None]
#: This benchmark's other files, by name (`cli.bench` loads them).
Modules = Callable[[str], Any]


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """p50 and p99, ms."""
    return {"p50": float(np.percentile(milliseconds, 50)), "p99": float(np.percentile(milliseconds, 99))}


def scene(shape: PlanShape, seed: int = 0) -> Values:
    """The inputs of one call: a table with five things, random proposals."""
    rng = np.random.default_rng(seed)
    values = defaults(call_inputs(shape))
    values["position"][:6] = [[0.45, 0.0], [0.5, 0.1], [0.6, -0.1], [0.65, 0.15], [0.7, 0.0], [0.55, -0.2]]
    values["exists"][:6] = 1.0
    for name, scale in (("proposals", 0.2), ("noise", 1.0)):
        values[name][:] = scale * rng.standard_normal(values[name].shape)
    return values


def measure(model: Path, *, calls: int = 100, provider: str = "auto") -> dict[str, Any]:
    """p50/p99 of one call of the session and of eager torch on the same input, alternating; their ratio; agreement."""
    import torch

    torch.set_num_threads(1)
    data, info = load(model)
    values = scene(info.shape)
    graph = onnx.load_model_from_string(data).graph
    stored = {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    everything = {**stored, **values}
    arguments = [torch.from_numpy(everything[tensor.name]) for tensor in all_inputs(info.shape)]
    reference, session = PlanGraph(info.shape), PlanSession(model, provider=provider)
    onnx_ms: list[float] = []
    torch_ms: list[float] = []
    difference = 0.0
    for call in range(calls + 5):
        began = time.perf_counter()
        out = session.run(values)
        onnx_ms.append(1e3 * (time.perf_counter() - began))
        if call % 5:
            continue
        began = time.perf_counter()
        with torch.no_grad():
            expected = reference(*arguments)
        torch_ms.append(1e3 * (time.perf_counter() - began))
        for tensor, value in zip(outputs(info.shape), expected, strict=True):
            if tensor.name == "proposal_scores":
                difference = max(difference, float(np.abs(out[tensor.name] - value.numpy()).max()))
    ours, eager = percentiles(onnx_ms[5:]), percentiles(torch_ms[1:])
    return {
        "model": model.name, "provider": session.provider, "candidates": info.shape.candidates,
        "horizon": info.shape.horizon, "particles": info.shape.particles, "iterations": info.shape.iterations,
        "calls": calls, "onnx_ms": ours, "torch_ms": eager, "ratio_p50": eager["p50"] / ours["p50"],
        "largest_score_difference": difference,
    }  # fmt: skip


def timed(call: Callable[[], Any], calls: int, *, warm: int = 3) -> dict[str, float]:
    """p50 and p99 of the wall time, p50 of the processor time of one call, ms."""
    for _ in range(warm):
        call()
    wall, cpu = list[float](), list[float]()
    for _ in range(calls):
        began, busy = time.perf_counter(), time.process_time()
        call()
        wall.append(1e3 * (time.perf_counter() - began))
        cpu.append(1e3 * (time.process_time() - busy))
    return {**percentiles(wall), "cpu_p50": float(np.percentile(cpu, 50)), "cpu_p99": float(np.percentile(cpu, 99))}


def sizes(shape: PlanShape) -> dict[str, int]:
    """What a row of the results is about."""
    names = ("slots", "terms", "particles", "candidates", "horizon", "iterations", "elites")
    return {name: getattr(shape, name) for name in names}


def plan_file(shape: PlanShape, folder: Path, build: str = "scan") -> Path:
    """The shipped plan file if it has this shape, else that in `folder`, exported when the source has changed."""
    from crl_node.export import build as files

    for shipped in sorted((share() / "models").glob("plan_*.onnx")):
        info = verify(shipped)
        if (info.shape, info.build) == (shape, build):
            return shipped
    source = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(files.__file__).parent.glob("*.py"))))
    name = f"{shape.name}_i{shape.iterations}_{build}_{source.hexdigest()[:8]}"
    path = folder / f"{name}.onnx"
    try:
        verify(path)
    except ModelError:
        files.export(shape, folder, build, name=name)
    return path


def ours(shape: PlanShape, path: Path, calls: int, provider: str = "cpu") -> dict[str, Any]:
    """Our session on a synthetic scene."""
    session, values = PlanSession(path, provider=provider), scene(shape)
    session.warm()
    run = {"provider": session.provider, "cuda_graph": session.cuda_graph}
    return {**sizes(shape), **run, "ms": timed(lambda: session.run(values), calls)}


def eager(shape: PlanShape, calls: int) -> dict[str, Any]:
    """The same maths in torch without compilation, one thread."""
    import torch

    torch.set_num_threads(1)
    graph, everything = PlanGraph(shape), defaults(all_inputs(shape)) | initial_values(shape) | scene(shape)
    arguments = [torch.from_numpy(everything[tensor.name]) for tensor in all_inputs(shape)]

    def call() -> None:
        with torch.no_grad():
            graph(*arguments)

    return {**sizes(shape), "ms": timed(call, calls, warm=1)}


def growth(folder: Path, calls: int, say: Say, sweeps: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Time of one call as one size at a time leaves the base."""
    out: dict[str, Any] = {}
    for name, steps in sweeps.items():
        rows = []
        for value in steps:
            shape = replace(BASE, **{name: value})
            row = ours(shape, plan_file(shape, folder), calls)
            rows.append(row)
            say(f"{name} {value}: {row['ms']['p50']:.1f} / {row['ms']['p99']:.1f} ms")
        out[name] = rows
    return out


def bound(path: Path, shape: PlanShape, milliseconds: float, machine: dict[str, float], module: Any) -> dict[str, Any]:
    """What a call of `milliseconds` reaches of the machine's peak; the time each kind of work alone would take."""
    counted = module.operations(onnx.load(path))
    return {
        **counted,
        "gflops_reached": counted["products_mflop"] / milliseconds,
        "gbytes_reached": counted["elementwise_mbyte"] / milliseconds,
        "products_at_peak_ms": counted["products_mflop"] / machine["gflops"],
        "elementwise_at_peak_ms": counted["elementwise_mbyte"] / machine["gbytes"],
        "operators_alone_ms": counted["operators"] * machine["operator_us"] / 1e3,
    }


def quality(shape: PlanShape, folder: Path, modules: Modules, say: Say, *, scenes: int = 8) -> dict[str, Any]:
    """Score of the chosen plan on our model in scenes of a run: ours, mbrl-lib's iCEM and MPPI, same N, H, iterations.

    The others begin without our experiments, as these libraries do; `ours_from_noise` does so as well. Then iCEM with
    more and more iterations until it finds plans as good as ours.
    """
    recorder, rivals = modules("planner_scenes"), modules("planner_rivals")
    recorded = recorder.record(calls=scenes)
    one = replace(shape, iterations=1)
    whole, scorer = (PlanSession(plan_file(s, folder), provider="cpu") for s in (shape, one))
    found: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, score: float, began: float) -> None:
        found.setdefault(name, []).append((score, 1e3 * (time.perf_counter() - began)))

    absent, speed = rivals.missing(), float(recorded.settings["max_speed"][0])
    for number, call in enumerate(recorded.calls):
        values = recorder.fitted(recorded, call, shape, whole)
        base = recorder.fitted(recorded, call, one, scorer)

        def score(actions: NDArray[np.float32], base: Values = base) -> NDArray[np.float32]:
            padded = np.zeros((shape.candidates, shape.horizon, 2), np.float32)
            out = np.empty(len(actions), np.float32)
            for start in range(0, len(actions), len(padded)):
                block = actions[start : start + len(padded)]
                padded[: len(block)] = block
                scores = scorer.run({**base, "proposals": padded})["scores"]
                out[start : start + len(block)] = scores[: len(block)]
            return out

        noise = dict(values)
        noise["proposals"] = 0.15 * coloured_noise(np.random.default_rng(number), values["proposals"].shape)
        for name, inputs in (("ours", values), ("ours_from_noise", noise)):
            began = time.perf_counter()
            plan = whole.run(inputs)
            note(name, float(plan["best_score"][0]), began)
        size = {"candidates": shape.candidates, "horizon": shape.horizon, "speed": speed}
        for iterations in (shape.iterations, 10, 30) if "mbrl" not in absent else ():
            began = time.perf_counter()
            best = rivals.icem_on(score, iterations=iterations, elites=shape.elites, **size)
            note(f"mbrl_icem_{iterations}", float(score(best[None])[0]), began)
        for iterations in (shape.iterations, 10, 30) if "pytorch_mppi" not in absent else ():
            began = time.perf_counter()
            best = rivals.mppi_on(score, iterations=iterations, warmth=0.3, **size)
            note(f"mppi_{iterations}", float(score(best[None])[0]), began)
        say(f"scene {number + 1}/{len(recorded.calls)}: " + ", ".join(f"{k} {v[-1][0]:.2f}" for k, v in found.items()))
    medians = {name: np.median(rows, axis=0) for name, rows in found.items()}
    table = {name: {"score_median": float(s), "ms_median": float(t)} for name, (s, t) in medians.items()}
    scores = {name: [s for s, _ in rows] for name, rows in found.items()}
    return {**sizes(shape), "planners": table, "scores": scores, "left_out": absent}


def compare(
    folder: Path, modules: Modules, say: Say, *, calls: int = 100, quick: bool = False, provider: str = "cpu"
) -> dict[str, Any]:
    """Everything that `crl bench planner` reports; plan files are kept in `folder`."""
    module, rivals = modules("planner_machine"), modules("planner_rivals")
    machine = module.peaks()
    say(
        f"this machine, one thread: {machine['gflops']:.0f} GFLOP/s products, {machine['gbytes']:.0f} GB/s additions, "
        f"{machine['operator_us']:.2f} µs the least operator"
    )
    result: dict[str, Any] = {"machine_peaks": machine, "left_out": rivals.missing(), "rows": []}
    for shape in (BASE,) if quick else (BASE, BAR):
        path = plan_file(shape, folder)
        row = {"ours": ours(shape, path, calls), "eager_torch": eager(shape, max(calls // 10, 3))}
        row["bound"] = bound(path, shape, row["ours"]["ms"]["cpu_p50"], machine, module)
        if provider != "cpu":
            on_gpu = ours(shape, plan_file(shape, folder, "unrolled"), calls, provider)
            row["cuda"] = on_gpu if on_gpu["provider"] == CUDA else None
        for particles in (5, 20) if "mbrl" not in result["left_out"] else ():
            plan = rivals.ensemble_icem(
                slots=shape.slots, candidates=shape.candidates, horizon=shape.horizon, iterations=shape.iterations,
                elites=shape.elites, speed=0.25, particles=particles,
            )  # fmt: skip
            row[f"mbrl_pets{particles}"] = theirs = {"ms": timed(plan, max(calls // 20, 3), warm=1)}
            # Processor time: what else the machine does counts for neither.
            row[f"faster_than_mbrl_pets{particles}"] = theirs["ms"]["cpu_p50"] / row["ours"]["ms"]["cpu_p50"]
        result["rows"].append({**sizes(shape), **row})
        say(", ".join(f"{k} {v['ms']['p50']:.1f} / {v['ms']['p99']:.1f} ms" for k, v in row.items() if _timed(v)))
    if not quick:
        result["growth"] = growth(folder, max(calls // 2, 20), say, SWEEPS)
        result["quality"] = quality(BASE, folder, modules, say)
    result["torch_threads"] = 1
    result["python"] = sys.version.split()[0]
    return result


def _timed(value: Any) -> bool:
    return isinstance(value, dict) and "ms" in value
