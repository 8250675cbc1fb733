"""What the weights of a kind have in common: how hard one push moved a thing is expected of pushes never tried.

w = m + d for every edge of a kind, m ~ N(mu, (1 - c) s^2) common to all of them and d ~ N(0, c s^2) each edge's own:
the prior of one edge alone stays N(mu, s^2). Each edge gets the prior that all *other* edges imply, as with set priors
(`prior.py`): Gaussian messages on a star (Kschischang et al. 2001; Bishop 2006, PRML, section 8.4), exact given the
term sets. Terms that are in with probability r speak with r of their precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from crl_node.data import BODY, MAX_SLOTS, Array, TermKind
from crl_node.mechanisms.grammar import Columns

NAMES = ("estimate", "precision", "probability")
#: Kinds that one table and one sort of things make alike; how stiff a spring is or how bright a lamp is each one's own.
SHARED = (TermKind.INERTIA, TermKind.PUSH, TermKind.DRAG, TermKind.WALL)
#: c, the share of a weight's prior variance that is each edge's own.
OWN = 0.25
#: An edge whose data say less than this share of what its prior says is not heard.
HEARD = 0.02
#: Prior standard deviations; no edge says that its weight is further than this from the prior mean.
FURTHEST = 4.0


@dataclass
class Strengths:
    """What the data alone say of every weight, as Gaussian messages, and the priors that follow."""

    columns: Columns
    estimate: Array = field(init=False)  # [S, F]
    precision: Array = field(init=False)  # [S, F] of the estimate, 0: nothing known
    probability: Array = field(init=False)  # [S, F] that the term is in

    def __post_init__(self) -> None:
        shape = (MAX_SLOTS, len(self.columns))
        self.estimate, self.precision, self.probability = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._kinds = [np.flatnonzero(self.columns.kind == kind) for kind in SHARED]
        self._kinds = [columns for columns in self._kinds if columns.size]

    def record(self, target: int, inclusion: Array, mean: Array, std: Array, prior: tuple[Array, Array]) -> None:
        """Remember one variable: `inclusion`, `mean` (averaged over structures) and `std` (given the term is in) [F].

        `prior` mean and std [F] under which they came about are taken out again.
        """
        prior_mean, prior_std = prior
        before, after = 1.0 / np.square(prior_std), 1.0 / np.square(np.maximum(std, 1e-9))
        precision = after - before
        heard = (inclusion > 1e-6) & (precision > HEARD * before)
        given = mean / np.maximum(inclusion, 1e-6)
        estimate = (given * after - prior_mean * before) / np.where(heard, precision, 1.0)
        bound = FURTHEST * self.columns.prior_std
        estimate = np.clip(estimate, self.columns.prior_mean - bound, self.columns.prior_mean + bound)
        self.estimate[target] = np.where(heard, estimate, 0.0)
        self.precision[target] = np.where(heard, precision, 0.0)
        self.probability[target] = np.where(heard, inclusion, 0.0)

    def prior(self, target: int) -> tuple[Array, Array]:
        """Mean and std [F] of the weights of one variable, given that their terms are in, from all other edges."""
        mean, std = self.columns.prior_mean.copy(), self.columns.prior_std.copy()
        if target == BODY:
            return mean, std
        for columns in self._kinds:
            base_mean, variance = mean[columns[0]], std[columns[0]] ** 2
            own, common = OWN * variance, (1.0 - OWN) * variance
            precision = self.precision[1:, columns]
            weight = self.probability[1:, columns] * precision / (1.0 + own * precision)
            pull = weight * (self.estimate[1:, columns] - base_mean)
            group = self.columns.group[columns] - self.columns.group[columns].min()
            mine = target - 1
            others = weight.sum() - np.bincount(group, weight[mine])[group]
            shift = pull.sum() - np.bincount(group, pull[mine])[group]
            left = 1.0 / (1.0 / common + others)
            mean[columns] = base_mean + left * shift
            std[columns] = np.sqrt(left + own)
        return mean, std

    def silence(self, target: int, column: int) -> None:
        """Nothing is known of one weight any more."""
        for name in NAMES:
            getattr(self, name)[target, column] = 0.0

    def restore(self, arrays: Mapping[str, Array], prefix: str) -> None:
        """Take over the arrays `<prefix>_<name>` of a checkpoint; ValueError when one does not fit."""
        for name in NAMES:
            array = np.asarray(arrays[f"{prefix}_{name}"], float)
            if array.shape != self.estimate.shape or not np.isfinite(array).all() or (
                name != "estimate" and array.min() < 0.0
            ):
                raise ValueError(f"checkpoint array '{prefix}_{name}' has shape {array.shape}; not loaded")
            setattr(self, name, array.copy())

    def forget(self, slot: int) -> None:
        """Clear a slot for reuse, as target and as parent."""
        for array in (getattr(self, name) for name in NAMES):
            array[slot] = 0.0
            array[:, self.columns.parent == slot] = 0.0
