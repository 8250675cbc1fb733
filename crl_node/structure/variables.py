"""All variables of one type (slot motion or slot brightness): statistics in, summary of the posterior out.

The summary is plain arrays by slot, so that a checkpoint restores it bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crl_node.data import MAX_SLOTS, Array, TermKind
from crl_node.mechanisms.environments import MOST_ENVIRONMENTS, Environments, Sums, sums_of
from crl_node.mechanisms.grammar import Columns
from crl_node.mechanisms.slides import Slides
from crl_node.mechanisms.statistics import CONTACT, Statistics, expected_residual, noise_std
from crl_node.posterior import PARTICLES
from crl_node.structure import dense
from crl_node.structure.average import SetAverage
from crl_node.structure.comparison import ChangeConfig, Comparison, compare
from crl_node.structure.evidence import Problem, make_problem, submatrix, weights_given
from crl_node.structure.greedy import GreedyConfig, GreedyPosterior
from crl_node.structure.prior import Experience
from crl_node.structure.strengths import Weights, prior_from_others

if TYPE_CHECKING:
    from crl_node.structure.chosen import EnginePosterior


@dataclass(frozen=True)
class NoisePrior:
    """Where the noise of one variable type starts, per regime (free, contact)."""

    std: tuple[float, float]  # m or 1 per step
    rows: float  # pseudo-observations
    floor: float  # m or 1 per step


#: The floors are what the terms themselves may be wrong by (friction holds a little longer, a touch comes a little
#: earlier): a resting thing is seen to a tenth of a millimetre, and a model that believed itself as exact as that would
#: reject a true spring for every step in which friction won.
MOTION_NOISE = NoisePrior(std=(0.0015, 0.008), rows=20.0, floor=0.001)
BRIGHTNESS_NOISE = NoisePrior(std=(0.05, 0.10), rows=10.0, floor=0.03)

#: What pushes, drags or pulls towards a rest length has a weight above 0.
POSITIVE = (TermKind.PUSH, TermKind.DRAG, TermKind.SPRING)
#: A weight this many standard deviations below 0 is no accident; terms less probable than this do no harm.
SURE, LEAST_WRONG = 2.0, 0.02

_SUMMARY = (
    "inclusion", "mean", "std", "given", "prior_mean", "prior_std", "set_mean", "draw", "best", "edge", "noise",
    "shares",
)  # fmt: skip
#: Came later: a checkpoint without them is read, they are filled again with each variable's next refresh.
_INTERVALS = ("share_low", "share_high", "tail_scale")


class Variables:
    """S variables of one type with F candidate columns (and, for motion, a dense tail of T more)."""

    def __init__(
        self, columns: Columns, noise: NoisePrior, *, tail: int = 0, greedy: GreedyConfig | None = None,
        change: ChangeConfig | None = None, engine: str = "greedy",
    ):  # fmt: skip
        self.columns, self.noise_prior, self.tail = columns, noise, tail
        size = len(columns)
        self.statistics = Statistics(MAX_SLOTS, size + tail)  # of the live environment
        self.environments = Environments(columns, tail)
        self.compared: dict[int, Comparison] = {}  # by slot, live environment against the earlier ones
        self.slides = Slides()  # where friction shows; filled for motion only
        self.experience = Experience(columns)
        self._positive = np.isin(columns.kind, POSITIVE)
        self.prior_mean = np.tile(columns.prior_mean, (MAX_SLOTS, 1))  # of the last refresh
        self.prior_std = np.tile(columns.prior_std, (MAX_SLOTS, 1))
        self.greedy, self.change, self.engine = greedy or GreedyConfig(), change or ChangeConfig(), engine
        self.inclusion = np.zeros((MAX_SLOTS, size))
        self.mean = np.zeros((MAX_SLOTS, size))  # averaged over structures
        self.std = np.tile(columns.prior_std, (MAX_SLOTS, 1))  # given that the term is in
        self.given = np.tile(np.square(columns.prior_std), (MAX_SLOTS, 1))  # variance given all other weights
        self.set_mean = np.zeros((MAX_SLOTS, PARTICLES, size))
        self.draw = np.zeros((MAX_SLOTS, PARTICLES, size))
        self.best = np.zeros((MAX_SLOTS, size), bool)
        self.edge = np.zeros((MAX_SLOTS, MAX_SLOTS))  # probability that any term of parent j is in
        self.noise = np.tile(np.array(noise.std), (MAX_SLOTS, 1))  # [S, 2]
        self.shares = np.tile(np.array([0.0, 0.0, 1.0]), (MAX_SLOTS, 1))  # core, tail, noise: means
        self.share_low = np.zeros((MAX_SLOTS, 3))  # 5 %
        self.share_high = np.ones((MAX_SLOTS, 3))  # 95 %
        self.tail_scale = np.tile(np.exp(dense.LOG_PRIOR), (MAX_SLOTS, 1))  # probability of each of dense.SCALES
        self.tail_mean = np.zeros((MAX_SLOTS, tail))

    def refresh(self, slot: int, log_prior_odds: Array, rng: np.random.Generator) -> None:
        """Recompute the posterior of one variable under the set prior `log_prior_odds` [F]."""
        self._compare(slot, log_prior_odds)
        self.prior_mean[slot], self.prior_std[slot] = prior_from_others(self.columns, slot, self.weights)
        engine = self._new_posterior(rng)
        engine.best = np.flatnonzero(self.best[slot] & np.isfinite(log_prior_odds))
        self._learn_noise(slot, engine.best)
        problem = self.problem(slot, log_prior_odds)
        while True:
            engine.update(problem)
            inclusion, (mean, std) = engine.inclusion(), engine.weights()
            wrong = self._wrong_sign(inclusion, mean, std)
            if not wrong.any():
                break
            problem = replace(problem, log_prior_odds=np.where(wrong, -np.inf, problem.log_prior_odds))
            engine.best = engine.best[~wrong[engine.best]]
        self.best[slot] = False
        self.best[slot, engine.best] = True
        self.inclusion[slot] = inclusion
        self.experience.record(slot, inclusion, log_prior_odds)
        self.mean[slot], self.std[slot] = mean, std
        # 1 / Lambda_pp: the same in every set that holds the term.
        self.given[slot] = np.square(self.prior_std[slot]) / np.diagonal(problem.precision)
        for parent in range(MAX_SLOTS):
            self.edge[slot, parent] = engine.any_inclusion(self.columns.parent == parent)
        self._draw(slot, engine, rng)
        if self.tail:
            self._fit_tail(slot, engine, rng)

    @property
    def weights(self) -> Weights:
        """What is believed of all weights; no copies."""
        return Weights(self.inclusion, self.mean, self.std, self.prior_mean, self.prior_std)

    def _new_posterior(self, rng: np.random.Generator) -> GreedyPosterior | EnginePosterior:
        """Made anew each time, so that a model read from its checkpoint goes on as the one that wrote it."""
        if self.engine == "greedy":
            return GreedyPosterior(self.greedy)
        from crl_node.structure.chosen import EnginePosterior  # some engines bring torch or a session

        return EnginePosterior(self.engine, int(rng.integers(2**31)))

    def _wrong_sign(self, inclusion: Array, mean: Array, std: Array) -> NDArray[np.bool_]:
        """[F] terms whose weight cannot be below 0, and is.

        The weights' priors are Gaussian and not cut off at 0, so a few steps that something else explains can make a
        spring that pushes away, and one that is believed throws things across the table.
        """
        given = mean / np.maximum(inclusion, 1e-9)
        return np.asarray(self._positive & (inclusion > LEAST_WRONG) & (given + SURE * std < 0.0))

    def sums(self, slot: int) -> Sums:
        """The statistics that one variable's posterior is computed from: live ones, and what holds of earlier ones."""
        return self.environments.effective(self.statistics, slot)

    def begin_environment(self, recent: Statistics | None = None) -> None:
        """What comes from now on belongs to another environment, and `recent`, a part of what came, already does."""
        self.environments.begin(self.statistics.without(recent), self.noise, self.inclusion)
        self.statistics = recent or Statistics(MAX_SLOTS, len(self.columns) + self.tail)
        self.slides.begin(MOST_ENVIRONMENTS)
        self.compared = {}

    def set_column(self, slot: int, column: int, gram: Array, cross: Array) -> None:
        """Put another term in a column of one variable: its sums `gram` [R, F + T] and `cross` [R].

        They are the live environment's, in earlier ones it is silent. What was believed of the old term is forgotten.
        """
        self.environments.silence(slot, column)
        self.statistics.gram[slot, :, column] = gram
        self.statistics.gram[slot, :, :, column] = gram
        self.statistics.cross[slot, :, column] = cross
        for array in (self.inclusion, self.mean, self.best, self.experience.inclusion):
            array[slot, column] = 0
        self.std[slot, column] = self.prior_std[slot, column]
        self.given[slot, column] = np.square(self.prior_std[slot, column])
        self.set_mean[slot, :, column] = 0.0
        self.draw[slot, :, column] = 0.0
        self.experience.own[slot, column] = True

    def invariant(self, slot: int) -> Array:
        """[G] probability that each mechanism is the same in the live environment as in the ones before it."""
        found = self.compared.get(slot)
        return np.ones(self.columns.groups) if found is None else 1.0 - found.changed

    def _compare(self, slot: int, log_prior_odds: Array) -> None:
        """Which mechanisms of one variable changed when the live environment began."""
        earlier, begun = self.environments.earlier(slot), self.environments.live
        if earlier is None or begun is None:
            return
        before = self.compared.get(slot)
        found = compare(
            self.columns, earlier, sums_of(self.statistics, slot), self.noise[slot], log_prior_odds,
            begun.inclusion[slot], self.change, None if before is None else before.start,
        )  # fmt: skip
        self.compared[slot] = found = self.slides.seen_in(found, self.columns, slot)
        begun.changed[slot] = found.changed > 0.5

    def problem(self, slot: int, log_prior_odds: Array) -> Problem:
        """The structure problem of one variable, as its statistics stand."""
        size, stats = len(self.columns), self.sums(slot)
        return make_problem(
            stats.gram[:, :size, :size], stats.cross[:, :size], stats.square, stats.rows,
            self.noise[slot], prior_mean=self.prior_mean[slot], prior_std=self.prior_std[slot],
            group=self.columns.group, log_prior_odds=log_prior_odds,
        )  # fmt: skip

    def _learn_noise(self, slot: int, members: NDArray[np.int_]) -> None:
        """Noise of both regimes from what the best set leaves (two passes: the weights depend on the noise)."""
        stats, prior = self.sums(slot), self.noise_prior
        if not stats.rows.any():
            return
        odds = np.zeros(len(self.columns))
        gram = stats.gram[:, members[:, None], members[None]]
        for _ in range(2):
            mean, covariance = weights_given(self.problem(slot, odds), members)
            residual = expected_residual(gram, stats.cross[:, members], stats.square, mean, covariance)
            self.noise[slot] = noise_std(
                stats.rows, residual, prior_std=np.array(prior.std), prior_rows=prior.rows, floor=prior.floor
            )
            # Touch adds to what happens by itself: what shakes or flickers does not calm down when it is touched,
            # and a prior that said so would promise information that never comes.
            self.noise[slot, CONTACT] = self.noise[slot].max()

    def _draw(self, slot: int, engine: SetAverage, rng: np.random.Generator) -> None:
        """Fill set_mean and draw [K, F]: joint samples of term set and weights."""
        problem = engine.problem
        sets = engine.sample(PARTICLES, rng).sets
        used = np.flatnonzero(sets.any(axis=0))
        self.set_mean[slot] = 0.0
        self.draw[slot] = 0.0
        if not used.size:
            return
        mask = sets[:, used].astype(float)
        precision = submatrix(problem.precision, used) * mask[:, :, None] * mask[:, None, :]
        diagonal = np.arange(len(used))
        precision[:, diagonal, diagonal] += 1.0 - mask
        lower = np.linalg.cholesky(precision)
        noise = rng.standard_normal(mask.shape)
        right = np.stack([np.linalg.solve(lower, (problem.linear[used] * mask)[..., None])[..., 0], noise], axis=-1)
        solved = np.linalg.solve(np.swapaxes(lower, 1, 2), right)  # mean and Lambda^-1/2 noise
        scale = problem.prior_std[used] * mask
        self.set_mean[slot][:, used] = solved[..., 0] * scale
        self.draw[slot][:, used] = (solved[..., 0] + solved[..., 1]) * scale

    def _fit_tail(self, slot: int, engine: SetAverage, rng: np.random.Generator) -> None:
        """The dense tail on what the core leaves, its scale's posterior; shares of core, tail and noise by draws."""
        size, stats = len(self.columns), self.sums(slot)
        square = float(stats.square.sum())
        if square <= 0.0:
            return
        problem, inverse = engine.problem, 1.0 / np.square(self.noise[slot])
        cross = np.tensordot(inverse, stats.gram[:, :size, size:], 1)
        fitted = dense.fit_tail(
            problem, engine.best, np.tensordot(inverse, stats.gram[:, size:, size:], 1), cross,
            inverse @ stats.cross[:, size:],
        )  # fmt: skip
        found = dense.shares(
            problem, self.set_mean[slot] != 0.0, fitted, cross, stats.gram.sum(axis=0), stats.cross.sum(axis=0),
            square, rng,
        )  # fmt: skip
        self.tail_mean[slot], self.tail_scale[slot] = fitted.mean, fitted.probability
        self.shares[slot], self.share_low[slot], self.share_high[slot] = found.mean, found.low, found.high

    def predictive(self, phi: Array, change: Array, regime: NDArray[np.int_]) -> tuple[Array, Array]:
        """Residual [S, R] and variance [S] of `change` [S, R] under the averaged weights; phi [S, F, R], regime [S]."""
        mean = np.einsum("sf,sfr->sr", self.mean, phi)
        spread = np.einsum("sf,sfr->s", self.inclusion * np.square(self.std), np.square(phi)) / phi.shape[2]
        noise = self.noise[np.arange(MAX_SLOTS), regime]
        return change - mean, spread + np.square(noise)

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse, as target and as parent."""
        parents = np.append(self.columns.parent == slot, np.zeros(self.tail, bool))
        self.statistics.forget(slot, parents)
        self.environments.forget(slot, parents)
        self.compared.pop(slot, None)
        self.slides.forget(slot)
        self.experience.forget(slot)
        for name in ("inclusion", "mean", "set_mean", "draw", "best", "edge", "tail_mean"):
            getattr(self, name)[slot] = 0
        own = self.columns.parent == slot
        self.edge[:, slot] = 0.0
        for array in (self.inclusion, self.mean, self.best):
            array[:, own] = 0
        self.set_mean[:, :, own] = 0.0
        self.draw[:, :, own] = 0.0
        for array, base in (
            (self.prior_mean, self.columns.prior_mean), (self.prior_std, self.columns.prior_std),
            (self.given, np.square(self.columns.prior_std)),
        ):  # fmt: skip
            array[slot] = base
            array[:, own] = base[own]
        self.noise[slot] = self.noise_prior.std
        self.shares[slot] = 0.0, 0.0, 1.0
        self.share_low[slot], self.share_high[slot], self.tail_scale[slot] = 0.0, 1.0, np.exp(dense.LOG_PRIOR)

    def state(self, prefix: str) -> dict[str, Array]:
        """Everything as arrays by name, for a checkpoint."""
        out = self.statistics.state(prefix)
        for name in (*_SUMMARY, "tail_mean", *_INTERVALS):
            out[f"{prefix}_{name}"] = getattr(self, name)
        out[f"{prefix}_slides"] = self.slides.sums
        out[f"{prefix}_log_bayes_factor"] = self.experience.log_bayes_factor
        return out | self.environments.state(prefix)

    def restore(self, arrays: Mapping[str, Array], prefix: str, earlier: int = 0) -> None:
        """Take over arrays written by `state` with `earlier` past environments; ValueError when one does not fit."""
        new = {}
        later = [name for name in _INTERVALS if f"{prefix}_{name}" in arrays]
        for name in (*_SUMMARY, "tail_mean", *later):
            array, old = np.asarray(arrays[f"{prefix}_{name}"]), getattr(self, name)
            if array.shape != old.shape or array.dtype != old.dtype or not np.isfinite(array).all():
                raise ValueError(
                    f"checkpoint array '{prefix}_{name}' is {array.dtype} {array.shape}, expected {old.dtype} "
                    f"{old.shape} of finite values; not loaded"
                )
            new[name] = array.copy()
        if not (new["prior_std"] > 0.0).all():
            raise ValueError(f"checkpoint array '{prefix}_prior_std' must be > 0; not loaded")
        factor = np.asarray(arrays[f"{prefix}_log_bayes_factor"], float)
        if factor.shape != self.experience.log_bayes_factor.shape:
            raise ValueError(f"checkpoint array '{prefix}_log_bayes_factor' has shape {factor.shape}; not loaded")
        self.environments.restore(arrays, prefix, earlier)
        self.statistics.restore(arrays, prefix)
        self.slides.restore(arrays, f"{prefix}_slides", earlier + 1)
        self.compared = {}
        self.__dict__.update(new)
        self.experience.log_bayes_factor = factor.copy()
        self.experience.inclusion = self.inclusion.copy()
