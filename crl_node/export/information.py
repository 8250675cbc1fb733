"""What a roll-out is expected to teach: contacts, brightness, shadow and the information gain by part.

The base of `PlanGraph`. Layouts as there: candidates N last, x and y before slots.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from crl_node.export.parts import Model, Rollout
from crl_node.export.spec import MOVING, PlanShape


class InformationGraph(nn.Module):
    """Values roll-outs by the information they bring [nats]."""

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
        one_zero = torch.stack([torch.ones(shape.candidates), torch.zeros(shape.candidates)])
        self.register_buffer("one_zero", one_zero.expand(shape.horizon, 2, -1).contiguous(), persistent=False)
        self.pair_a: Tensor
        self.pair_b: Tensor
        self.pairs_of: Tensor
        self.pair_table: Tensor
        self.one_zero: Tensor

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
