"""The posterior over laws of every variable: hyperparameters on a grid, term sets by an engine, weights in closed form.

Change of variable i in one step: y = sum_{k in M} w_k phi_k + tail + noise. Core weights w_k / sigma ~ N(0, tau^2) for
features of unit variance; the tail is every library term and random Fourier features with small weights,
N(0, sigma^2 t^2 / P) each; the noise variance is integrated out. Integrating the tail out only changes the statistics
the core is judged by (Woodbury; Psi = all P tail features, Phi = the F candidates):

  G~ = Phi'Phi - A' D A,  c~ = Phi'y - A' D b,  yy~ = y'y - b' D b,  with Psi'Psi = U L U', A = U'Psi'Phi, b = U'Psi'y,
  D = (L + P / t^2)^-1, and log p gains -1/2 sum log(1 + L t^2 / P).

So any engine works on the core alone, for each tail scale t, weight scale tau, and way of stepping; these have a
posterior of their own. "Way of stepping" is the order of the Adams-Bashforth average (shared by all variables: a map,
or a flow) and, for maps, whether the law is about the change or the next value (a spike on the own weight at 0 or -1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from crl_node.data import Array
from crl_node.discovery.moments import Moments, Standardised
from crl_node.structure.engine import Engine, Support
from crl_node.structure.evidence import Problem, beta_binomial, log_prior, log_score
from crl_node.structure.neighbours import Batch, climb

#: Numbers in one block of neighbour scores: bounds the memory of a climb.
_BLOCK = 6_000_000


@dataclass(frozen=True)
class FitConfig:
    """Priors and bounds. Scales are in units of the noise's standard deviation."""

    weight_stds: tuple[float, ...] = (0.1, 0.3, 1.0, 4.0, 16.0, 128.0, 1024.0)  # tau
    tail_stds: tuple[float, ...] = (0.0, 0.1, 0.25, 0.6, 1.5, 4.0, 10.0)  # t, of the whole tail
    no_tail: float = 0.5  # prior probability that the world has no tail
    expected_terms: float = 4.0  # of a law; the rate of terms is Beta(terms_shape, .) with this mean count
    terms_shape: float = 2.0  # the count is then about negative binomial: mean 4, standard deviation 3.5
    highest_rate: float = 0.2  # prior mean rate of terms is at most this
    noise_shape: float = 1.0  # a0 of the noise variance
    noise_share: float = 0.1  # b0 / a0 as a share of the change's variance: few rows prove little
    #: Standard deviation, as a share of the change's, to which laws are believed at best: integration errors of a
    #: smooth flow are systematic, and without noise in the data each would count as a certain tiny mechanism.
    model_error: float = 0.01
    doubt: float = 10.0  # rows; n rows count as n^2 / (n + doubt), without effect where there are many
    near: float = 5.0  # nats below the best within which hyperparameters are kept
    most_hypers: int = 6  # kept per variable
    most_climbs: int = 60


@dataclass(frozen=True)
class Hyper:
    """One point of the grid for one variable."""

    order: int  # of the multistep average
    next_value: bool  # the law is about x(t+1), not about the change
    weight_std: float
    tail_std: float


@dataclass(frozen=True)
class Fitted:
    """Posterior of one variable given one hyperparameter point."""

    hyper: Hyper
    log_weight: float  # nats, normalised over the points kept for the variable
    problem: Problem
    support: Support
    inclusion: Array  # [F]


class Reduced:
    """Statistics of one stepping order with the tail integrated out, for any tail scale."""

    def __init__(self, moments: Moments, terms: int, own_scale: Array, doubt: float = 0.0) -> None:
        """The first `terms` features of `moments` are the candidates; all of them make the tail.

        `own_scale` [D]: unit of the change per unit of the variable's own feature in `moments`. n rows count as
        n^2 / (n + `doubt`): with few rows some of many candidates fits by chance.
        """
        data = moments.standardised()
        share = data.rows / (data.rows + doubt) if data.rows > 0 else 1.0
        self.data: Standardised = replace(
            data, rows=share * data.rows, square=share * data.square, gram=share * data.gram, cross=share * data.cross
        )
        self.own_scale = own_scale
        self.terms = terms

    @cached_property
    def _basis(self) -> tuple[Array, Array]:
        """Eigenvalues L [P] and eigenvectors U of Psi'Psi: the dear part, needed only where there is a tail."""
        eigenvalues, basis = np.linalg.eigh(self.data.gram)
        return np.maximum(eigenvalues, 0.0), basis

    @property
    def eigenvalues(self) -> Array:
        """L [P]."""
        return self._basis[0]

    @cached_property
    def tail_gram(self) -> Array:
        """A [P, F]."""
        return np.asarray(self._basis[1].T @ self.data.gram[:, : self.terms])

    @cached_property
    def tail_cross(self) -> Array:
        """b [P, D]."""
        return np.asarray(self._basis[1].T @ self.data.cross)

    def shrink(self, tail_std: float) -> Array:
        """D [P] for one tail scale (0 without a tail)."""
        if tail_std == 0.0:
            return np.zeros(len(self.eigenvalues))
        return np.asarray(1.0 / (self.eigenvalues + len(self.eigenvalues) / tail_std**2))

    def core(self, tail_std: float) -> tuple[Array, Array, Array, float]:
        """G~ [F, F], c~ [F, D], yy~ [D] and the nats of the tail's determinant."""
        f = self.terms
        if tail_std == 0.0:
            return self.data.gram[:f, :f].copy(), self.data.cross[:f].copy(), self.data.square.copy(), 0.0
        shrink = self.shrink(tail_std)
        gram = self.data.gram[:f, :f] - (self.tail_gram.T * shrink) @ self.tail_gram
        cross = self.data.cross[:f] - (self.tail_gram.T * shrink) @ self.tail_cross
        square = self.data.square - np.einsum("p,pd->d", shrink, np.square(self.tail_cross))
        share = self.eigenvalues * tail_std**2 / len(self.eigenvalues)
        return 0.5 * (gram + gram.T), cross, np.maximum(square, 0.0), -0.5 * float(np.log1p(share).sum())

    def shared(self, weight_std: float, tail_std: float) -> tuple[tuple[Array, Array, Array, float], Array]:
        """What all variables have in common at one scale of weights and tail: `core`, and the precision [F, F]."""
        core = self.core(tail_std)
        precision = core[0] * weight_std**2
        precision[np.diag_indices_from(precision)] += 1.0
        return core, precision


def problem_for(
    reduced: Reduced, core: tuple[Array, Array, Array, float], precision: Array, variable: int, hyper: Hyper,
    log_odds: Array, size: Array, own: int | None, config: FitConfig, hyper_prior: float = 0.0,
) -> Problem:  # fmt: skip
    """Problem of one variable at one grid point; `precision` [F, F] is shared by all variables.

    `hyper_prior` nats is the point's own prior, `own` the column of the variable itself (for laws of the next value).
    """
    gram, cross, square, determinant = core
    c, yy, total = cross[:, variable], float(square[variable]), float(reduced.data.square[variable])
    if hyper.next_value:
        assert own is not None
        # y' = y + x_i: the own column, in units of its standard deviation, is added to the target.
        std = float(reduced.data.std[own] * reduced.own_scale[variable])
        yy = max(yy + 2.0 * std * float(c[own]) + std**2 * float(gram[own, own]), 0.0)
        c = c + std * gram[:, own]
    rows = max(reduced.data.rows - 1.0, 0.0)  # the mean takes one
    a0 = config.noise_shape
    b0 = a0 * config.noise_share * total / max(rows, 1.0) + 0.5 * config.model_error**2 * total
    a, b = a0 + 0.5 * rows, b0 + 0.5 * yy
    allowed = np.where(reduced.data.varies[: reduced.terms], log_odds, -np.inf)
    return Problem(
        precision=precision, linear=c * hyper.weight_std,
        constant=hyper_prior + determinant - a * np.log(b) + a0 * np.log(b0),
        prior_mean=np.zeros(len(c)), prior_std=np.full(len(c), hyper.weight_std),
        group=np.arange(len(c), dtype=np.int32), log_prior_odds=allowed, shape=a, rate=b, size_log_prior=size,
    )  # fmt: skip


class Fit:
    """Hyperparameters and structure of all variables, from the moments of every stepping order."""

    def __init__(
        self, moments: dict[int, Moments], terms: int, own: Sequence[int | None], own_scale: Array, log_odds: Array,
        config: FitConfig,
    ) -> None:  # fmt: skip
        """`own` [D] linear column of each variable (None: not in the library), `own_scale` [D] as in `Reduced`;
        `log_odds` [F] prior odds.
        """
        self.config, self.terms, self.own, self.log_odds = config, terms, list(own), log_odds
        self.reduced = {order: Reduced(m, terms, own_scale, config.doubt) for order, m in moments.items()}
        any_order = next(iter(self.reduced.values()))
        self.moving = any_order.data.square > 0.0  # [D]
        candidates = max(int(any_order.data.varies[:terms].sum()), 1)
        self.rate = min(config.highest_rate, config.expected_terms / candidates)
        self.strength = config.terms_shape / self.rate
        self.size = beta_binomial(candidates, mean=self.rate, strength=self.strength)
        self.log_orders: dict[int, float] = {}
        self.fitted: list[list[Fitted]] = []

    def choose_order(self, orders: Sequence[int], variables: Sequence[int]) -> int:
        """The likeliest order by the best evidence of each variable; `log_orders` holds what each is worth, nats."""
        for order in orders:
            best = self._grid(variables, [Hyper(order, False, w, t) for w in self.config.weight_stds[1::2]
                                          for t in self.config.tail_stds[::2] if t < w])  # fmt: skip
            self.log_orders[order] = sum(max(entry[1] for entry in best[v]) for v in variables)
        return max(self.log_orders, key=lambda order: self.log_orders[order])

    def log_prior(self, hyper: Hyper) -> float:
        """Nats: half of the prior says that there is no tail, the rest is even over the grid."""
        tails = [t for t in self.config.tail_stds if t > 0.0]
        share = self.config.no_tail if hyper.tail_std == 0.0 else (1.0 - self.config.no_tail) / max(len(tails), 1)
        return float(np.log(share))

    def _grid(
        self, variables: Sequence[int], hypers: Sequence[Hyper]
    ) -> dict[int, list[tuple[Hyper, float, Problem, NDArray[np.bool_]]]]:
        """Per variable (hyper, best score, problem, best set) of every grid point."""
        keys, problems = [], []
        shared: dict[tuple[int, float, float], tuple[tuple[Array, Array, Array, float], Array]] = {}
        for hyper in hypers:
            reduced = self.reduced[hyper.order]
            key = (hyper.order, hyper.weight_std, hyper.tail_std)
            if key not in shared:
                shared[key] = reduced.shared(hyper.weight_std, hyper.tail_std)
            core, precision = shared[key]
            for v in variables:
                if hyper.next_value and self.own[v] is None:
                    continue
                problems.append(
                    problem_for(reduced, core, precision, v, hyper, self.log_odds, self.size, self.own[v],
                                self.config, self.log_prior(hyper))
                )  # fmt: skip
                keys.append((v, hyper))
        out: dict[int, list[tuple[Hyper, float, Problem, NDArray[np.bool_]]]] = {v: [] for v in variables}
        many = self.terms > 200
        rows = max(1, _BLOCK // (self.terms * (8 if many else 16)))
        for start in range(0, len(problems), rows):
            block = problems[start : start + rows]
            empty = np.zeros((len(block), self.terms), bool)
            score = np.array([p.constant + float(log_prior(p, e[None])[0]) for p, e in zip(block, empty, strict=True)])
            sets, score = climb(
                Batch(block), np.arange(len(block)), empty, score, most_moves=self.config.most_climbs,
                exchanges=not many,
            )  # fmt: skip
            for (v, hyper), value, problem, chosen in zip(keys[start : start + rows], score, block, sets, strict=True):
                out[v].append((hyper, float(value), problem, chosen))
        return out

    def run(self, order: int, engine: Engine, *, next_values: bool) -> None:
        """The posterior of every variable that moves, at the grid points near its best; `fitted` [D] holds it."""
        config = self.config
        variables = np.flatnonzero(self.moving).tolist()
        fine = self.terms <= 300  # many terms: every point costs a matrix of F^2
        hypers = [
            Hyper(order, frame, w, t)
            for frame in ((False, True) if next_values and order == 1 else (False,))
            for w in (config.weight_stds if fine else config.weight_stds[::2])
            for t in (config.tail_stds if fine else config.tail_stds[::2])
            if t == 0.0 or t < 4.0 * w
        ]
        grid = self._grid(variables, hypers)
        picked: list[tuple[int, Hyper, Problem]] = []
        for v in variables:
            best = max(entry[1] for entry in grid[v])
            near = sorted((e for e in grid[v] if e[1] > best - config.near), key=lambda e: -e[1])
            picked += [(v, hyper, problem) for hyper, _, problem, _ in near[: config.most_hypers]]
        self.fitted = [[] for _ in self.moving]
        if not picked:
            return
        engine.update([problem for _, _, problem in picked])
        inclusion = engine.inclusion()
        supports = [engine.support(k) for k in range(len(picked))]
        totals = np.array([_evidence(p, s) for (_, _, p), s in zip(picked, supports, strict=True)])
        for v in variables:
            mine = [k for k, (owner, _, _) in enumerate(picked) if owner == v]
            weight = totals[mine] - logsumexp(totals[mine])
            self.fitted[v] = [
                Fitted(picked[k][1], float(w), picked[k][2], supports[k], inclusion[k])
                for k, w in zip(mine, weight, strict=True)
            ]


    def search(self, order: int, variables: Sequence[int]) -> dict[int, tuple[float, float]]:
        """Likeliest (weight_std, tail_std) of each of `variables`, by the evidence of the best set."""
        tails = self.config.tail_stds
        hypers = [Hyper(order, False, w, t) for w in self.config.weight_stds for t in tails if t == 0.0 or t < 4.0 * w]
        best = {v: max(found, key=lambda e: e[1])[0] for v, found in self._grid(variables, hypers).items()}
        return {v: (hyper.weight_std, hyper.tail_std) for v, hyper in best.items()}

    def posterior(
        self, order: int, scales: dict[int, tuple[float, float]], engine: Engine, mask: NDArray[np.bool_]
    ) -> tuple[Array, Array]:
        """Terms' [V, F] and edges' [V, D + A] inclusion of the V moving variables at given (weight_std, tail_std).

        `mask` [F, D + A] says which variables are parents of each term.
        """
        reduced, problems = self.reduced[order], []
        shared: dict[tuple[float, float], tuple[tuple[Array, Array, Array, float], Array]] = {}
        for v in np.flatnonzero(self.moving):
            weight_std, tail_std = scales[int(v)]
            if (weight_std, tail_std) not in shared:
                shared[weight_std, tail_std] = reduced.shared(weight_std, tail_std)
            core, precision = shared[weight_std, tail_std]
            hyper = Hyper(order, False, weight_std, tail_std)
            problems.append(
                problem_for(reduced, core, precision, int(v), hyper, self.log_odds, self.size, self.own[v], self.config)
            )
        engine.update(problems)
        inclusion = engine.inclusion()
        edges = np.stack([edge_inclusion(engine.support(k), row, mask) for k, row in enumerate(inclusion)])
        return inclusion, edges


def edge_inclusion(support: Support, inclusion: Array, mask: NDArray[np.bool_]) -> Array:
    """[D + A] probability that any term with this parent is in; `inclusion` [F], `mask` [F, D + A]."""
    any_in = (support.sets.astype(np.float32) @ mask.astype(np.float32)) > 0.5  # [N, D + A]
    # Terms in no set of the support: judged alone, independent of one another.
    alone = np.where(support.sets.any(axis=0), 0.0, inclusion)
    none_alone = np.exp(np.log1p(-np.minimum(alone, 1.0 - 1e-12)) @ mask)
    return np.asarray(1.0 - (1.0 - np.exp(support.log_probability) @ any_in) * none_alone)


def _evidence(problem: Problem, support: Support) -> float:
    """log sum over the support of p(y, M), nats; recomputed where the engine does not say it."""
    if np.isfinite(support.log_evidence):
        return support.log_evidence
    return float(logsumexp(log_score(problem, support.sets)))
