"""What discovery returns: probabilities, laws, shares; as an object, as JSON, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crl_node.data import Array
from crl_node.discovery.draws import LawDraws
from crl_node.discovery.library import SeriesTerm, evaluate

#: Terms less probable than this are not listed.
LISTED = 0.1
#: Ends of the credible intervals.
LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True)
class LawTerm:
    """One term of one variable's law."""

    term: str
    probability: float
    mean: float  # weight given that the term is in; unit of the effect per unit of the term, per step (or per second)
    low: float  # 5 % quantile of it
    high: float  # 95 %
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Law:
    """The law of one variable."""

    variable: str
    form: str  # "change" or "next"
    form_probability: float
    terms: tuple[LawTerm, ...]  # most probable first, down to LISTED
    intercept: tuple[float, float, float]  # mean, low, high
    noise: tuple[float, float, float]  # standard deviation per step: mean, low, high
    text: str


@dataclass(frozen=True)
class Discovery:
    """Posterior over the causal graph of D states and A actions, with the laws on its edges."""

    states: tuple[str, ...]
    actions: tuple[str, ...]
    inclusion: Array  # [D, D + A] probability that the column drives the row
    laws: tuple[Law, ...]  # [D]
    shares: Array  # [D, 3, 3] core, tail, noise of the change's variance: mean, 5 %, 95 %
    terms: tuple[SeriesTerm, ...]  # [F] the library in the end
    term_inclusion: Array  # [D, F]
    orders: dict[int, float]  # probability of each stepping order
    hypers: tuple[dict[str, Any], ...]  # per variable: likeliest weight and tail scale
    draws: tuple[LawDraws, ...] = field(repr=False)
    shift: Array = field(repr=False)  # [D + A] subtracted before the terms are evaluated
    prescale: Array = field(repr=False)  # [D + A] divided by before that
    engine: str = "mcmc"
    rows: int = 0
    dt: float | None = None
    notes: tuple[str, ...] = ()
    environments: dict[str, Any] | None = None  # see `structure.environments`, None with one environment
    seconds: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """States, then actions: the columns of `inclusion`."""
        return self.states + self.actions

    def predict(self, state: Array, action: Array | None = None) -> tuple[Array, Array]:
        """Mean and std [D] of the change in the next step from `state` [D] under `action` [A], laws' noise included."""
        data = self._row(state, action)
        phi = evaluate(self.terms, data - self.shift)[0]
        mean, std = np.zeros(len(self.states)), np.zeros(len(self.states))
        for i, draws in enumerate(self.draws):
            change = draws.weights @ phi + draws.intercept - np.where(draws.next_value, data[0, i], 0.0)
            mean[i] = change.mean() * self.prescale[i]
            std[i] = np.sqrt(change.var() + np.square(draws.noise_std).mean()) * self.prescale[i]
        return mean, std

    def active(self, state: Array, action: Array | None = None) -> Array:
        """[D, D + A] probability that the edge acts *now*: what its terms contribute exceeds the noise of one step.

        `inclusion` is the graph "ever"; this is the graph in one state. A contribution is counted as its difference
        from what it is on average, for it is the deviation that the cause makes; an action's from no action at all.
        """
        data = self._row(state, action)
        phi = evaluate(self.terms, data - self.shift)[0]
        out = np.zeros_like(self.inclusion)
        for i, draws in enumerate(self.draws):
            for j in range(len(self.names)):
                columns = np.array([j in term.parents for term in self.terms])
                effect = np.abs(draws.weights[:, columns] @ phi[columns])
                out[i, j] = float((draws.sets[:, columns].any(axis=1) & (effect > draws.noise_std)).mean())
        return out

    def _row(self, state: Array, action: Array | None) -> Array:
        given = np.zeros(len(self.actions)) if action is None else np.asarray(action, float).ravel()
        row = np.concatenate([np.asarray(state, float).ravel(), given])
        if row.shape != (len(self.names),) or not np.isfinite(row).all():
            raise ValueError(
                f"expected {len(self.states)} states and {len(self.actions)} actions, all finite; got {row.tolist()}"
            )
        return row[None] / self.prescale

    def to_json(self) -> dict[str, Any]:
        """Plain lists and dicts; `inclusion` [D][D + A]: row effect, column cause, value probability."""
        return {
            "schema": 1,
            "names": list(self.names),
            "states": list(self.states),
            "actions": list(self.actions),
            "inclusion": np.round(self.inclusion, 9).tolist(),
            "laws": [
                {
                    "variable": law.variable, "form": law.form, "form_probability": law.form_probability,
                    "text": law.text,
                    "terms": [
                        {"term": t.term, "probability": t.probability, "mean": t.mean, "low": t.low, "high": t.high,
                         "parents": list(t.parents)}
                        for t in law.terms
                    ],
                    "intercept": dict(zip(("mean", "low", "high"), law.intercept, strict=True)),
                    "noise_std": dict(zip(("mean", "low", "high"), law.noise, strict=True)),
                }
                for law in self.laws
            ],
            "shares": {
                part: [
                    {"variable": name, "mean": row[k][0], "low": row[k][1], "high": row[k][2]}
                    for name, row in zip(self.states, self.shares.tolist(), strict=True)
                ]
                for k, part in enumerate(("core", "tail", "noise"))
            },
            "orders": {str(order): p for order, p in self.orders.items()},
            "hyperparameters": list(self.hypers),
            "environments": self.environments,
            "engine": self.engine,
            "rows": self.rows,
            "dt": self.dt,
            "notes": list(self.notes),
            "seconds": self.seconds,
        }  # fmt: skip


def law_of(
    variable: str, draws: LawDraws, terms: Sequence[SeriesTerm], names: Sequence[str], inclusion: Array,
    dt: float | None,
) -> Law:  # fmt: skip
    """Sum the draws of one variable up; `inclusion` [F]. Weights are per second where `dt` is known, else per step."""
    next_probability = float(draws.next_value.mean())
    is_next = next_probability > 0.5
    rows = draws.next_value == is_next
    per = 1.0 if dt is None or is_next else 1.0 / dt
    listed = []
    for k in np.argsort(-inclusion, kind="stable"):
        if inclusion[k] < LISTED:
            break
        inside = draws.sets[:, k] & rows
        values = draws.weights[inside, k] * per
        if not values.size:
            continue
        low, high = np.quantile(values, (LOW, HIGH))
        parents = tuple(names[p] for p in sorted(terms[k].parents))
        listed.append(
            LawTerm(terms[k].text(names), float(inclusion[k]), float(values.mean()), float(low), float(high), parents)
        )
    intercept, noise = draws.intercept[rows] * per, draws.noise_std[rows]
    text = _text(variable, listed, float(intercept.mean()), is_next, dt)
    return Law(
        variable, "next" if is_next else "change", next_probability if is_next else 1.0 - next_probability,
        tuple(listed), _interval(intercept), _interval(noise), text,
    )  # fmt: skip


def _interval(values: Array) -> tuple[float, float, float]:
    if not values.size:
        return 0.0, 0.0, 0.0
    low, high = np.quantile(values, (LOW, HIGH))
    return float(values.mean()), float(low), float(high)


def _text(variable: str, terms: Sequence[LawTerm], intercept: float, is_next: bool, dt: float | None) -> str:
    """The law of the terms that are more likely in than out, e.g. "dx1/dt = 8.0 + 0.99 (0.97..1.01) x2*x0"."""
    left = f"{variable}(t+1)" if is_next else f"change of {variable}" if dt is None else f"d{variable}/dt"
    sure = [t for t in terms if t.probability >= 0.5]
    parts = [f"{t.mean:+.3g} ({t.low:.3g}..{t.high:.3g}) {t.term}" for t in sure]
    head = f"{intercept:.3g}" if abs(intercept) > 1e-12 or not parts else ""
    return f"{left} = " + " ".join([head, *parts]).strip()
