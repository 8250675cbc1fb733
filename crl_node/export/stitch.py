"""Puts a plan file together from traced pieces: each piece is traced once and written as often as it is needed.

Two builds from one source. `scan`: the steps of a roll-out are one ONNX Scan, the file is small and loads at once;
`unrolled`: every step is written out, no Loop, Scan or If, as CUDA graphs want it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_unflatten

from crl_node.export.onnx_model import check_build
from crl_node.export.parts import Vec
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import PlanShape, Values, all_inputs, outputs

OPSET = 20
#: Names in a piece -> names in the file.
Names = dict[str, str]


class _Flat(nn.Module):
    """A function of trees of tensors as a module of tensors, for the tracer."""

    def __init__(self, owner: nn.Module, function: Callable[..., Any], spec: Any) -> None:
        super().__init__()
        self.owner, self.function, self.spec = owner, function, spec

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Leaves of the inputs in, leaves of the outputs out."""
        result = self.function(**tree_unflatten(list(leaves), self.spec))
        # An output must not be an input itself: the file gives each value one name.
        return tuple(leaf.clone() for leaf in tree_flatten(result)[0])


def _name(path: Sequence[Any]) -> str:
    text = str(keystr(tuple(path)))
    return text.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "").strip(".")


def leaf_names(tree: Any) -> list[str]:
    """Names of the leaves of a tree, in order: "m.terms.push"."""
    return [_name(path) for path, _ in tree_flatten_with_path(tree)[0]]


@dataclass
class Piece:
    """One traced function: its nodes, its constants, the names of what goes in and comes out."""

    name: str
    graph: onnx.GraphProto
    inputs: list[str]
    outputs: list[str]
    result: Any  # what the function gave for the example


def trace(owner: nn.Module, name: str, function: Callable[..., Any], example: Mapping[str, Any]) -> Piece:
    """Trace `function(**example)`, a tree of tensors in and out."""
    leaves, spec = tree_flatten(dict(example))
    leaves = [leaf.clone() for leaf in leaves]  # the tracer takes one tensor given twice for one input
    with torch.no_grad():
        result = function(**example)
    ins, outs = leaf_names(dict(example)), leaf_names({"out": result})
    for tracer in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(tracer).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Flat(owner, function, spec).eval(), tuple(leaves), dynamo=True, input_names=ins, output_names=outs,
            opset_version=OPSET, verbose=False,
        )  # fmt: skip
    if program is None:
        raise RuntimeError(f"torch.onnx.export returned no program for '{name}'; is onnxscript installed?")
    graph = program.model_proto.graph
    if [v.name for v in graph.input] != ins or [v.name for v in graph.output] != outs:
        raise RuntimeError(f"torch.onnx.export changed the inputs or outputs of '{name}'; cannot put the plan together")
    return Piece(name, graph, ins, outs, result)


@dataclass
class Sheet:
    """Nodes and constants being collected for one graph. Names are short: a file has thousands of them."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _count: list[int] = field(default_factory=lambda: [0])

    def inner(self) -> Sheet:
        """A sheet for a subgraph: its constants and names are this one's."""
        return Sheet(constants=self.constants, _count=self._count)

    def fresh(self) -> str:
        """A name that is not in use."""
        self._count[0] += 1
        return f"v{self._count[0]}"

    def node(self, kind: str, inputs: Sequence[str], count: int = 1, **attributes: Any) -> list[str]:
        """Add one operator; the names of its outputs."""
        out = [self.fresh() for _ in range(count)]
        self.nodes.append(helper.make_node(kind, list(inputs), out, **attributes))
        return out

    def constant(self, name: str, tensor: onnx.TensorProto) -> str:
        """Add a constant once."""
        if name not in self.constants:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name, copy.doc_string = f"c{len(self.constants)}", ""
            del copy.metadata_props[:]
            self.constants[name] = copy
        return str(self.constants[name].name)

    def place(self, piece: Piece, given: Names) -> Names:
        """Write the piece's nodes here; `given` names its inputs in this graph. The names of its outputs."""
        names = {name: given[name] for name in piece.inputs if name in given}
        for tensor in piece.graph.initializer:
            names[tensor.name] = self.constant(f"{piece.name}/{tensor.name}", tensor)
        for node in piece.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = copy.doc_string = ""
            del copy.metadata_props[:]
            for i, name in enumerate(node.input):
                if name:
                    if name not in names:
                        raise KeyError(f"piece '{piece.name}' uses '{name}', which it was not given")
                    copy.input[i] = names[name]
            for i, name in enumerate(node.output):
                if name:
                    names[name] = copy.output[i] = self.fresh()
            self.nodes.append(copy)
        return {name: names[name] for name in piece.outputs}


def _given(prefix: str, values: Names, source: str = "out") -> Names:
    """Outputs `out.…` of one piece as inputs `prefix.…` of another."""
    return {prefix + name[len(source) :]: value for name, value in values.items() if name.startswith(source)}


def _float(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


class Stitcher:
    """Traces the pieces of a `PlanGraph` once and joins them into either build."""

    def __init__(self, shape: PlanShape, example: Values) -> None:
        """`example`: a value for every input."""
        self.shape = shape
        graph = PlanGraph(shape).eval()
        x = {t.name: torch.from_numpy(example[t.name]) for t in all_inputs(shape)}
        self.prepare = trace(graph, "prepare", lambda x: graph.prepare(x), {"x": x})
        m, begin, p = self.prepare.result
        self.moves = trace(graph, "moves", graph.displacements, {"actions": p.actions, "dt": x["dt"]})
        self.discounts = trace(graph, "discounts", graph.discounts, {"discount": x["discount"]})

        def steps(s: Any, action: Vec, discount: Tensor, m: Any) -> Any:
            return graph.steps(s, action, discount, m)[:2]

        #: One for the whole groups of steps, one for what is left of the horizon, where there are such.
        self.steps = [
            trace(graph, f"steps{i}", steps, {"s": begin, "action": Vec(g.x[0], g.y[0]), "discount": d[0], "m": m})
            for i, (g, d) in enumerate(zip(self.moves.result, self.discounts.result, strict=True))
        ]
        path = Vec(*(torch.zeros(shape.horizon, shape.candidates) for _ in "xy"))
        self.value = trace(
            graph, "value", graph.value, {"x": x, "p": p, "begin": begin, "end": begin, "path": path, "m": m}
        )
        worth = self.value.result

        def refine(i: int) -> Callable[..., Any]:
            return lambda x, p, scores: graph.refine(x, p, scores, i)

        self.refine = [
            trace(graph, f"refine{i}", refine(i), {"x": x, "p": p, "scores": worth.scores})
            for i in range(1, shape.iterations)
        ]
        self.choose = trace(
            graph, "choose", graph.choose, {"x": x, "p": p, "worth": worth, "first": worth, "path": path}
        )

    def _roll(self, sheet: Sheet, build: str, state: Names, moves: Names, model: Names) -> tuple[Names, Names]:
        """A roll-out: (state after it, the tip's path). `moves` names displacements and discounts of the groups."""
        parts: dict[str, list[str]] = {"path.x": [], "path.y": []}
        for i, discounts in enumerate(self.discounts.result):
            mine = {f"action.{axis}": moves[f"action.{i}.{axis}"] for axis in "xy"}
            mine["discount"] = moves[f"discount.{i}"]
            if build == "scan" and len(discounts) > 1:
                state, path = self._scanned(sheet, i, state, mine, model)
            else:
                state, path = self._unrolled(sheet, i, len(discounts), state, mine, model)
            for k, names in path.items():
                parts[k] += names
        joined = {k: sheet.node("Concat", n, axis=0)[0] if len(n) > 1 else n[0] for k, n in parts.items()}
        return state, joined

    def _scanned(
        self, sheet: Sheet, i: int, state: Names, moves: Names, model: Names
    ) -> tuple[Names, dict[str, list[str]]]:
        """The groups of size number `i` as one Scan."""
        inner, begin = sheet.inner(), self.prepare.result[1]
        row = (self.shape.groups[0], self.shape.candidates)
        leaves = {k: tuple(v.shape) for k, v in zip(leaf_names({"s": begin}), begin, strict=True)}
        scanned = {"action.x": row, "action.y": row, "discount": (1,)}
        entries = {name: inner.fresh() for name in (*leaves, *scanned)}
        out = inner.place(self.steps[i], {**model, **entries})
        after, path = _given("s", out, "out.0"), _given("path", out, "out.1")
        body = helper.make_graph(
            inner.nodes, "steps",
            [_float(entries[k], size) for k, size in {**leaves, **scanned}.items()],
            [_float(after[k], size) for k, size in leaves.items()] + [_float(name, row) for name in path.values()],
        )  # fmt: skip
        names = sheet.node(
            "Scan", [*(state[k] for k in leaves), *(moves[k] for k in scanned)], len(leaves) + len(path), body=body,
            num_scan_inputs=len(scanned),
        )  # fmt: skip
        flat = onnx.numpy_helper.from_array(np.array([-1, self.shape.candidates]), "shape")
        shape = sheet.constant("path/shape", flat)
        return (
            dict(zip(leaves, names, strict=False)),
            {k: sheet.node("Reshape", [n, shape]) for k, n in zip(path, names[len(leaves) :], strict=True)},
        )

    def _unrolled(
        self, sheet: Sheet, i: int, count: int, state: Names, moves: Names, model: Names
    ) -> tuple[Names, dict[str, list[str]]]:
        """The same with every one of the `count` groups written out."""
        path: dict[str, list[str]] = {"path.x": [], "path.y": []}
        for g in range(count):
            index = sheet.constant(f"group/{g}", onnx.numpy_helper.from_array(np.array(g), "g"))
            here = {k: sheet.node("Gather", [name, index], axis=0)[0] for k, name in moves.items()}
            out = sheet.place(self.steps[i], {**model, **state, **here})
            state = _given("s", out, "out.0")
            for k, name in _given("path", out, "out.1").items():
                path[k].append(name)
        return state, path

    def model(self, build: str) -> onnx.ModelProto:
        """The whole plan as one graph, `scan` or `unrolled`."""
        check_build(build)
        sheet = Sheet()
        x = {f"x.{t.name}": t.name for t in all_inputs(self.shape)}
        out = sheet.place(self.prepare, x)
        model, begin, p = _given("m", out, "out.0"), _given("begin", out, "out.1"), _given("p", out, "out.2")
        state = {"s" + k[len("begin") :]: name for k, name in begin.items()}
        discounts = _given("discount", sheet.place(self.discounts, {"discount": "discount"}))
        first: Names = {}
        worth: Names = {}
        for i in range(self.shape.iterations):
            if i:
                p = _given("p", sheet.place(self.refine[i - 1], {**x, **p, "scores": worth["worth.scores"]}))
            moves = _given("action", sheet.place(self.moves, {"actions": p["p.actions"], "dt": "dt"}))
            end, path = self._roll(sheet, build, state, {**moves, **discounts}, model)
            ends = {"end" + k[1:]: name for k, name in end.items()}
            worth = _given("worth", sheet.place(self.value, {**x, **p, **begin, **ends, **path, **model}))
            first = first or {"first" + k[len("worth") :]: name for k, name in worth.items()}
        chosen = sheet.place(self.choose, {**x, **p, **worth, **first, **path})
        for tensor, name in zip(outputs(self.shape), chosen.values(), strict=True):
            sheet.nodes.append(helper.make_node("Identity", [name], [tensor.name]))
        kind = helper.np_dtype_to_tensor_dtype

        def infos(tensors: Sequence[Any]) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(t.name, kind(np.dtype(t.dtype)), t.shape) for t in tensors]

        graph = helper.make_graph(
            sheet.nodes, "plan", infos(all_inputs(self.shape)), infos(outputs(self.shape)),
            list(sheet.constants.values()),
        )  # fmt: skip
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="crl_node")
        made.ir_version = 10
        return made
