"""Writes a LeRobotDataset, format v3.0, with pyarrow: https://huggingface.co/docs/lerobot/lerobot-dataset-v3

data/chunk-000/file-000.parquet (one row a frame, images as PNG in the `datasets` library's Image layout),
meta/info.json, meta/stats.json, meta/tasks.parquet and meta/episodes/chunk-000/file-000.parquet. The real library needs
torch < 2.11 and cannot live beside ours (docs/decisions.md).
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from crl_node.bags.metadata import BagError, write_text

VERSION = "v3.0"
CHUNK = "chunk-{chunk_index:03d}/file-{file_index:03d}"
#: MB of parquet after which a new data file is begun, and files in a chunk: the format's defaults.
FILE_MB, CHUNK_FILES = 100, 1000
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
#: Frames that image statistics are computed from, at most: evenly spaced ones.
IMAGE_SAMPLE = 100
_INDICES = ("frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Feature:
    """One column: float32 vectors with a name for every number, or rgb images."""

    name: str
    shape: tuple[int, ...]  # [n], or [height, width, 3]
    names: tuple[str, ...]
    image: bool = False

    def described(self) -> dict[str, Any]:
        """Its entry in info.json."""
        return {
            "dtype": "image" if self.image else "float32",
            "shape": list(self.shape),
            "names": list(self.names),
        }

    def arrow(self) -> pa.DataType:
        """Its column type."""
        if self.image:
            return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.float32() if self.shape == (1,) else pa.list_(pa.float32(), self.shape[0])


@dataclass
class _Sums:
    """All numbers of one feature over the dataset, for its statistics. Images: every so-manieth."""

    values: list[NDArray[Any]] = field(default_factory=list)
    count: int = 0


class LeRobotWriter:
    """Episodes in, a dataset folder out. `add_episode` for each, then `close`. BagError when the folder is taken."""

    def __init__(self, folder: Path, features: Sequence[Feature], *, fps: int, robot: str, task: str) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BagError(f"{folder} exists already and is not empty; name another folder for the dataset")
        (folder / "meta").mkdir(parents=True, exist_ok=True)
        self.folder, self.features, self.fps, self.robot, self.task = (
            folder,
            tuple(features),
            fps,
            robot,
            task,
        )
        self.frames = 0
        self._episodes: list[dict[str, Any]] = []
        self._sums = {f.name: _Sums() for f in self.features}
        self._place = (0, 0)  # chunk, file
        self._writer: pq.ParquetWriter | None = None

    @property
    def episodes(self) -> int:
        return len(self._episodes)

    def add_episode(self, columns: Mapping[str, Sequence[NDArray[Any]]]) -> None:
        """One episode: for every feature T arrays of its shape, images as uint8 rgb."""
        length = len(next(iter(columns.values())))
        number, first = len(self._episodes), self.frames
        table: dict[str, pa.Array] = {}
        stats: dict[str, Any] = {}
        for feature in self.features:
            rows = list(columns[feature.name])
            sample = rows
            if feature.image:
                sample = rows[:: max(1, -(-len(rows) // IMAGE_SAMPLE))]
                cells: list[Any] = [{"bytes": _png(row), "path": None} for row in rows]
            else:
                cells = [
                    float(row[0]) if feature.shape == (1,) else np.asarray(row, np.float32).tolist()
                    for row in rows
                ]
            table[feature.name] = pa.array(cells, feature.arrow())
            values = np.stack([np.asarray(row) for row in sample])
            sums = self._sums[feature.name]
            sums.values.append(values)
            sums.count += length
            stats |= {
                f"stats/{feature.name}/{k}": [v] for k, v in _statistics(feature, values, length).items()
            }
        index = {
            "frame_index": np.arange(length), "episode_index": np.full(length, number),
            "index": first + np.arange(length), "task_index": np.zeros(length, int),
        }  # fmt: skip
        table["timestamp"] = pa.array((np.arange(length) / self.fps).astype(np.float32))
        table |= {name: pa.array(values.astype(np.int64)) for name, values in index.items()}
        self._write(pa.table(table))
        self._episodes.append(
            {
                "episode_index": [number], "tasks": [[self.task]], "length": [length],
                "data/chunk_index": [self._place[0]], "data/file_index": [self._place[1]],
                "dataset_from_index": [first], "dataset_to_index": [first + length], **stats,
                "meta/episodes/chunk_index": [0], "meta/episodes/file_index": [0],
            }
        )  # fmt: skip
        self.frames += length

    def close(self) -> None:
        """Write what belongs to the whole. BagError when there was no episode."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if not self._episodes:
            raise BagError(f"no episode was added to {self.folder}: there is no dataset to write")
        info = {
            "codebase_version": VERSION, "robot_type": self.robot, "total_episodes": self.episodes,
            "total_frames": self.frames, "total_tasks": 1, "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": FILE_MB, "video_files_size_in_mb": 200, "fps": self.fps,
            "splits": {"train": f"0:{self.episodes}"}, "data_path": f"data/{CHUNK}.parquet", "video_path": None,
            "features": {
                **{f.name: f.described() for f in self.features},
                "timestamp": {"dtype": "float32", "shape": [1], "names": None},
                **{name: {"dtype": "int64", "shape": [1], "names": None} for name in _INDICES},
            },
        }  # fmt: skip
        write_text(self.folder / "meta" / "info.json", json.dumps(info, indent=4))
        stats = {
            f.name: _statistics(f, np.concatenate(self._sums[f.name].values), self._sums[f.name].count)
            for f in self.features
        }
        write_text(self.folder / "meta" / "stats.json", json.dumps(stats, indent=4))
        self._write_tasks()
        path = self.folder / "meta" / "episodes" / f"{CHUNK.format(chunk_index=0, file_index=0)}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.concat_tables([pa.table(row) for row in self._episodes]), path)

    def _write(self, table: pa.Table) -> None:
        if self._writer is not None and self._size() > FILE_MB * 1_000_000:
            self._writer.close()
            self._writer = None
            chunk, file = self._place
            self._place = (chunk + 1, 0) if file + 1 == CHUNK_FILES else (chunk, file + 1)
        if self._writer is None:
            path = self._path()
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(path, table.schema.with_metadata(self._schema_metadata()))
        self._writer.write_table(table.replace_schema_metadata(self._schema_metadata()))

    def _path(self) -> Path:
        chunk, file = self._place
        return self.folder / "data" / f"{CHUNK.format(chunk_index=chunk, file_index=file)}.parquet"

    def _size(self) -> int:
        return self._path().stat().st_size

    def _schema_metadata(self) -> dict[bytes, bytes]:
        """What the `datasets` library reads the columns' types from."""
        kinds: dict[str, Any] = {}
        for f in self.features:
            value = {"dtype": "float32", "_type": "Value"}
            kinds[f.name] = (
                {"_type": "Image"}
                if f.image
                else value
                if f.shape == (1,)
                else {"feature": value, "length": f.shape[0], "_type": "List"}
            )
        kinds["timestamp"] = {"dtype": "float32", "_type": "Value"}
        kinds |= {name: {"dtype": "int64", "_type": "Value"} for name in _INDICES}
        return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}

    def _write_tasks(self) -> None:
        """A pandas table with the tasks as its index, which pandas finds described in the schema."""
        column = {"metadata": None, "numpy_type": "int64", "pandas_type": "int64"}
        label = {"metadata": None, "numpy_type": "object", "pandas_type": "unicode"}
        described = {
            "index_columns": ["__index_level_0__"],
            "column_indexes": [
                {**label, "name": None, "field_name": None, "metadata": {"encoding": "UTF-8"}}
            ],
            "columns": [
                {**column, "name": "task_index", "field_name": "task_index"},
                {**label, "name": None, "field_name": "__index_level_0__"},
            ],
            "creator": {"library": "pyarrow", "version": pa.__version__},
        }
        table = pa.table(
            {"task_index": pa.array([0], pa.int64()), "__index_level_0__": pa.array([self.task])}
        )
        metadata = {b"pandas": json.dumps(described).encode()}
        pq.write_table(table.replace_schema_metadata(metadata), self.folder / "meta" / "tasks.parquet")


def _statistics(feature: Feature, values: NDArray[Any], count: int) -> dict[str, Any]:
    """Of `values` [T, …]: by number, of images by channel, in 0..1 and shaped [3, 1, 1]."""
    flat = values.reshape(-1, 3) / 255.0 if feature.image else values.reshape(len(values), -1).astype(float)
    found = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
    found |= {name: np.quantile(flat, share, axis=0) for name, share in QUANTILES.items()}
    shape = (3, 1, 1) if feature.image else (-1,)
    return {**{name: value.reshape(shape).tolist() for name, value in found.items()}, "count": [count]}


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
