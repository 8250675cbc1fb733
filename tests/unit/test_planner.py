"""The planner as one object: beliefs in, plans out."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from crl_node.curiosity.planner import Planner, PlannerConfig
from crl_node.curiosity.scene import SceneError
from crl_node.data import Plan, TermKind
from crl_node.export.onnx_model import ModelError
from crl_node.paths import share
from crl_node.posterior import PosteriorError
from tests.support.plan_inputs import belief_of, empty_posterior, random_posterior, with_term

MODEL = share() / "models" / "plan_s12_p96_k16_n64_h30_i2.onnx"
THINGS = np.array([[0.45, 0.0], [0.60, 0.10], [0.60, -0.15]])


def planner(policy: str = "curious", seed: int = 0) -> Planner:
    return Planner(MODEL, policy, seed, provider="cpu")


def uncertain_push(row: int = 1, version: int = 2) -> object:
    """Nobody knows how slot `row` reacts to the tip."""
    return with_term(
        empty_posterior(version=version), 5, TermKind.PUSH, row, 0, 0.05, 0.6 + 0.5 * np.linspace(-1, 1, 16)
    )


@pytest.mark.parametrize("row", [1, 2])
def test_goes_to_the_thing_nobody_knows_and_pushes_it(row: int) -> None:
    p = planner()
    p.swap(uncertain_push(row))
    belief, previous, touched = belief_of(THINGS), None, False
    tip = THINGS[0].copy()
    for k in range(25):
        belief = belief_of(np.vstack([tip, THINGS[1:]]), stamp=0.1 * k)
        previous = p.plan(belief, previous=previous)
        tip = tip + previous.chosen.actions[0] * 0.1
        touched = touched or bool(np.linalg.norm(tip - THINGS[row]) < 0.05)
    assert touched
    assert previous is not None
    assert previous.posterior_version == 2


def test_expected_information_is_reported_by_part_and_rejected_candidates_differ_in_label() -> None:
    p = planner()
    p.swap(uncertain_push())
    plan = p.plan(belief_of(THINGS))
    assert plan.chosen.gain.parameters > 0.25  # discounted by the way there, three steps at a time
    assert plan.chosen.gain.structure < 0.1
    labels = [plan.chosen.label, *(c.label for c in plan.rejected)]
    assert 1 <= len(plan.rejected) <= 5
    assert len(set(labels)) == len(labels)
    assert plan.path.shape == (31, 2)
    assert plan.plan_ms > 0
    np.testing.assert_allclose(plan.path[0], THINGS[0], atol=1e-6)


@pytest.mark.parametrize("policy", ["curious", "skills", "random"])
def test_deterministic_given_seed_and_calls(policy: str) -> None:
    def course() -> list[Plan]:
        p, previous, out = planner(policy, 7), None, []
        p.swap(random_posterior(1))
        for k in range(4):
            previous = p.plan(belief_of(THINGS + [0.01 * k, 0.0], stamp=0.1 * k), previous=previous)
            out.append(previous)
        return out

    for a, b in zip(course(), course(), strict=True):
        np.testing.assert_array_equal(a.chosen.actions, b.chosen.actions)
        assert a.chosen.label == b.chosen.label
        assert a.chosen.score == b.chosen.score


@pytest.mark.parametrize("policy", ["skills", "random"])
def test_baselines_are_executed_as_they_are_but_their_information_is_valued_too(policy: str) -> None:
    p = planner(policy)
    p.swap(random_posterior(1))
    plan = p.plan(belief_of(THINGS))
    assert plan.rejected == ()
    assert np.isfinite(plan.chosen.gain.total)
    assert np.linalg.norm(plan.chosen.actions, axis=1).max() <= 0.3


def test_plans_before_anything_was_learned() -> None:
    plan = planner().plan(belief_of(THINGS))
    assert plan.posterior_version == 0
    assert np.linalg.norm(plan.chosen.actions, axis=1).max() > 0.02
    assert plan.chosen.label.startswith("push")


def test_no_session_is_created_once_the_planner_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating one holds the interpreter for a tenth of a second and more: never while the arm moves."""
    p = planner()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a session was created after activation")

    monkeypatch.setattr(onnxruntime, "InferenceSession", forbidden)
    for version in (2, 3):
        p.swap(random_posterior(version, version=version))
        p.set_goal({1: (0.6, 0.1)})
        assert p.plan(belief_of(THINGS, stamp=0.1 * version)).posterior_version == version


def test_a_bad_posterior_is_refused_and_the_old_one_stays() -> None:
    p = planner()
    p.swap(random_posterior(1, version=4))
    bad = random_posterior(2, version=5)
    with pytest.raises(PosteriorError, match="hash"):
        p.swap(replace(bad, weight_mean=bad.weight_mean + 1))
    with pytest.raises(PosteriorError, match="shape"):
        p.swap(replace(bad, noise_std=bad.noise_std[:3]))
    assert p.version == 4
    assert p.plan(belief_of(THINGS)).posterior_version == 4


def test_a_bad_belief_is_refused_and_the_next_is_planned_from() -> None:
    p = planner()
    good = belief_of(THINGS)
    mean = good.mean.copy()
    mean[1, 2] = np.inf
    with pytest.raises(SceneError):
        p.plan(replace(good, mean=mean))
    assert np.isfinite(p.plan(good).chosen.actions).all()


def test_speed_and_workspace_limits_come_from_the_configuration() -> None:
    config = PlannerConfig(workspace=(0.42, 0.50, -0.05, 0.05), max_speed=0.1)
    p = Planner(MODEL, "curious", 0, config, provider="cpu")
    p.swap(random_posterior(1))
    plan = p.plan(belief_of(THINGS))
    assert np.linalg.norm(plan.chosen.actions, axis=1).max() <= 0.1 * (1 + 1e-5)
    assert (plan.path >= np.array([0.42, -0.05]) - 1e-6).all() and (plan.path <= np.array([0.50, 0.05]) + 1e-6).all()


def test_a_blocked_tip_makes_the_planner_do_something_else() -> None:
    """The tip never moves: after a few plans the jam is noticed and another direction is tried."""
    p = planner()
    p.swap(uncertain_push())
    previous, labels, directions = None, [], []
    for k in range(40):
        previous = p.plan(belief_of(THINGS, stamp=0.1 * k), previous=previous)
        labels.append(previous.chosen.label)
        directions.append(previous.chosen.actions[0])
    assert p.gave_up >= 1
    headings = np.array(directions) / np.linalg.norm(directions, axis=1, keepdims=True)
    assert (headings @ headings[1]).min() < 0.5
    assert len(set(labels)) >= 2


def test_a_thing_that_is_wanted_elsewhere_is_pushed_there_when_its_push_is_known() -> None:
    """Nothing is left to learn: preference alone decides, and it is reported apart from the gain."""
    p = planner()
    p.swap(with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.045, np.full(16, 1.0)))
    idle = p.plan(belief_of(THINGS))
    p.set_goal({1: (0.60, 0.22)}, weight=100.0)
    plan = p.plan(belief_of(THINGS))
    assert plan.chosen.label == "bring slot_1 to the goal"
    assert plan.chosen.preference > 2.0
    assert plan.chosen.gain.total < 0.1
    assert idle.chosen.preference == 0.0
    p.clear_goal()
    assert p.plan(belief_of(THINGS)).chosen.preference == 0.0


def test_a_goal_that_was_cleared_leaves_no_trace_in_the_plans() -> None:
    def course(goal: bool) -> list[Plan]:
        p = planner(seed=3)
        p.swap(random_posterior(1))
        if goal:
            p.set_goal({1: (0.6, 0.2)})
            p.clear_goal()
        return [p.plan(belief_of(THINGS, stamp=0.1 * k)) for k in range(3)]

    for a, b in zip(course(False), course(True), strict=True):
        np.testing.assert_array_equal(a.chosen.actions, b.chosen.actions)
        assert a.chosen.score == b.chosen.score


def test_goals_that_make_no_sense_are_refused_in_words_and_the_old_one_stays() -> None:
    p = planner()
    p.swap(with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.045, np.full(16, 1.0)))
    p.set_goal({1: (0.60, 0.22)})
    with pytest.raises(ValueError, match="slot 0 is the robot's tip"):
        p.set_goal({0: (0.6, 0.0)})
    with pytest.raises(ValueError, match=r"\(2.0, 0.0\) m for slot 1 is off the table"):
        p.set_goal({1: (2.0, 0.0)})
    with pytest.raises(ValueError, match="off the table"):
        p.set_goal({1: (float("nan"), 0.0)})
    with pytest.raises(ValueError, match="weight is 0"):
        p.set_goal({1: (0.6, 0.0)}, weight=0.0)
    with pytest.raises(ValueError, match="weight is -1"):
        p.set_goal({1: (0.6, 0.0), 2: (0.5, 0.0)}, weight={1: 10.0, 2: -1.0})
    assert p.plan(belief_of(THINGS)).chosen.preference > 0
    # A slot that is not in the scene is waited for.
    p.set_goal({9: (0.6, 0.0)})
    assert p.plan(belief_of(THINGS)).chosen.preference == 0.0


def test_a_missing_model_file_is_an_error_in_words() -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        Planner("nowhere.onnx")


def test_the_planner_and_its_node_import_neither_torch_nor_pybullet() -> None:
    code = (
        "import sys; import crl_node.curiosity.planner, crl_node.export.onnx_model;"
        "bad = {'torch', 'pybullet', 'rclpy'} & set(sys.modules); assert not bad, bad;"
        "import crl_node.nodes.planner;"
        "bad = {'torch', 'pybullet'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
