"""`crl bag`, `crl replay` and `crl learn` as their user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from crl_node.bags.metadata import mcap_files
from crl_node.cli.app import app
from crl_node.export.onnx_model import load
from crl_node.world_model import WorldModel
from tests.support.recorded_pushes import record_pushes


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record_pushes(tmp_path_factory.mktemp("cli") / "bag", seed=0, steps=14)


def crl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def test_a_whole_bag_is_called_whole(bag: Path) -> None:
    done = crl("bag", "check", bag)
    assert done.exit_code == 0 and "whole, 42 messages of 3 topics" in done.output
    assert json.loads(crl("bag", "check", bag, "--json").output) == {"usable": True, "findings": []}
    shown = crl("bag", "info", bag).output
    assert "/camera/image_raw" in shown and "learner: seed 0, lockstep True" in shown
    assert json.loads(crl("bag", "info", bag, "--json").output)["topics"]["/joint_states"]["messages"] == 14


def test_a_cut_bag_is_found_and_recovered(bag: Path, tmp_path: Path) -> None:
    cut = record_pushes(tmp_path / "cut", seed=0, steps=14)
    file = mcap_files(cut)[0]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = crl("bag", "check", cut)
    assert found.exit_code == 1 and "ends in the middle of a record" in found.output
    assert "damaged or not complete" in found.output
    done = crl("bag", "recover", cut)
    assert done.exit_code == 0 and "1 of 1 files were rewritten" in done.output
    assert crl("bag", "recover", cut).output.rstrip().endswith("every file was whole")


def test_replay_and_learn_write_what_they_made(bag: Path, tmp_path: Path) -> None:
    done = crl("replay", bag, "--no-plan", "--out", tmp_path / "again", "--json", tmp_path / "r.json")
    assert done.exit_code == 0 and "14 of 14 frames replayed" in done.output
    result = json.loads((tmp_path / "r.json").read_text())
    assert result == json.loads((tmp_path / "again" / "replay.json").read_text())
    assert load(tmp_path / "again" / "model.onnx")[1].posterior_hash == result["posterior_hash"]
    assert WorldModel.load(tmp_path / "again" / "checkpoint.npz").step == 13
    learned = crl("learn", bag, "--out", tmp_path / "model.onnx", "--json", "-")
    content = json.loads(learned.output)
    assert len(content["variables"]) == 4 and content["bags"] == [str(bag)]
    assert load(tmp_path / "model.onnx")[1].posterior_hash == content["posterior_hash"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("bag", "info", "nowhere"), "bag nowhere does not exist"),
        (("bag", "recover", "."), "holds no .mcap file"),
        (("replay", "nowhere"), "bag nowhere does not exist"),
        (("learn", "nowhere", "--out", "model.pt"), "it must end in .npz"),
        (("bag", "to-lerobot", "nowhere", "out"), "bag nowhere does not exist"),
    ],
)
def test_mistakes_end_in_a_sentence_and_exit_code_2(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "crl_node.cli", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
