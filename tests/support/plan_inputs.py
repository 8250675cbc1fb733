"""Random but valid posteriors, beliefs and plan inputs for the planner's tests."""

from __future__ import annotations

import numpy as np

from crl_node.data import ACTION_PARENT, MAX_SLOTS, NO_PARENT, Belief, Posterior, TermKind
from crl_node.export.spec import PlanShape, Values, all_inputs, defaults, initial_values, posterior_values
from crl_node.posterior import PARTICLES, PLANNER_TERMS, sealed

NO_PARENT_KINDS = (
    TermKind.INERTIA,
    TermKind.DRIFT_X,
    TermKind.DRIFT_Y,
    TermKind.WALL,
    TermKind.DECAY,
    TermKind.GLOW,
)


def random_posterior(seed: int, *, slots: int = 7, version: int = 3, scale: float = 0.3) -> Posterior:
    """A posterior over `slots` slots with terms of every kind; weights of the size learned ones have."""
    rng = np.random.default_rng(seed)
    p, k = PLANNER_TERMS, PARTICLES
    kind = rng.choice([int(kind) for kind in TermKind], p)
    target = rng.integers(0, slots, p)
    # No more terms about the body than the graph takes.
    target[np.flatnonzero(target == 0)[20:]] = 1
    parent = (target + rng.integers(1, slots, p)) % slots
    parent[np.isin(kind, NO_PARENT_KINDS)] = NO_PARENT
    parent[kind == TermKind.ACTION] = ACTION_PARENT
    set_mean = rng.normal(0, scale, (k, p)) * (rng.random((k, p)) < 0.6)
    log_weight = np.log(rng.dirichlet(np.full(k, 3.0)))
    ids = np.full(MAX_SLOTS, -1)
    ids[:slots] = np.arange(slots)
    return sealed(
        Posterior(
            version=version,
            step=100,
            dt=0.1,
            slot_ids=ids.astype(np.int64),
            slot_extent=rng.uniform(0.02, 0.04, MAX_SLOTS).astype(np.float32),
            term_kind=kind.astype(np.int32),
            term_target=target.astype(np.int32),
            term_parent=parent.astype(np.int32),
            term_length=rng.uniform(0.04, 0.12, p).astype(np.float32),
            term_probability=rng.random(p).astype(np.float32),
            weight_mean=(np.exp(log_weight) @ set_mean).astype(np.float32),
            weight_variance=rng.uniform(0, 0.02, p).astype(np.float32),
            weight_set_mean=set_mean.astype(np.float32),
            weight_sample=(set_mean + rng.normal(0, 0.1, (k, p)) * (set_mean != 0)).astype(np.float32),
            particle_log_weight=log_weight.astype(np.float32),
            noise_std=rng.uniform(0.002, 0.01, (MAX_SLOTS, 2, 2)).astype(np.float32),
            wall=np.array([0.38, 0.82, -0.30, 0.30], np.float32),
            hash="",
        )
    )


def empty_posterior(*, version: int = 1, slots: int = 3) -> Posterior:
    """Slots but no uncertainty: every weight 0 in every particle, except that the tip obeys the command."""
    base = random_posterior(0, slots=slots, version=version)
    p, k = PLANNER_TERMS, PARTICLES
    kind, weight = np.zeros(p, np.int32), np.zeros(p, np.float32)
    parent, probability = np.full(p, NO_PARENT, np.int32), np.zeros(p, np.float32)
    kind[0], parent[0], weight[0], probability[0] = TermKind.ACTION, ACTION_PARENT, 1.0, 1.0
    return sealed(
        Posterior(
            version=version, step=base.step, dt=base.dt, slot_ids=base.slot_ids,
            slot_extent=np.full(MAX_SLOTS, 0.03, np.float32), term_kind=kind, term_target=np.zeros(p, np.int32),
            term_parent=parent, term_length=np.zeros(p, np.float32), term_probability=probability,
            weight_mean=weight, weight_variance=np.zeros(p, np.float32),
            weight_set_mean=np.tile(weight, (k, 1)), weight_sample=np.tile(weight, (k, 1)),
            particle_log_weight=np.full(k, -np.log(k), np.float32),
            noise_std=np.full((MAX_SLOTS, 2, 2), 0.005, np.float32), wall=base.wall, hash="",
        )
    )  # fmt: skip


def with_term(
    posterior: Posterior, row: int, kind: TermKind, target: int, parent: int, length: float, weights: np.ndarray,
    *, between: bool = False,
) -> Posterior:  # fmt: skip
    """`posterior` with one uncertain term: `weights` [K] differ within one term set, or between sets."""
    arrays = {
        name: np.array(getattr(posterior, name))
        for name in ("term_kind", "term_target", "term_parent", "term_length", "term_probability", "weight_mean",
                     "weight_variance", "weight_set_mean", "weight_sample")
    }  # fmt: skip
    arrays["term_kind"][row], arrays["term_target"][row] = kind, target
    arrays["term_parent"][row], arrays["term_length"][row] = parent, length
    arrays["term_probability"][row] = 0.5 if between else 1.0
    arrays["weight_mean"][row] = weights.mean()
    arrays["weight_variance"][row] = 0.0 if between else weights.var()
    arrays["weight_sample"][:, row] = weights
    arrays["weight_set_mean"][:, row] = weights if between else weights.mean()
    return sealed(Posterior(**{**posterior.__dict__, **arrays}))


def random_call(shape: PlanShape, seed: int, *, slots: int = 7, posterior: Posterior | None = None) -> Values:
    """Every input of the graph, with `slots` existing slots on the table."""
    rng = np.random.default_rng(seed + 1000)
    posterior = posterior if posterior is not None else random_posterior(seed, slots=slots)
    values = defaults(all_inputs(shape)) | initial_values(shape) | posterior_values(posterior)
    values["position"][:slots] = rng.uniform([0.42, -0.25], [0.78, 0.25], (slots, 2))
    values["velocity"][:slots] = rng.normal(0, 0.02, (slots, 2))
    values["brightness"][:] = rng.random(shape.slots)
    values["exists"][:slots] = 1.0
    values["position_variance"][:] = rng.uniform(1e-6, 1e-4, shape.slots)
    values["hidden"][2] = 1.0
    values["jams"][0] = [*values["position"][0], 0.6, 0.8]
    values["proposals"][:] = rng.normal(0, 0.15, values["proposals"].shape)
    values["bonus"] = rng.normal(0, 0.1, shape.candidates).astype(np.float32)
    values["noise"] = rng.normal(0, 1, values["noise"].shape).astype(np.float32)
    return values


def belief_of(
    positions: np.ndarray,
    *,
    stamp: float = 1.0,
    ids: np.ndarray | None = None,
    visible: np.ndarray | None = None,
) -> Belief:
    """A certain belief over slots at `positions` [S, 2] m, row 0 the tip."""
    n = len(positions)
    mean = np.zeros((n, 5))
    mean[:, :2] = positions
    return Belief(
        stamp=stamp,
        ids=np.arange(n) if ids is None else np.asarray(ids),
        mean=mean,
        cov=np.tile(np.diag([4e-6, 4e-6, 1e-4, 1e-4, 1e-4]), (n, 1, 1)),
        colour=np.zeros((n, 3)),
        extent=np.concatenate([[0.015], np.full(n - 1, 0.03)]),
        existence=np.ones(n),
        visible=np.ones(n) if visible is None else np.asarray(visible, float),
    )
