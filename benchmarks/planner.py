"""One planning call: the ONNX session against the same maths in eager torch, in one process and one run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from crl_node.curiosity.session import PlanSession
from crl_node.export.onnx_model import load
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import PlanShape, Values, all_inputs, call_inputs, defaults, outputs


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
