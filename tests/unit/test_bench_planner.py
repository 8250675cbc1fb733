"""`crl bench planner`: what is counted, what is compared, what is left out and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import crl_node.cli.bench as bench
from crl_node.export.onnx_model import verify
from crl_node.export.spec import all_inputs
from crl_node.paths import share

SHIPPED = next(iter(sorted((share() / "models").glob("plan_*.onnx"))))


def scan_model(steps: int) -> onnx.ModelProto:
    """A Scan of `steps` products [4, 4] x [4, 8] and one addition after it."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["w", "s"], ["t"]), helper.make_node("Add", ["t", "x"], ["u"])], "b",
        [info("s", TensorProto.FLOAT, [4, 8]), info("x", TensorProto.FLOAT, [4, 8])],
        [info("u", TensorProto.FLOAT, [4, 8])],
        value_info=[info("t", TensorProto.FLOAT, [4, 8])],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Scan", ["s0", "xs"], ["end"], body=body, num_scan_inputs=1),
         helper.make_node("Add", ["end", "end"], ["out"])], "g",
        [info("w", TensorProto.FLOAT, [4, 4]), info("s0", TensorProto.FLOAT, [4, 8]),
         info("xs", TensorProto.FLOAT, [steps, 4, 8])],
        [info("out", TensorProto.FLOAT, [4, 8])],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("steps", [1, 5])
def test_operations_within_a_scan_count_as_often_as_it_runs(steps: int) -> None:
    counted = bench._module("planner_machine").operations(scan_model(steps))
    assert counted["products_mflop"] * 1e6 == pytest.approx(steps * 2 * 4 * 4 * 8)
    assert counted["elementwise_mbyte"] * 1e6 == pytest.approx((steps + 1) * 3 * 32 * 4)
    assert counted["operators"] == 2 * steps + 1


def test_the_shipped_plan_holds_at_least_the_products_of_its_covariance() -> None:
    shape = verify(SHIPPED).shape
    counted = bench._module("planner_machine").operations(onnx.load(SHIPPED))
    covariances = 2 * shape.terms**2 * shape.candidates * 2 * shape.horizon * shape.iterations
    assert covariances < counted["products_mflop"] * 1e6 < 3 * covariances


def test_inputs_of_a_scene_are_complete_and_cut_to_another_size() -> None:
    module, scenes = bench._module("planner"), bench._module("planner_scenes")
    shape = module.PlanShape(candidates=16, horizon=7, elites=4)
    proposals = np.ones((64, 30, 2), np.float32)
    recorded = scenes.Recorded({}, {"max_speed": np.array([0.2], np.float32), "discount": np.ones(30, np.float32)}, [])
    values = scenes.fitted(recorded, {"proposals": proposals, "bonus": np.ones(64, np.float32)}, shape)
    assert {t.name: t.shape for t in all_inputs(shape)} == {name: value.shape for name, value in values.items()}
    assert values["max_speed"][0] == pytest.approx(0.2)
    np.testing.assert_array_equal(values["proposals"], 1.0)
    np.testing.assert_array_equal(values["bonus"], 0.0)


def test_packages_that_are_absent_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rivals = bench._module("planner_rivals")
    monkeypatch.setattr(rivals.importlib.util, "find_spec", lambda name: None if name == "mbrl" else object())
    assert rivals.missing() == ["mbrl"]


def test_the_figure_is_drawn_from_the_json_alone(tmp_path: Path) -> None:
    row = {"ms": {"p50": 1.0, "p99": 2.0}}
    result = {
        "growth": {"candidates": [{"candidates": n, **row} for n in (32, 64)]},
        "quality": {"planners": {"ours": {"ms_median": 10.0, "score_median": 3.0}}},
    }
    bench._module("planner_plots").plot(result, tmp_path / "planner.png")
    assert (tmp_path / "planner.png").stat().st_size > 5000
