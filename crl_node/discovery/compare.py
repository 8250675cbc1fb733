"""Which terms of which laws are the same in all environments of a series, and which changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import logit

from crl_node.data import Array
from crl_node.discovery.design import Design
from crl_node.discovery.fit import Fit
from crl_node.structure.environments import InvarianceConfig, invariance

#: Terms of a law that are compared at most, and the inclusion below which a term is not.
MOST_TERMS, LEAST_INCLUSION = 14, 0.02


def compare_environments(design: Design, fit: Fit, order: int, term_inclusion: Array) -> dict[str, Any]:
    """Probability that each term is invariant, for every variable that moves, and the changes in sentences.

    `term_inclusion` [D, F] of the pooled fit says which terms are worth comparing: the likeliest, and the own linear
    term. Changes in a law that only some environments have are looked for among the linear terms of all variables too.
    """
    names = design.series.environment_names
    moments = {e: design.moments((order,), environment=e)[order] for e in range(len(names))}
    usable = [e for e in moments if moments[e].rows >= 3]
    spelled = [term.text(design.names) for term in design.terms]
    scale = fit.reduced[order].data.std[: fit.terms]
    out: dict[str, Any] = {"names": [names[e] for e in usable], "terms": [], "noise": [], "sentences": []}
    if len(usable) < 2:
        out["sentences"].append("fewer than two environments with usable steps: nothing to compare")
        return out
    linear = [k for k, term in enumerate(design.terms) if len(term.variables) == 1 and term.kind == "product"]
    for v in np.flatnonzero(fit.moving):
        columns = _worth_comparing(term_inclusion[v], linear)
        sums = [moments[e].centred() for e in usable]
        gram = np.stack([s[0][np.ix_(columns, columns)] / np.outer(scale[columns], scale[columns]) for s in sums])
        cross = np.stack([s[1][columns, v] / scale[columns] for s in sums])
        square = np.array([s[2][v] for s in sums])
        rows = np.array([max(moments[e].rows - 1.0, 0.0) for e in usable])  # each environment has its own mean
        weight_std = _weight_std(fit, int(v))
        found = invariance(
            gram, cross, square, rows, prior_std=np.full(len(columns), weight_std),
            log_prior_odds=np.full(len(columns), logit(0.5)), config=InvarianceConfig(change_rate=0.1),
        )  # fmt: skip
        variable = design.series.state_names[v]
        for position, column in enumerate(columns):
            if found.inclusion[position] < 0.1:
                continue
            out["terms"].append({
                "variable": variable, "term": spelled[column], "probability": float(found.inclusion[position]),
                "invariant": float(found.invariant[position]),
                "weights": [float(w) for w in found.weight_mean[:, position] / scale[column] / design.unit[column]],
            })  # fmt: skip
        out["noise"].append({"variable": variable, "invariant": found.noise_invariant})
        labels = [f"{spelled[c]} in the law of {variable}" for c in columns]
        for change in found.changes(labels, np.arange(len(columns), dtype=np.int32)):
            column = columns[labels.index(change.name)]
            unit = scale[column] * design.unit[column]
            out["sentences"].append(
                f"{change.name} changed in '{names[usable[change.environment]]}': {change.before[0] / unit:.3g} -> "
                f"{change.after[0] / unit:.3g} a step (probability {change.probability:.2f})"
            )
        if found.noise_invariant < 0.5:
            out["sentences"].append(f"the noise of {variable} differs between environments")
    if not out["sentences"]:
        out["sentences"].append("no term changed between the environments with probability above one half")
    return out


def _worth_comparing(inclusion: Array, linear: Sequence[int]) -> list[int]:
    """Columns of the likeliest terms, filled up with linear ones: what one environment alone has is likely simple."""
    order = np.argsort(-inclusion, kind="stable")
    columns = [int(k) for k in order[:MOST_TERMS] if inclusion[k] > LEAST_INCLUSION]
    columns += [k for k in linear if k not in columns][: MOST_TERMS - len(columns)]
    return sorted(columns)


def _weight_std(fit: Fit, variable: int) -> float:
    """Weight scale of the likeliest hyperparameters, at least 1: deviations may be as large as weights."""
    options = fit.fitted[variable]
    if not options:
        return 1.0
    return max(options, key=lambda option: option.log_weight).hyper.weight_std
