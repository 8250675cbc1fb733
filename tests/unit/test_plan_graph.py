"""The torch reference of the plan graph against the numpy reference of the terms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crl_node.data import TermKind
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import PlanShape, Values, all_inputs, outputs, posterior_values
from crl_node.mechanisms import terms
from crl_node.posterior import PARTICLES
from tests.support.plan_inputs import empty_posterior, random_call, random_posterior, with_term

#: With room for every term of a random posterior.
SMALL = PlanShape(candidates=8, horizon=6, iterations=2, elites=3, light_terms=60, count_every=1)


def tensors(values: Values) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in values.items()}


def unbounded(values: Values) -> Values:
    """No box, no jams, no speed limit: only the model moves anything."""
    values["workspace"] = np.array([-10, 10, -10, 10], np.float32)
    values["jams"][:] = 0.0
    values["max_speed"][:] = 10.0
    return values


def run(shape: PlanShape, values: Values) -> dict[str, np.ndarray]:
    graph = PlanGraph(shape)
    with torch.no_grad():
        out = graph(*(torch.from_numpy(np.ascontiguousarray(values[t.name])) for t in all_inputs(shape)))
    return {t.name: o.numpy() for t, o in zip(outputs(shape), out, strict=True)}


def numpy_rollout(values: Values, candidate: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States [H + 1, S, 5], features [H, P, 3] and contact regimes [H, 2, S] (motion, brightness) by numpy."""
    table = terms.TermTable(
        values["term_kind"], values["term_target"], values["term_parent"], values["term_length"].astype(float)
    )
    exists = values["exists"] > 0.5
    dt = float(values["dt"][0])
    scene = terms.Scene(values["slot_extent"].astype(float), exists, values["wall"].astype(float), dt)
    state = np.zeros((len(exists), 5))
    state[:, :2], state[:, 2:4] = values["position"], values["velocity"]
    state[:, 4] = values["brightness"]
    state[~exists, :2] = 50 + 5.0 * np.flatnonzero(~exists)[:, None]
    state[~exists, 2:4] = 0.0
    states, features, regime = [state], [], []
    for h in range(steps):
        action = values["proposals"][candidate, h].astype(float)
        delta, phi = terms.advance(table, values["weight_mean"].astype(float), state, action, scene)
        # `advance` gives brightness its change at once; only the body's own step feeds back into the features.
        soon = terms.contact_degrees(terms.anticipated(state, delta[0, :2], dt), scene).max(axis=1) > 0
        goes = np.linalg.norm(delta[:, :2], axis=1) > terms.MOVING_STEP
        touched = terms.in_contact(state, scene) | ((soon | goes) & exists)
        regime.append(np.stack([touched, touched | (np.abs(delta[:, 2]) > terms.SWITCHING_STEP)]))
        after = state.copy()
        after[:, :2] += delta[:, :2]
        after[:, 2:4] = delta[:, :2] / dt
        after[:, 4] = np.clip(state[:, 4] + delta[:, 2], 0.0, 1.0)
        states.append(after)
        features.append(phi)
        state = after
    return np.array(states), np.array(features), np.array(regime)


@pytest.mark.parametrize("seed", range(6))
def test_rollout_and_features_agree_with_the_numpy_terms_over_several_steps(seed: int) -> None:
    values = unbounded(random_call(SMALL, seed, posterior=random_posterior(seed, scale=0.15)))
    graph, x = PlanGraph(SMALL), tensors(values)
    with torch.no_grad():
        model, begin, population = graph.prepare(x)
        states, _, traces = graph.roll(x, population, begin, model)
    places = np.stack([np.stack([s.x.numpy(), s.y.numpy()], -1) for s in (begin, *states)])  # [H + 1, S, N, 2]
    phi = np.stack([np.stack([t.features.x.numpy(), t.features.y.numpy()], -1) for t in traces])  # [H, P, N, 2]
    light = np.stack([t.light.numpy() for t in traces])  # [H, L, N]
    lights = graph.tables.lights(x).numpy()  # [L] rows of the light terms
    known = values["exists"] > 0.5
    for n in (0, 5):
        states, features, _ = numpy_rollout(values, n, SMALL.horizon)
        positions = places[:, :, n]
        np.testing.assert_allclose(positions[:, known], states[:, known, :2], atol=2e-5)
        ok = known[values["term_target"]] & ((values["term_parent"] < 0) | known[values["term_parent"]])
        motion = values["term_kind"] < 20
        np.testing.assert_allclose(
            phi[:, ok & motion, n], features[:, ok & motion, :2], atol=2e-5
        )
        assert set(np.flatnonzero(ok & ~motion)) <= set(lights)
        mine = [i for i, row in enumerate(lights) if (ok & ~motion)[row]]
        np.testing.assert_allclose(light[:, mine, n], features[:, lights[mine], 2], atol=2e-4)


@pytest.mark.parametrize("seed", range(4))
def test_gain_equals_the_formula_written_as_loops_over_slots_and_particles(seed: int) -> None:
    values = unbounded(random_call(SMALL, seed, posterior=random_posterior(seed, scale=0.15)))
    values["tool"][:] = (0.0, -1.0)  # no shadow: nothing is hidden
    values["hidden"][:] = 0.0
    gains = run(SMALL, values)["proposal_gains"]
    share = np.exp(values["particle_log_weight"] - np.logaddexp.reduce(values["particle_log_weight"]))
    known = np.flatnonzero(values["exists"] > 0.5)
    ok = (values["exists"][values["term_target"]] > 0.5) & (
        (values["term_parent"] < 0) | (values["exists"][values["term_parent"]] > 0.5)
    )
    for n in (1, 4):
        _, phi, contact = numpy_rollout(values, n, SMALL.horizon)
        told, between = np.zeros(len(values["term_target"])), np.zeros((2, len(values["exists"])))
        parameters = structure = 0.0
        before = np.zeros(2)
        bright = values["term_kind"] >= 20
        for h in range(SMALL.horizon):
            for s in known:
                mine = (values["term_target"] == s).astype(float)
                for c in range(3):
                    sets = (values["weight_set_mean"] * mine) @ phi[h, :, c]
                    noise = float(values["noise_std"][s, int(contact[h, int(c == 2), s]), int(c == 2)])
                    between[int(c == 2), s] += float(share @ (sets - share @ sets) ** 2) / noise**2
                    told += mine * (phi[h, :, c] / noise) ** 2
            gains_of_weights = values["term_probability"] * np.log1p(values["weight_variance"] * told)
            now = np.array([0.0, 0.5 * gains_of_weights.sum()])
            for s in known:
                for channel in (0, 1):
                    mine = (values["term_target"] == s) & (bright == (channel == 1))
                    # Entropy of the sets of this variable: particles with equal weights hold the same one.
                    sets, which = np.unique(values["weight_set_mean"][:, mine & ok], axis=0, return_inverse=True)
                    p = np.bincount(which.ravel(), share, len(sets))
                    entropy = -float(p @ np.log(p))
                    within = float((values["term_probability"] * values["weight_variance"] * told)[mine].sum())
                    doubt = between[channel, s] / (2 * max(entropy, 1e-6) * (1 + within))
                    now[0] += entropy * (1 - np.exp(-doubt))
            structure, parameters = np.array([structure, parameters]) + values["discount"][h] * (now - before)
            before = now
        assert gains[n, 1] == pytest.approx(parameters, rel=1e-3, abs=1e-3)
        assert gains[n, 0] == pytest.approx(structure, rel=1e-3, abs=1e-3)


def test_terms_of_absent_slots_neither_move_anything_nor_teach_anything() -> None:
    posterior = random_posterior(3)
    values = unbounded(random_call(SMALL, 3, posterior=posterior))
    values["exists"][4] = 0.0
    out = run(SMALL, values)
    values["position"][4] = (0.6, 0.1)
    values["velocity"][4] = (1.0, 1.0)
    again = run(SMALL, values)
    np.testing.assert_array_equal(out["proposal_scores"], again["proposal_scores"])
    assert np.isfinite(out["proposal_gains"]).all()


def test_tip_is_never_predicted_outside_its_workspace() -> None:
    values = random_call(SMALL, 1)
    values["proposals"][:] = (3.0, -3.0)
    path = run(SMALL, values)["best_path"]
    box = values["workspace"]
    start = values["position"][0]
    assert box[0] <= start[0] <= box[1]
    assert (path >= box[0::2] - 1e-6).all() and (path <= box[1::2] + 1e-6).all()


def test_commands_are_clipped_to_the_greatest_speed() -> None:
    values = random_call(SMALL, 1)
    values["proposals"][:] *= 10.0
    actions = run(SMALL, values)["best_actions"]
    assert np.linalg.norm(actions, axis=1).max() <= values["max_speed"][0] * (1 + 1e-5)


def test_leaning_on_a_jam_teaches_nothing() -> None:
    """The commander waits for a tip that does not follow: what it is not told to do says nothing of the block."""
    block = with_term(
        empty_posterior(), 1, TermKind.PUSH, 0, 1, 0.06, np.random.default_rng(0).normal(0.9, 0.3, PARTICLES)
    )
    values = unbounded(random_call(SMALL, 0, posterior=block))
    values["exists"][:2], values["exists"][2:] = 1.0, 0.0
    values["position"][:2] = (0.6, 0.0), (0.64, 0.0)
    values["velocity"][:] = 0.0
    values["proposals"][:] = (0.2, 0.0)
    free = run(SMALL, values)["proposal_gains"][0, :2].sum()
    values["jams"][0] = (0.6, 0.0, 1.0, 0.0)
    leant = run(SMALL, values)["proposal_gains"][0, :2].sum()
    assert free > 0.2
    assert leant < 0.05 * free


def test_tip_at_a_jam_gets_no_further_in_its_direction_but_may_leave() -> None:
    values = random_call(SMALL, 0, posterior=empty_posterior())
    values["exists"][1:] = 0.0
    values["position"][0] = (0.6, 0.0)
    values["jams"][0] = (0.6, 0.0, 1.0, 0.0)
    values["bonus"][:] = 0.0
    for action, expected in (((0.2, 0.0), (0.6, 0.0)), ((-0.2, 0.0), (0.48, 0.0)), ((0.1, 0.2), (0.6, 0.09))):
        values["proposals"][:] = action
        shape = PlanShape(candidates=8, horizon=6, iterations=1, elites=3)
        path = run(shape, values)["best_path"]
        # Beyond the jam's radius it is forgotten, so compare before that is reached.
        np.testing.assert_allclose(path[-1], expected, atol=0.04 if action == (0.1, 0.2) else 1e-5)
        assert action[0] < 0 or path[:4, 0].max() <= 0.6 + 1e-6
        if action == (0.1, 0.2):  # friction takes half of what goes into it
            np.testing.assert_allclose(path[3], (0.6, 0.045), atol=1e-5)


def test_elites_survive_so_the_best_score_never_falls_below_the_best_proposal() -> None:
    for seed in range(4):
        out = run(SMALL, random_call(SMALL, seed))
        assert out["best_score"][0] >= out["proposal_scores"].max() - 1e-4


def test_version_is_echoed_and_offspring_know_their_proposal() -> None:
    values = random_call(SMALL, 2)
    values["posterior_version"][:] = 41
    values["bonus"][:] = 0.0
    values["bonus"][5] = 100.0
    out = run(SMALL, values)
    assert out["version"].tolist() == [41]
    assert out["best_origin"].tolist() == [5]
    assert out["best_score"][0] > 50


def test_a_brighter_lamp_term_is_followed_through_the_rollout() -> None:
    """GLOW 1 with weight .1 raises brightness by .1 a step; DECAY's feature is then -b."""
    posterior = empty_posterior()
    values = unbounded(random_call(SMALL, 0, posterior=posterior))
    values.update(posterior_values(posterior))
    values["term_kind"][1:3], values["term_target"][1:3] = (21, 20), 1
    values["weight_mean"][1] = 0.1
    values["brightness"][1] = 0.2
    values["exists"][:] = 0.0
    values["exists"][:2] = 1.0
    graph, x = PlanGraph(SMALL), tensors(values)
    model, begin, population = graph.prepare(x)
    _, _, traces = graph.roll(x, population, begin, model)
    row = graph.tables.lights(x).tolist().index(2)
    decay = np.array([float(t.light[row, 0]) for t in traces])
    np.testing.assert_allclose(decay, -(0.2 + 0.1 * np.arange(SMALL.horizon)), atol=1e-6)
