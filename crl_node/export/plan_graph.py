"""The whole plan as one torch module: rollouts, information gain, iCEM. The reference the ONNX file is made from.

Layouts are chosen for speed on one CPU thread: the candidate axis N comes last, x and y first, so that every
elementwise step runs over contiguous memory and a gather copies whole rows. One trajectory is rolled out per
candidate under the model-averaged weights; all particles' predictions are compared along it.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crl_node.data import TermKind
from crl_node.export.spec import DEAD, DRIFT, JAM_RADIUS, MOVING, RIM_MARGIN, PlanShape, all_inputs

#: Where slots that do not exist are put: out of reach of every term [m].
FAR = 50.0
BIG = 1e6


class Model(NamedTuple):
    """The posterior in the form the rollout needs, computed once per call."""

    target: Tensor  # [P] slot index
    parent: Tensor  # [P] row in the parents' table: slots anticipated with motion, then without
    linear: Tensor  # [P] row in the table of linear features
    length: Tensor  # [P, N] m
    low: Tensor  # [P, N] m, dead zone of length - distance, lower end
    high: Tensor  # [P, N] m, upper end
    cap: Tensor  # [P, N] 0 where the term is PUSH (bounded by the approach), else large
    drag: Tensor  # [P, N] 1 where the term is DRAG
    room: Tensor  # [P] row in the table of rooms to the rim: the target, or 0 (no limit)
    weights: Tensor  # [S, P] mean weight at the target's row
    light: Tensor  # [P] row in the table of brightness features
    light_gain: Tensor  # [P, 1] coefficient on the target's own brightness: 0 or -1
    light_toggle: Tensor  # [P, 1] 1 where the term is TOGGLE_BY
    spread: Tensor  # [2P, P] weight covariance between terms of one target: within sets, between sets
    channel: Tensor  # [2S, P] which term adds to which slot's motion, then to which slot's brightness
    entropy: Tensor  # [] nats, of the particles


class BodyModel(NamedTuple):
    """The terms whose target is the body, on their own: it moves first."""

    parent: Tensor  # [B]
    linear: Tensor  # [B]
    length: Tensor  # [B, N]
    low: Tensor  # [B, N]
    high: Tensor  # [B, N]
    cap: Tensor  # [B, N]
    drag: Tensor  # [B, N]
    weights: Tensor  # [1, B]


class Rollout(NamedTuple):
    """What one rollout leaves behind."""

    positions: Tensor  # [H + 1, 2, S, N] m
    anticipated: Tensor  # [H, 2, S, N] m, positions with the step's own motion
    velocity: Tensor  # [H, 2, S, N] m per step, before the step
    features: Tensor  # [H, 2, P, N] m per step


class PlanGraph(nn.Module):
    """`forward(**inputs of spec.all_inputs) -> outputs of spec.outputs`, in the order of the specification."""

    def __init__(self, shape: PlanShape) -> None:
        super().__init__()
        self.shape = shape
        s = shape.slots
        pairs = list(itertools.combinations(range(s), 2))
        number = {pair: i for i, pair in enumerate(pairs)}
        other = [[number[min(a, b), max(a, b)] for b in range(s) if b != a] for a in range(s)]
        table = [[number[min(a, b), max(a, b)] if a != b else 0 for b in range(s)] for a in range(s)]
        self.register_buffer("pair_a", torch.tensor([a for a, _ in pairs]), persistent=False)
        self.register_buffer("pair_b", torch.tensor([b for _, b in pairs]), persistent=False)
        self.register_buffer("pairs_of", torch.tensor(other).reshape(-1), persistent=False)  # [S * (S - 1)]
        self.register_buffer("pair_table", torch.tensor(table).reshape(-1), persistent=False)  # [S * S]
        self.register_buffer("slot_numbers", torch.arange(s), persistent=False)
        drift = torch.zeros(2, 3, shape.candidates)  # two drifts and nothing
        drift[0, 0], drift[1, 1] = DRIFT, DRIFT
        self.register_buffer("drift", drift, persistent=False)
        one_zero = torch.stack([torch.ones(shape.candidates), torch.zeros(shape.candidates)])
        self.register_buffer("one_zero", one_zero.expand(shape.horizon, 2, -1).contiguous(), persistent=False)
        self.pair_a: Tensor
        self.pair_b: Tensor
        self.pairs_of: Tensor
        self.pair_table: Tensor
        self.slot_numbers: Tensor
        self.drift: Tensor
        self.one_zero: Tensor

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

    # ---- brightness -------------------------------------------------------------------------------

    def contact(self, z: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Contact of each pair [H, pairs, N] and of each slot with anything [H, S, N], 0..1. `z` [H, 2, S, N] m."""
        h, s, n = self.shape.horizon, self.shape.slots, self.shape.candidates
        between = z.index_select(2, self.pair_a) - z.index_select(2, self.pair_b)
        distance = (between * between).sum(1).sqrt()
        reach = (extent[self.pair_a] + extent[self.pair_b])[:, None]
        pair = ((1.25 * reach - distance) / (0.25 * reach).clamp(min=1e-6)).clamp(0.0, 1.0)
        return pair, pair.index_select(1, self.pairs_of).reshape(h, s, s - 1, n).amax(2)

    def glow(self, x: dict[str, Tensor], m: Model, now: Tensor, pair_next: Tensor, next_: Tensor) -> Tensor:
        """Brightness features along the rollout [H, P, N] from contacts now and anticipated."""
        s, n = self.shape.slots, self.shape.candidates
        rise = (next_ - now).clamp(min=0.0)
        pairs = pair_next.index_select(1, self.pair_table)
        table = torch.cat([next_, rise, pairs, self.one_zero], 1)
        base = table.index_select(1, m.light)  # [H, P, N]
        slope = m.light_gain - 2.0 * m.light_toggle * base  # on the target's own brightness
        add, scale = m.weights @ base, m.weights @ slope  # [H, S, N]
        b = x["brightness"][:, None].expand(s, n)
        course = []
        for i in range(self.shape.horizon):
            course.append(b)
            b = (b + add[i] + scale[i] * b).clamp(0.0, 1.0)
        return base + slope * torch.stack(course).index_select(1, m.target)

    # ---- value ------------------------------------------------------------------------------------

    def shadow(self, x: dict[str, Tensor], z: Tensor) -> Tensor:
        """1 where the arm's shadow (seen from the camera) covers a slot [H, S, N]. `z` [H, 2, S, N] m."""
        tip, camera, tool = z[:, :, :1], x["camera"], x["tool"]
        back = tip - camera[:2][:, None, None]
        # A point at height t above the tip hides the table at tip + back * t / (camera height - t).
        far = back * (tool[0] / (camera[2] - tool[0]).clamp(min=1e-3))
        to = z - tip
        share = ((to * far).sum(1) / (far * far).sum(1).clamp(min=1e-9)).clamp(0.0, 1.0)  # [H, S, N]
        off = to - share[:, None] * far
        near = (off * off).sum(1) < (tool[1] + 0.5 * x["slot_extent"][:, None]).clamp(min=0.0) ** 2
        return near.float()

    def gain(self, x: dict[str, Tensor], roll: Rollout, exists: Tensor, m: Model) -> Tensor:
        """Expected information gain by part [3, N] nats.

        parameters = sum 1/2 log(1 + sum_h within / sigma^2); structure = sum 1/2 log(1 + sum_h (within +
        between) / sigma^2) - parameters, never above the particles' entropy (MacKay 1992, eq. 3.7, moment
        matched over particles). Sums run over slots and channels x, y, brightness.
        """
        h, s, n, p = self.shape.horizon, self.shape.slots, self.shape.candidates, self.shape.terms
        here = roll.positions[:-1]
        _, now = self.contact(here, x["slot_extent"])
        pair_next, next_ = self.contact(roll.anticipated, x["slot_extent"])
        bright = self.glow(x, m, now, pair_next, next_)
        # x and brightness share a row: no term has both.
        scalar = m.channel[s:].sum(0)[:, None]
        phi = torch.stack([roll.features[:, 0] + bright * scalar, roll.features[:, 1]], 1)  # [H, 2, P, N]
        quadratic = (m.spread @ phi).reshape(h, 2, 2, p, n) * phi[:, :, None]
        variance = (m.channel @ quadratic).clamp(min=0.0)  # [H, (x, y), (within, between), 2S, N]

        unseen = self.shadow(x, here)
        moving = (roll.velocity * roll.velocity).sum(1) > MOVING**2
        touching = ((now > 0) | moving).float()
        noise = (x["noise_std"] ** 2)[None, :, :, :, None]  # [1, S, 2, 2, 1]
        sigma2 = noise[:, :, 0] + (noise[:, :, 1] - noise[:, :, 0]) * touching[:, :, None]  # [H, S, 2, N]
        # What cannot be seen teaches little: its outcome is only known as well as its position (brightness: not).
        motion = sigma2[:, :, 0] + unseen * x["position_variance"][:, None]
        light = sigma2[:, :, 1] + unseen * 0.25
        precision = torch.cat([1.0 / motion, 1.0 / light], 1)  # [H, 2S, N]
        precision = precision * exists.repeat(2)[:, None] * x["discount"][:, None, None]
        ratio = (variance * precision[:, None, None]).sum(0)  # [(x, y), (within, between), 2S, N]
        learned = 0.5 * torch.log1p(torch.stack([ratio[:, 0], ratio[:, 0] + ratio[:, 1]])).sum((1, 2))  # [2, N]
        parameters = learned[0]
        structure = torch.minimum((learned[1] - learned[0]).clamp(min=0.0), m.entropy)

        # One look at a hidden slot takes its covariance from P to PR / (P + R), in two axes.
        seen = ((1.0 - unseen) * x["discount"][:, None, None]).amax(0)  # [S, N]
        look = torch.log1p(x["position_variance"] / x["look_variance"]) * x["hidden"] * exists
        states = (seen * look[:, None]).sum(0)
        return torch.stack([structure, parameters, states])

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
