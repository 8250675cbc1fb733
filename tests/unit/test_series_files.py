"""Series from files: which columns are what, and sentences about files that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from crl_node.cli.app import app
from crl_node.discovery.systems import random_polynomial
from crl_node.discovery.table import SeriesError, read
from crl_node.parameter_spec import ParameterError


def write_csv(path: Path, header: str, rows: np.ndarray) -> Path:
    path.write_text(header + "\n" + "\n".join(",".join(f"{v:.6g}" for v in row) for row in rows))
    return path


ROWS = np.random.default_rng(0).normal(size=(20, 4))


def test_columns_named_like_actions_are_actions_and_time_is_time(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[:, 0] = 0.1 * np.arange(20)
    series = read(write_csv(tmp_path / "a.csv", "time,arm_angle,u0,action_x", rows))
    assert series.state_names == ("arm_angle",)
    assert series.action_names == ("u0", "action_x")
    assert series.dt == pytest.approx(0.1)
    assert series.notes[0] == "states: arm_angle; actions: u0, action_x; time: time"


@pytest.mark.parametrize(("name", "is_action"), [
    ("a", True), ("a1", True), ("u_2", True), ("cmd.left", True), ("torque_3", True), ("actions", True),
    ("angle", False), ("actual", False), ("united", False), ("a_position", False), ("commander", False),
])  # fmt: skip
def test_names_of_actions(tmp_path: Path, name: str, is_action: bool) -> None:
    series = read(write_csv(tmp_path / "a.csv", f"x,y,z,{name}", ROWS))
    assert (name in series.action_names) == is_action


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "p,q,r,s", ROWS)
    series = read(path, states=["q", "p"], actions=["s"], dt=0.5)
    assert (series.state_names, series.action_names, series.dt) == (("q", "p"), ("s",), 0.5)
    np.testing.assert_allclose(series.states[:, 1], ROWS[:, 0], rtol=1e-4)


def test_episodes_and_gaps_in_time_end_a_stretch(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[:, 0] = 0.1 * np.arange(20)
    rows[12:, 0] += 5.0
    rows[:, 1] = np.arange(20) >= 6
    series = read(write_csv(tmp_path / "a.csv", "t,episode,x,y", rows))
    assert [int(n) for n in np.bincount(series.stretch)] == [6, 6, 8]
    assert any("1 gaps or jumps in time" in note for note in series.notes)


def test_an_empty_cell_is_a_row_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n2,\n3,4\n4,5\n5,6\n")
    series = read(path)
    assert series.stretch.tolist() == [0, -1, 1, 1, 1]
    assert any("1 of 5 rows hold NaN or infinite values (in y)" in note for note in series.notes)


def test_parquet_with_lists_as_in_robot_data_sets(tmp_path: Path) -> None:
    table = pyarrow.table({
        "observation.state": [row[:2].tolist() for row in ROWS], "action": [row[2:].tolist() for row in ROWS],
        "timestamp": 0.1 * np.arange(20), "episode_index": np.zeros(20, int),
    })  # fmt: skip
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    series = read(tmp_path / "a.parquet")
    assert series.state_names == ("observation.state_0", "observation.state_1")
    assert series.action_names == ("action_0", "action_1")


def test_npz_with_named_arrays_or_one_array_a_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", states=ROWS[:, :3], actions=ROWS[:-1, 3:], names=["p", "q", "r"], dt=0.2)
    series = read(tmp_path / "a.npz")
    assert (series.state_names, series.action_names, series.dt) == (("p", "q", "r"), ("a0",), 0.2)
    np.savez(tmp_path / "b.npz", x=ROWS[:, 0], y=ROWS[:, 1], u=ROWS[:, 2])
    assert read(tmp_path / "b.npz").names == ("x", "y", "u")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "cannot read .* as csv"),
        (b"x,y\n1,2\n3\n", "cannot read .* as csv"),
        (b"x,y\n1,a\n2,b\n3,c\n", "column 'y' of .* holds something that is no number"),
        (b"x,x\n1,2\n2,3\n3,4\n", "names a column twice"),
        (b"u0,a1\n1,2\n2,3\n3,4\n", "has no state column left"),
        (b"\xff\xfe\x00\x01", "cannot read"),
    ],
)
def test_a_bad_csv_is_refused_in_a_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(SeriesError, match=sentence):
        read(path)


@pytest.mark.parametrize("name", ["bad.npz", "bad.parquet", "bad.xlsx", "none.csv"])
def test_other_bad_files_are_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    if name != "none.csv":
        (tmp_path / name).write_bytes(b"not what it says")
    with pytest.raises(SeriesError, match="cannot read|is neither|there is no file"):
        read(tmp_path / name)


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", states=np.array([{"a": 1}], dtype=object))
    with pytest.raises(SeriesError, match="cannot read"):
        read(tmp_path / "a.npz")


def test_an_unknown_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "x,y,z,w", ROWS)
    with pytest.raises(SeriesError, match="has no column 'v'; it has x, y, z, w"):
        read(path, states=["v"])


def test_the_command_writes_json_and_a_picture(tmp_path: Path) -> None:
    system = random_polynomial(seed=0, noise=0.4, size=3, steps=200, actions=1, forcing=1.0)
    np.savez(tmp_path / "a.npz", states=system.states, actions=system.actions)
    done = CliRunner().invoke(
        app,
        ["discover", str(tmp_path / "a.npz"), "--json", str(tmp_path / "o" / "a.json"), "--figure",
         str(tmp_path / "a.png")],  # fmt: skip
    )
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "o" / "a.json").read_text())
    assert found["names"] == ["x0", "x1", "x2", "a0"]
    assert np.shape(found["inclusion"]) == (3, 4)
    assert len(found["laws"]) == 3
    assert set(found["shares"]) == {"core", "tail", "noise"}
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert "causes (probability 0.5 or more)" in done.output


def test_the_command_tells_mistakes_in_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["discover", str(tmp_path / "none.csv")])
    assert isinstance(done.exception, ParameterError)
    assert "there is no file" in str(done.exception)
    write_csv(tmp_path / "a.csv", "x,y,z,w", ROWS)
    done = CliRunner().invoke(app, ["discover", str(tmp_path / "a.csv"), "--engine", "oracle"])
    assert "there is no structure engine 'oracle'; there are" in str(done.exception)
