"""The parts of discovery against formulas: moments, multistep averages, the tail integrated out, the grammar."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_t

from crl_node.discovery.fit import FitConfig, Hyper, Reduced, problem_for
from crl_node.discovery.library import Kind, SeriesTerm, evaluate, parent_mask, polynomials, proposals
from crl_node.discovery.moments import Moments, multistep
from crl_node.structure.evidence import log_evidence


def rows(seed: int, n: int = 40, features: int = 5, variables: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    phi = rng.normal(size=(n, features)) * rng.uniform(0.1, 5.0, features) + rng.normal(size=features)
    return phi, phi[:, :variables] * 0.5 + rng.normal(size=(n, variables))


def test_standardised_moments_equal_those_of_centred_and_scaled_rows() -> None:
    phi, y = rows(0)
    moments = Moments.empty(5, 2)
    moments.add(phi, y)
    z, c = (phi - phi.mean(0)) / phi.std(0), y - y.mean(0)
    data = moments.standardised()
    np.testing.assert_allclose(data.gram, z.T @ z, atol=1e-9)
    np.testing.assert_allclose(data.cross, z.T @ c, atol=1e-9)
    np.testing.assert_allclose(data.square, (c**2).sum(0))


def test_moments_of_two_recordings_add_up_and_a_stream_gives_the_same_as_a_batch() -> None:
    phi, y = rows(1)
    whole, one, other, stream = (Moments.empty(5, 2) for _ in range(4))
    whole.add(phi, y)
    one.add(phi[:13], y[:13])
    other.add(phi[13:], y[13:])
    for p, c in zip(phi, y, strict=True):
        stream.add(p, c)
    for moments in (one + other, stream):
        np.testing.assert_allclose(moments.gram, whole.gram, rtol=1e-12)
        np.testing.assert_allclose(moments.cross, whole.cross, rtol=1e-12)
        assert moments.rows == whole.rows


def test_a_constant_feature_has_no_say_however_far_from_zero_it_is() -> None:
    phi, y = rows(2)
    phi[:, 3] = 1e5
    moments = Moments.empty(5, 2)
    moments.add(phi, y)
    data = moments.standardised()
    assert not data.varies[3]
    assert not data.gram[3].any()


@pytest.mark.parametrize("order", [2, 3, 4])
def test_multistep_averages_integrate_a_smooth_flow_to_their_order(order: int) -> None:
    error = []
    for dt in (0.1, 0.05):
        t = np.arange(0.0, 4.0, dt)
        x = np.sin(t)
        change = np.diff(x)[3:]
        step = multistep(np.cos(t)[:, None] * dt, order, 4)[:, 0]  # dx/dt = cos t
        error.append(np.abs(change - step).max())
    assert error[0] / error[1] > 0.8 * 2 ** (order + 1)


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("tail_std", [0.0, 0.7])
def test_the_evidence_with_the_tail_integrated_out_is_that_of_a_student_density(frame: bool, tail_std: float) -> None:
    rng = np.random.default_rng(4)
    n, p, f = 30, 6, 4
    phi = rng.normal(size=(n, p))
    own = 2  # the variable's own column, in units of its value times 3
    y = 0.4 * phi[:, 1] + 0.3 * rng.normal(size=n)
    moments = Moments.empty(p, 1)
    moments.add(phi, y[:, None])
    reduced = Reduced(moments, f, np.array([3.0]))
    hyper = Hyper(1, frame, 0.8, tail_std)
    core = reduced.core(tail_std)
    precision = core[0] * hyper.weight_std**2 + np.eye(f)
    config = FitConfig(model_error=0.1)
    problem = problem_for(reduced, core, precision, 0, hyper, np.zeros(f), np.zeros(f + 1), own, config)
    centred = phi - phi.mean(axis=0)
    target = (y - y.mean()) + (3.0 * centred[:, own] if frame else 0.0)
    z = centred / centred.std(axis=0)
    # Rotate the mean away: n - 1 rows that hold all that centred data say.
    basis = np.linalg.svd(np.eye(n) - 1.0 / n)[0][:, : n - 1].T
    total = float(np.square(y - y.mean()).sum())
    b0 = config.noise_share * total / (n - 1) + 0.5 * config.model_error**2 * total
    scale0 = np.eye(n - 1) + tail_std**2 / p * basis @ z @ z.T @ basis.T
    got, expected = [], []
    for members in ([], [1], [0, 1, 3]):
        chosen = np.zeros((1, f), bool)
        chosen[0, members] = True
        got.append(float(log_evidence(problem, chosen)[0]))
        features = basis @ z[:, members]
        scale = scale0 + hyper.weight_std**2 * features @ features.T
        expected.append(multivariate_t.logpdf(basis @ target, np.zeros(n - 1), b0 * scale, df=2.0))
    constant = np.array(got) - np.array(expected)
    np.testing.assert_allclose(constant, constant[0], atol=1e-7)
    if tail_std == 0.0 and not frame:
        return
    # The constant is the same for all points of the grid: they are compared with one another.
    plain = problem_for(
        reduced, reduced.core(0.0), reduced.core(0.0)[0] * 0.64 + np.eye(f), 0, Hyper(1, False, 0.8, 0.0), np.zeros(f),
        np.zeros(f + 1), own, config,
    )  # fmt: skip
    empty = np.zeros((1, f), bool)
    by_hand = multivariate_t.logpdf(basis @ (y - y.mean()), np.zeros(n - 1), b0 * np.eye(n - 1), df=2.0)
    assert float(log_evidence(plain, empty)[0]) - by_hand == pytest.approx(constant[0], abs=1e-7)


def test_polynomials_are_all_products_up_to_the_degree() -> None:
    terms = polynomials([0, 2], 2)
    assert [t.variables for t in terms] == [(0,), (2,), (0, 0), (0, 2), (2, 2)]
    data = np.array([[2.0, 9.0, 3.0]])
    np.testing.assert_array_equal(evaluate(terms, data)[0], [2, 3, 4, 6, 9])
    np.testing.assert_array_equal(parent_mask(terms, 3)[3], [True, False, True])


def test_terms_say_what_they_are_and_compute_it() -> None:
    data = np.array([[1.0, -2.0], [-1.0, 3.0]])
    cases = [
        (SeriesTerm(Kind.HINGE, (1,), 0.5), "max(0, b - 0.5)", [0.0, 2.5]),
        (SeriesTerm(Kind.GATE, (0, 1), 0.0), "a*[b > 0]", [0.0, -1.0]),
        (SeriesTerm(Kind.ABSOLUTE, (1,)), "|b|", [2.0, 3.0]),
        (SeriesTerm(Kind.SINE, (0,)), "sin(a)", np.sin([1.0, -1.0])),
        (SeriesTerm(Kind.PRODUCT, (0, 1, 1)), "a*b^2", [4.0, -9.0]),
    ]
    for term, text, values in cases:
        assert term.text(["a", "b"]) == text
        np.testing.assert_allclose(term.values(data), values)


def test_the_grammar_proposes_neighbours_and_nothing_twice() -> None:
    rng = np.random.default_rng(0)
    known = polynomials([0, 1], 2)
    proposed = proposals([known[0]], [0], rng.normal(size=(50, 2)), known)
    assert len(set(proposed)) == len(proposed)
    assert not set(proposed) & set(known)
    assert SeriesTerm(Kind.SINE, (1,)) in proposed
    cubic = proposals([known[4]], [1], rng.normal(size=(50, 2)), known)
    assert SeriesTerm(Kind.PRODUCT, (0, 1, 1)) in cubic
