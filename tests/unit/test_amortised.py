"""The amortised policy: its file, its training targets, its answer against exact enumeration."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from crl_node.export.onnx_model import ModelError, seal
from crl_node.paths import share
from crl_node.structure import amortised_file
from crl_node.structure.amortised import AmortisedEngine
from crl_node.structure.amortised_data import decisions, training_problem, walked
from crl_node.structure.amortised_export import export
from crl_node.structure.amortised_file import load_policy, session_of
from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.engine import Support
from crl_node.structure.evidence import Problem, log_score
from crl_node.structure.exact import ExactEngine
from crl_node.structure.nets import Correction, as_correct
from crl_node.structure.train_amortised import Training, train
from crl_node.structure.tree import Tree
from crl_node.structure.walk import enumerate_leaves
from tests.support.structure_problems import GROUPS, divergence, grouped_problems, on_all_sets, twin_pairs

SHIPPED = share() / "models" / "structure_policy.onnx"


def drawn(count: int, columns: int = 8) -> list[Problem]:
    rng = np.random.default_rng(77)
    return [draw(rng, DrawConfig(columns=columns)).problem for _ in range(count)]


def test_the_shipped_policy_agrees_with_exact_enumeration_and_more_so_corrected() -> None:
    problems = drawn(12)
    exact, raw, corrected = ExactEngine(), AmortisedEngine(corrected=False), AmortisedEngine(samples=32)
    for engine in (exact, raw, corrected):
        engine.update(problems)
    apart = np.array([[divergence(exact.support(v), e.support(v)) for e in (raw, corrected)] for v in range(12)])
    assert np.median(apart[:, 0]) < 0.002
    assert apart[:, 0].max() < 0.05
    assert apart[:, 1].max() < 0.01
    assert apart[:, 1].sum() < 0.7 * apart[:, 0].sum()
    for engine in (raw, corrected):
        assert np.abs(engine.inclusion() - exact.inclusion()).mean() < 0.01


def test_the_network_mends_what_the_expansion_alone_gets_wrong() -> None:
    few = DrawConfig(columns=8, rows=(4, 12), correlated=1.0)
    problems = [draw(np.random.default_rng(k), few).problem for k in range(10)]
    exact, engine = ExactEngine(), AmortisedEngine(corrected=False)
    exact.update(problems)
    engine.update(problems)
    leaves = enumerate_leaves(Tree(problems), None, least=1e-9, most=1000)
    alone, shipped = [], []
    for v in range(10):
        mine = leaves.of(v)
        truth = exact.support(v)
        alone.append(divergence(truth, Support(leaves.sets[mine], leaves.log_probability[mine], 0.0)))
        shipped.append(divergence(truth, engine.support(v)))
    assert np.mean(shipped) < 0.6 * np.mean(alone)


def test_groups_forbidden_columns_and_known_noise_are_respected() -> None:
    problems = grouped_problems()
    exact, engine = ExactEngine(), AmortisedEngine()
    exact.update(problems)
    engine.update(problems)
    for v, problem in enumerate(problems):
        for sets in (engine.support(v).sets, engine.sample(100, np.random.default_rng(0))[v].sets):
            assert not sets[:, ~problem.allowed].any()
            assert all((sets[:, g == GROUPS].sum(axis=1) <= 1).all() for g in range(5))
        assert divergence(exact.support(v), engine.support(v)) < 0.02


def test_all_modes_of_equally_good_causes_are_kept() -> None:
    problem = twin_pairs(2, 6)
    exact, engine = ExactEngine(), AmortisedEngine(corrected=False)
    exact.update([problem])
    engine.update([problem])
    truth, own = on_all_sets(exact.support(0)), on_all_sets(engine.support(0))
    modes = [0b0011, 0b0110, 0b1001, 0b1100]
    np.testing.assert_allclose(own[modes], truth[modes], rtol=0.2)


def test_importance_weights_of_particles_lead_to_the_exact_inclusion() -> None:
    problems = drawn(3)
    exact, engine = ExactEngine(), AmortisedEngine()
    exact.update(problems)
    engine.update(problems)
    for v, particles in enumerate(engine.sample(4000, np.random.default_rng(1))):
        weight = np.exp(particles.log_weight)
        assert weight.sum() == pytest.approx(1.0)
        np.testing.assert_allclose(weight @ particles.sets, exact.inclusion()[v], atol=0.02)


def test_targets_of_training_are_sums_over_leaves() -> None:
    problem = training_problem(np.random.default_rng(4))
    tree = Tree([problem])
    levels, leaves, log_p = walked(tree)
    assert np.exp(log_p).sum() == pytest.approx(1.0)
    sets = np.zeros_like(leaves.sets)
    np.put_along_axis(sets, tree.order[leaves.owner], leaves.sets, axis=1)
    score = log_score(problem, sets)
    np.testing.assert_allclose(log_p, score - np.logaddexp.reduce(score), atol=1e-8)
    first = tree.order[0, 0]
    held = bool(tree.reference[0, first])
    inside, outside = (np.logaddexp.reduce(score[sets[:, first] == side]) for side in (True, False))
    assert levels[0].exact[0] == pytest.approx((outside - inside) if held else (inside - outside), abs=1e-8)


def test_training_is_the_same_for_the_same_seed_and_lowers_the_divergence() -> None:
    nets = [train(Training(problems=6, steps=40, batch=64, seed=s)) for s in (1, 1, 2)]
    states = [torch.cat([p.flatten() for p in n.parameters()]) for n in nets]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    rng = np.random.default_rng([1, 0])
    data = decisions(training_problem(rng), rng)
    assert np.isfinite(data.row).all() and np.isfinite(data.pair).all() and (data.weight > 0).all()


def test_onnx_gives_what_torch_gives_also_with_no_column_left(tmp_path: Path) -> None:
    network = Correction().eval()
    export(network, tmp_path, command="a test")
    data, info = load_policy(tmp_path / "structure_policy.onnx")
    assert info.command == "a test"
    ours, reference = session_of(data), as_correct(network)
    tree = Tree(drawn(3, 5))
    nodes = tree.root
    for _ in range(5):
        step = tree.step(nodes)
        np.testing.assert_allclose(ours(step.features), reference(step.features), atol=1e-5)
        nodes = step.kept
    assert step.features.pair.shape[1] == 0


def test_the_card_lies_beside_the_file_and_says_how_it_was_made() -> None:
    _, info = load_policy()
    text = SHIPPED.with_suffix(".md").read_text()
    assert info.hash in text
    assert info.command.startswith("python -m crl_node.structure.train_amortised --problems")
    assert info.command in text
    assert SHIPPED.stat().st_size < 5e6


def test_torch_is_not_needed_to_use_it() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from crl_node.structure.amortised import AmortisedEngine\n"
        "from crl_node.structure.draws import draw\n"
        "e = AmortisedEngine(); e.update([draw(np.random.default_rng(0)).problem]); print(e.inclusion().shape)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 14)"


def test_more_columns_than_the_model_is_for_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="25 candidate columns, its model structure_policy.onnx is for at most 24"):
        AmortisedEngine().update(drawn(1, 25))
    with pytest.raises(ValueError, match="at least 1 set, 0 were asked for"):
        AmortisedEngine(samples=0)


def _flip_byte(path: Path) -> None:
    data = bytearray(SHIPPED.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(SHIPPED.read_bytes()[:-500])


def _pickle(path: Path) -> None:
    path.write_bytes(b"\x80\x04\x95 no model")


def _other_graph(path: Path) -> None:
    path.write_bytes((share() / "models" / "plan_s12_p96_k16_n64_h30_i2.onnx").read_bytes())


def _other_shape(path: Path) -> None:
    model = onnx.load(SHIPPED)
    next(v for v in model.graph.input if v.name == "row").type.tensor_type.shape.dim[1].dim_value = 7
    path.write_bytes(seal(model))


def _no_columns(path: Path) -> None:
    model = onnx.load(SHIPPED)
    kept = [(e.key, e.value) for e in model.metadata_props if e.key != "columns"]
    del model.metadata_props[:]
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(seal(model))


@pytest.mark.parametrize(
    ("harm", "text"),
    [
        (_flip_byte, "changed or cut|not an ONNX file"),
        (_cut, "not an ONNX file|changed or cut|format"),
        (_pickle, "not an ONNX file|format"),
        (_other_graph, "has format 'crl_node.plan/2', expected 'crl_node.structure/1'"),
        (_other_shape, rf"input 'row' is float32 \[-1, 7\], expected float32 \[-1, {amortised_file.GLOBAL}\]"),
        (_no_columns, "metadata is incomplete"),
        (lambda path: None, "cannot be read"),
    ],
)
def test_a_file_that_is_not_as_written_is_refused_in_words(
    tmp_path: Path, harm: Callable[[Path], None], text: str
) -> None:
    path = tmp_path / "structure_policy.onnx"
    harm(path)
    with pytest.raises(ModelError, match=text):
        AmortisedEngine(path)
