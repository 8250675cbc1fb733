"""Problems and comparisons for the tests of structure engines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from crl_node.structure.draws import DrawConfig, draw, problem_of
from crl_node.structure.engine import Support
from crl_node.structure.evidence import Problem, make_problem

#: Columns 0, 1 and 3, 4, 5 exclude one another.
GROUPS = np.array([0, 0, 1, 2, 2, 2, 3, 4], np.int32)


def grouped_problems() -> list[Problem]:
    """Four variables: noise integrated out and known, prior means, one forbidden column, look-alikes in a group."""
    rng = np.random.default_rng(3)
    out = []
    for k in range(2):
        odds = np.linspace(-2.0, 0.5, 8)
        odds[6 - k] = -np.inf
        out.append(replace(draw(rng, DrawConfig(columns=8)).problem, group=GROUPS, log_prior_odds=odds))
    for _ in range(2):
        phi = rng.normal(size=(40, 8))
        phi[:, 4] = phi[:, 3] + 0.02 * rng.normal(size=40)
        y = phi[:, 0] - phi[:, 3] + 0.3 * rng.normal(size=40)
        out.append(
            make_problem(
                (phi.T @ phi)[None], (phi.T @ y)[None], np.array([y @ y]), np.array([40.0]), np.array([0.3]),
                prior_mean=0.3 * rng.normal(size=8), prior_std=np.full(8, 0.7), group=GROUPS,
                log_prior_odds=rng.normal(size=8) - 1.0,
            )
        )  # fmt: skip
    return out


def twin_pairs(pairs: int, columns: int) -> Problem:
    """Strong causes 0 ... k - 1 and their exact copies k ... 2 k - 1: 2^k sets are equally good."""
    rng = np.random.default_rng(5)
    phi = rng.normal(size=(200, columns))
    phi[:, pairs : 2 * pairs] = phi[:, :pairs]
    y = phi[:, :pairs] @ np.linspace(1.0, 2.0, pairs) + 0.3 * rng.normal(size=200)
    return problem_of(phi, y, np.full(columns, 8.0), DrawConfig(columns=columns))


def on_all_sets(support: Support) -> np.ndarray:
    """[2^F] probability by the number whose bits are the set."""
    out = np.zeros(1 << support.sets.shape[1])
    out[support.sets @ (1 << np.arange(support.sets.shape[1]))] = np.exp(support.log_probability)
    return out


def divergence(one: Support, other: Support) -> float:
    """Jensen-Shannon divergence of two posteriors, nats."""
    p, q = on_all_sets(one), on_all_sets(other)
    middle = 0.5 * (p + q)
    return float(sum(0.5 * np.sum(a[a > 0] * np.log(a[a > 0] / middle[a > 0])) for a in (p, q)))
