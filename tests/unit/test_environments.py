"""Environments: which mechanisms are the same, which changed, and what is learned anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

from crl_node.data import TermKind
from crl_node.mechanisms import grammar
from crl_node.mechanisms.environments import MOST_ENVIRONMENTS, renamed, sums_of
from crl_node.mechanisms.statistics import Statistics
from crl_node.mechanisms.watch import Watch, WatchConfig
from crl_node.metrics import calibration_error
from crl_node.structure.environments import (
    Invariance,
    InvarianceConfig,
    design,
    extended,
    invariance,
    projected,
)
from crl_node.structure.evidence import log_evidence, make_conjugate_problem, make_problem
from crl_node.structure.exact import ExactPosterior
from crl_node.structure.variables import BRIGHTNESS_NOISE, MOTION_NOISE, Variables
from crl_node.world_model import ModelConfig, WorldModel

Data = tuple[np.ndarray, np.ndarray]
Sums = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def sums(data: list[Data]) -> Sums:
    return (
        np.array([x.T @ x for x, _ in data]), np.array([x.T @ y for x, y in data]),
        np.array([y @ y for _, y in data]), np.array([float(len(y)) for _, y in data]),
    )  # fmt: skip


def drawn(rng: np.random.Generator, weights: np.ndarray, rows: int, noise: float = 0.3) -> Data:
    x = rng.standard_normal((rows, len(weights)))
    return x, x @ weights + noise * rng.standard_normal(rows)


# -- plain arrays -----------------------------------------------------------------------------------------------------


def test_the_mechanism_that_changed_is_named_and_the_others_are_invariant() -> None:
    rng = np.random.default_rng(0)
    before, after = np.array([1.0, -0.8, 0.0, 0.5, 0.0]), np.array([1.0, 0.2, 0.0, 0.5, 0.0])
    found = invariance(*sums([drawn(rng, before, 300), drawn(rng, after, 200)]))
    assert found.invariant[1] < 0.01
    assert (np.delete(found.invariant, 1) > 0.9).all()
    np.testing.assert_allclose(found.weight_mean, [before, after], atol=0.1)
    (change,) = found.changes(["a", "b", "c", "d", "e"], np.arange(5, dtype=np.int32))
    assert (change.name, change.environment) == ("b", 1)
    assert change.before[0] == pytest.approx(-0.8, abs=0.1) and change.after[0] == pytest.approx(0.2, abs=0.1)
    assert str(change).startswith("b changed: -0.79 -> 0.20 +-")


def test_a_mechanism_that_appears_and_one_that_goes_are_both_named() -> None:
    rng = np.random.default_rng(1)
    found = invariance(*sums([drawn(rng, np.array([1.0, 0.0, 0.7]), 200), drawn(rng, np.array([0.0, 0.9, 0.7]), 200)]))
    assert found.invariant[0] < 0.01 and found.invariant[1] < 0.01 and found.invariant[2] > 0.9


def test_noise_that_changes_alone_is_told_from_mechanisms_that_change() -> None:
    rng = np.random.default_rng(2)
    weights = np.array([1.0, -0.5, 0.0])
    louder = invariance(*sums([drawn(rng, weights, 300), drawn(rng, weights, 300, noise=0.9)]))
    assert louder.noise_invariant < 0.01 and (louder.invariant > 0.8).all()
    np.testing.assert_allclose(louder.noise_std, [0.3, 0.9], rtol=0.2)
    same = invariance(*sums([drawn(rng, weights, 300), drawn(rng, weights, 300)]))
    assert same.noise_invariant > 0.9


def test_differences_within_the_tolerance_are_no_change_however_much_data_there_are() -> None:
    rng = np.random.default_rng(3)
    data = sums([drawn(rng, np.array([1.0, 0.5]), 20000), drawn(rng, np.array([1.04, 0.5]), 20000)])
    assert invariance(*data).invariant[0] < 0.01
    assert invariance(*data, config=InvarianceConfig(tolerance=0.3)).invariant[0] > 0.9


def test_what_changes_in_one_environment_stays_so_when_environments_follow_each_other() -> None:
    rng = np.random.default_rng(4)
    weights = [np.array([1.0, 0.6]), np.array([0.3, 0.6]), np.array([0.3, 0.6])]
    data = sums([drawn(rng, w, 200) for w in weights])
    onwards = invariance(*data, config=InvarianceConfig(onwards=True))
    assert onwards.changed[1, 0] > 0.99 and onwards.changed[2, 0] < 0.2
    apart = invariance(*data)
    assert apart.changed[1, 0] > 0.99 and apart.changed[2, 0] > 0.99


def test_the_extended_sums_are_those_of_the_columns_written_out() -> None:
    rng = np.random.default_rng(5)
    data = [drawn(rng, np.array([1.0, 0.0]), 20), drawn(rng, np.array([1.0, 0.5]), 30)]
    gram, cross, _, _ = sums(data)
    big, right = extended(gram, cross, design(2, onwards=False))
    x = np.vstack([np.hstack([data[0][0], np.zeros((20, 2))]), np.hstack([data[1][0], data[1][0]])])
    y = np.concatenate([data[0][1], data[1][1]])
    np.testing.assert_allclose(big, x.T @ x)
    np.testing.assert_allclose(right, x.T @ y)


@pytest.mark.parametrize("seed", range(3))
def test_probabilities_of_invariance_are_calibrated_on_problems_from_the_prior(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    rate, said, true = 0.2, [], []
    for _ in range(120):
        noise = float(np.sqrt(1.0 / rng.gamma(2.0)))
        weights = np.where(rng.random(4) < 0.3, 1.5 * noise * rng.standard_normal(4), 0.0)
        changed = rng.random(4) < rate
        # The slab of a deviation is hypot(prior mean 0, prior std 1.5) in units of the noise.
        other = weights + np.where(changed, 1.5 * noise * rng.standard_normal(4), 0.0)
        rows = np.exp(rng.uniform(np.log(8), np.log(200), 2)).astype(int)
        data = [drawn(rng, w, int(n), noise) for w, n in zip((weights, other), rows, strict=True)]
        found = invariance(
            *sums(data), prior_std=np.full(4, 1.5), log_prior_odds=np.full(4, logit(0.3)), shape=2.0, rate=1.0,
            config=InvarianceConfig(change_rate=rate, noise_change_rate=1e-9), engine=ExactPosterior,
        )  # fmt: skip
        said.append(found.invariant)
        true.append(~changed)
    error = calibration_error(np.concatenate(true), np.concatenate(said))
    assert error is not None and error < 0.05


def test_the_greedy_engine_gives_about_the_exact_answer() -> None:
    rng = np.random.default_rng(6)
    data = sums([drawn(rng, np.array([0.5, 0.0, 0.3, 0.0]), 40), drawn(rng, np.array([0.2, 0.0, 0.3, 0.0]), 40)])
    exact, greedy = invariance(*data, engine=ExactPosterior), invariance(*data)
    np.testing.assert_allclose(greedy.invariant, exact.invariant, atol=0.02)
    np.testing.assert_allclose(greedy.weight_mean, exact.weight_mean, atol=0.02)


def test_one_environment_is_invariant_and_bad_statistics_are_refused() -> None:
    rng = np.random.default_rng(7)
    data = sums([drawn(rng, np.array([0.5, 0.0]), 40)])
    only: Invariance = invariance(*data)
    np.testing.assert_array_equal(only.invariant, 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        invariance(data[0][0], data[1], data[2], data[3])
    with pytest.raises(ValueError, match="not finite"):
        invariance(data[0] * np.nan, data[1], data[2], data[3])


def test_projected_sums_give_the_evidence_of_the_other_columns_with_the_nuisance_always_in() -> None:
    """log p(y | S + C) - log p(y | C) is the same from all columns as from the sums without C."""
    rng = np.random.default_rng(8)
    x, y = drawn(rng, np.array([0.8, -0.4, 0.6, 0.0]), 60)
    noise = np.array([0.3])
    mean, std = np.array([0.1, 0.0, 0.4, 0.0]), np.array([1.0, 0.7, 0.5, 2.0])
    nuisance = np.array([2])
    gram, cross, square = (x.T @ x)[None], (x.T @ y)[None], np.array([y @ y])
    prior = {"prior_mean": mean, "prior_std": std, "group": np.arange(4, dtype=np.int32), "log_prior_odds": np.zeros(4)}
    whole = make_problem(gram, cross, square, np.array([60.0]), noise, **prior)
    left = projected(gram, cross, square, nuisance, noise_std=noise, prior_mean=mean[nuisance], prior_std=std[nuisance])
    rest = make_problem(*left, np.array([60.0]), noise, **prior)
    sets = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]], bool)
    with_nuisance = sets | (np.arange(4) == 2)
    expected = log_evidence(whole, with_nuisance) - log_evidence(whole, with_nuisance[:1])
    actual = log_evidence(rest, sets) - log_evidence(rest, sets[:1])
    np.testing.assert_allclose(actual, expected, atol=1e-8)
    assert (left[0][:, 2] == 0).all() and (left[1][:, 2] == 0).all()


def test_the_conjugate_problem_of_two_like_environments_is_that_of_all_their_data() -> None:
    rng = np.random.default_rng(9)
    data = [drawn(rng, np.array([0.8, 0.0]), 50), drawn(rng, np.array([0.8, 0.0]), 70)]
    gram, cross, square, rows = sums(data)
    found = invariance(gram, cross, square, rows, shape=1.0, rate=0.1)
    pooled = make_conjugate_problem(
        gram.sum(axis=0), cross.sum(axis=0), float(square.sum()), float(rows.sum()), prior_mean=np.zeros(2),
        prior_std=np.ones(2), group=np.arange(2, dtype=np.int32), log_prior_odds=np.zeros(2), shape=1.0, rate=0.1,
    )  # fmt: skip
    weight = np.linalg.solve(pooled.precision, pooled.linear)
    np.testing.assert_allclose(found.weight_mean[0, 0], weight[0], atol=0.03)


# -- the model's variables --------------------------------------------------------------------------------------------

LAMP, OLD, NEW = 3, 1, 2
COLUMNS = grammar.BRIGHTNESS
ODDS = np.where(np.isin(COLUMNS.parent, (-1, OLD, NEW)), -1.5, -np.inf)


def lamp_steps(
    variables: Variables, rng: np.random.Generator, button: int, steps: int, watch: Watch | None = None
) -> None:
    """A lamp (slot 3) that follows `button`; both buttons are pressed now and then, independently."""
    light = 0.0
    decay = np.flatnonzero(COLUMNS.kind == TermKind.DECAY)
    column = {b: np.flatnonzero((COLUMNS.kind == TermKind.LIT_BY) & (COLUMNS.parent == b))[0] for b in (OLD, NEW)}
    pressed = {OLD: 0.0, NEW: 0.0}
    for _ in range(steps):
        for b in pressed:
            if rng.random() < 0.2:
                pressed[b] = float(rng.random() < 0.4)
        phi = np.zeros((12, 1, len(COLUMNS)))
        phi[LAMP, 0, decay] = -light
        for b, f in column.items():
            phi[LAMP, 0, f] = pressed[b] - light
        step = 0.7 * (pressed[button] - light) + 0.03 * rng.standard_normal()
        change = np.zeros((12, 1))
        change[LAMP, 0] = step
        weight = (np.arange(12) == LAMP).astype(float)
        variables.statistics.add(phi, change, np.zeros(12, int), weight)
        light += step
        if watch is not None:
            watch.filling[1].add(phi, change, np.zeros(12, int), weight)
            watch.stepped(np.array([0, LAMP]))


def lit_by(values: np.ndarray, button: int) -> float:
    """The value of LIT_BY(button) in an array over columns or over groups."""
    if len(values) == len(COLUMNS):
        return float(values[(COLUMNS.kind == TermKind.LIT_BY) & (COLUMNS.parent == button)][0])
    return float(values[COLUMNS.of_group(TermKind.LIT_BY, button)])


def rewired() -> Variables:
    variables, rng = Variables(COLUMNS, BRIGHTNESS_NOISE), np.random.default_rng(0)
    lamp_steps(variables, rng, OLD, 200)
    variables.refresh(LAMP, ODDS, rng)
    variables.begin_environment()
    lamp_steps(variables, rng, NEW, 100)
    variables.refresh(LAMP, ODDS, rng)
    return variables


def test_a_rewired_lamp_is_named_and_only_that_is_learned_anew() -> None:
    variables = rewired()
    kept = variables.invariant(LAMP)
    assert lit_by(kept, OLD) < 0.1 and lit_by(kept, NEW) < 0.1
    others = np.delete(kept, [COLUMNS.of_group(TermKind.LIT_BY, b) for b in (OLD, NEW)])
    assert (others > 0.9).all()
    assert lit_by(variables.inclusion[LAMP], NEW) > 0.99 and lit_by(variables.inclusion[LAMP], OLD) < 0.1
    assert variables.mean[LAMP, COLUMNS.kind == TermKind.LIT_BY][NEW] == pytest.approx(0.7, abs=0.05)
    # What is unchanged still rests on the data of both environments.
    decay = int(np.flatnonzero(COLUMNS.kind == TermKind.DECAY)[0])
    live = sums_of(variables.statistics, LAMP).gram[:, decay, decay].sum()
    assert variables.sums(LAMP).gram[:, decay, decay].sum() > live + 0.1
    assert variables.sums(LAMP).rows.sum() == 300


def test_a_lamp_that_stays_as_it_is_is_invariant_and_rests_on_all_data() -> None:
    variables, rng = Variables(COLUMNS, BRIGHTNESS_NOISE), np.random.default_rng(0)
    lamp_steps(variables, rng, OLD, 200)
    variables.refresh(LAMP, ODDS, rng)
    finished = variables.statistics
    variables.begin_environment()
    lamp_steps(variables, rng, OLD, 100)
    variables.refresh(LAMP, ODDS, rng)
    assert (variables.invariant(LAMP) > 0.9).all()
    np.testing.assert_allclose(
        variables.sums(LAMP).gram, finished.gram[LAMP] + variables.statistics.gram[LAMP], atol=1e-12
    )


def test_environments_survive_a_checkpoint_and_two_robots_add_up() -> None:
    variables = rewired()
    other = Variables(COLUMNS, BRIGHTNESS_NOISE)
    other.restore(variables.state("x"), "x", earlier=1)
    np.testing.assert_array_equal(other.sums(LAMP).gram, variables.sums(LAMP).gram)
    np.testing.assert_array_equal(other.environments.begun[0].changed, variables.environments.begun[0].changed)
    other.statistics.merge(variables.statistics)
    other.environments.merge(variables.environments)
    assert other.sums(LAMP).rows.sum() == 600
    np.testing.assert_allclose(other.environments.past[0].gram, 2.0 * variables.environments.past[0].gram)
    with pytest.raises(ValueError, match="not merged"):
        other.environments.merge(Variables(COLUMNS, BRIGHTNESS_NOISE).environments)


def test_at_most_four_environments_are_kept_apart_and_what_they_say_together_is_not_lost() -> None:
    variables, rng = Variables(COLUMNS, BRIGHTNESS_NOISE), np.random.default_rng(0)
    names = ["first"]
    for number in range(MOST_ENVIRONMENTS + 2):
        lamp_steps(variables, rng, OLD, 50)
        variables.refresh(LAMP, ODDS, rng)
        variables.begin_environment()
        names = renamed(names, f"n{number}")
    assert len(variables.environments.past) == MOST_ENVIRONMENTS - 1 == len(variables.environments.begun)
    assert len(names) == MOST_ENVIRONMENTS and names[-1] == f"n{MOST_ENVIRONMENTS + 1}"
    assert variables.sums(LAMP).rows.sum() == 50 * (MOST_ENVIRONMENTS + 2)
    carried = variables.environments.carried
    variables.environments._carry()
    assert carried is not None and variables.environments.carried is not None
    np.testing.assert_allclose(variables.environments.carried.gram, carried.gram, atol=1e-9)
    with pytest.raises(ValueError, match="cannot be called"):
        renamed(names, names[-1])


def test_a_forgotten_slot_leaves_no_trace_in_earlier_environments() -> None:
    variables = rewired()
    variables.forget(OLD)
    mine = COLUMNS.parent == OLD
    assert (variables.environments.past[0].gram[:, :, mine] == 0).all()
    assert not variables.environments.begun[0].changed[:, np.unique(COLUMNS.group[mine])].any()
    variables.forget(LAMP)
    assert variables.sums(LAMP).rows.sum() == 0 and (variables.invariant(LAMP) == 1.0).all()


def test_taking_a_part_out_of_statistics_undoes_adding_it() -> None:
    variables, rng = Variables(COLUMNS, BRIGHTNESS_NOISE), np.random.default_rng(0)
    lamp_steps(variables, rng, OLD, 30)
    part = variables.statistics
    total = Statistics(12, len(COLUMNS))
    total.merge(part)
    total.merge(part)
    np.testing.assert_allclose(total.without(part).gram, part.gram)
    assert total.without(None) is total


def watched(button: int) -> tuple[Watch, Variables]:
    """A watch whose second window holds a lamp that follows `button`, after one that followed the old button."""
    variables, rng = Variables(COLUMNS, BRIGHTNESS_NOISE), np.random.default_rng(3)
    config = WatchConfig(window=100, warm_up=150, certainty=0.95)
    watch = Watch((Variables(grammar.MOTION, MOTION_NOISE), variables), config)
    lamp_steps(variables, rng, OLD, 100, watch)
    variables.refresh(LAMP, ODDS, rng)
    assert watch.judge_next((MOTION_ODDS, ALL_ODDS)) is None  # still warming up
    lamp_steps(variables, rng, button, 100, watch)
    return watch, variables


MOTION_ODDS = np.full((12, len(grammar.MOTION)), -1.5)
ALL_ODDS = np.tile(ODDS, (12, 1))


def test_the_watch_notices_a_rewired_lamp_and_nothing_when_nothing_changed() -> None:
    watch, variables = watched(NEW)
    found = [watch.judge_next((MOTION_ODDS, ALL_ODDS)) for _ in range(4)]
    (alarm,) = [f for f in found if f is not None]
    assert alarm[:2] == (1, LAMP) and alarm[3] > 0.95
    assert alarm[2] in [COLUMNS.of_group(TermKind.LIT_BY, b) for b in (OLD, NEW)]
    variables.begin_environment(watch.recent()[1])
    variables.refresh(LAMP, ODDS, np.random.default_rng(0))
    assert variables.environments.past[0].rows.sum() == variables.statistics.rows.sum() == 100
    assert lit_by(variables.inclusion[LAMP], NEW) > 0.9
    quiet, _ = watched(OLD)
    assert [quiet.judge_next((MOTION_ODDS, ALL_ODDS)) for _ in range(4)] == [None] * 4


# -- the whole model --------------------------------------------------------------------------------------------------


def test_a_model_in_its_second_environment_is_saved_and_loaded(tmp_path: Path) -> None:
    model = WorldModel(ModelConfig())
    model.motion.statistics.rows[1] = 5.0
    assert model.begin_environment("wet table") == "wet table"
    with pytest.raises(ValueError, match="wet table"):
        model.begin_environment("wet table")
    model.motion.statistics.rows[1] = 7.0
    model.posterior()
    model.save(tmp_path / "model.npz")
    loaded = WorldModel.load(tmp_path / "model.npz")
    assert loaded.environments == ["first", "wet table"]
    assert loaded.motion.sums(1).rows.sum() == model.motion.sums(1).rows.sum() == 24.0
    assert loaded.posterior().hash == model.posterior().hash


def test_a_model_of_one_environment_computes_from_its_statistics_themselves() -> None:
    model = WorldModel(ModelConfig())
    assert model.motion.sums(2).gram.base is model.motion.statistics.gram
    assert model.environments == ["first"] and model.watch is None
