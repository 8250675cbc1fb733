"""The plan graph as a file: sealed with a hash, checked before use, filled with a posterior's values.

No torch and no pickle here: this runs in the planner's process. A file is used only after `verify`.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from crl_node.data import Posterior
from crl_node.export.spec import PlanShape, Tensor, all_inputs, learned_inputs, outputs, posterior_values
from crl_node.posterior import check

FORMAT = "crl_node.plan/2"
#: A plan graph is about 1 MB; what is larger than this is not one [bytes].
SIZE_LIMIT = 32 * 1024 * 1024
_BLANK = "0" * 64
#: `scan`: the steps of a roll-out are one ONNX Scan; `unrolled`: all are written out, as CUDA graphs want it.
BUILDS = ("scan", "unrolled")


class ModelError(ValueError):
    """A model file that must not be used; the text says what is wrong with it."""


@dataclass(frozen=True)
class ModelInfo:
    """What a verified file says about itself."""

    path: Path
    shape: PlanShape
    hash: str  # sha256 hex of the file with the hash itself blanked
    opset: int
    posterior_version: int
    posterior_hash: str  # empty when nothing was learned yet
    slot_ids: tuple[int, ...]
    #: Inputs that have an initialiser and may be left out of a call.
    optional: frozenset[str]
    #: One of `BUILDS`.
    build: str = "scan"


def check_build(build: str) -> None:
    """ValueError unless `build` is one of `BUILDS`."""
    if build not in BUILDS:
        raise ValueError(f"build is '{build}', it must be {' or '.join(BUILDS)}")


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def set_metadata(model: onnx.ModelProto, **values: str) -> None:
    merged = metadata_of(model) | values
    del model.metadata_props[:]
    for key in sorted(merged):
        model.metadata_props.add(key=key, value=merged[key])


def seal(model: onnx.ModelProto) -> bytes:
    """The file's bytes with the sha256 of themselves (taken with the hash blanked) in its metadata."""
    set_metadata(model, hash=_BLANK)
    blank = model.SerializeToString()
    if blank.count(_BLANK.encode()) != 1:
        raise ModelError("the model holds 64 zeros in a row as text besides its own hash; cannot seal it")
    return bytes(blank.replace(_BLANK.encode(), hashlib.sha256(blank).hexdigest().encode()))


def write_atomically(data: bytes, path: Path) -> None:
    """Either the old file or the whole new one, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def add_initialisers(model: onnx.ModelProto, values: dict[str, NDArray[np.generic]]) -> None:
    """Give inputs default values; a call may still override each."""
    inputs = {value.name for value in model.graph.input}
    unknown = sorted(set(values) - inputs)
    if unknown:
        raise ModelError(f"the graph has no input '{unknown[0]}' to initialise (it has {len(inputs)} inputs)")
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in values]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in values.items()
    )


def describe_shape(model: onnx.ModelProto, shape: PlanShape, build: str) -> None:
    """Write format, build and sizes into the metadata."""
    set_metadata(
        model, format=FORMAT, shape=json.dumps(asdict(shape), sort_keys=True), posterior_version="0",
        posterior_hash="", slot_ids="[]", term_probability="[]", build=build,
    )  # fmt: skip


def read(path: Path) -> tuple[bytes, onnx.ModelProto]:
    """Bytes and parsed content of a file that may be anything; ModelError is a sentence."""
    try:
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise ModelError(f"model {path} has {size} bytes, more than the {SIZE_LIMIT} allowed; not loading it")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {path} cannot be read: {error.strerror}") from error
    return data, _parse(path, data)


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises its own family of errors
        raise ModelError(f"model {path} is not an ONNX file: {error}") from error


def _signature(value: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name if tensor.elem_type else "undefined"
    return dtype, tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)


def check_signatures(path: Path, role: str, found: list[onnx.ValueInfoProto], wanted: tuple[Tensor, ...]) -> None:
    """Names, types and shapes (-1: any size) of the inputs or outputs are as wanted; ModelError is a sentence."""
    by_name = {value.name: _signature(value) for value in found}
    for tensor in wanted:
        if tensor.name not in by_name:
            raise ModelError(f"model {path} has no {role} '{tensor.name}' (it has {len(by_name)}); not using it")
        if by_name[tensor.name] != (tensor.dtype, tensor.shape):
            dtype, shape = by_name[tensor.name]
            raise ModelError(
                f"model {path}: {role} '{tensor.name}' is {dtype} {list(shape)}, "
                f"expected {tensor.dtype} {list(tensor.shape)}; not using it"
            )
    extra = sorted(set(by_name) - {tensor.name for tensor in wanted})
    if extra:
        raise ModelError(f"model {path} has the unknown {role} '{extra[0]}'; not using it")


def check_safe(path: Path, model: onnx.ModelProto, *, scan: bool = False) -> None:
    """No data outside the file, no operators or functions but ONNX's own, nothing that loops.

    With `scan` the graph may hold Scan nodes (a fixed number of steps), whose bodies hold no graph themselves.
    """
    domains = {entry.domain for entry in model.opset_import} - {"", "ai.onnx"}
    if domains:
        raise ModelError(f"model {path} uses the operator set '{sorted(domains)[0]}'; only ONNX's own is allowed")
    if model.functions:
        raise ModelError(f"model {path} defines functions of its own; not using it")
    _check_graph(path, model.graph, scan)


def _check_graph(path: Path, graph: onnx.GraphProto, scan: bool) -> None:
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ModelError(f"model {path}: node '{node.name}' is of domain '{node.domain}'; not using it")
        for attribute in node.attribute:
            if attribute.HasField("g") and scan and node.op_type == "Scan" and not attribute.graphs:
                _check_graph(path, attribute.g, False)
            elif attribute.HasField("g") or attribute.graphs:
                raise ModelError(f"model {path}: node '{node.name}' ({node.op_type}) holds a graph; not using it")
            tensors.append(attribute.t)
            tensors.extend(attribute.tensors)
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise ModelError(f"model {path}: node '{node.name}' holds a sparse tensor; not using it")
    if graph.sparse_initializer:
        raise ModelError(f"model {path} holds sparse initialisers; not using it")
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise ModelError(f"model {path}: tensor '{tensor.name}' lies outside the file; not using it")


def check_seal(path: Path, data: bytes, model: onnx.ModelProto, wanted: str) -> dict[str, str]:
    """The metadata, after a look at format and hash; ModelError is a sentence."""
    metadata = metadata_of(model)
    if metadata.get("format") != wanted:
        raise ModelError(f"model {path} has format '{metadata.get('format', '')}', expected '{wanted}'; not using it")
    stamped = metadata.get("hash", "")
    actual = hashlib.sha256(data.replace(stamped.encode(), _BLANK.encode(), 1)).hexdigest() if stamped else ""
    if len(stamped) != 64 or stamped != actual:
        raise ModelError(
            f"model {path}: its hash says {stamped[:12]}…, its content hashes to {actual[:12]}…: "
            "it was changed or cut after it was written; not using it"
        )
    return metadata


def verify(path: str | Path) -> ModelInfo:
    """Check hash, format, safety and every input's and output's type and shape; ModelError is a sentence."""
    path = Path(path)
    return _verify(path, *read(path))


def _verify(path: Path, data: bytes, model: onnx.ModelProto) -> ModelInfo:
    metadata = check_seal(path, data, model, FORMAT)
    stamped = metadata["hash"]
    try:
        shape = PlanShape(**json.loads(metadata["shape"]))
        slot_ids = tuple(int(i) for i in json.loads(metadata["slot_ids"]))
        version = int(metadata["posterior_version"])
        build = metadata["build"]
        check_build(build)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"model {path}: its metadata is incomplete ({error}); not using it") from error
    check_safe(path, model, scan=build == "scan")
    check_signatures(path, "input", list(model.graph.input), all_inputs(shape))
    check_signatures(path, "output", list(model.graph.output), outputs(shape))
    names = {tensor.name for tensor in all_inputs(shape)}
    optional = frozenset(t.name for t in model.graph.initializer if t.name in names)
    missing = [t.name for t in learned_inputs(shape) if t.name not in optional]
    if missing:
        raise ModelError(f"model {path}: the learned input '{missing[0]}' has no initialiser; not using it")
    return ModelInfo(
        path, shape, stamped, model.opset_import[0].version, version,
        metadata.get("posterior_hash", ""), slot_ids, optional, build,
    )  # fmt: skip


def load(path: str | Path, data: bytes | None = None) -> tuple[bytes, ModelInfo]:
    """The verified bytes, for a session: what was checked is what runs, even if the file is replaced meanwhile.

    With `data` the file was read already, and `path` only names it.
    """
    path = Path(path)
    if data is None:
        data, model = read(path)
    else:
        model = _parse(path, data)
    return data, _verify(path, data, model)


def write_model(
    posterior: Posterior,
    path: str | Path,
    template: str | Path,
    *,
    settings: dict[str, NDArray[np.generic]] | None = None,
) -> ModelInfo:
    """Write `template` with the posterior's values as its initialisers to `path`, atomically.

    `settings` overrides further inputs (workspace, camera…). Raises PosteriorError or ModelError.
    """
    path, template = Path(path), Path(template)
    data, model = read(template)
    info = _verify(template, data, model)
    check(posterior, terms=info.shape.terms, particles=info.shape.particles)
    values = posterior_values(posterior) | (settings or {})
    for tensor in all_inputs(info.shape):
        if tensor.name in values and values[tensor.name].shape != tensor.shape:
            raise ModelError(
                f"'{tensor.name}' has shape {values[tensor.name].shape}, the template {template} wants {tensor.shape}"
            )
    add_initialisers(model, values)
    set_metadata(
        model,
        posterior_version=str(posterior.version),
        posterior_hash=posterior.hash,
        slot_ids=json.dumps(posterior.slot_ids.tolist()),
        term_probability=json.dumps([round(float(p), 6) for p in posterior.term_probability]),
    )
    write_atomically(seal(model), path)
    return verify(path)
