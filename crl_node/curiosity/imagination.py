"""What `disagreement` and `rnd` share: a forward model learned on the way, and the search of `curious` through it.

They differ from `curious` in what they want, not in what they may do: the same starting points (experiments included,
unless `proposals` is off), the same N, H and iterations, the same search, effort, jams, penalties and commitment.

An intrinsic reward has no unit. Its returns are divided by a running standard deviation over the proposals (as Burda et
al. 2018, section 2.4, divide theirs), so that one standard deviation counts as `worth` nats beside effort and bonus.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import numpy as np

from crl_node.curiosity.dynamics import Dynamics, DynamicsConfig, Imagined, Limits
from crl_node.curiosity.policies import Curious, Proposals, Request, coloured_noise
from crl_node.curiosity.scene import Scene
from crl_node.curiosity.search import effort, search
from crl_node.curiosity.slot_features import Cast, State
from crl_node.data import Floats

#: How fast the running scale of returns follows, per plan.
SCALE_RATE = 0.02
#: How many alternatives are handed on beside the chosen one.
ALTERNATIVES = 5


@dataclass
class Imagining(ABC):
    """A policy with a forward model of its own."""

    config: DynamicsConfig = field(default_factory=DynamicsConfig)
    #: Whether experiments ("push slot_3 from the left", …) are among the starting points, as with `curious`.
    proposals: bool = True
    #: What one standard deviation of the proposals' returns counts [nats].
    worth: float = 1.0
    #: Where the candidates start, and by how many nats the last plan is preferred.
    starts: Curious = field(default_factory=lambda: Curious(commitment=0.4))
    refine: bool = field(default=False, init=False)  # by the planning graph: the search here is its own
    dynamics: Dynamics | None = field(default=None, init=False)
    _scale: float = field(default=0.0, init=False)  # mean square deviation of returns
    _plans: int = field(default=0, init=False)
    _scene: Scene | None = field(default=None, init=False)

    @abstractmethod
    def reward(self, imagined: Imagined, cast: Cast) -> Floats:
        """[N, H] what the policy likes about every imagined step, in its own unit."""

    @abstractmethod
    def learn(self, state: State, cast: Cast, rng: np.random.Generator) -> None:
        """One control step's learning beside the forward model's, from the present state."""

    def gave_up(self, label: str) -> None:  # noqa: B027
        """Nothing to do: the label is banned for a while by the planner."""

    def propose(self, request: Request, rng: np.random.Generator) -> Proposals:
        """Learn from what happened, search; the best candidate comes first, then alternatives of other labels."""
        scene, dt, budget = request.scene, request.dt, request.budget
        if self.dynamics is None:
            self.dynamics = Dynamics(self.config, rng)
        dynamics, rim = self.dynamics, request.table.rim
        before, self._scene = self._scene, scene
        gap = scene.stamp - before.stamp if before is not None else dt
        if before is not None and request.executed is not None and 0.5 * dt < gap < 1.5 * dt:
            dynamics.observe(before, request.executed, scene, rim, dt)
        cast, rows = dynamics.cast(scene, rim)
        start = dynamics.state(scene, rows, dt)
        if gap != 0.0:  # a late belief is planned from twice, but teaches once
            dynamics.train(rng)
            self.learn(start, cast, rng)

        # The uncertain edges are the world model's knowledge: not for those who are compared with it.
        asked = replace(request, needs=[])
        first = self.starts.starts(asked, rng, self.starts.commitment, self.proposals)
        limits = Limits(request.table.box, request.jams, cast)
        discount = (budget.discount ** np.arange(request.horizon)).astype(np.float32)
        calls = 0

        def value(actions: Floats) -> Floats:
            nonlocal calls
            imagined = dynamics.imagine(start, actions, cast, limits, dt)
            returns = self.reward(imagined, cast) @ discount
            if calls == 0:
                self._rescale(returns)
            calls += 1
            return np.asarray(returns * self._unit() - effort(actions, imagined.path, budget), np.float32)

        noise = coloured_noise(rng, (max(budget.iterations - 1, 1), request.candidates, request.horizon, 2))
        found = search(value, first.actions, first.bonus, noise, budget)
        return _ordered(first, found.actions, found.score, found.origin, found.proposal_scores)

    def _rescale(self, returns: Floats) -> None:
        """Take the spread of the proposals' returns [N] into the running scale."""
        self._plans += 1
        rate = max(SCALE_RATE, 1.0 / self._plans)
        self._scale += rate * (float(returns.var()) - self._scale)

    def _unit(self) -> float:
        """Nats per unit of return."""
        return self.worth / max(float(np.sqrt(self._scale)), 1e-12)


def _ordered(first: Proposals, actions: Floats, score: float, origin: int, scores: Floats) -> Proposals:
    """The chosen candidate, then the best proposals of other labels."""
    labels, rows, seen = [first.labels[origin]], list[int](), {first.labels[origin]}
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(rows) == ALTERNATIVES:
            break
        if first.labels[row] not in seen:
            seen.add(first.labels[row])
            labels.append(first.labels[row])
            rows.append(row)
    return Proposals(
        np.concatenate([actions[None], first.actions[rows]]).astype(np.float32), tuple(labels),
        np.concatenate([first.bonus[[origin]], first.bonus[rows]]).astype(np.float32),
        np.concatenate([[score], scores[rows]]).astype(np.float32),
    )  # fmt: skip
