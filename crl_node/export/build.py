"""Makes a plan file from the torch reference. Needs torch; nothing that runs on the robot imports this."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from crl_node.export.card import model_card
from crl_node.export.onnx_model import (
    ModelInfo,
    add_initialisers,
    check_build,
    describe_shape,
    seal,
    verify,
    write_atomically,
)
from crl_node.export.spec import PlanShape, all_inputs, defaults, initial_values
from crl_node.export.stitch import Stitcher


def export(shape: PlanShape, folder: str | Path, build: str = "scan", *, name: str = "") -> ModelInfo:
    """Trace, join, fill in initialisers, seal; writes `<name>.onnx` and its card `<name>.md` into `folder`.

    `build`: one of `stitch.BUILDS`. ValueError for another.
    """
    check_build(build)
    example = defaults(all_inputs(shape)) | initial_values(shape)
    example["proposals"][:] = np.random.default_rng(1).standard_normal(example["proposals"].shape)
    return write(Stitcher(shape, example).model(build), shape, Path(folder) / f"{name or shape.name}.onnx", build)


def write(model: onnx.ModelProto, shape: PlanShape, path: Path, build: str) -> ModelInfo:
    """Seal `model` into `path`, with its card beside it."""
    add_initialisers(model, initial_values(shape))
    describe_shape(model, shape, build)
    onnx.checker.check_model(model)
    write_atomically(seal(model), path)
    info = verify(path)
    write_atomically(model_card(info, path.stat().st_size, count(model.graph)).encode(), path.with_suffix(".md"))
    return info


def count(graph: onnx.GraphProto) -> int:
    """Operators in the file, those of subgraphs counted once."""
    inner = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField("g")]
    return len(graph.node) + sum(count(g) for g in inner)


def strip(model: onnx.ModelProto) -> None:
    """Take out what a run does not need: source lines, names of intermediate shapes. Makes the file 5 times smaller."""
    del model.graph.value_info[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    rename: dict[str, str] = {}
    fixed = {v.name for v in (*model.graph.input, *model.graph.output)}
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = node.name = ""
        for name in node.output:
            if name and name not in fixed:
                rename[name] = f"v{len(rename)}"
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
        if tensor.name not in fixed:
            rename[tensor.name] = f"c{len(rename)}"
            tensor.name = rename[tensor.name]
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = rename.get(name, name)
    for value in (*model.graph.input, *model.graph.output):
        del value.metadata_props[:]
        value.doc_string = ""
