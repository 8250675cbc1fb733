"""`crl export`: the plan file of any size and build, with what a run has learned in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from crl_node.checkpoint import CheckpointError
from crl_node.cli.app import app
from crl_node.export.fill import fill
from crl_node.export.onnx_model import ModelError, verify, write_model
from crl_node.parameter_spec import ParameterError
from crl_node.paths import share
from crl_node.world_model import ModelConfig, WorldModel
from tests.support.plan_inputs import random_posterior

SHIPPED = share() / "models" / "plan_s12_p96_k16_n64_h30_i2.onnx"
SMALL = ("--candidates", "8", "--horizon", "4", "--elites", "2", "--iterations", "2")


def crl(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def values(path: Path) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def test_a_file_of_another_size_takes_over_what_a_model_has_learned_and_says_so(tmp_path: Path) -> None:
    posterior = random_posterior(1, version=7)
    box = np.array([0.5, 0.6, -0.1, 0.1], np.float32)
    write_model(posterior, tmp_path / "model.onnx", SHIPPED, settings={"workspace": box})
    result = crl("export", tmp_path, "--folder", tmp_path / "out", "--build", "unrolled", *SMALL)  # a run's folder
    assert result.exit_code == 0, result.output
    assert "posterior version 7" in result.output
    path = tmp_path / "out" / "plan_s12_p96_k16_n8_h4_i2_unrolled.onnx"
    info, card = verify(path), path.with_suffix(".md").read_text()
    assert (info.posterior_version, info.posterior_hash, info.build) == (7, posterior.hash, "unrolled")
    assert info.slot_ids == tuple(posterior.slot_ids.tolist())
    assert info.hash in card
    assert "no Loop, Scan or If" in card
    stored = values(path)
    np.testing.assert_array_equal(stored["weight_sample"], posterior.weight_sample)
    np.testing.assert_array_equal(stored["workspace"], box)
    assert stored["discount"].shape == (4,)


def test_a_checkpoint_fills_a_plan_file(tmp_path: Path) -> None:
    model = WorldModel(ModelConfig(), seed=0)
    model.save(tmp_path / "checkpoint.npz")
    path = tmp_path / "plan.onnx"
    path.write_bytes(SHIPPED.read_bytes())
    info = fill(path, tmp_path)
    assert info.posterior_hash == model.posterior().hash
    assert info.hash in path.with_suffix(".md").read_text()


def test_a_source_that_was_damaged_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path, damaged = tmp_path / "plan.onnx", tmp_path / "model.onnx"
    path.write_bytes(SHIPPED.read_bytes())
    damaged.write_bytes(SHIPPED.read_bytes().replace(b"wall", b"hall", 1))
    with pytest.raises(ModelError, match="was changed or cut"):
        fill(path, damaged)
    (tmp_path / "checkpoint.npz").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        fill(path, tmp_path)
    assert path.read_bytes() == SHIPPED.read_bytes()


def test_mistakes_are_told_before_anything_is_traced(tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path,), "nothing was learned there"), (("--candidates", 4, "--elites", 4), "more candidates than elites")
    ):  # fmt: skip
        result = crl("export", *arguments, "--folder", tmp_path / "out")
        assert isinstance(result.exception, ParameterError)
        assert words in str(result.exception)
    assert not (tmp_path / "out").exists()
