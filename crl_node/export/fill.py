"""What a run has learned, put into a plan file of any size: from a checkpoint, another plan file or a run's folder."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from crl_node.export.card import model_card
from crl_node.export.onnx_model import (
    ModelError,
    ModelInfo,
    add_initialisers,
    metadata_of,
    read,
    seal,
    set_metadata,
    verify,
    write_atomically,
    write_model,
)
from crl_node.export.spec import all_inputs, learned_inputs

#: What a plan file says about the posterior in it.
POSTERIOR_KEYS = ("posterior_version", "posterior_hash", "slot_ids", "term_probability")


def source_in(place: Path) -> Path:
    """The file to take the posterior from: `place` itself, or a run folder's checkpoint, else its model.onnx."""
    if not place.is_dir():
        return place
    for name in ("checkpoint.npz", "model.onnx"):
        if (place / name).is_file():
            return place / name
    raise ModelError(f"{place} holds neither checkpoint.npz nor model.onnx: nothing was learned there")


def fill(path: Path, place: Path) -> ModelInfo:
    """Put what was learned at `place` into the plan file `path`, as initialisers; its card is written anew.

    Raises ModelError, CheckpointError or PosteriorError; the file is unchanged then.
    """
    source = source_in(place)
    if source.suffix == ".npz":
        from crl_node.world_model import WorldModel

        info = write_model(WorldModel.load(source).posterior(), path, path)
    else:
        info = _from_plan(path, source)
    write_atomically(model_card(info, path.stat().st_size).encode(), path.with_suffix(".md"))
    return info


def _from_plan(path: Path, source: Path) -> ModelInfo:
    given, target = verify(source), verify(path)
    _, model = read(source)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in given.optional}
    learned = {tensor.name for tensor in learned_inputs(target.shape)}
    sizes = {tensor.name: tensor.shape for tensor in all_inputs(target.shape)}
    for name in sorted(learned):
        if values[name].shape != sizes[name]:
            raise ModelError(
                f"'{name}' in {source} has shape {values[name].shape}, {path} takes {sizes[name]}; "
                "slots, terms and particles must be the same in both"
            )
    # Settings of the robot go along; those that depend on horizon and iterations only where these are the same.
    taken = {name: value for name, value in values.items() if value.shape == sizes.get(name)}
    _, filled = read(path)
    add_initialisers(filled, taken)
    metadata = metadata_of(model)
    set_metadata(filled, **{key: metadata.get(key, json.dumps([])) for key in POSTERIOR_KEYS})
    write_atomically(seal(filled), path)
    return verify(path)
