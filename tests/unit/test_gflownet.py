"""The GFlowNet: its tree's arithmetic against the evidence, its answer against exact enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crl_node.structure.draws import DrawConfig, draw, problem_of
from crl_node.structure.evidence import Problem, log_evidence, log_score
from crl_node.structure.exact import ExactEngine
from crl_node.structure.gflownet import GFlowNetConfig, GFlowNetEngine
from crl_node.structure.tree import Tree
from crl_node.structure.walk import draw_leaves, enumerate_leaves
from tests.support.structure_problems import GROUPS, divergence, grouped_problems, on_all_sets, twin_pairs

SHORT = GFlowNetConfig(rounds=5, draws=64, steps=5)


def test_scores_kept_along_the_walk_are_the_scores_of_the_sets() -> None:
    problems = grouped_problems()
    leaves = enumerate_leaves(Tree(problems), None, least=1e-9, most=4096)
    for v, problem in enumerate(problems):
        mine = leaves.of(v)
        assert len(mine) >= 8
        np.testing.assert_allclose(leaves.score[mine], log_score(problem, leaves.sets[mine]), atol=1e-8)


def test_every_set_has_one_path_and_probabilities_sum_to_one() -> None:
    leaves = enumerate_leaves(Tree(grouped_problems()), None, least=1e-300, most=10**6)
    exact = ExactEngine()
    exact.update(grouped_problems())
    for v in range(4):
        mine = leaves.of(v)
        assert np.exp(leaves.log_probability[mine]).sum() == pytest.approx(1.0, abs=1e-9)
        allowed = exact.support(v).sets
        assert len(np.unique(leaves.sets[mine], axis=0)) == len(mine) == len(allowed)


def test_the_expansion_alone_is_exact_where_columns_are_orthogonal_and_the_noise_known() -> None:
    problems = grouped_problems()[2:3]
    diagonal = np.diag(np.diag(problems[0].precision))
    free = np.arange(8, dtype=np.int32)
    problem = type(problems[0])(**{**problems[0].__dict__, "precision": diagonal, "group": free})
    exact = ExactEngine()
    exact.update([problem])
    leaves = enumerate_leaves(Tree([problem]), None, least=1e-300, most=10**6)
    np.testing.assert_allclose(leaves.inclusion, exact.inclusion(), atol=1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_the_policy_agrees_with_exact_enumeration(seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [draw(rng, DrawConfig(columns=7)).problem for _ in range(3)]
    exact, flow = ExactEngine(), GFlowNetEngine(seed, SHORT)
    exact.update(drawn)
    flow.update(drawn)
    apart = [divergence(exact.support(v), flow.support(v)) for v in range(3)]
    assert np.median(apart) < 0.005
    assert max(apart) < 0.05
    np.testing.assert_allclose(flow.inclusion(), exact.inclusion(), atol=0.1)


def test_training_mends_what_the_expansion_gets_wrong() -> None:
    few = draw(np.random.default_rng(1006), DrawConfig(columns=8, rows=(5, 8), correlated=1.0)).problem
    exact, raw, trained = ExactEngine(), GFlowNetEngine(0, GFlowNetConfig(rounds=0)), GFlowNetEngine(0)
    for engine in (exact, raw, trained):
        engine.update([few])
    before, after = (divergence(exact.support(0), e.support(0)) for e in (raw, trained))
    assert trained.losses[-1] < 0.7 * trained.losses[0]
    assert after < 0.5 * before


def test_groups_and_forbidden_columns_are_respected() -> None:
    problems = grouped_problems()
    exact, flow = ExactEngine(), GFlowNetEngine(0, SHORT)
    exact.update(problems)
    flow.update(problems)
    for v, problem in enumerate(problems):
        drawn = flow.sample(200, np.random.default_rng(0))[v].sets
        for sets in (flow.support(v).sets, drawn):
            assert not sets[:, ~problem.allowed].any()
            assert all((sets[:, g == GROUPS].sum(axis=1) <= 1).all() for g in range(5))
        assert divergence(exact.support(v), flow.support(v)) < 0.02


def test_frequencies_of_drawn_sets_are_the_probabilities_it_states() -> None:
    flow = GFlowNetEngine(0, SHORT)
    flow.update([draw(np.random.default_rng(11), DrawConfig(columns=7, rows=(10, 20))).problem])
    support = flow.support(0)
    numbers = 1 << np.arange(7)
    rng = np.random.default_rng(1)
    drawn = np.concatenate([flow.sample(400, rng)[0].sets for _ in range(5)])
    share = np.bincount(drawn @ numbers, minlength=128) / len(drawn)
    stated = np.zeros(128)
    stated[support.sets @ numbers] = np.exp(support.log_probability)
    assert 0.5 * np.abs(share - stated).sum() < 0.03
    np.testing.assert_allclose(drawn.mean(axis=0), flow.inclusion()[0], atol=0.01)


@pytest.mark.parametrize("pairs", [1, 3])
def test_all_modes_of_equally_good_causes_are_kept(pairs: int) -> None:
    problem = twin_pairs(pairs, 7)
    exact, flow = ExactEngine(), GFlowNetEngine(0, SHORT)
    exact.update([problem])
    flow.update([problem])
    found = flow.support(0)
    truth, own = on_all_sets(exact.support(0)), on_all_sets(found)
    modes = [sum(1 << (c if bits >> c & 1 else c + pairs) for c in range(pairs)) for bits in range(2**pairs)]
    assert truth[modes].min() > 0.02  # exact copies: all modes weigh the same
    np.testing.assert_allclose(own[modes], truth[modes], rtol=0.1)
    assert divergence(exact.support(0), found) < 1e-3


def test_a_warm_start_goes_on_from_network_and_sets_and_follows_grown_statistics() -> None:
    drawn = draw(np.random.default_rng(21), DrawConfig(columns=8, rows=(60, 80)))
    def problem(rows: int) -> Problem:
        return problem_of(drawn.features[:rows], drawn.change[:rows], drawn.problem.prior_std, DrawConfig(columns=8))

    flow, exact = GFlowNetEngine(0, SHORT), ExactEngine()
    flow.update([problem(50)])
    before = {k: v.clone() for k, v in flow.network.state_dict().items()}
    flow.update([problem(58)])
    exact.update([problem(58)])
    assert len(flow.losses) == SHORT.warm_rounds
    moved = sum(float((v - before[k]).abs().sum()) for k, v in flow.network.state_dict().items())
    size = sum(float(v.abs().sum()) for v in before.values())
    assert 0.0 < moved < 0.2 * size
    assert divergence(exact.support(0), flow.support(0)) < 0.005


def test_the_same_seed_gives_the_same_posterior_whatever_torch_did_before() -> None:
    problems = [draw(np.random.default_rng(2), DrawConfig(columns=6)).problem]
    engines = [GFlowNetEngine(seed, SHORT) for seed in (4, 4, 5)]
    for k, engine in enumerate(engines):
        torch.manual_seed(k)
        engine.update(problems)
    np.testing.assert_array_equal(engines[0].inclusion(), engines[1].inclusion())
    assert not np.array_equal(engines[0].inclusion(), engines[2].inclusion())


def test_guides_are_visited_whatever_the_policy_says() -> None:
    problems = grouped_problems()
    tree = Tree(problems)
    sets = np.zeros((2, 8), bool)
    sets[1, [1, 2, 7]] = True
    owner = np.array([2, 2])
    leaves, record = draw_leaves(tree, None, np.full(4, 3), np.random.default_rng(0), guides=(owner, sets), record=True)
    mine = leaves.of(2)
    assert all((leaves.sets[mine] == s).all(axis=1).any() for s in sets)
    assert leaves.count.sum() == 12
    assert record is not None
    signed = np.where(record.flips, 1.0, -1.0) * record.logit[np.maximum(record.path, 0)]
    path = np.where(record.path < 0, 0.0, -np.logaddexp(0.0, -signed)).sum(axis=1)
    np.testing.assert_allclose(path, leaves.log_probability, atol=1e-9)


def test_evidence_is_the_exact_one_and_misuse_is_refused_in_words() -> None:
    rng = np.random.default_rng(0)
    problems = [draw(rng, DrawConfig(columns=n)).problem for n in (4, 5)]
    flow = GFlowNetEngine(0, GFlowNetConfig(rounds=1, most_columns=4))
    flow.update(problems[:1])
    sets = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(flow.log_evidence(0, sets), log_evidence(problems[0], sets))
    with pytest.raises(ValueError, match="5 candidate columns, more than the 4 allowed"):
        flow.update(problems[1:])
    with pytest.raises(ValueError, match="variable 1 has 5 candidate columns, variable 0 4"):
        flow.update(problems)
