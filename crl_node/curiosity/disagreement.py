"""The baseline `disagreement`: go where an ensemble of learned forward models disagrees.

Reward of a step = sum over slots and answers of the variance of the members' predictions of that step,

    r(s, a) = sum_i Var_e[f_e(s, a)_i]        (Sekar et al. 2020, "Plan2Explore", equation 2; Sancaktar et al. 2022,
                                               "CEE-US", equation 3: the trace of the covariance)

along roll-outs of the members' mean, found by planning, not by a learned actor (as CEE-US does). The members predict
means: noise that cannot be predicted has a mean too, and the members' estimates of it from n samples still differ by
sigma^2 / n times the network's freedom, so noise attracts until it has been seen often.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crl_node.curiosity.dynamics import Imagined
from crl_node.curiosity.imagination import Imagining
from crl_node.curiosity.slot_features import Cast, State
from crl_node.data import Floats


@dataclass
class Disagreement(Imagining):
    """Five networks (`DynamicsConfig.members`), each with its own weights to start from and minibatches."""

    name: str = "disagreement"

    def __post_init__(self) -> None:
        if self.config.members < 2:
            raise ValueError(f"disagreement needs at least 2 networks, received {self.config.members}")

    def reward(self, imagined: Imagined, cast: Cast) -> Floats:
        """[N, H] units^2."""
        return imagined.disagreement

    def learn(self, state: State, cast: Cast, rng: np.random.Generator) -> None:
        """The forward models are all there is."""
