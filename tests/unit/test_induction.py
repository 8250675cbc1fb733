"""Contact radii that the model finds for itself, and what stays exact when a column becomes another term."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from crl_node.checkpoint import CheckpointError
from crl_node.data import BODY, MAX_SLOTS, TermKind
from crl_node.mechanisms import grammar
from crl_node.mechanisms.reservoir import LONGEST, Reservoir, near_pairs
from crl_node.mechanisms.statistics import Statistics
from crl_node.mechanisms.terms import Scene, features
from crl_node.posterior import check
from crl_node.replay.pooling import absorb, adopt
from crl_node.structure.induction import Change, Config, Induction
from crl_node.world_model import ModelConfig, WorldModel
from tests.unit.test_world_model import EXTENT, Discs, run

PUSH = np.flatnonzero((grammar.MOTION.kind == TermKind.PUSH) & (grammar.MOTION.parent == BODY))
TRUE = EXTENT[BODY] + EXTENT[1]
SCENE = Scene(np.full(MAX_SLOTS, 0.03), np.ones(MAX_SLOTS, bool), np.array([0.38, 0.82, -0.3, 0.3]), 0.1)


class Misjudged(Discs):
    """Discs that look `factor` times smaller than they are to each other: the true radius is none of the grammar's."""

    def __init__(self, factor: float, seed: int = 0) -> None:
        super().__init__(seed)
        self.factor = factor

    def belief(self):  # type: ignore[no-untyped-def]
        return replace(super().belief(), extent=EXTENT / self.factor)


def learned(factor: float, *, induce: bool, steps: int = 190) -> WorldModel:
    model, world = WorldModel(ModelConfig(induce=induce), seed=1), Misjudged(factor)
    model.observe(world.belief(), None)
    run(model, world, steps)
    return model


@pytest.fixture(scope="module")
def found() -> WorldModel:
    return learned(0.7, induce=True)


def likeliest(model: WorldModel, target: int) -> float:
    return float(model.lengths[0][target, PUSH[int(np.argmax(model.motion.inclusion[target, PUSH]))]])


def states(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    state = np.zeros((count, MAX_SLOTS, 5))
    state[..., :2] = rng.uniform([0.45, -0.1], [0.6, 0.1], (count, MAX_SLOTS, 2))
    state[..., 2:4] = rng.normal(0.0, 0.1, (count, MAX_SLOTS, 2))
    action = rng.normal(0.0, 0.1, (count, 2))
    return state, action, 0.1 * action


# -- what it finds -----------------------------------------------------------------------------------------------------


def test_a_radius_below_all_alternatives_is_found(found: WorldModel) -> None:
    assert likeliest(found, 1) == pytest.approx(TRUE, abs=0.002)
    assert likeliest(found, 2) == pytest.approx(TRUE, abs=0.002)
    row = np.flatnonzero(found.motion.inclusion[1, PUSH] > 0.9)
    assert found.motion.mean[1, PUSH[row[0]]] == pytest.approx(1.0, abs=0.1)


def test_a_radius_beyond_all_alternatives_is_found() -> None:
    assert likeliest(learned(1.35, induce=True, steps=340), 1) == pytest.approx(TRUE, abs=0.002)


def test_without_induction_the_nearest_alternative_is_all_there_is(found: WorldModel) -> None:
    assert abs(likeliest(learned(0.7, induce=False, steps=120), 1) - TRUE) > 0.008


def test_where_the_grammar_holds_the_true_radius_nothing_is_replaced() -> None:
    model = learned(1.0, induce=True, steps=120)
    assert model.induction is not None
    assert not model.induction.length.any()


def test_found_radii_are_in_the_posterior_the_graph_and_the_sentence_of_the_refresh(found: WorldModel) -> None:
    posterior = found.posterior()
    check(posterior)
    assert found.induction is not None
    mine = found.induction.length[1, PUSH]
    own = float(mine[mine > 0][0])
    rows = (posterior.term_kind == TermKind.PUSH) & (posterior.term_target == 1) & (posterior.term_parent == BODY)
    assert np.isclose(posterior.term_length[rows], own, atol=1e-6).any()
    edges = [e for e in found.graph() if (e.cause, e.effect) == ("body", "slot_4.position")]
    assert any(np.isclose(term[0].length, own) for term in edges[0].terms)


def test_a_length_of_one_pair_alone_has_no_vote_on_which_alternative_others_use(found: WorldModel) -> None:
    assert found.induction is not None
    np.testing.assert_array_equal(found.motion.experience.own, found.induction.length > 0.0)
    before = found.log_prior_odds()[0][3, PUSH]
    found.motion.experience.own[...] = False
    other = found.log_prior_odds()[0][3, PUSH]
    found.motion.experience.own = found.induction.length > 0.0
    assert np.abs(before - other).max() > 0.05


# -- what is exact -----------------------------------------------------------------------------------------------------


def test_features_of_many_states_at_once_are_those_of_each() -> None:
    state, action, body_step = states(0, 12)
    exists = np.random.default_rng(1).random((12, MAX_SLOTS)) > 0.2
    table = grammar.table(grammar.MOTION, grammar.motion_lengths(SCENE.extent, np.full((MAX_SLOTS, MAX_SLOTS), 0.1)))
    many = features(table, state, action, body_step, replace(SCENE, exists=exists))
    for n in range(12):
        one = features(table, state[n], action[n], body_step[n], replace(SCENE, exists=exists[n]))
        np.testing.assert_array_equal(many[n], one)
    with pytest.raises(ValueError, match="one state at a time"):
        features(grammar.table(grammar.BRIGHTNESS, np.zeros((MAX_SLOTS, len(grammar.BRIGHTNESS)))), state, action,
                 body_step, SCENE)  # fmt: skip


def test_every_pair_whose_longest_push_is_felt_is_kept() -> None:
    state, action, body_step = states(3, 60)
    lengths = np.tile(LONGEST * 0.06, (MAX_SLOTS, len(grammar.MOTION)))
    table = grammar.table(grammar.MOTION, lengths)
    pushes = grammar.MOTION.kind == TermKind.PUSH
    open_table = replace(SCENE, wall=np.array([-9.0, 9.0, -9.0, 9.0]))
    for n in range(60):
        near = near_pairs(state[n], action[n], body_step[n], open_table)
        phi = features(table, state[n], action[n], body_step[n], open_table).reshape(MAX_SLOTS, -1, 3)[:, pushes]
        felt = np.linalg.norm(phi.reshape(MAX_SLOTS, MAX_SLOTS, 3, 3)[:, :, 0], axis=-1)
        np.fill_diagonal(felt, 0.0)
        assert (felt[~near] <= 2.1e-4).all()
        assert (felt[near] > 0).all()


def test_a_replaced_column_has_the_sums_it_would_have_had_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole stream learned again with the length that was found, against what was put in its place."""
    # Weights of the steps that differ, but do not depend on what is believed.
    calls = count()  # both models are asked in turn
    monkeypatch.setattr(
        "crl_node.world_model.bounded_influence",
        lambda residual, variance, most: np.full(len(variance), 0.3 + 0.1 * (next(calls) // 2 % 5)),
    )
    plain = ModelConfig(induce=True)
    model, world = WorldModel(plain, seed=1), Misjudged(0.8)
    stream = [(world.belief(), None)]
    for _ in range(150):
        action = world.act()
        if world.left == 14:
            world.velocity[:] = 0.0
            stream.append((world.belief(), None))
        world.step(action)
        stream.append((world.belief(), action))
    again = WorldModel(plain, seed=1)
    assert model.induction is not None
    assert again.induction is not None
    column, length = int(PUSH[2]), 0.047
    again.induction.length[1, column] = length
    for belief, action in stream:
        model.observe(belief, action)
        again.observe(belief, action)
    change = Change(1, column, float(model.lengths[0][1, column]), length, 9.0)
    model.induction.length[1, column] = length
    scene = model._scene(model.registry.used)
    model.induction._recompute(change, BODY, model.induction.applied(model.lengths[0]), scene)
    assert again.lengths[0][1, column] == length
    assert again.motion.statistics.gram[1, :, column, column].sum() > 0
    for name in ("gram", "cross", "square", "rows"):
        np.testing.assert_allclose(
            getattr(model.motion.statistics, name)[1], getattr(again.motion.statistics, name)[1], rtol=1e-9, atol=1e-12
        )


def test_the_gram_matrices_stay_positive_semidefinite(found: WorldModel) -> None:
    for gram in found.motion.statistics.gram.reshape(-1, *found.motion.statistics.gram.shape[2:]):
        values = np.linalg.eigvalsh(gram)
        assert values.min() > -1e-9 * max(values.max(), 1e-12)


# -- bounded, without randomness, and no memory that would deceive -----------------------------------------------------


def filled(capacity: int, count: int) -> Reservoir:
    reservoir = Reservoir(capacity)
    state, action, body_step = states(5, count)
    state[:, 4:] = 0.0
    scene = replace(SCENE, exists=np.arange(MAX_SLOTS) < 4)
    for n in range(count):
        reservoir.add(
            state[n], action[n], body_step[n], np.zeros((MAX_SLOTS, 2)), np.zeros(MAX_SLOTS, int), scene.exists * 1.0,
            scene,
        )  # fmt: skip
    return reservoir


def test_when_it_is_full_the_best_known_pairs_become_final_and_no_other_loses_a_transition() -> None:
    small, large = filled(40, 200), filled(1000, 200)
    assert small.size <= 40
    assert small.final.any()
    open_pairs = ~small.final & (large.count > 0)
    np.testing.assert_array_equal(small.count[open_pairs], large.count[open_pairs])
    assert (small.count[small.final] == 0).all()
    again = filled(40, 200)
    for name, array in small.state().items():
        np.testing.assert_array_equal(array, again.state()[name])


def test_the_lengths_of_pairs_that_met_before_an_environment_began_are_final(found: WorldModel, tmp_path: Path) -> None:
    found.save(tmp_path / "model.npz")
    model = WorldModel.load(tmp_path / "model.npz")
    assert model.induction is not None
    length = model.induction.length.copy()
    model.begin_environment("another")
    assert model.induction.reservoir.final[1, BODY]
    assert model.induction.reservoir.size == 0
    run(model, Misjudged(1.3, seed=4), 60)
    assert not model.induction.reservoir.count[model.induction.reservoir.final].any()
    np.testing.assert_array_equal(model.induction.length[1, PUSH], length[1, PUSH])
    model.posterior()


def test_a_slot_given_to_another_thing_starts_with_the_grammars_radii(found: WorldModel, tmp_path: Path) -> None:
    found.save(tmp_path / "model.npz")
    model = WorldModel.load(tmp_path / "model.npz")
    assert model.induction is not None
    assert model.induction.length[1].any()
    model._forget(1)
    assert not model.induction.length[1].any()
    assert not model.induction.reservoir.count[1].any()
    assert not model.induction.reservoir.count[:, 1].any()
    assert not model.motion.experience.own[1].any()


# -- checkpoints and sums of several runs ------------------------------------------------------------------------------


def test_a_checkpoint_goes_on_as_the_model_that_wrote_it(found: WorldModel, tmp_path: Path) -> None:
    digest = found.save(tmp_path / "model.npz")
    one, two = WorldModel.load(tmp_path / "model.npz"), WorldModel.load(tmp_path / "model.npz")
    assert one.posterior().hash == digest
    np.testing.assert_array_equal(one.lengths[0], found.lengths[0])
    for model in (one, two):
        run(model, Misjudged(0.7, seed=3), 25)
    one.save(tmp_path / "one.npz")
    two.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_a_checkpoint_with_a_damaged_reservoir_is_refused_with_a_sentence(found: WorldModel) -> None:
    arrays = found.checkpoint()
    arrays["reservoir_state"] = arrays["reservoir_state"][:, :3]
    with pytest.raises(CheckpointError, match="reservoir_state"):
        WorldModel.from_arrays(arrays, "model.npz")


def test_models_with_the_same_radii_add_and_others_are_refused() -> None:
    def one(seed: int) -> WorldModel:
        model, world = WorldModel(ModelConfig(induce=True), seed=1), Misjudged(0.8, seed)
        adopt(model, {int(i): float(e / 0.8) for i, e in zip((0, 4, 7, 9), EXTENT, strict=True)}, np.zeros((4, 4)))
        model.observe(world.belief(), None)
        for _ in range(40):
            action = world.act()
            world.step(action)
            model.observe(world.belief(), None if world.left == 14 else action)
        return model

    first, second = one(0), one(1)
    assert first.induction is not None
    assert second.induction is not None
    both = first.induction.reservoir.size + second.induction.reservoir.size
    absorb(first, second)
    assert first.induction.reservoir.size == both
    second.induction.length[1, PUSH[0]] = 0.05
    second._lengths = second._make_lengths()
    with pytest.raises(ValueError, match="not added"):
        absorb(first, second)
    with pytest.raises(ValueError, match="different contact radii"):
        first.induction.merge(second.induction)


def test_few_contacts_are_no_reason_to_judge() -> None:
    model = learned(0.7, induce=True, steps=30)
    induction = Induction(model.motion, Config(least_rows=10_000))
    assert model.induction is not None
    induction.reservoir = model.induction.reservoir
    odds = model.log_prior_odds()[0]
    assert induction.judge(1, model.lengths[0], model._scene(model.registry.used), odds[1]) is None
    assert isinstance(model.motion.statistics, Statistics)
