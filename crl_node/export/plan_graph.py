"""The whole plan as one torch module: rollouts, information gain, iCEM. The reference the ONNX file is made from.

Layouts are chosen for speed on one CPU thread: the candidate axis N comes last, x and y first, so that every
elementwise step runs over contiguous memory and a gather copies whole rows. One trajectory is rolled out per
candidate under the model-averaged weights; all particles' predictions are compared along it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crl_node.data import TermKind
from crl_node.export.information import InformationGraph
from crl_node.export.parts import BodyModel, Model, Rollout
from crl_node.export.spec import DEAD, DRIFT, JAM_RADIUS, RIM_MARGIN, PlanShape, all_inputs

#: Where slots that do not exist are put: out of reach of every term [m].
FAR = 50.0
BIG = 1e6


class PlanGraph(InformationGraph):
    """`forward(**inputs of spec.all_inputs) -> outputs of spec.outputs`, in the order of the specification."""

    def __init__(self, shape: PlanShape) -> None:
        super().__init__(shape)
        self.register_buffer("slot_numbers", torch.arange(shape.slots), persistent=False)
        drift = torch.zeros(2, 3, shape.candidates)  # two drifts and nothing
        drift[0, 0], drift[1, 1] = DRIFT, DRIFT
        self.register_buffer("drift", drift, persistent=False)
        self.slot_numbers: Tensor
        self.drift: Tensor

    # ---- the posterior, once per call -------------------------------------------------------------

    def model(self, x: dict[str, Tensor], exists: Tensor) -> tuple[Model, BodyModel]:
        """Kinds, parents and weights as index rows, dead zones and masks. `exists` [S] is 0 or 1."""
        n, s = self.shape.candidates, self.shape.slots
        kind, target = x["term_kind"].long(), x["term_target"].long()
        parent = x["term_parent"].long().clamp(min=0)

        def one_hot(*kinds: TermKind) -> Tensor:
            return sum((kind == int(k)).float() for k in kinds)  # type: ignore[return-value]

        push, drag, spring = one_hot(TermKind.PUSH), one_hot(TermKind.DRAG), one_hot(TermKind.SPRING)
        toggle, touch = one_hot(TermKind.TOGGLE_BY), one_hot(TermKind.TOUCH)
        bright = (kind >= int(TermKind.DECAY)).float()
        on_body = (target == 0).long()
        # A term counts only while its target and the slot that acts exist.
        uses_parent = (x["term_parent"] >= 0).float()
        valid = exists[target] * (1.0 - uses_parent * (1.0 - exists[parent]))
        # Linear features: velocity (S), wall (S, row 0 the jam of the body), command, two drifts, nothing.
        linear = torch.full_like(kind, 2 * s + 3)
        for k, row in (
            (TermKind.INERTIA, target),
            (TermKind.WALL, s + target),
            (TermKind.ACTION, torch.full_like(kind, 2 * s)),
            (TermKind.DRIFT_X, torch.full_like(kind, 2 * s + 1)),
            (TermKind.DRIFT_Y, torch.full_like(kind, 2 * s + 2)),
        ):
            linear = torch.where(kind == int(k), row, linear)
        # PUSH acts on the inside (dead zone up to 0), SPRING beyond +-DEAD, the others never.
        low = push * -BIG + spring * -DEAD + (1.0 - push - spring) * -BIG
        high = spring * DEAD + (1.0 - push - spring) * BIG
        # Brightness table: lit (S), rise (S), pairs (S * S, row 0 for i = j), one, zero.
        ones = 2 * s + s * s
        light = torch.full_like(kind, ones + 1)
        for k, row in (
            (TermKind.GLOW, torch.full_like(kind, ones)),
            (TermKind.LIT_BY, parent),
            (TermKind.TOGGLE_BY, s + parent),
            (TermKind.TOUCH, 2 * s + target * s + parent),
        ):
            light = torch.where(kind == int(k), row, light)
        light_gain = -(one_hot(TermKind.DECAY, TermKind.LIT_BY) + touch)
        is_target = (self.slot_numbers[:, None] == target[None, :]).float()  # [S, P]

        log_weight = torch.log_softmax(x["particle_log_weight"], dim=0)
        share = torch.exp(log_weight)[:, None]  # [K, 1]
        same = is_target.T @ is_target * (bright[:, None] == bright[None, :]).float() * valid[:, None] * valid
        within = x["weight_sample"] - x["weight_set_mean"]
        between = x["weight_set_mean"] - (share * x["weight_set_mean"]).sum(0, keepdim=True)
        covariances = [(d * share).T @ d * same for d in (within, between)]

        def wide(values: Tensor) -> Tensor:
            return values[:, None].expand(-1, n).contiguous()

        mean = x["weight_mean"] * valid
        full = Model(
            target=target, parent=parent + s * on_body, linear=linear, length=wide(x["term_length"]),
            low=wide(low), high=wide(high), cap=wide((1.0 - push) * BIG), drag=wide(drag),
            room=torch.where(kind == int(TermKind.WALL), 0, target), weights=is_target * mean,
            light=light, light_gain=light_gain[:, None], light_toggle=toggle[:, None],
            spread=torch.cat(covariances, 0),
            channel=torch.cat([is_target * (1.0 - bright), is_target * bright], 0),
            entropy=-(torch.exp(log_weight) * log_weight).sum(),
        )  # fmt: skip
        # The largest weights first: padding (weight 0, target 0) must not crowd out what moves the body.
        _, rows = torch.topk(on_body.float() * (1.0 - bright) * mean.abs(), self.shape.body_terms)
        take = {f: getattr(full, f)[rows] for f in ("length", "low", "high", "cap", "drag", "linear")}
        body_weights = (mean * on_body.float() * (1.0 - bright))[rows][None, :]
        return full, BodyModel(parent=parent[rows], weights=body_weights, **take)

    # ---- motion -----------------------------------------------------------------------------------

    @staticmethod
    def pair_features(away: Tensor, closing: Tensor, m: Model | BodyModel) -> Tensor:
        """PUSH, DRAG and SPRING in one formula. `away` = z_i - z'_j, `closing` = u_j or -a dt: [2, P, N] m."""
        squared = (away * away).sum(0).clamp(min=1e-12)  # [P, N]
        distance = squared.sqrt()
        depth = m.length - distance
        strength = depth - torch.minimum(torch.maximum(depth, m.low), m.high)
        along = (closing * away).sum(0) / distance
        strength = torch.minimum(strength, along.clamp(min=0.0) + m.cap)
        slip = m.drag * (depth > 0).float()
        return (strength - slip * along) / distance * away + slip * closing

    @staticmethod
    def jammed(near: Tensor, move: Tensor, reach: Tensor, back: Tensor, forth: Tensor) -> Tensor:
        """WALL for the body [2, 1, N] m: what things pinned at the rim do not give way pushes it back.

        `near` = z_0 + a dt - z_j, `back` and `forth` the things' rooms [2, S - 1, N] m, `reach` [S - 1, 1] m.
        """
        distance = (near * near).sum(0).clamp(min=1e-12).sqrt()
        approach = -(near * move).sum(0) / distance
        depth = torch.minimum((reach - distance).clamp(min=0.0), approach.clamp(min=0.0))
        wanted = -(depth / distance) * near
        given = torch.minimum(torch.maximum(wanted, -back), forth)
        return (given - wanted).sum(1, keepdim=True)

    @staticmethod
    def held_back(step: Tensor, body: Tensor, jams: Tensor) -> Tensor:
        """The body's `step` without what goes into a jam it is at. `step`, `body` [2, 1, N] m, `jams` [J, 4]."""
        off = body - jams[:, :2].T[:, :, None]  # [2, J, N]
        at = ((off * off).sum(0) < JAM_RADIUS**2).float()  # [J, N]
        into = (jams[:, 2:] @ step[:, 0]).clamp(min=0.0) * at
        return step - (jams[:, 2:].T @ into)[:, None]

    def rollout(self, x: dict[str, Tensor], actions: Tensor, exists: Tensor, m: Model, b: BodyModel) -> Rollout:
        """Roll every candidate out under the mean weights. `actions` [N, H, 2] m/s."""
        n, s = self.shape.candidates, self.shape.slots
        moves = (actions * x["dt"]).permute(1, 2, 0)[:, :, None, :]  # [H, 2, 1, N] m
        away = FAR + 5.0 * self.slot_numbers.float()
        z = torch.where(exists[:, None] > 0, x["position"], away[:, None]).T[:, :, None].expand(2, s, n)
        v = (x["velocity"] * x["dt"] * exists[:, None]).T[:, :, None].expand(2, s, n)  # m per step
        e = x["slot_extent"][:, None]
        wall = x["wall"]
        low = torch.stack([wall[0] + e, wall[2] + e])  # [2, S, 1]
        high = torch.stack([wall[1] - e, wall[3] - e])
        rim_low = torch.stack([wall[0] + RIM_MARGIN * e, wall[2] + RIM_MARGIN * e])[:, 1:]
        rim_high = torch.stack([wall[1] - RIM_MARGIN * e, wall[3] - RIM_MARGIN * e])[:, 1:]
        reach = e[:1] + e[1:]
        free = torch.full_like(z[:, :1], BIG)  # the body's own room is the workspace
        box = x["workspace"]
        box_low, box_high = box[0::2][:, None, None], box[1::2][:, None, None]
        positions, anticipated, velocity, features = [z], [], [], []
        for h in range(self.shape.horizon):
            body, rest = z[:, :1], z[:, 1:]
            # The arm's commander never sends the tip out of its workspace.
            move = torch.minimum(torch.maximum(body + moves[h], box_low), box_high) - body  # [2, 1, N]
            rest_v = v[:, 1:]
            rest_next = rest + rest_v
            own = torch.cat([body + move, rest_next], 1)  # every slot where its own motion would bring it
            inside = torch.minimum(torch.maximum(own, low), high) - own
            back, forth = (rest - rim_low).clamp(min=0.0), (rim_high - rest).clamp(min=0.0)
            jam = self.jammed(own[:, :1] - rest, move, reach, back, forth)
            linear = torch.cat([v, jam, inside[:, 1:], move, self.drift], 1)
            # The body first: it meets the others where they stand.
            near = own[:, :1] - z.index_select(1, b.parent)
            phi = self.pair_features(near, -move, b) + linear.index_select(1, b.linear)
            body_step = self.held_back(b.weights @ phi, body, x["jams"])
            body_next = torch.minimum(torch.maximum(body + body_step, box_low), box_high)
            body_step = body_next - body
            # Then the others, from the body's predicted displacement.
            steps = torch.cat([body_step, rest_v, (-move).expand_as(z)], 1)
            ahead = torch.cat([body_next, rest_next, z], 1)  # [2, 2S, N]: rows from S on are the body's parents
            self_at = torch.cat([own[:, :1], rest], 1)
            near = self_at.index_select(1, m.target) - ahead.index_select(1, m.parent)
            phi = self.pair_features(near, steps.index_select(1, m.parent), m) + linear.index_select(1, m.linear)
            # Whatever pushes a thing, it stays on the table.
            most_back, most_forth = torch.cat([free, back], 1), torch.cat([free, forth], 1)
            phi = torch.maximum(phi, -most_back.index_select(1, m.room))
            phi = torch.minimum(phi, most_forth.index_select(1, m.room))
            delta = m.weights @ phi  # [2, S, N]
            v_next = torch.cat([body_step, delta[:, 1:]], 1)
            anticipated.append(ahead[:, :s])
            velocity.append(v)
            features.append(phi)
            z, v = torch.cat([body_next, rest + delta[:, 1:]], 1), v_next
            positions.append(z)
        return Rollout(*(torch.stack(t) for t in (positions, anticipated, velocity, features)))

    # ---- search -----------------------------------------------------------------------------------

    def evaluate(
        self, x: dict[str, Tensor], actions: Tensor, bonus: Tensor, exists: Tensor, m: Model, b: BodyModel
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scores [N], gains [N, 3] and tip paths [H + 1, 2, N] of `actions` [N, H, 2] m/s."""
        roll = self.rollout(x, actions, exists, m, b)
        gain = self.gain(x, roll, exists, m)
        path = roll.positions[:, :, 0]
        way = (path[1:] - path[:-1]).pow(2).sum(1).clamp(min=1e-12).sqrt().sum(0)
        change = (actions[:, 1:] - actions[:, :-1]).pow(2).sum((1, 2))
        cost = x["effort"][0] * way + x["effort"][1] * change
        return gain.sum(0) - cost + bonus, gain.T, path

    @staticmethod
    def clip_speed(actions: Tensor, limit: Tensor) -> Tensor:
        """The same directions, no faster than `limit` m/s."""
        speed = actions.pow(2).sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        return actions * torch.clamp(limit / speed, max=1.0)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """iCEM (Pinneri et al. 2020) from `proposals`: evaluate, keep elites, resample around them."""
        x = {t.name: value for t, value in zip(all_inputs(self.shape), values, strict=True)}
        n, elites, iterations = self.shape.candidates, self.shape.elites, self.shape.iterations
        exists = (x["exists"] > 0.5).float()
        m, b = self.model(x, exists)
        around = n - elites - n // 6  # the others are drawn from the refitted mean and spread
        actions = self.clip_speed(x["proposals"], x["max_speed"])
        bonus, origin = x["bonus"], torch.arange(n)
        scores, gains, paths = self.evaluate(x, actions, bonus, exists, m, b)
        first_scores, first_gains = scores, gains
        for i in range(1, iterations):
            best = torch.topk(scores, elites)[1]
            family = best.repeat(math.ceil(n / elites))[:n]  # whose child each candidate is
            chosen = actions[best]
            mean, std = chosen.mean(0), chosen.var(0, unbiased=False).clamp(min=1e-8).sqrt()
            noise = x["noise"][i - 1]
            near = actions[family[elites : elites + around]] + x["spread"][i - 1] * noise[elites : elites + around]
            fitted = mean + std * noise[elites + around :]
            actions = self.clip_speed(torch.cat([chosen, near, fitted], 0), x["max_speed"])
            bonus, origin = bonus[family], origin[family]
            scores, gains, paths = self.evaluate(x, actions, bonus, exists, m, b)
        top = torch.topk(scores, 1)[1]
        return (
            x["posterior_version"] + 0, actions[top][0], paths.index_select(2, top)[:, :, 0], scores[top],
            gains[top][0], origin[top], scores, gains, origin, first_scores, first_gains,
        )  # fmt: skip
