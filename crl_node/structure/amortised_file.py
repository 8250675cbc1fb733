"""The amortised policy's file: what must be in it, and the checks before it is used. No torch, no pickle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crl_node.data import Array
from crl_node.export.onnx_model import ModelError, check_safe, check_seal, check_signatures, read
from crl_node.export.spec import Tensor
from crl_node.paths import share
from crl_node.structure.tree import GLOBAL, PAIR, Features
from crl_node.structure.walk import Correct

FORMAT = "crl_node.structure/1"
NAME = "structure_policy"
INPUTS = (
    Tensor(
        "row",
        "float32",
        (-1, GLOBAL),
        "a decision: what the expansion says, sizes, noise, what is still open",
    ),
    Tensor("pair", "float32", (-1, -1, PAIR), "what the decision does to each open column"),
)
OUTPUTS = (Tensor("correction", "float32", (-1,), "added to the decision's log odds of flipping [nats]"),)


@dataclass(frozen=True)
class PolicyInfo:
    """What a verified file says about itself."""

    path: Path
    hash: str  # sha256 hex of the file with the hash itself blanked
    columns: int  # most candidate columns of a problem it may be used on
    command: str  # that made it


def load_policy(path: str | Path | None = None) -> tuple[bytes, PolicyInfo]:
    """Verified bytes of `path` (None: the shipped file) and what they say; ModelError is a sentence."""
    path = Path(path) if path is not None else share() / "models" / f"{NAME}.onnx"
    data, model = read(path)
    metadata = check_seal(path, data, model, FORMAT)
    check_safe(path, model)
    check_signatures(path, "input", list(model.graph.input), INPUTS)
    check_signatures(path, "output", list(model.graph.output), OUTPUTS)
    try:
        columns = int(metadata["columns"])
    except (KeyError, ValueError) as error:
        raise ModelError(f"model {path}: its metadata is incomplete ({error}); not using it") from error
    return data, PolicyInfo(path, metadata["hash"], columns, metadata.get("command", ""))


def session_of(data: bytes, rows: int = 4096) -> Correct:
    """The policy's correction as a function of features, run by ONNX Runtime on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def correct(features: Features) -> Array:
        out = np.empty(len(features.row))
        for start in range(0, len(out), rows):
            part = slice(start, start + rows)
            (out[part],) = session.run(None, {"row": features.row[part], "pair": features.pair[part]})
        return out

    return correct
