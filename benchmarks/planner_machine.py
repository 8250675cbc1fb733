"""What bounds a planning call: the machine's peak in ONNX Runtime on one thread, the operations in a plan file."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

#: Operators that move or combine whole tensors element by element.
_FREE = {"Constant", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Shape"}


def _seconds(nodes: list[Any], inputs: dict[str, tuple[int, ...]], repeats: int = 30) -> float:
    """Best processor time of one run of a graph whose last node's output is its output."""
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {name: rng.random(shape, dtype=np.float32) for name, shape in inputs.items()}
    session.run(None, feed)
    found = []
    for _ in range(repeats):
        began = time.process_time()
        session.run(None, feed)
        found.append(time.process_time() - began)
    return min(found)


def peaks(rows: int = 96, columns: int = 128) -> dict[str, float]:
    """GFLOP/s of a large product, GB/s of additions [rows, columns] within the cache, µs of the least operator."""
    side, chain = 512, 200
    product = _seconds([helper.make_node("MatMul", ["a", "b"], ["c"])], {"a": (side, side), "b": (side, side)})

    def additions(shape: tuple[int, ...]) -> float:
        nodes = [helper.make_node("Add", [f"y{i}", "b"], [f"y{i + 1}"]) for i in range(chain)]
        return _seconds(nodes, {"y0": shape, "b": shape}) / chain

    return {
        "gflops": 2 * side**3 / product / 1e9,
        "gbytes": 3 * 4 * rows * columns / additions((rows, columns)) / 1e9,
        "operator_us": additions((1, 8)) * 1e6,
    }


def operations(model: onnx.ModelProto) -> dict[str, Any]:
    """Products [MFLOP], bytes that elementwise operators read and write [MB] and operators run, of one plan call."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    for body in [a.g for node in whole.graph.node for a in node.attribute if a.HasField("g")]:
        # Shape inference does not look for the bounds of a Slice outside of the body it stands in.
        body.initializer.extend(whole.graph.initializer)
    inferred = onnx.shape_inference.infer_shapes(whole).graph
    total: Counter[str] = Counter()
    _count(inferred, {}, 1, total)
    return {
        "products_mflop": total["flop"] / 1e6, "elementwise_mbyte": total["byte"] / 1e6, "operators": total["node"],
    }  # fmt: skip


def _sizes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    values = (*graph.value_info, *graph.input, *graph.output)
    sizes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    return sizes | {t.name: tuple(t.dims) for t in graph.initializer}


def _count(graph: onnx.GraphProto, outer: dict[str, Any], times: int, total: Counter[str]) -> None:
    sizes = {**outer, **_sizes(graph)}

    def size(name: str) -> int:
        return int(np.prod(sizes.get(name, (0,))))

    for node in graph.node:
        bodies = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        for body in bodies:
            _count(body, sizes, times * sizes[node.input[-1]][0], total)  # a Scan runs as often as it has rows
        if bodies or node.op_type in _FREE:
            continue
        total["node"] += times
        if node.op_type in ("MatMul", "Gemm"):
            total["flop"] += times * 2 * size(node.output[0]) * sizes.get(node.input[0], (0,))[-1]
        else:
            total["byte"] += times * 4 * sum(size(name) for name in (*node.input, *node.output) if name)
