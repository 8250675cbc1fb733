"""The planner: belief in, plan out. Holds the session, the policy and what happened lately."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crl_node.curiosity.jams import JamMemory
from crl_node.curiosity.needs import Need, edge_needs
from crl_node.curiosity.policies import Policy, Proposals, Request, coloured_noise, make_policy
from crl_node.curiosity.proposals import Table
from crl_node.curiosity.scene import Scene, scene_from
from crl_node.curiosity.search import Budget
from crl_node.curiosity.session import PlanSession
from crl_node.data import BODY, Belief, Candidate, InformationGain, Plan, Posterior
from crl_node.export.spec import Values, posterior_values
from crl_node.posterior import check

#: How many rejected candidates a plan reports.
REJECTED = 5


@dataclass(frozen=True)
class PlannerConfig:
    """What the planner needs to know besides the model file. Defaults: the simulated arm."""

    workspace: tuple[float, float, float, float] = (0.40, 0.80, -0.28, 0.28)  # m, of the tip
    table: tuple[float, float, float, float] = (0.38, 0.82, -0.30, 0.30)  # m, inside of its rim
    max_speed: float = 0.25  # m/s
    camera: tuple[float, float, float] = (1.25, 0.0, 1.05)  # m, base frame
    tool_radius: float = 0.015  # m
    tool_height: float = 0.40  # m, of the arm that stands on the tip and hides things
    shadow_half_width: float = 0.03  # m
    effort: tuple[float, float] = (0.3, 0.02)  # nats/m of way, nats/(m/s)^2 of change
    discount: float = 0.95  # per step: what is learned sooner is worth more
    spread: float = 0.06  # m/s, resampling noise of the first refinement, halved with each further one
    look_std: float = 0.0045  # m, error of looks at a slot, which they share (height, shape): no look takes it away


class Planner:
    """Deterministic given the seed and the sequence of calls."""

    def __init__(
        self,
        model_path: str | Path,
        policy: str | Policy = "curious",
        seed: int = 0,
        config: PlannerConfig | None = None,
        *,
        provider: str = "auto",
        require_gpu: bool = False,
        model: bytes | None = None,
        evaluate: bool = True,
    ) -> None:
        """`model`: the bytes of `model_path` when they were read already (`quarantine.read_examined`).

        Without `evaluate` a policy that does not refine in the graph is not valued by it either: no session call, and
        the plan's gains are NaN. `policy` is a name, or a policy made with other settings.
        """
        self.config = config or PlannerConfig()
        self.policy = make_policy(policy) if isinstance(policy, str) else policy
        self.evaluate = evaluate
        if self.policy.refine and not evaluate:
            raise ValueError(f"policy '{self.policy.name}' is refined by the planning graph; it cannot do without")
        self.session = PlanSession(model_path, provider=provider, require_gpu=require_gpu, data=model)
        self.posterior: Posterior | None = None
        self.gave_up = 0
        self._needs: list[Need] = []
        self._goals: dict[int, NDArray[np.float64]] = {}  # slot id: place [2] m
        self._goal_weights: dict[int, float] = {}  # slot id: nats/m
        self._seed, self._calls = seed, 0
        c, shape = self.config, self.session.info.shape
        self.table = Table(
            box=np.array(c.workspace), rim=np.array(c.table), tool_radius=c.tool_radius, travel_speed=c.max_speed,
            push_speed=0.65 * c.max_speed, camera=c.camera, tool_height=c.tool_height,
            shadow_half_width=c.shadow_half_width,
        )  # fmt: skip
        self._jams = JamMemory(box=self.table.box)
        #: Inputs of the graph that stay as they are; a file written from this planner carries them along.
        self.settings: Values = {
            "workspace": np.array(c.workspace, np.float32),
            "max_speed": np.array([c.max_speed], np.float32),
            "camera": np.array(c.camera, np.float32),
            "tool": np.array([c.tool_height, c.shadow_half_width], np.float32),
            "look_variance": np.array([c.look_std**2], np.float32),
            "effort": np.array(c.effort, np.float32),
            "discount": (c.discount ** np.arange(shape.horizon)).astype(np.float32),
            "spread": (c.spread * 0.5 ** np.arange(max(shape.iterations - 1, 1))).astype(np.float32),
        }
        self.session.fix(**self.settings)
        self._budget = Budget(
            shape.iterations, shape.elites, tuple(self.settings["spread"].tolist()), c.effort, c.discount, c.max_speed
        )

    @property
    def provider(self) -> str:
        """The ONNX Runtime provider that runs the plans."""
        return self.session.provider

    @property
    def version(self) -> int:
        """Posterior version of the live weights, 0 before the first swap."""
        return self.session.version

    def swap(self, posterior: Posterior) -> float:
        """Take a new posterior; returns milliseconds. Raises PosteriorError and keeps the old one when it is bad."""
        check(posterior)
        milliseconds = self.session.swap(posterior_values(posterior))
        self._needs = edge_needs(posterior)
        self.posterior = posterior
        return milliseconds

    def set_goal(
        self, places: Mapping[int, tuple[float, float]], weight: float | Mapping[int, float] = 100.0
    ) -> None:
        """From now on prefer plans that bring slots (by id) to `places` [m], worth `weight` nats for each metre nearer.

        `weight`: of all, or by slot id. Replaces earlier goals. ValueError for the body, a place off the table, or a
        weight that is not positive.
        """
        weights = {int(i): float(weight[i] if isinstance(weight, Mapping) else weight) for i in places}
        for w in weights.values():
            if not (np.isfinite(w) and w > 0):
                raise ValueError(f"goal: the weight is {w} nats/m, it must be positive and finite; goals unchanged")
        rim, goals = self.table.rim, dict[int, NDArray[np.float64]]()
        for identity, place in places.items():
            x, y = (float(v) for v in place)
            if identity == BODY:
                raise ValueError("goal: slot 0 is the robot's tip; a goal is for a thing; goals unchanged")
            if not (rim[0] <= x <= rim[1] and rim[2] <= y <= rim[3]):
                raise ValueError(
                    f"goal: ({x}, {y}) m for slot {identity} is off the table (x {rim[0]} to {rim[1]}, "
                    f"y {rim[2]} to {rim[3]} m); goals unchanged"
                )
            goals[int(identity)] = np.array([x, y])
        self._goals, self._goal_weights = goals, weights

    def clear_goal(self) -> None:
        """Curiosity alone again."""
        self._goals, self._goal_weights = {}, {}

    def plan(
        self, belief: Belief, *, previous: Plan | None = None, executed: NDArray[np.float64] | None = None
    ) -> Plan:
        """One plan from `belief`, going on from the `previous` one. Raises SceneError on a bad belief.

        `executed` [2] m/s: the mean tip velocity that was really commanded since then; None: as planned.
        """
        began = time.perf_counter()
        scene = scene_from(belief, self.posterior)
        shape = self.session.info.shape
        rng = np.random.default_rng((self._seed, self._calls))
        self._calls += 1
        dt = self.posterior.dt if self.posterior is not None else 0.1
        jammed = self._jams.observe(scene.stamp, scene.tip, previous, dt)
        if jammed is not None:
            self.gave_up += 1
            self.policy.gave_up(jammed)
        if executed is None and previous is not None:
            executed = np.asarray(previous.chosen.actions[0], float)
        goals = self._goals_in(scene)
        request = Request(
            scene, self.table, self._needs, previous, self._jams.banned, self._jams.leave, self._jams.tedious,
            shape.candidates, shape.horizon, dt, executed, self._jams.array(), self._budget,
            goals,
        )  # fmt: skip
        proposals = self.policy.propose(request, rng)
        version = self.session.version
        if self.evaluate:
            out = self.session.run(self._call(scene, proposals, goals, rng))
            version = int(out["version"][0])
        if self.policy.refine:
            chosen, path, rejected = self._chosen(out, proposals)
        else:
            chosen, *others = _as_proposed(proposals, out if self.evaluate else None)
            path, rejected = self._path(scene.tip, chosen.actions, dt), tuple(others)
        return Plan(
            stamp=belief.stamp, posterior_version=version, chosen=chosen, rejected=rejected,
            path=path, plan_ms=1e3 * (time.perf_counter() - began), swap_ms=self.session.swap_ms,
        )  # fmt: skip

    def _goals_in(self, scene: Scene) -> dict[int, NDArray[np.float64]]:
        """Goals by row of the model, of what is in the scene."""
        rows = {int(scene.ids[row]): int(row) for row in scene.things}
        return {rows[identity]: place for identity, place in self._goals.items() if identity in rows}

    def _call(
        self, scene: Scene, proposals: Proposals, goals: Mapping[int, NDArray[np.float64]], rng: np.random.Generator
    ) -> Values:
        n, h = self.session.info.shape.candidates, self.session.info.shape.horizon
        steps = max(self.session.info.shape.iterations - 1, 1)
        m = len(proposals.labels)
        actions, bonus = np.zeros((n, h, 2), np.float32), np.full(n, -1e3, np.float32)
        actions[:m], bonus[:m] = proposals.actions, proposals.bonus
        goal, weight = np.zeros_like(scene.position, np.float32), np.zeros(len(scene.ids), np.float32)
        for row, place in goals.items():
            goal[row], weight[row] = place, self._goal_weights[int(scene.ids[row])]
        return {
            "position": scene.position.astype(np.float32),
            "velocity": scene.velocity.astype(np.float32),
            "brightness": scene.brightness.astype(np.float32),
            "exists": scene.exists.astype(np.float32),
            "position_variance": scene.variance.astype(np.float32),
            "hidden": scene.hidden.astype(np.float32),
            "jams": self._jams.array(),
            "proposals": actions,
            "bonus": bonus,
            "noise": coloured_noise(rng, (steps, n, h, 2)),
            "goal": goal,
            "goal_weight": weight,
        }

    def _chosen(
        self, out: Values, proposals: Proposals
    ) -> tuple[Candidate, NDArray[np.float32], tuple[Candidate, ...]]:
        origin = int(out["best_origin"][0])
        label = proposals.labels[origin]
        chosen = Candidate(
            out["best_actions"], float(out["best_score"][0]), _gain(out["best_gain"]), label,
            float(out["best_preference"][0]),
        )  # fmt: skip
        seen, rejected = {label}, list[Candidate]()
        for i in np.argsort(-out["proposal_scores"][: len(proposals.labels)], kind="stable").tolist():
            if len(rejected) == REJECTED:
                break
            if proposals.labels[i] not in seen:
                seen.add(proposals.labels[i])
                rejected.append(
                    Candidate(
                        proposals.actions[i], float(out["proposal_scores"][i]),
                        _gain(out["proposal_gains"][i]), proposals.labels[i],
                        float(out["proposal_preferences"][i]),
                    )
                )  # fmt: skip
        return chosen, out["best_path"], tuple(rejected)

    def _path(self, tip: NDArray[np.float64], actions: NDArray[np.float32], dt: float) -> NDArray[np.float32]:
        box = self.table.box
        path = np.vstack([tip, tip + np.cumsum(actions, axis=0) * dt])
        return np.asarray(np.clip(path, box[0::2], box[1::2]), np.float32)


def _as_proposed(proposals: Proposals, out: Values | None) -> list[Candidate]:
    """The proposals with the policy's own scores, else the graph's, and with the graph's gains, NaN without."""
    count = len(proposals.labels)
    gains = np.full((count, 3), np.nan, np.float32) if out is None else out["proposal_gains"][:count]
    nearer = np.zeros(count, np.float32) if out is None else out["proposal_preferences"][:count]
    scores = proposals.scores
    if scores is None:
        scores = np.full(count, np.nan, np.float32) if out is None else out["proposal_scores"][:count]
    return [
        Candidate(actions, float(score), _gain(gain), label, float(near))
        for actions, score, gain, label, near in zip(
            proposals.actions, scores, gains, proposals.labels, nearer, strict=True
        )
    ]


def _gain(parts: NDArray[np.float32]) -> InformationGain:
    return InformationGain(*(float(part) for part in parts))
