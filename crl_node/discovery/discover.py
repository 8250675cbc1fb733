"""`crl_node.discover`: from recorded states and actions to the posterior over causal graphs and laws."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, logsumexp

from crl_node.data import Array
from crl_node.discovery.compare import compare_environments
from crl_node.discovery.design import Design, spelled
from crl_node.discovery.draws import draw_laws
from crl_node.discovery.fit import Fit, FitConfig, edge_inclusion
from crl_node.discovery.grow import GrowConfig, propose
from crl_node.discovery.library import parent_mask
from crl_node.discovery.result import HIGH, LOW, Discovery, law_of
from crl_node.discovery.table import Series, from_arrays
from crl_node.structure.engine import Engine
from crl_node.structure.engines import make_engine
from crl_node.structure.mcmc import McmcConfig, McmcEngine
from crl_node.structure.screening import ScreenedEngine

Progress = Callable[[str, float], None]

#: Columns of a variable that an engine works on; others are judged alone.
MOST_COLUMNS = {"exact": 18, "gflownet": 24, "amortised": 20, "amortised_raw": 20, "particles": 48, "greedy": 64}


@dataclass(frozen=True)
class DiscoverConfig:
    """How discovery goes about it."""

    degree: int = 2  # of the polynomials the library starts with
    orders: tuple[int, ...] = (1, 2, 3, 4)  # Adams-Bashforth orders compared; 1 is a map
    next_values: bool = True  # also consider laws of x(t+1) without an own term
    tail_waves: int = 48  # random Fourier features in the tail, beside the library itself
    grow: int = 1  # rounds in which the grammar may propose terms
    engine: str = "mcmc"  # a name of `structure.engines`
    draws: int = 400  # joint posterior draws for laws, shares and predictions
    fit: FitConfig = field(default_factory=FitConfig)
    growth: GrowConfig = field(default_factory=GrowConfig)
    chains: McmcConfig = field(
        default_factory=lambda: McmcConfig(
            temperatures=(1.0, 1.0, 0.7, 0.5), steps=60, most_steps=60, climbs=40, kept_per_step=24, most_sets=2048
        )
    )


def discover(
    states: ArrayLike | Series,
    actions: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    action_names: Sequence[str] | None = None,
    time: ArrayLike | None = None,
    episode: ArrayLike | None = None,
    environment: ArrayLike | None = None,
    dt: float | None = None,
    config: DiscoverConfig | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Discovery:
    """Which of the D states and A actions drive the change of which state, by which law, with probabilities.

    `states` [T, D] and `actions` [T, A] (the action that acts from sample t to t + 1), or a `Series` that was read from
    a file. Rows with NaN are left out, as are gaps in `time` and changes of `episode`. `progress` is called with what
    is going on and the share done. Deterministic given `seed`. SeriesError for input that cannot be used.
    """
    series = states if isinstance(states, Series) else from_arrays(
        states, actions, names=names, action_names=action_names, time=time, episode=episode, environment=environment,
        dt=dt,
    )  # fmt: skip
    return _Run(series, config or DiscoverConfig(), seed, progress or (lambda what, share: None)).result()


class _Run:
    """One discovery from the series to the result."""

    def __init__(self, series: Series, config: DiscoverConfig, seed: int, progress: Progress) -> None:
        self.series, self.config, self.seed, self.progress = series, config, seed, progress
        self.began = time.perf_counter()
        self.design = Design(series, degree=config.degree, orders=config.orders, waves=config.tail_waves)
        self.notes = [*series.notes, *self.design.notes]
        self.log_odds = np.zeros(len(self.design.terms))  # [F] prior odds of the terms, nats

    def _fit(self, order: int | None) -> Fit:
        """Fit with the present library; the stepping order is chosen when None."""
        design = self.design
        orders = design.orders if order is None else (order,)
        moments, own = design.moments(orders), design.own()
        own_scale = np.array([1.0 if column is None else design.unit[column] for column in own])
        fit = Fit(moments, len(design.terms), own, own_scale, self.log_odds, self.config.fit)
        if order is None:
            moving = np.flatnonzero(fit.moving)
            judges = moving if len(design.terms) <= 200 else moving[:: max(1, len(moving) // 8)]
            order = fit.choose_order(orders, judges.tolist()) if len(orders) > 1 and judges.size else orders[0]
            self.log_orders = fit.log_orders or {order: 0.0}
        self.order = order
        engine = ScreenedEngine(self._engine, most_columns=MOST_COLUMNS.get(self.config.engine, 96))
        fit.run(order, engine, next_values=self.config.next_values)
        return fit

    def _engine(self) -> Engine:
        if self.config.engine == "mcmc":
            return McmcEngine(self.seed, self.config.chains)
        return make_engine(self.config.engine, self.seed)

    def result(self) -> Discovery:
        """Fit, grow the library, fit again, sum up."""
        self.progress("which term drives what", 0.05)
        fit = self._fit(None)
        enough = len(self.design.step_rows()) >= max(50, 2 * len(self.design.terms))
        for _ in range(self.config.grow if enough else 0):
            self.progress("does the residual call for other terms", 0.5)
            rng = np.random.default_rng([self.seed, 1])
            added = propose(self.design, fit, self.order, self.config.growth, rng)
            if not added:
                break
            self.progress("with the proposed terms", 0.6)
            base = len(self.design.terms)
            self.design.terms += list(added)
            self.log_odds = np.append(self.log_odds, list(added.values()))
            fit = self._fit(self.order)
            if self._drop(fit, base):
                fit = self._fit(self.order)
        self.progress("laws and shares", 0.9)
        return self._sum_up(fit)

    def _drop(self, fit: Fit, base: int) -> bool:
        """Drop terms beyond the first `base` that no variable includes; True when any was dropped."""
        keep = np.ones(len(self.design.terms), bool)
        keep[base:] = (_term_inclusion(fit)[:, base:] > self.config.growth.drop_below).any(axis=0)
        kept = [term for term, k in zip(self.design.terms[base:], keep[base:], strict=True) if k]
        names = [term.text(self.series.names) for term in kept]
        if names:
            self.notes.append(f"the residual called for terms beyond the library: {', '.join(names)}")
        self.design.terms = [term for term, k in zip(self.design.terms, keep, strict=True) if k]
        self.log_odds = self.log_odds[keep]
        return not keep.all()

    def _sum_up(self, fit: Fit) -> Discovery:
        series, design, rng = self.series, self.design, np.random.default_rng([self.seed, 2])
        mask = parent_mask(design.terms, design.width)
        term_inclusion, inclusion = _term_inclusion(fit), np.zeros((len(series.state_names), design.width))
        laws, shares, all_draws, hypers = [], [], [], []
        for v, name in enumerate(series.state_names):
            draws = draw_laws(fit, v, self.config.draws, rng)
            draws = replace(draws, weights=draws.weights / design.unit[: len(design.terms)])
            inclusion[v] = _edges(fit, v, mask)
            quantiles = np.quantile(draws.shares, (LOW, HIGH), axis=0)
            shares.append(np.stack([draws.shares.mean(axis=0), *quantiles], axis=1))
            left = spelled(name, 0.0, design.prescale[v])
            laws.append(law_of(left, draws, design.terms, design.names, term_inclusion[v], series.dt))
            all_draws.append(draws)
            hypers.append(_likeliest(fit, v))
        # What cannot be told keeps its prior: columns that never vary, variables that never change.
        for v in range(len(series.state_names)):
            if not fit.moving[v]:
                inclusion[v] = [_prior_edge(fit, int(mask[:, j].sum())) for j in range(design.width)]
                inclusion[v, ~design.varies] = _prior_edge(fit, self._terms_per_variable())
        inclusion[:, ~design.varies] = _prior_edge(fit, self._terms_per_variable())
        total = logsumexp(list(self.log_orders.values()))
        rows = len(self.design.step_rows())
        if rows < len(design.terms):
            self.notes.append(
                f"{rows} steps and {len(design.terms)} candidate terms: expect wide posteriors, near their prior"
            )
        return Discovery(
            states=series.state_names, actions=series.action_names, inclusion=np.clip(inclusion, 0.0, 1.0),
            laws=tuple(laws), shares=np.array(shares), terms=tuple(design.terms), term_inclusion=term_inclusion,
            orders={o: float(np.exp(value - total)) for o, value in self.log_orders.items()}, hypers=tuple(hypers),
            draws=tuple(all_draws), engine=self.config.engine, rows=rows, dt=series.dt, notes=tuple(self.notes),
            environments=self._environments(fit, term_inclusion),
            seconds=time.perf_counter() - self.began, shift=design.shift, prescale=design.prescale,
        )  # fmt: skip

    def _environments(self, fit: Fit, term_inclusion: Array) -> dict[str, Any] | None:
        if len(self.series.environment_names) < 2:
            return None
        return compare_environments(self.design, fit, self.order, term_inclusion)

    def _terms_per_variable(self) -> int:
        """Terms one variable has a part in, in the library of all."""
        return 1 if self.config.degree == 1 else 1 + self.design.width


def _term_inclusion(fit: Fit) -> Array:
    """[D, F] averaged over the hyperparameters."""
    out = np.zeros((len(fit.moving), fit.terms))
    for v, options in enumerate(fit.fitted):
        for option in options:
            out[v] += np.exp(option.log_weight) * option.inclusion
    return out


def _edges(fit: Fit, variable: int, mask: NDArray[np.bool_]) -> Array:
    """[D + A] probability that any term with this parent is in, averaged over the hyperparameters."""
    out = np.zeros(mask.shape[1])
    for option in fit.fitted[variable]:
        out += np.exp(option.log_weight) * edge_inclusion(option.support, option.inclusion, mask)
    return out


def _prior_edge(fit: Fit, terms: int) -> float:
    """Prior probability that any of `terms` terms is in, the rate of terms being beta distributed."""
    a, b = fit.strength * fit.rate, fit.strength * (1.0 - fit.rate)
    return float(1.0 - np.exp(betaln(a, b + terms) - betaln(a, b)))


def _likeliest(fit: Fit, variable: int) -> dict[str, Any]:
    """The likeliest hyperparameters of one variable, with the posterior mean of the tail's scale."""
    options = fit.fitted[variable]
    if not options:
        return {"weight_std": None, "tail_std": None, "probability": None}
    best = max(options, key=lambda o: o.log_weight)
    p = np.exp([o.log_weight for o in options])
    return {
        "weight_std": best.hyper.weight_std, "tail_std": best.hyper.tail_std, "probability": float(p.max()),
        "tail_std_mean": float(p @ [o.hyper.tail_std for o in options]),
        "tail_probability": float(p @ [o.hyper.tail_std > 0.0 for o in options]),
    }  # fmt: skip
