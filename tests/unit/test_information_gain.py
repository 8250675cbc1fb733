"""Expected information gain against hand formulas and Monte Carlo, on problems with one uncertain term."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crl_node.data import MAX_SLOTS, NO_PARENT, Posterior, TermKind
from crl_node.export.plan_graph import PlanGraph
from crl_node.export.spec import PlanShape, Values, all_inputs, initial_values, outputs, posterior_values
from tests.support.plan_inputs import empty_posterior, random_call, with_term

SHAPE = PlanShape(candidates=4, horizon=8, iterations=1, elites=1, count_every=1)
K = 16
GRAPH = PlanGraph(SHAPE)


def spread_weights(std: float) -> np.ndarray:
    """K weights with exactly this standard deviation and mean 0."""
    raw = np.linspace(-1, 1, K)
    return np.asarray(raw / raw.std() * std)


def scene(posterior: Posterior) -> Values:
    """Tip and two things, nothing hidden, no discount; candidate n goes nowhere unless told to."""
    values = random_call(SHAPE, 0, slots=3, posterior=posterior)
    values.update(posterior_values(posterior))
    values["position"][:3] = [[0.45, 0.0], [0.60, 0.0], [0.70, 0.15]]
    values["velocity"][:] = 0.0
    values["brightness"][:] = 0.0
    values["hidden"][:] = 0.0
    values["jams"][:] = 0.0
    values["discount"][:] = 1.0
    values["tool"][:] = (0.0, -1.0)
    values["bonus"][:] = 0.0
    values["proposals"][:] = 0.0
    return values


def gains(values: Values, graph: PlanGraph = GRAPH) -> np.ndarray:
    """[N, 3] nats."""
    with torch.no_grad():
        out = graph(*(torch.from_numpy(np.ascontiguousarray(values[t.name])) for t in all_inputs(SHAPE)))
    return dict(zip((t.name for t in outputs(SHAPE)), (o.numpy() for o in out), strict=True))["proposal_gains"]


def drifting(std: float, *, between: bool = False) -> Posterior:
    """Slot 1 drifts along x by .01 times an uncertain weight each step."""
    return with_term(empty_posterior(), 5, TermKind.DRIFT_X, 1, NO_PARENT, 0.0, spread_weights(std), between=between)


@pytest.mark.parametrize("std", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("sigma", [1e-4, 5e-3, 0.5])
def test_parameter_gain_of_one_term_is_half_log_one_plus_n_phi2_var_over_sigma2(std: float, sigma: float) -> None:
    posterior = drifting(std)
    values = scene(posterior)
    values["noise_std"][:] = sigma
    expected = 0.5 * np.log1p(SHAPE.horizon * (0.01 * std / sigma) ** 2)
    assert gains(values)[0, 1] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    assert gains(values)[0, 0] == pytest.approx(0.0, abs=1e-4)


def test_parameter_gain_agrees_with_monte_carlo_over_weights_and_outcomes() -> None:
    """E log p(w | y) - log p(w) with the posterior computed on a grid, no log-determinant in sight."""
    std, sigma, rng = 0.6, 0.008, np.random.default_rng(0)
    values = scene(drifting(std))
    values["noise_std"][:] = sigma
    phi = np.full(SHAPE.horizon, 0.01)
    grid = np.linspace(-5 * std, 5 * std, 2001)
    width = grid[1] - grid[0]
    prior = np.exp(-0.5 * (grid / std) ** 2)
    prior /= prior.sum() * width
    total = []
    for _ in range(2000):
        y = rng.normal(0, std) * phi + rng.normal(0, sigma, len(phi))
        log_likelihood = -0.5 * (((y[:, None] - phi[:, None] * grid) / sigma) ** 2).sum(0)
        posterior = prior * np.exp(log_likelihood - log_likelihood.max())
        posterior /= posterior.sum() * width
        inside = posterior > 1e-300
        total.append(float((posterior[inside] * np.log(posterior[inside] / prior[inside])).sum() * width))
    error = np.std(total) / np.sqrt(len(total))
    assert abs(gains(values)[0, 1] - np.mean(total)) < 4 * error


def test_structure_gain_of_two_possible_worlds_approaches_their_entropy_and_never_exceeds_it() -> None:
    """Half of the particles hold the term, half do not: log 2 is all there is to learn."""
    weights = np.where(np.arange(K) < K // 2, 1.0, 0.0)
    values = scene(with_term(empty_posterior(), 5, TermKind.DRIFT_X, 1, NO_PARENT, 0.0, weights, between=True))
    values["particle_log_weight"][:] = -np.log(K)
    values["noise_std"][:] = 1e-6
    # Sixteen particles, but this slot has two term sets only.
    assert gains(values)[0, 0] == pytest.approx(np.log(2), rel=1e-5)
    values["particle_log_weight"][:] = -30.0
    values["particle_log_weight"][[0, K - 1]] = 0.0
    assert gains(values)[0, 0] == pytest.approx(np.log(2), rel=1e-3)
    values["noise_std"][:] = 10.0
    assert gains(values)[0, 0] < 1e-5


def test_weak_evidence_about_structure_equals_mutual_information_by_quadrature() -> None:
    """For two worlds whose predictions differ by less than the noise, the Gaussian moments are exact enough."""
    delta, sigma, steps = 0.01, 0.03, SHAPE.horizon
    weights = np.where(np.arange(K) < K // 2, 1.0, 0.0)
    values = scene(with_term(empty_posterior(), 5, TermKind.DRIFT_X, 1, NO_PARENT, 0.0, weights, between=True))
    values["noise_std"][:] = sigma
    # The mean of n outcomes is sufficient: a mixture of two Gaussians at 0 and delta with std sigma / sqrt(n).
    s = sigma / np.sqrt(steps)
    y = np.linspace(-8 * s, delta + 8 * s, 20001)
    parts = [np.exp(-0.5 * ((y - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)) for m in (0.0, delta)]
    mixture = 0.5 * (parts[0] + parts[1])
    exact = sum(0.5 * np.trapezoid(part * np.log(part / mixture), y) for part in parts)
    assert gains(values)[0, 0] == pytest.approx(exact, rel=0.1)


def test_more_counts_mean_less_gain() -> None:
    """A weight known from n observations has std 1 / sqrt(n): the gain falls with every doubling."""
    course = []
    for n in (1, 2, 4, 8, 16, 1000):
        values = scene(drifting(1.0 / np.sqrt(n)))
        course.append(gains(values)[0, 1])
    assert (np.diff(course) < 0).all()
    assert course[-1] < 0.05


def test_looking_twice_teaches_less_than_twice_as_much() -> None:
    values = scene(drifting(1.0))
    whole = gains(values)[0, 1]
    values["discount"][SHAPE.horizon // 2 :] = 0.0
    half = gains(values)[0, 1]
    assert half < whole < 2 * half


def test_noise_that_cannot_be_reduced_is_worth_nothing() -> None:
    """A thing that shakes by 5 cm a step, with certain mechanisms, does not attract."""
    values = scene(empty_posterior())
    values["noise_std"][1] = 0.05
    values["velocity"][1] = (0.3, -0.2)
    values["proposals"][1] = (0.2, 0.0)
    result = gains(values)
    assert np.abs(result[:, :2]).max() < 1e-6


def test_more_noise_makes_the_same_experiment_worth_less() -> None:
    quiet = scene(drifting(1.0))
    loud = scene(drifting(1.0))
    loud["noise_std"][1] *= 10
    assert gains(loud)[0, 1] < 0.5 * gains(quiet)[0, 1]


def test_only_the_candidate_that_touches_a_thing_learns_how_it_is_pushed() -> None:
    posterior = with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.06, spread_weights(0.5))
    values = scene(posterior)
    values["proposals"][1] = (0.2, 0.0)  # towards slot 1
    values["proposals"][2] = (0.0, 0.2)  # past it
    result = gains(values)
    assert result[1, 1] > 1.0
    assert result[[0, 2], 1].max() < 1e-6


def test_contact_noise_counts_in_contact_and_free_noise_elsewhere() -> None:
    values = scene(drifting(1.0))
    values["noise_std"][1, 0, 0], values["noise_std"][1, 1, 0] = 0.001, 0.1
    free = gains(values)[0, 1]
    values["position"][2] = values["position"][1] + [0.05, 0.0]  # now it stands against slot 2
    assert gains(values)[0, 1] < 0.1 * free


def test_a_thing_in_the_arms_shadow_teaches_nothing() -> None:
    values = scene(drifting(1.0))
    values["camera"][:] = (1.25, 0.0, 1.05)
    values["tool"][:] = (0.3, 0.06)
    values["position"][0], values["position"][1] = (0.75, 0.0), (0.70, 0.2)  # beside the tip
    assert gains(values)[0, 1] > 0.1
    values["position"][1] = (0.70, 0.0)  # behind the tip, seen from the camera
    assert gains(values)[0, 1] == 0.0


def test_what_is_learned_later_is_worth_less_by_its_discount_alone() -> None:
    """Each step's increment of information counts discount_h times, not the precision inside the logarithm."""
    values = scene(drifting(1.0))
    values["discount"][:] = 0.9 ** np.arange(SHAPE.horizon)
    sigma = float(values["noise_std"][1, 0, 0])
    known = 0.5 * np.log1p(np.arange(SHAPE.horizon + 1) * (0.01 / sigma) ** 2)
    assert gains(values)[0, 1] == pytest.approx(float(values["discount"] @ np.diff(known)), rel=1e-3)


def test_counting_after_every_third_step_takes_the_mean_discount_of_the_three() -> None:
    values = scene(drifting(1.0))
    values["discount"][:] = 0.9 ** np.arange(SHAPE.horizon)
    sigma = float(values["noise_std"][1, 0, 0])
    known = 0.5 * np.log1p(np.array([0, 3, 6, 8]) * (0.01 / sigma) ** 2)
    discount = [values["discount"][steps].mean() for steps in (slice(0, 3), slice(3, 6), slice(6, 8))]
    found = gains(values, PlanGraph(replace(SHAPE, count_every=3)))[0, 1]
    assert found == pytest.approx(float(discount @ np.diff(known)), rel=1e-3)
    values["discount"][:] = 1.0
    thirds = gains(values, PlanGraph(replace(SHAPE, count_every=3)))
    np.testing.assert_allclose(thirds, gains(values), rtol=1e-4, atol=1e-6)


def test_terms_of_one_thing_teach_what_each_of_their_weights_is_worth() -> None:
    """Two drifts at right angles tell of themselves alone; a term that is in with probability 1/4 counts a quarter."""
    one, other = drifting(1.0), with_term(drifting(1.0), 6, TermKind.DRIFT_Y, 1, NO_PARENT, 0.0, spread_weights(1.0))
    single, double = (gains(scene(p))[0, 1] for p in (one, other))
    assert double == pytest.approx(2 * single, rel=1e-4)
    values = scene(other)
    values["term_probability"][6] = 0.25
    assert gains(values)[0, 1] == pytest.approx(1.25 * single, rel=1e-4)


def test_what_happens_between_two_counts_is_not_missed() -> None:
    posterior = with_term(empty_posterior(), 5, TermKind.TOGGLE_BY, 2, 1, 0.0, spread_weights(0.5))
    values = scene(posterior)
    values["position"][0], values["position"][1] = (0.50, 0.0), (0.60, 0.0)
    values["proposals"][0] = (0.2, 0.0)  # onto the button and through
    one, three = (gains(values, PlanGraph(replace(SHAPE, count_every=n)))[0] for n in (1, 3))
    assert one[1] > 0.1  # a switch is thrown in one step
    np.testing.assert_allclose(three, one, rtol=1e-5)


def test_a_diagonal_push_teaches_as_much_as_one_along_an_axis() -> None:
    """One weight moves a thing in x and y: both axes tell of it, and it is not counted twice."""
    push = with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.05, spread_weights(0.5))
    found = []
    for angle in (0.0, np.pi / 4, np.pi / 2):
        values = scene(push)
        way = np.array([np.cos(angle), np.sin(angle)])
        values["position"][1] = values["position"][0] + 0.045 * way
        values["position"][2] = values["position"][0] + (0.1, -0.2)
        values["proposals"][0] = 0.1 * way
        found.append(gains(values)[0, 1])
    assert found[0] > 0.1
    np.testing.assert_allclose(found, found[0], rtol=0.02)


def hidden_thing(variance: float, wander: float) -> Values:
    """A thing behind the arm, known to `variance` m^2, that moves by `wander` m a step; looks err by 2 mm."""
    values = scene(empty_posterior())
    values["camera"][:] = (1.25, 0.0, 1.05)
    values["tool"][:] = (0.3, 0.06)
    values["position"][0], values["position"][1] = (0.62, 0.0), (0.55, 0.0)
    values["hidden"][1] = 1.0
    values["noise_std"][1, 0, 0] = wander
    values["position_variance"][1] = variance
    values["look_variance"][:] = 4e-6
    values["proposals"][1] = (0.0, 0.25)
    return values


def test_moving_out_of_the_view_of_a_hidden_thing_is_worth_half_a_log_of_variances_for_each_axis() -> None:
    values = hidden_thing(1e-4, 0.001)
    result = gains(values)
    assert result[0, 2] == 0.0  # stays: still hidden
    assert result[1, 2] == pytest.approx(np.log((1e-4 + 1e-5) / (4e-6 + 1e-5)), rel=1e-4)
    values["hidden"][1] = 0.0
    assert gains(values)[1, 2] == 0.0  # already seen


def test_a_look_at_what_shakes_is_worth_next_to_nothing() -> None:
    still, shaking = (gains(hidden_thing(1e-4, wander))[1, 2] for wander in (1e-4, 0.01))
    assert still > 3.0
    assert shaking < 0.1


def test_a_look_at_what_is_known_as_well_as_looks_tell_is_worth_nothing() -> None:
    assert gains(hidden_thing(4e-6, 0.001))[1, 2] == 0.0
    assert gains(hidden_thing(1e-6, 0.001))[1, 2] == 0.0


def test_worth_of_a_look_is_its_mutual_information_with_the_later_place_by_monte_carlo() -> None:
    rng = np.random.default_rng(5)
    variance, error, wander = 1e-4, 4e-6, 0.003
    place = rng.normal(0.0, np.sqrt(variance), 400_000)
    # A look that leaves the variance `error`: its own noise is P R / (P - R).
    look = place + rng.normal(0.0, np.sqrt(variance * error / (variance - error)), len(place))
    later = place + rng.normal(0.0, wander, (10, len(place))).sum(0)
    nats = -0.5 * np.log(1.0 - np.corrcoef(look, later)[0, 1] ** 2)  # of two Gaussians
    assert gains(hidden_thing(variance, wander))[1, 2] == pytest.approx(2.0 * nats, rel=0.02)


def test_pushing_a_thing_that_stands_at_the_rim_teaches_nothing_about_pushing() -> None:
    posterior = with_term(empty_posterior(), 5, TermKind.PUSH, 1, 0, 0.06, spread_weights(0.5))
    values = scene(posterior)
    values["position"][1] = (0.815, 0.0)
    values["position"][0] = (0.745, 0.0)
    values["proposals"][1] = (0.2, 0.0)
    assert gains(values)[1, 1] < 1e-6


def test_defaults_describe_a_model_that_has_nothing_to_learn() -> None:
    values = random_call(SHAPE, 0, posterior=empty_posterior())
    values.update(initial_values(SHAPE))
    values["hidden"] = np.zeros(MAX_SLOTS, np.float32)
    assert np.abs(gains(values)).max() < 1e-6
