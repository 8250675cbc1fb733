"""What a roll-out is expected to teach: contacts, brightness, shadow and the information gain by part, step by step."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from crl_node.export.parts import Model, State, Vec, rows
from crl_node.export.spec import LOOK_SERVES, MOVING, PlanShape
from crl_node.mechanisms.terms import SWITCHING_STEP

#: Two slots touch fully at 1 and not at all beyond this multiple of the sum of their extents.
CONTACT_REACH = 1.25


def contact_degree(squared: Tensor) -> Tensor:
    """0..1 from the squared distance in units of the sum of the extents."""
    return ((CONTACT_REACH - squared.sqrt()) * (1.0 / (CONTACT_REACH - 1.0))).clamp(0.0, 1.0)


class InformationGraph(nn.Module):
    """Values roll-outs by the information they bring [nats]."""

    def __init__(self, shape: PlanShape) -> None:
        super().__init__()
        self.shape = shape
        s, n = shape.slots, shape.candidates
        pairs = list(itertools.combinations(range(s), 2))
        number = {pair: i for i, pair in enumerate(pairs)}
        other = [[number[min(a, b), max(a, b)] for b in range(s) if b != a] for a in range(s)]
        table = [[number[min(a, b), max(a, b)] if a != b else 0 for b in range(s)] for a in range(s)]
        one_hot = torch.eye(s)
        first, second = one_hot[[a for a, _ in pairs]], one_hot[[b for _, b in pairs]]
        self.register_buffer("either", first + second, persistent=False)  # [pairs, S]
        self.register_buffer("difference", first - second, persistent=False)  # [pairs, S]
        self.register_buffer("pairs_of", torch.tensor(other).reshape(-1), persistent=False)  # [S * (S - 1)]
        self.register_buffer("pair_table", torch.tensor(table).reshape(-1), persistent=False)  # [S * S]
        self.register_buffer("one_zero", torch.stack([torch.ones(n), torch.zeros(n)]), persistent=False)
        self.either: Tensor
        self.difference: Tensor
        self.pairs_of: Tensor
        self.pair_table: Tensor
        self.one_zero: Tensor

    def apart(self, extent: Tensor) -> Tensor:
        """[pairs, S]: differences of two slots' places in units of the sum of their extents. `extent` [S] m."""
        return self.difference / (self.either @ extent[:, None]).clamp(min=1e-6)

    def contact(self, z: Vec, m: Model) -> tuple[Tensor, Tensor]:
        """Squared distance of each pair [pairs, M] and of each slot to what is nearest [S, M], by their extents."""
        s = self.shape.slots
        between = z.left(m.apart)
        squared = between.dot(between)
        return squared, rows(squared, self.pairs_of).reshape(s, -1, z.x.shape[1]).amin(1)

    def glow(self, light: Tensor, squared: Tensor, m: Model) -> Tensor:
        """Features of the light terms [L, N] at brightness `light` [S, N].

        `squared` [S + L, 2N]: distances of slots to what is nearest, then of the terms' pairs; anticipated, then now.
        """
        pressed, before = contact_degree(squared).chunk(2, 1)
        causes = torch.cat([pressed, (pressed - before).clamp(min=0.0), self.one_zero])
        base = rows(causes, m.light_source)
        slope = m.light_gain + m.light_toggle * base  # on the target's own brightness
        return base + slope * rows(light, m.light_target)

    def hidden(self, z: Vec, m: Model) -> Tensor:
        """1 where the arm's shadow (seen from the camera) covers a slot [S, N]."""
        tip = z.part(0, 1)
        # A point at height t above the tip hides the table at tip + back * t / (camera height - t).
        far = tip.minus(m.camera).times(m.shadow)
        to = z.minus(tip)
        share = (to.dot(far) / far.dot(far).clamp(min=1e-9)).clamp(0.0, 1.0)
        off = to.minus(far.times(share))
        return (off.dot(off) < m.shade).float()

    def observe(
        self, s: State, after: Vec, moved: Vec, ahead: Vec, phi: Vec, discount: Tensor, m: Model
    ) -> tuple[State, Tensor]:
        """The state after a step with what it tells added, and the features of the light terms [L, N].

        Slots move by `moved` to `after`. Adds the information about every weight (one weight moves a slot in x and y:
        both axes tell of it) and the variance of the predicted change between term sets, by the noise. `discount` [1].
        """
        z = Vec(s.x, s.y)
        both = Vec(torch.cat([ahead.x, z.x], 1), torch.cat([ahead.y, z.y], 1))  # anticipated, then now
        pairs, nearest = self.contact(both, m)
        bright = self.glow(s.light, torch.cat([nearest, rows(pairs, m.light_pair)]), m)
        flash = m.light_weights @ bright
        light = (s.light + flash).clamp(0.0, 1.0)

        unseen = self.hidden(z, m)
        # A fast tip is on a thing before it was ever beside it, and what a spring pulls moves without being touched.
        fastest = torch.maximum(s.vx * s.vx + s.vy * s.vy, moved.dot(moved))
        closest = torch.minimum(*nearest.chunk(2, 1))
        touching = ((fastest > MOVING**2) | (closest < CONTACT_REACH**2)).float()
        # A lamp is not touched when it is switched: what is to change has the noise of contact, as in learning.
        switched = torch.maximum(touching, (flash.abs() > SWITCHING_STEP).float())
        # Nothing is learned from what cannot be seen; where the body is the joints tell.
        seen = 1.0 - unseen * m.thing
        precision = (m.precision + m.precision_more * torch.stack([touching, switched])) * seen  # [2, S, N]
        precision = precision.flatten(0, 1)  # [V, N]

        told = s.told + torch.cat([phi.dot(phi), bright * bright]) * rows(precision, m.variable)
        varies = m.summed @ Vec(m.spread @ phi.x, m.spread @ phi.y).dot(phi)
        varies = torch.cat([varies, m.light_summed @ ((m.light_spread @ bright) * bright)])
        off = after.minus(m.goal)
        distance = (off.dot(off)).sqrt()
        return s._replace(
            x=after.x, y=after.y, vx=moved.x, vy=moved.y, light=light, told=told,
            between=s.between + (varies * precision).clamp(min=0.0),
            seen=torch.maximum(s.seen, (1.0 - unseen) * discount), far=s.far + (m.goal_weight @ distance) * discount,
        ), bright  # fmt: skip

    def count(self, s: State, discount: Tensor, m: Model) -> State:
        """The worth of what was told since it was last counted: its nats times `discount` [1]."""
        known = self.known(s.told, s.between, m)
        return s._replace(known=known, worth=s.worth + (known - s.known) * discount)

    @staticmethod
    def known(told: Tensor, between: Tensor, m: Model) -> Tensor:
        """Structure and parameters [2, N] nats that the sums `told` [R, N] and `between` [V, N] tell.

        A term that is in with probability r, whose weight has variance v given all others of its set, is worth
        r/2 log(1 + v a) of parameters, a = sum_h |phi|^2 / sigma^2 (MacKay 1992, eq. 3.7, without the weights'
        correlations). A variable whose term sets predict changes of variance B between them and W within them, in
        noises, is worth H (1 - exp(-B / (2 H (1 + W)))) of structure: exact for weak evidence, and never above the
        entropy H of its term sets. docs/information.md compares both with exact values.
        """
        told = m.variance * told
        doubt = torch.exp(m.doubt * between / (1.0 + m.held @ told))
        return torch.cat([m.entropy @ (1.0 - doubt), m.half_share @ torch.log1p(told)])

    def look(self, x: dict[str, Tensor], begin: State, m: Model) -> Tensor:
        """[1, S] nats: what a look at each slot tells that the arm's shadow hides in the state before the roll-out.

        Counted is what the look tells about where the slot is `LOOK_SERVES` s later, when it can be used. A look
        takes the slot's variance from P to R, its error (which repeated looks share), and in that time the slot goes
        at random by Q: 1/2 log (P + Q) / (R + Q) in each of two axes. So to look at what shakes is worth next to
        nothing, and at what is known as well as looks tell, nothing.
        """
        exists = (x["exists"] > 0.5).float()
        veiled = self.hidden(Vec(begin.x[:, :1], begin.y[:, :1]), m)[:, 0]
        error = x["look_variance"]
        wanders = x["noise_std"][:, 0, 0] ** 2 * (LOOK_SERVES / x["dt"])
        nats = torch.log((torch.maximum(x["position_variance"], error) + wanders) / (error + wanders))
        return (nats * x["hidden"] * exists * veiled)[None, :]

    @staticmethod
    def gain(s: State, m: Model) -> Tensor:
        """Expected information gain by part [3, N] nats, from the state after the roll-out.

        Structure and parameters are sum_h discount_h (known_h - known_h-1), with one discount for each group of steps.
        """
        return torch.cat([s.worth, m.look @ s.seen])

    @staticmethod
    def preference(x: dict[str, Tensor], begin: State, s: State, m: Model) -> Tensor:
        """How much nearer to their goals the slots get [N] nats, from the state before and after the roll-out.

        The preferred outcome of slot i is Laplace around its goal, ln p(z) = -w_i |z - g_i| + const. With the
        information gain it makes the negative expected free energy (Friston et al. 2015, eq. 6: epistemic plus
        extrinsic value). The mean of ln p over the roll-out (discounted, half of the weight on its end) is
        counted from where the slots are now, so that standing still is worth 0.
        """

        def worth(state: State) -> Tensor:
            off = Vec(state.x, state.y).minus(m.goal)
            return m.goal_weight @ off.dot(off).sqrt()  # [1, N]

        mean = 0.5 * s.far / x["discount"].sum().clamp(min=1e-6) + 0.5 * worth(s)
        return (worth(begin) - mean)[0]
