"""Induction of terms: where the residual calls for a term that the library lacks, the grammar proposes some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crl_node.data import Array
from crl_node.discovery.design import Design
from crl_node.discovery.draws import draw_laws
from crl_node.discovery.fit import Fit
from crl_node.discovery.library import SeriesTerm, proposals


@dataclass(frozen=True)
class GrowConfig:
    """When a proposal is taken up."""

    per_variable: int = 4  # proposals, at most
    least_gain: float = 0.35  # share of the residual variance that a proposal must explain
    least_effect: float = 0.02  # and of the whole change's variance: what errors of integration leave is no mechanism
    drop_below: float = 0.05  # proposals no variable includes with this probability are dropped again
    clip: float = 4.0  # residuals beyond this many robust standard deviations count as that


def propose(
    design: Design, fit: Fit, order: int, config: GrowConfig, rng: np.random.Generator
) -> dict[SeriesTerm, float]:
    """New terms with their prior log odds: each explains a good part of what some variable's law leaves.

    A term that is the best of K that were tried has prior odds 1 / K.
    """
    changes = design.changes()
    phi = design.steps(design.columns(design.terms) / design.unit[: len(design.terms)], order)
    plain = design.data[design.series.stretch >= 0] - design.shift
    added: dict[SeriesTerm, float] = {}
    for v in np.flatnonzero(fit.moving):
        draws = draw_laws(fit, int(v), 64, rng)
        likely = np.flatnonzero(draws.sets.mean(axis=0) > 0.5)
        residual = changes[:, v] - phi @ draws.weights.mean(axis=0)
        if draws.next_value.mean() > 0.5:
            residual = residual + design.data[design.step_rows(), v]
        residual = residual - residual.mean()
        # A few outliers must not call for a mechanism of their own.
        typical = 1.4826 * float(np.median(np.abs(residual)))
        residual = np.clip(residual, -config.clip * typical, config.clip * typical)
        parents = {p for k in likely for p in design.terms[k].parents} | {int(v)}
        candidates = proposals([design.terms[k] for k in likely], parents, plain, design.terms)
        candidates = tuple(c for c in candidates if all(design.varies[p] for p in c.parents))
        total = float(np.square(changes[:, v] - changes[:, v].mean()).sum())
        left = float(residual @ residual) / max(total, 1e-300)
        gained = explained(design, candidates, residual, phi[:, likely], order)
        gained[gained * left < config.least_effect] = 0.0
        for k in np.argsort(-gained)[: config.per_variable]:
            if gained[k] > config.least_gain:
                odds = -float(np.log(len(candidates)))
                added[candidates[k]] = min(odds, added.get(candidates[k], 0.0))
    return added


def explained(design: Design, candidates: Sequence[SeriesTerm], residual: Array, phi: Array, order: int) -> Array:
    """[K] share of the residual's variance that each candidate explains beside the terms `phi` [N, m]."""
    columns = design.steps(design.columns(candidates), order)
    columns = columns - columns.mean(axis=0)
    basis = np.linalg.qr(phi - phi.mean(axis=0))[0] if phi.shape[1] else np.zeros((len(phi), 0))
    before = np.square(columns).sum(axis=0)
    columns = columns - basis @ (basis.T @ columns)
    after = np.square(columns).sum(axis=0)
    residual = residual - basis @ (basis.T @ residual)
    share = np.square(columns.T @ residual) / np.maximum(after, 1e-300) / max(float(residual @ residual), 1e-300)
    return np.where(after > 1e-6 * before, share, 0.0)
