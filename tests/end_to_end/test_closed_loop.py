"""The whole thing: `crl sim` over real ROS 2, from camera frames to a report, twice with the same seed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from crl_node import shared_memory
from crl_node.export.onnx_model import load

pytestmark = pytest.mark.ros

SECONDS = 12


def run(out: Path) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable, "-m", "crl_node.cli", "sim", "--lockstep", "--headless", "--world", "tabletop",
            "--seed", "3", "--seconds", str(SECONDS), "--out", str(out),
        ],
        capture_output=True, text=True, check=False, timeout=900, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(json.loads((out / "report.json").read_text()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("closed_loop")


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    return run(folder / "first")


def test_the_run_leaves_all_that_was_promised(folder: Path, report: dict[str, Any]) -> None:
    for name in (
        "bag/metadata.yaml", "model.onnx", "model_card.md", "report.json", "report.html", "run.json", "graph.png",
        "animation.gif", "checkpoint.npz", "world.yaml",
    ):  # fmt: skip
        assert (folder / "first" / name).stat().st_size > 0, name
    required = {
        "posterior_hash", "world", "seed", "policy", "seconds", "ticks", "latency_ms", "slots", "contact_r2", "edges",
        "edge_auroc", "information_gain", "moved", "providers", "versions", "bag",
    }  # fmt: skip
    assert required <= set(report)
    assert set(report["latency_ms"]) >= {"camera_to_command", "perception", "update", "plan", "swap"}
    assert set(report["information_gain"]) == {"structure", "parameters", "states"}


def test_it_sees_moves_and_learns(report: dict[str, Any]) -> None:
    assert report["ticks"]["planned"] >= SECONDS * 10 and report["ticks"]["missed"] == 0
    assert {slot["object"] for slot in report["slots"] if slot["r2"] is not None and slot["r2"] > 0.97} == {
        "red_box", "green_box", "purple_cylinder", "yellow_ball", "pink_button", "lamp",
    }  # fmt: skip
    assert report["identity_swaps"] == 0
    assert max(report["moved"].values()) > 0.05
    assert report["contact_r2"] > 0.3
    assert report["edge_auroc"] > 0.8


def test_the_bag_holds_every_message(folder: Path, report: dict[str, Any]) -> None:
    from rosbags.highlevel import AnyReader

    # The manager and others report on /diagnostics before the recorder is there: all else must be complete.
    incomplete = {
        topic: entry
        for topic, entry in report["bag"].items()
        if topic != "/diagnostics" and entry["recorded"] < (entry["sent"] or 1)
    }
    assert incomplete == {}
    with AnyReader([folder / "first" / "bag"]) as reader:
        topics = {connection.topic for connection in reader.connections}
        assert {"/camera/image_raw", "/learner/posterior", "/planner/plan", "/gate/executed"} <= topics
        connections = [c for c in reader.connections if c.topic == "/learner/belief"]
        beliefs = [
            reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages(connections=connections)
        ]
    assert len(beliefs) >= SECONDS * 10 - 1 and all(np.isfinite(b.slots[0].mean).all() for b in beliefs)


def test_the_model_file_plans_alone_and_is_the_posterior_of_the_report(
    folder: Path, report: dict[str, Any]
) -> None:
    """With onnxruntime and numpy only, in a process that cannot import this package."""
    _, info = load(folder / "first" / "model.onnx")
    assert info.posterior_hash == report["posterior_hash"]
    code = (
        "import runpy, sys; sys.modules['crl_node'] = None; sys.modules['torch'] = None; sys.modules['rclpy'] = None; "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    example = Path(__file__).parents[2] / "examples" / "plan_from_file.py"
    done = subprocess.run(
        [sys.executable, "-c", code, str(example), str(folder / "first" / "model.onnx")],
        capture_output=True, text=True, check=True, cwd=folder,
    )  # fmt: skip
    assert f"model version {report['posterior_version']}" in done.stdout


def test_the_same_seed_gives_the_same_posterior_and_nothing_is_left_behind(
    folder: Path, report: dict[str, Any]
) -> None:
    before = shared_memory.fastdds_files()
    second = run(folder / "second")
    assert second["posterior_hash"] == report["posterior_hash"]
    assert second["moved"] == report["moved"]
    assert shared_memory.fastdds_files() <= before


def test_a_replay_of_the_bag_gives_the_same_beliefs_posterior_and_commands_bit_for_bit(
    folder: Path, report: dict[str, Any]
) -> None:
    """From the bag alone: it lies in another folder, without the run's other files."""
    shutil.copytree(folder / "first" / "bag", folder / "alone")
    done = subprocess.run(
        [sys.executable, "-m", "crl_node.cli", "replay", str(folder / "alone"), "--json", "-"],
        capture_output=True, text=True, check=False, timeout=900, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout)
    assert result["settings"] == "the bag's metadata"
    assert result["posterior_hash"] == report["posterior_hash"]
    assert (result["posterior_version"], result["steps"]) == (report["posterior_version"], report["steps"])
    assert result["first_difference"] is None
    assert all(result[f"{what}_equal"] is True for what in ("beliefs", "posteriors", "plans", "commands"))
    counts = result["topics"]
    assert min(counts[name]["compared"] for name in ("learner/belief", "planner/command")) >= SECONDS * 10
