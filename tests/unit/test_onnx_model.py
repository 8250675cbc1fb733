"""The plan file: equals the torch reference, stands alone, is refused when anything about it is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from crl_node.export import onnx_model
from crl_node.export.build import write
from crl_node.export.card import model_card
from crl_node.export.onnx_model import ModelError, seal, verify, write_model
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import (
    PlanShape,
    Values,
    all_inputs,
    defaults,
    initial_values,
    learned_inputs,
    outputs,
)
from crl_node.export.stitch import Stitcher
from crl_node.paths import share
from crl_node.posterior import PosteriorError
from tests.support.plan_inputs import random_call, random_posterior

TEMPLATE = share() / "models" / "plan_s12_p96_k16_n64_h30_i2.onnx"


def run_file(path: Path, values: Values) -> Values:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, values), strict=True))


def changed(tmp_path: Path, change: object, *, sealed: bool = True) -> Path:
    model = onnx.load(TEMPLATE)
    change(model)  # type: ignore[operator]
    path = tmp_path / "changed.onnx"
    path.write_bytes(seal(model) if sealed else model.SerializeToString())
    return path


@pytest.mark.parametrize("seed", range(5))
def test_shipped_file_gives_the_torch_reference_scores_to_1e_4(seed: int) -> None:
    shape = verify(TEMPLATE).shape
    posterior = random_posterior(seed, scale=0.15)
    values = random_call(shape, seed, posterior=posterior)
    with torch.no_grad():
        inputs = (torch.from_numpy(np.ascontiguousarray(values[t.name])) for t in all_inputs(shape))
        reference = {t.name: o.numpy() for t, o in zip(outputs(shape), PlanGraph(shape)(*inputs), strict=True)}
    ours = run_file(TEMPLATE, values)
    for name in ("proposal_scores", "proposal_gains"):
        np.testing.assert_allclose(ours[name], reference[name], rtol=1e-4, atol=1e-4)
    # Later iterations choose elites: rounding may swap two that tie, the best score may not suffer.
    np.testing.assert_allclose(ours["best_score"], reference["best_score"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.sort(ours["scores"]), np.sort(reference["scores"]), rtol=2e-3, atol=2e-3)


def test_written_file_gives_alone_what_the_template_gives_with_the_posterior_as_inputs(tmp_path: Path) -> None:
    posterior = random_posterior(1, version=17)
    info = write_model(posterior, tmp_path / "model.onnx", TEMPLATE)
    assert info.posterior_version == 17
    assert info.posterior_hash == posterior.hash
    assert info.slot_ids == tuple(posterior.slot_ids.tolist())
    values = random_call(info.shape, 1, posterior=posterior)
    learned = {tensor.name for tensor in learned_inputs(info.shape)}
    alone = run_file(tmp_path / "model.onnx", {k: v for k, v in values.items() if k not in learned})
    given = run_file(TEMPLATE, values)
    for name in alone:
        np.testing.assert_array_equal(alone[name], given[name])
    assert alone["version"].tolist() == [17]


def test_file_runs_in_a_process_that_has_only_numpy_and_onnxruntime(tmp_path: Path) -> None:
    write_model(random_posterior(2, version=5), tmp_path / "model.onnx", TEMPLATE)
    example = Path(__file__).parents[2] / "examples" / "plan_from_file.py"
    done = subprocess.run(
        [sys.executable, str(example), str(tmp_path / "model.onnx")],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "model version 5" in done.stdout
    assert "crl_node" not in example.read_text().replace("crl_node.", "")


def test_settings_are_written_too_and_wrong_shapes_among_them_are_refused(tmp_path: Path) -> None:
    box = np.array([0.5, 0.6, -0.1, 0.1], np.float32)
    write_model(random_posterior(0), tmp_path / "a.onnx", TEMPLATE, settings={"workspace": box})
    model = onnx.load(tmp_path / "a.onnx")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    np.testing.assert_array_equal(stored["workspace"], box)
    with pytest.raises(ModelError, match=r"'workspace' has shape \(3,\)"):
        write_model(random_posterior(0), tmp_path / "b.onnx", TEMPLATE, settings={"workspace": box[:3]})
    assert not (tmp_path / "b.onnx").exists()


def test_writing_fails_without_a_trace_when_the_posterior_is_bad(tmp_path: Path) -> None:
    good = random_posterior(0)
    path = tmp_path / "model.onnx"
    write_model(good, path, TEMPLATE)
    before = path.read_bytes()
    weights = np.array(good.weight_mean)
    weights[0] = np.nan
    with pytest.raises(PosteriorError, match="non-finite"):
        write_model(type(good)(**{**good.__dict__, "weight_mean": weights}), path, TEMPLATE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")

    def broken(_: int) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(onnx_model.os, "fsync", broken)
    with pytest.raises(OSError, match="disk is gone"):
        onnx_model.write_atomically(b"new", path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_changed_byte_is_noticed(tmp_path: Path) -> None:
    data = bytearray(TEMPLATE.read_bytes())
    data[len(data) // 2] ^= 1
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"changed or cut|not an ONNX file"):
        verify(path)


def test_initialiser_replaced_without_resealing_is_noticed(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        onnx_model.add_initialisers(model, {"max_speed": np.array([99.0], np.float32)})

    with pytest.raises(ModelError, match="was changed or cut after it was written"):
        verify(changed(tmp_path, change, sealed=False))


def test_cut_file_and_foreign_file_and_missing_file_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(TEMPLATE.read_bytes()[:-5000])
    with pytest.raises(ModelError):
        verify(path)
    path.write_bytes(b"\x80\x04\x95pickle")
    with pytest.raises(ModelError, match=r"not an ONNX file|format"):
        verify(path)
    with pytest.raises(ModelError, match="cannot be read"):
        verify(tmp_path / "absent.onnx")


def test_external_data_is_refused(tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"

    with pytest.raises(ModelError, match="lies outside the file"):
        verify(changed(tmp_path, change))


def test_foreign_operators_functions_and_subgraphs_are_refused(tmp_path: Path) -> None:
    def foreign(model: onnx.ModelProto) -> None:
        model.opset_import.add(domain="com.example", version=1)

    def loop(model: onnx.ModelProto) -> None:
        body = onnx.helper.make_graph([], "body", [], [])
        model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["x"], body=body))

    def within_scan(change: Callable[[onnx.GraphProto], object]) -> Callable[[onnx.ModelProto], object]:
        return lambda model: change(next(n for n in model.graph.node if n.op_type == "Scan").attribute[0].g)

    def custom(body: onnx.GraphProto) -> None:
        body.node[0].domain = "com.example"

    def nested(body: onnx.GraphProto) -> None:
        inner = onnx.helper.make_graph([], "inner", [], [])
        body.node.append(onnx.helper.make_node("Scan", ["x"], ["y"], body=inner, num_scan_inputs=1))

    def outside(body: onnx.GraphProto) -> None:
        tensor = body.initializer.add(name="c", data_type=1, data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value="/etc/passwd")

    with pytest.raises(ModelError, match="operator set 'com.example'"):
        verify(changed(tmp_path, foreign))
    with pytest.raises(ModelError, match=r"\(Loop\) holds a graph"):
        verify(changed(tmp_path, loop))
    with pytest.raises(ModelError, match="of domain 'com.example'"):
        verify(changed(tmp_path, within_scan(custom)))
    with pytest.raises(ModelError, match=r"\(Scan\) holds a graph"):
        verify(changed(tmp_path, within_scan(nested)))
    with pytest.raises(ModelError, match="lies outside the file"):
        verify(changed(tmp_path, within_scan(outside)))


def test_a_scan_is_allowed_only_in_a_file_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"\(Scan\) holds a graph"):
        verify(changed(tmp_path, lambda model: onnx_model.set_metadata(model, build="unrolled")))
    with pytest.raises(ModelError, match="build is 'loop'"):
        verify(changed(tmp_path, lambda model: onnx_model.set_metadata(model, build="loop")))


@pytest.mark.parametrize("every", [1, 3])  # 3: two groups of three steps and one of two
def test_both_builds_of_one_source_give_the_same_and_the_unrolled_one_holds_no_graph(
    tmp_path: Path, every: int
) -> None:
    shape = PlanShape(candidates=8, horizon=8, iterations=2, elites=3, count_every=every)
    stitcher = Stitcher(shape, defaults(all_inputs(shape)) | initial_values(shape))
    results = []
    for name in onnx_model.BUILDS:
        path = write(stitcher.model(name), shape, tmp_path / f"{name}.onnx", name).path
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert ("Scan" in kinds) == (name == "scan")
        assert not kinds & {"Loop", "If"}
        results.append([run_file(path, random_call(shape, seed)) for seed in range(3)])
    for seed, (scan, unrolled) in enumerate(zip(*results, strict=True)):
        values = random_call(shape, seed)
        with torch.no_grad():
            inputs = (torch.from_numpy(np.ascontiguousarray(values[t.name])) for t in all_inputs(shape))
            whole = PlanGraph(shape)(*inputs)
        for tensor, reference in zip(outputs(shape), whole, strict=True):
            np.testing.assert_allclose(scan[tensor.name], unrolled[tensor.name], rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(scan[tensor.name], reference.numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="must be scan or unrolled"):
        stitcher.model("loop")


def test_wrong_shape_missing_input_and_missing_initialiser_are_named(tmp_path: Path) -> None:
    def shape(model: onnx.ModelProto) -> None:
        value = next(v for v in model.graph.input if v.name == "wall")
        value.type.tensor_type.shape.dim[0].dim_value = 3

    def rename(model: onnx.ModelProto) -> None:
        next(v for v in model.graph.output if v.name == "best_path").name = "path"

    def bare(model: onnx.ModelProto) -> None:
        kept = [t for t in model.graph.initializer if t.name != "weight_sample"]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)

    with pytest.raises(ModelError, match=r"input 'wall' is float32 \[3\], expected float32 \[4\]"):
        verify(changed(tmp_path, shape))
    with pytest.raises(ModelError, match="no output 'best_path'"):
        verify(changed(tmp_path, rename))
    with pytest.raises(ModelError, match="'weight_sample' has no initialiser"):
        verify(changed(tmp_path, bare))


def test_oversized_file_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_model, "SIZE_LIMIT", 1000)
    with pytest.raises(ModelError, match="more than the 1000 allowed"):
        verify(TEMPLATE)


def test_card_names_every_input_and_output_with_its_shape_and_lies_beside_the_file() -> None:
    info = verify(TEMPLATE)
    card = model_card(info, TEMPLATE.stat().st_size)
    for tensor in (*all_inputs(info.shape), *outputs(info.shape)):
        assert f"| `{tensor.name}` | {tensor.dtype} | {list(tensor.shape)} |" in card
    shipped = TEMPLATE.with_suffix(".md").read_text()
    assert info.hash in shipped
    assert "crl export --candidates" in shipped


def test_every_learned_input_may_be_left_out_and_still_be_overridden() -> None:
    info = verify(TEMPLATE)
    assert {t.name for t in learned_inputs(info.shape)} <= info.optional
    session = onnxruntime.InferenceSession(TEMPLATE, providers=["CPUExecutionProvider"])
    assert {v.name for v in session.get_overridable_initializers()} == set(info.optional)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="more candidates than elites"):
        PlanShape(candidates=8, elites=8)
    with pytest.raises(ValueError, match="at least 1"):
        PlanShape(horizon=0)
