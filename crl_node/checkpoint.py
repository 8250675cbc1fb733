"""Checkpoint files: named arrays in an npz without pickle, written atomically."""

from __future__ import annotations

import io
import os
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An array of whatever type a checkpoint may hold.
Arrays = NDArray[Any]

FORMAT = "crl_node world model 4"
#: A checkpoint unpacks to about 2 MB; one that unpacks to more than this is made to fill the memory [bytes].
UNPACKED_LIMIT = 256 * 1024 * 1024


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the text says which file and why."""


def write_arrays(path: str | Path, arrays: Mapping[str, Arrays]) -> None:
    """Write `arrays` to `path` as npz without pickle; whoever reads `path` finds the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One name for each writer: a node's last checkpoint may begin before the one under way is done.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_arrays(path: str | Path, data: bytes | None = None) -> dict[str, Arrays]:
    """All arrays of a checkpoint file, CheckpointError when it is none.

    With `data` the file was read already, and `path` only names it.
    """
    try:
        data = Path(path).read_bytes() if data is None else data
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > UNPACKED_LIMIT:
            raise ValueError(f"it unpacks to {size} bytes, at most {UNPACKED_LIMIT} are allowed")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # numpy, zipfile and zlib each have their own errors for a damaged file
        raise CheckpointError(f"cannot read the checkpoint {path}: {error}") from error
    if str(arrays.get("format", "")) != FORMAT:
        raise CheckpointError(f"checkpoint {path} is not of the format '{FORMAT}'")
    return arrays


def load_extra(path: str | Path) -> dict[str, Arrays]:
    """The `extra` arrays of a checkpoint."""
    return extra_of(read_arrays(path))


def extra_of(arrays: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """The `extra` arrays among all of a checkpoint."""
    return {name[6:]: array for name, array in arrays.items() if name.startswith("extra_")}


def remove_partial(path: str | Path) -> None:
    """Remove what writers of `path` that were killed left beside it."""
    path = Path(path)
    for partial in path.parent.glob(f".{path.name}.*.partial"):
        partial.unlink(missing_ok=True)
