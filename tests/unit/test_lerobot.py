"""`crl bag to-lerobot`: the published format v3.0, read back with pyarrow, frame by frame against the bag."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from crl_node.bags.metadata import BagError
from crl_node.bags.reader import BagReader
from crl_node.replay.settings import ReplayError
from crl_node.replay.to_lerobot import ACTION, CAMERA, STATE, VELOCITY, convert
from tests.support.recorded_pushes import record_pushes

STEPS = 12


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_pushes(tmp_path_factory.mktemp("lerobot") / "bag", seed=1, steps=STEPS)


@pytest.fixture(scope="module")
def dataset(bag: Path) -> Path:
    counts = convert(bag, bag.parent / "dataset", task="push things")
    assert (counts.episodes, counts.frames, counts.recorded, counts.alone, counts.fps) == (
        1,
        STEPS - 1,
        STEPS,
        1,
        10,
    )
    return bag.parent / "dataset"


def data(folder: Path) -> list[dict[str, object]]:
    """Rows as a reader of the format finds them: through the path in info.json."""
    info = json.loads((folder / "meta" / "info.json").read_text())
    path = folder / info["data_path"].format(chunk_index=0, file_index=0)
    return list(pq.read_table(path).to_pylist())


def test_every_row_is_what_the_bag_holds_at_that_header_time(bag: Path, dataset: Path) -> None:
    rows = data(dataset)
    decoded = list(BagReader(bag).messages())
    images = [m.message for m in decoded if m.topic == "/camera/image_raw"]
    joints = [m.message for m in decoded if m.topic == "/joint_states"]
    commands = [m.message for m in decoded if m.topic == "/gate/executed"]
    for n, row in enumerate(rows):
        picture = np.array(Image.open(io.BytesIO(row[CAMERA]["bytes"])))  # type: ignore[index]
        assert picture.tobytes() == np.asarray(images[n].data).tobytes()
        assert np.array_equal(row[STATE], np.asarray(joints[n].position, np.float32))
        assert np.array_equal(row[VELOCITY], np.asarray(joints[n].velocity, np.float32))
        # A command acts from its frame to the next: its velocity is the action of that frame.
        assert np.allclose(row[ACTION], [commands[n].velocity.x, commands[n].velocity.y], atol=1e-6)
        assert (row["frame_index"], row["index"], row["episode_index"], row["task_index"]) == (n, n, 0, 0)
        assert row["timestamp"] == pytest.approx(n / 10)


def test_the_description_fits_the_data(dataset: Path) -> None:
    info = json.loads((dataset / "meta" / "info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["video_path"] is None
    assert (info["total_frames"], info["total_episodes"], info["fps"]) == (STEPS - 1, 1, 10)
    assert info["splits"] == {"train": "0:1"}
    features = info["features"]
    assert features[CAMERA] == {
        "dtype": "image",
        "shape": [96, 96, 3],
        "names": ["height", "width", "channels"],
    }
    assert features[STATE]["shape"] == [7] and features[STATE]["names"][0].endswith(".pos")
    assert set(features) == set(data(dataset)[0])
    schema = pq.read_schema(dataset / "data/chunk-000/file-000.parquet")
    kinds = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert kinds[CAMERA] == {"_type": "Image"} and set(kinds) == set(features)


def test_statistics_are_those_of_the_data(dataset: Path) -> None:
    stats = json.loads((dataset / "meta" / "stats.json").read_text())
    values = np.array([row[ACTION] for row in data(dataset)], float)
    for name, expected in (
        ("mean", values.mean(0)),
        ("std", values.std(0)),
        ("q50", np.quantile(values, 0.5, axis=0)),
    ):
        assert np.allclose(stats[ACTION][name], expected, atol=1e-6), name
    assert stats[ACTION]["count"] == [STEPS - 1]
    assert np.shape(stats[CAMERA]["mean"]) == (3, 1, 1) and 0 < np.max(stats[CAMERA]["max"]) <= 1


def test_tasks_and_episodes_are_found_where_the_format_says(dataset: Path) -> None:
    tasks = pq.read_table(dataset / "meta" / "tasks.parquet")
    described = json.loads(tasks.schema.metadata[b"pandas"])
    assert described["index_columns"] == ["__index_level_0__"]
    assert tasks.to_pydict() == {"task_index": [0], "__index_level_0__": ["push things"]}
    (episode,) = pq.read_table(dataset / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert (episode["dataset_from_index"], episode["dataset_to_index"], episode["length"]) == (
        0,
        STEPS - 1,
        STEPS - 1,
    )
    assert (
        episode["tasks"] == ["push things"] and episode["data/chunk_index"] == episode["data/file_index"] == 0
    )
    assert np.shape(episode[f"stats/{CAMERA}/mean"]) == (3, 1, 1)


def late_joints(bag: Path, by: float, folder: Path) -> Path:
    """The same bag with joint states stamped `by` s later, and one image missing."""
    from crl_node.bags.metadata import TopicInfo
    from crl_node.bags.writer import BagWriter
    from tests.support.recorded_pushes import TOPICS
    from tests.support.synthetic_run import definitions

    reader = BagReader(bag)
    writer = BagWriter(folder, definitions=definitions(), min_free_bytes=0)
    images = 0
    for raw in reader.raw():
        writer.add_topic(TopicInfo(raw.topic, TOPICS[raw.topic]))
        payload = raw.data
        if raw.topic == "/joint_states":
            stamp = int.from_bytes(payload[4:8], "little") * 10**9 + int.from_bytes(payload[8:12], "little")
            sec, nanosec = divmod(stamp + round(by * 1e9), 10**9)
            payload = payload[:4] + sec.to_bytes(4, "little") + nanosec.to_bytes(4, "little") + payload[12:]
        images += raw.topic == "/camera/image_raw"
        if raw.topic == "/camera/image_raw" and images == 6:
            continue
        writer.write(raw.topic, payload, log_time=raw.log_time)
    writer.close()
    return folder


def test_frames_are_paired_within_the_tolerance_and_the_others_counted(bag: Path, tmp_path: Path) -> None:
    late = late_joints(bag, 0.015, tmp_path / "late")
    counts = convert(late, tmp_path / "near", tolerance=0.02)
    # One image is missing: an episode ends before it and one begins after it.
    assert (counts.episodes, counts.recorded, counts.unpaired, counts.alone) == (2, STEPS - 1, 0, 2)
    assert counts.frames == STEPS - 1 - 2
    rows = data(tmp_path / "near")
    assert [row["frame_index"] for row in rows] == [*range(4), *range(STEPS - 1 - 5 - 1)]
    assert [row["index"] for row in rows] == list(range(counts.frames))
    with pytest.raises(ReplayError, match=f"{STEPS - 1} without a joint state near enough"):
        convert(late, tmp_path / "far", tolerance=0.01)


def test_a_folder_that_is_taken_is_left_alone(bag: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BagError, match="is not empty"):
        convert(bag, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "mine"
