"""Discovery on a stream: the same statistics as a batch, flat work, positive definite for ever."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.discovery.library import evaluate, polynomials
from crl_node.discovery.moments import Moments
from crl_node.discovery.online import BLOCK, OnlineDiscovery
from crl_node.discovery.systems import random_polynomial
from crl_node.metrics import auroc


def test_a_stream_finds_the_graph_and_says_nothing_before() -> None:
    system = random_polynomial(seed=0, size=4, steps=400, noise=0.4, actions=1, forcing=1.0)
    assert system.actions is not None
    online = OnlineDiscovery(4, 1)
    assert np.isnan(online.inclusion).all()
    for state, action in zip(system.states, system.actions, strict=True):
        online.observe(state, action)
    online.refresh()
    assert auroc(system.graph, online.inclusion) > 0.97


def test_a_tail_can_be_integrated_out_of_a_stream() -> None:
    system = random_polynomial(seed=1, size=3, steps=300, noise=0.4)
    online = OnlineDiscovery(3, tail=True)
    for state in system.states:
        online.observe(state)
    online.refresh()
    assert auroc(system.graph, online.inclusion) > 0.95


def test_nothing_is_learned_into_or_out_of_a_sample_that_is_not_finite() -> None:
    rng = np.random.default_rng(0)
    online = OnlineDiscovery(2, order=2)
    learned = [online.observe(x) for x in rng.normal(size=(5, 2))]
    assert learned == [False, False, True, True, True]
    assert not online.observe([np.nan, 0.0])
    learned = [online.observe(x) for x in rng.normal(size=(3, 2))]
    assert learned == [False, False, True]


def test_a_sample_of_the_wrong_size_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="expected 2 states and 1 actions, got 3 and 1; not used"):
        OnlineDiscovery(2, 1).observe(np.zeros(3), np.zeros(1))
    with pytest.raises(ValueError, match="order 7 is none of"):
        OnlineDiscovery(2, order=7)


def test_the_statistics_stay_positive_definite_over_a_hundred_thousand_steps() -> None:
    rng = np.random.default_rng(5)
    x = np.cumsum(0.01 * rng.normal(size=(100_000, 3)), axis=0) + [0.0, 50.0, -3.0]
    x[:, 2] = x[:, 1] + 1e-3 * rng.normal(size=len(x))  # nearly collinear, far from 0
    terms = polynomials(range(3), 2)
    phi, change = evaluate(terms, x), np.diff(x, axis=0)
    moments = Moments.empty(len(terms), 3)
    for start in range(0, len(x) - 1, BLOCK):
        rows = slice(start, min(start + BLOCK, len(x) - 1))
        moments.add(phi[rows], change[rows])
    eigenvalues = np.linalg.eigvalsh(moments.standardised().gram)
    assert eigenvalues.min() > -1e-6 * eigenvalues.max()
    online = OnlineDiscovery(3, terms=terms)
    for state in x[:200]:
        online.observe(state)
    online.moments = moments
    online.refresh()
    assert np.isfinite(online.inclusion).all()
