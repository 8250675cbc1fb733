"""Writes the amortised policy as ONNX, sealed, with its card. Needs torch; nothing that runs it imports this."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from crl_node.export.build import strip
from crl_node.export.onnx_model import seal, set_metadata, write_atomically
from crl_node.structure.amortised_data import WIDEST
from crl_node.structure.amortised_file import FORMAT, INPUTS, NAME, OUTPUTS, PolicyInfo, load_policy
from crl_node.structure.nets import Correction
from crl_node.structure.tree import GLOBAL, PAIR

OPSET = 20
#: Most columns of a problem the policy may be used on: it has learned from up to `WIDEST`, decisions look alike beyond.
COLUMNS = 24


class _Whole(nn.Module):
    """The correction when every pair is there, which is how it is run: no mask among the inputs."""

    def __init__(self, network: Correction) -> None:
        super().__init__()
        self.network = network

    def forward(self, row: Tensor, pair: Tensor) -> Tensor:
        out: Tensor = self.network(row, pair, torch.ones_like(pair[:, :, 0]))
        return out


def export(network: Correction, folder: str | Path, *, command: str = "", seconds: float = 0.0) -> PolicyInfo:
    """Write `structure_policy.onnx` and its card into `folder`; `command` and `seconds` say how it was made."""
    rows, open_ = torch.export.Dim("rows", min=1), torch.export.Dim("open", min=0)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Whole(network).eval(),
            (torch.zeros(5, GLOBAL), torch.zeros(5, 7, PAIR)),
            dynamo=True,
            dynamic_shapes={"row": {0: rows}, "pair": {0: rows, 1: open_}},
            input_names=[t.name for t in INPUTS],
            output_names=[t.name for t in OUTPUTS],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program; is onnxscript installed?")
    model = program.model_proto
    strip(model)
    set_metadata(model, format=FORMAT, columns=str(COLUMNS), command=command)
    onnx.checker.check_model(model)
    path = Path(folder) / f"{NAME}.onnx"
    write_atomically(seal(model), path)
    _, info = load_policy(path)
    write_atomically(
        card(info, path.stat().st_size, len(model.graph.node), seconds).encode(), path.with_suffix(".md")
    )
    return info


def card(info: PolicyInfo, size: int, nodes: int, seconds: float) -> str:
    """Markdown beside the file."""
    rows = "\n".join(
        f"| `{t.name}` | {t.dtype} | {list(t.shape)} | {role} | {t.meaning} |"
        for role, tensors in (("input", INPUTS), ("output", OUTPUTS))
        for t in tensors
    )
    return f"""# {info.path.name}

The learned part of `crl_node.structure.amortised`: log odds by which the decisions "is this column in?" of a term set's
posterior differ from what the expansion of `crl_node/structure/tree.py` says. The features are made there, from the
sufficient statistics alone. It needs onnxruntime and nothing else.

- for problems of at most {info.columns} candidate columns; it has learned from 4 to {WIDEST}
- ONNX opset {OPSET}, {nodes} operators, no loops, no data outside the file, {size} bytes
- sha256 of the file with the hash itself blanked: `{info.hash}`

| name | type | shape (-1: any) | | meaning |
|---|---|---|---|---|
{rows}

## How it was made
`{info.command}`
({seconds:.0f} s of processor time): problems from `amortised_data.training_problem`, each tree of decisions walked
whole, every decision's exact log odds as the target, Kullback-Leibler divergence as the loss.

## Limits
Trained on Gaussian features with common causes and look-alikes. It degrades where fewer rows than columns meet strong
weights: many unlike sets explain the data equally well. `docs/structure_engines.md` has the numbers.
Importance correction against the exact evidence (`corrected=True`) needs no retraining.
"""
