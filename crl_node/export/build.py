"""Makes a plan file from the torch reference. Needs torch; nothing that runs on the robot imports this."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from crl_node.export.card import model_card
from crl_node.export.onnx_model import (
    ModelInfo,
    add_initialisers,
    describe_shape,
    seal,
    verify,
    write_atomically,
)
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import (
    PlanShape,
    all_inputs,
    defaults,
    initial_values,
    outputs,
)

OPSET = 20


def export(shape: PlanShape, folder: str | Path) -> ModelInfo:
    """Export, strip, fill in initialisers, seal; writes `<name>.onnx` and its card `<name>.md` into `folder`."""
    graph = PlanGraph(shape).eval()
    inputs = all_inputs(shape)
    example = defaults(inputs) | initial_values(shape)
    example["proposals"][:] = np.random.default_rng(1).standard_normal(example["proposals"].shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            tuple(torch.from_numpy(example[t.name]) for t in inputs),
            dynamo=True,
            input_names=[t.name for t in inputs],
            output_names=[t.name for t in outputs(shape)],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program; is onnxscript installed?")
    model = program.model_proto
    strip(model)
    add_initialisers(model, initial_values(shape))
    describe_shape(model, shape)
    onnx.checker.check_model(model)
    path = Path(folder) / f"{shape.name}.onnx"
    write_atomically(seal(model), path)
    info = verify(path)
    write_atomically(model_card(info, path.stat().st_size, len(model.graph.node)).encode(), path.with_suffix(".md"))
    return info


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
