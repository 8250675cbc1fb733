"""`disagreement` and `rnd` as policies: what they learn from, that they search as the planning graph does."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from crl_node.cli.app import Policy as PolicyOption
from crl_node.curiosity.disagreement import Disagreement
from crl_node.curiosity.dynamics import DynamicsConfig
from crl_node.curiosity.names import POLICIES
from crl_node.curiosity.planner import Planner
from crl_node.curiosity.policies import EXPLORE, Request, make_policy
from crl_node.curiosity.proposals import Table
from crl_node.curiosity.rnd import CLIP, Distillation, Running
from crl_node.curiosity.scene import scene_from
from crl_node.curiosity.search import Budget, effort, search
from crl_node.curiosity.session import PlanSession
from crl_node.curiosity.slot_features import Cast, State, points
from crl_node.data import Plan
from crl_node.export.spec import call_inputs
from crl_node.parameter_spec import load_specs
from crl_node.paths import share
from tests.support.plan_inputs import belief_of, random_call, random_posterior

MODEL = share() / "models" / "plan_s12_p96_k16_n64_h30_i2.onnx"
TABLE = Table(box=np.array([0.40, 0.80, -0.28, 0.28]))
THINGS = np.array([[0.45, 0.0], [0.60, 0.10], [0.60, -0.15]])
LEARNERS = ["disagreement", "rnd"]


def request(
    tip: tuple[float, float] = (0.45, 0.0), *, stamp: float = 1.0, executed: np.ndarray | None = None
) -> Request:
    scene = scene_from(belief_of(np.vstack([tip, THINGS[1:]]), stamp=stamp), None)
    return Request(scene, TABLE, [], None, frozenset(), False, np.zeros((0, 2)), 16, 6, 0.1, executed)


@pytest.fixture(scope="module")
def session() -> PlanSession:
    """Opening one takes seconds; the planners of this file take turns with it."""
    return PlanSession(MODEL, provider="cpu")


@pytest.fixture(autouse=True)
def _one_session(session: PlanSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crl_node.curiosity.planner.PlanSession", lambda *args, **kwargs: session)


def course(name: str, seed: int, steps: int = 4) -> list[Plan]:
    """Plans about things that shift a little."""
    planner, previous, out = Planner(MODEL, name, seed, provider="cpu", evaluate=False), None, []
    planner.swap(random_posterior(1))
    for k in range(steps):
        previous = planner.plan(belief_of(THINGS + [0.01 * k, 0.0], stamp=0.1 * k), previous=previous)
        out.append(previous)
    return out


def test_the_search_is_the_planning_graphs(session: PlanSession) -> None:
    """With the graph's own scores it finds the graph's own plan."""
    shape = session.info.shape
    values = random_call(shape, 3, posterior=random_posterior(3))
    call = {t.name: values[t.name] for t in call_inputs(shape)}
    settings = {name: values[name] for name in ("workspace", "max_speed", "camera", "tool", "effort", "spread")}
    session.fix(**settings)
    out = session.run(call)

    def value(actions: np.ndarray) -> np.ndarray:
        return session.run({**call, "proposals": actions, "bonus": np.zeros_like(call["bonus"])})["proposal_scores"]

    budget = Budget(
        shape.iterations, shape.elites, tuple(values["spread"].tolist()), max_speed=float(values["max_speed"][0])
    )
    found = search(value, call["proposals"], call["bonus"], call["noise"], budget)
    np.testing.assert_allclose(found.actions, out["best_actions"], atol=1e-5)
    assert found.origin == out["best_origin"][0]
    assert found.score == pytest.approx(float(out["best_score"][0]), abs=1e-3)
    np.testing.assert_allclose(found.proposal_scores, out["proposal_scores"], atol=1e-3)


def test_effort_is_way_and_change() -> None:
    actions = np.zeros((1, 3, 2), np.float32)
    actions[0, 1] = [0.3, 0.0]
    path = np.concatenate([np.zeros((1, 1, 2)), np.cumsum(actions, 1) * 0.1], 1)
    assert effort(actions, path, Budget(effort=(2.0, 5.0)))[0] == pytest.approx(2.0 * 0.03 + 5.0 * 2 * 0.09, rel=1e-3)


def test_more_elites_than_candidates_are_refused() -> None:
    four = np.zeros((4, 2, 2), np.float32)
    with pytest.raises(ValueError, match="fewer elites than candidates"):
        search(lambda a: a.sum((1, 2)), four, np.zeros(4, np.float32), np.zeros((1, 4, 2, 2), np.float32), Budget())


@pytest.mark.parametrize("name", LEARNERS)
def test_same_seed_and_calls_give_the_same_bytes_another_seed_others(name: str) -> None:
    first, second, other = course(name, 7), course(name, 7), course(name, 8)
    assert [plan.chosen.actions.tobytes() for plan in first] == [plan.chosen.actions.tobytes() for plan in second]
    assert [plan.chosen.score for plan in first] == [plan.chosen.score for plan in second]
    assert [plan.chosen.actions.tobytes() for plan in first] != [plan.chosen.actions.tobytes() for plan in other]


@pytest.mark.parametrize("name", LEARNERS)
def test_plans_are_within_the_limits_and_alternatives_differ_in_label(name: str) -> None:
    plan = course(name, 0, 2)[-1]
    assert plan.chosen.actions.shape == (30, 2)
    assert np.linalg.norm(plan.chosen.actions, axis=1).max() <= 0.25 * (1 + 1e-5)
    assert np.abs(plan.chosen.actions).max() > 0.02
    assert np.isfinite([plan.chosen.score, *(c.score for c in plan.rejected)]).all()
    labels = [plan.chosen.label, *(c.label for c in plan.rejected)]
    assert len(labels) == 6 and len(set(labels)) == 6


@pytest.mark.parametrize("name", LEARNERS)
def test_they_start_from_the_same_experiments_as_curious_and_without_when_told(name: str) -> None:
    """What the world model is uncertain about is not told to them: `curious` without needs has the same candidates."""
    given, asked = request(), []
    policy = make_policy(name)
    starts = policy.starts.starts  # type: ignore[attr-defined]
    policy.starts.starts = lambda *a: asked.append(starts(*a)) or asked[-1]  # type: ignore[attr-defined]
    policy.propose(replace(given, needs=["not looked at"]), np.random.default_rng(3))  # type: ignore[list-item]
    theirs = [label for label in asked[0].labels if label != EXPLORE]
    ours = make_policy("curious").propose(given, np.random.default_rng(0))
    assert theirs == [label for label in ours.labels if label != EXPLORE] != []
    policy.proposals = False  # type: ignore[attr-defined]
    policy.propose(given, np.random.default_rng(3))
    assert set(asked[1].labels) == {EXPLORE}


@pytest.mark.parametrize("name", LEARNERS)
def test_they_learn_from_what_was_executed_between_two_requests_that_follow_each_other(name: str) -> None:
    def rows(*requests: Request) -> tuple[int, float]:
        policy = make_policy(name)
        for k, given in enumerate(requests):
            policy.propose(given, np.random.default_rng(k))
        kept = policy.dynamics.body_rows  # type: ignore[attr-defined]
        return len(kept), float(kept.answer[0, 0])

    told = np.array([0.1, 0.0])
    first = request(stamp=1.0)
    count, off = rows(first, request((0.46, 0.0), stamp=1.1, executed=told))
    assert count == 1
    assert off == pytest.approx(0.0, abs=1e-4)  # it did what it was told
    assert rows(first, request((0.46, 0.0), stamp=1.1, executed=2 * told))[1] == pytest.approx(-1.0, abs=1e-4)
    assert rows(first, request((0.46, 0.0), stamp=1.1))[0] == 0  # nobody knows what was executed
    assert rows(first, request((0.46, 0.0), stamp=1.4, executed=told))[0] == 0  # a belief was missed
    assert rows(first, request((0.46, 0.0), stamp=0.9, executed=told))[0] == 0  # time went back


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_belief_again_teaches_nothing(name: str) -> None:
    policy = make_policy(name)
    told = np.array([0.1, 0.0])

    def weights() -> list[bytes]:
        kept = policy.dynamics  # type: ignore[attr-defined]
        nets = [kept.body, kept.things, *(policy._nets if name == "rnd" else ())]  # type: ignore[attr-defined]
        return [array.tobytes() for net in nets for array in net.weights]

    policy.propose(request(stamp=1.0), np.random.default_rng(0))
    policy.propose(request((0.46, 0.0), stamp=1.1, executed=told), np.random.default_rng(1))
    before = weights()
    policy.propose(request((0.46, 0.0), stamp=1.1, executed=told), np.random.default_rng(2))
    assert weights() == before
    policy.propose(request((0.47, 0.0), stamp=1.2, executed=told), np.random.default_rng(3))
    assert weights() != before


def test_the_planner_hands_on_what_was_executed_or_else_what_it_planned() -> None:
    seen: list[np.ndarray | None] = []

    class Listens(Disagreement):
        def propose(self, request: Request, rng: np.random.Generator):  # type: ignore[no-untyped-def]
            seen.append(request.executed)
            return super().propose(request, rng)

    planner = Planner(MODEL, Listens(), provider="cpu", evaluate=False)
    plan = planner.plan(belief_of(THINGS, stamp=0.0))
    planner.plan(belief_of(THINGS, stamp=0.1), previous=plan)
    planner.plan(belief_of(THINGS, stamp=0.2), previous=plan, executed=np.array([0.01, 0.02]))
    assert seen[0] is None
    np.testing.assert_array_equal(seen[1], plan.chosen.actions[0])
    np.testing.assert_array_equal(seen[2], [0.01, 0.02])


@pytest.mark.parametrize("name", ["skills", "random", *LEARNERS])
def test_without_evaluation_the_graph_is_not_called_and_no_gain_is_made_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    valued, plain = Planner(MODEL, name, 3, provider="cpu"), Planner(MODEL, name, 3, provider="cpu", evaluate=False)
    for planner in (valued, plain):  # of one session, but each knows its posterior
        planner.swap(random_posterior(1, version=4))
    run, calls = PlanSession.run, list[object]()
    monkeypatch.setattr(PlanSession, "run", lambda self, values: calls.append(values) or run(self, values))
    a = valued.plan(belief_of(THINGS))
    assert len(calls) == 1
    b = plain.plan(belief_of(THINGS))
    assert len(calls) == 1
    assert np.isnan([b.chosen.gain.structure, b.chosen.gain.parameters, b.chosen.gain.states]).all()
    assert np.isfinite(a.chosen.gain.total)
    assert a.posterior_version == b.posterior_version == 4
    np.testing.assert_array_equal(a.chosen.actions, b.chosen.actions)
    assert a.chosen.label == b.chosen.label


def test_curious_cannot_do_without_the_evaluation() -> None:
    with pytest.raises(ValueError, match="'curious' is refined by the planning graph"):
        Planner(MODEL, "curious", provider="cpu", evaluate=False)


def test_one_network_cannot_disagree() -> None:
    with pytest.raises(ValueError, match="at least 2 networks"):
        Disagreement(DynamicsConfig(members=1))
    with pytest.raises(ValueError, match="rate above 0"):
        Distillation(rate=float("nan"))


def place(at: tuple[float, float], tip: tuple[float, float] = (0.0, 0.0)) -> tuple[State, Cast]:
    z = points(np.array([[tip, at]]) * 50.0)
    cast = Cast(np.array([0.75, 1.5], np.float32), np.array([0, 1]), np.array([-20.0, 20.0, -20.0, 20.0]))
    return State(z, np.zeros_like(z), np.zeros((1, 2), np.float32)), cast


def test_the_error_about_a_random_network_falls_where_one_was_and_stays_elsewhere() -> None:
    rng, policy = np.random.default_rng(0), Distillation()
    with pytest.raises(RuntimeError, match="before it saw a first state"):
        policy.novelty(*place((0.1, 0.1)))
    errors = []
    for k in range(400):
        at = (0.1 + 0.02 * rng.standard_normal(), 0.1 + 0.02 * rng.standard_normal())
        policy.learn(*place(at, (0.02 * rng.standard_normal(), 0.0)), rng)
        if k in (30, 399):
            errors.append(float(policy.novelty(*place((0.1, 0.1)))[0]))
    assert errors[1] < 0.2 * errors[0]
    assert float(policy.novelty(*place((-0.2, 0.2)))[0]) > 10 * errors[1]


def test_running_moments_are_those_of_all_rows_and_what_is_far_out_is_clipped() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal([1.0, -3.0], [0.5, 2.0], (300, 2))
    running = Running(2)
    for part in np.array_split(rows, 7):
        running.add(part)
    np.testing.assert_allclose(running.mean, rows.mean(0))
    np.testing.assert_allclose(running.normal(rows.astype(np.float32)).std(0), 1.0, atol=0.01)
    assert running.normal(np.float32([[1e6, -1e6]])).tolist() == [[CLIP, -CLIP]]


def test_command_line_parameters_and_policies_name_the_same() -> None:
    assert [option.value for option in PolicyOption] == list(POLICIES)
    assert tuple(load_specs("planner")["policy"].choices or ()) == POLICIES
    assert [make_policy(name).name for name in POLICIES] == list(POLICIES)


def test_no_policy_imports_torch() -> None:
    code = (
        "import sys; from crl_node.curiosity.policies import POLICIES, make_policy;"
        "[make_policy(name) for name in POLICIES];"
        "bad = {'torch', 'pybullet', 'rclpy'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
