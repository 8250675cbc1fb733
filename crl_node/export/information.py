"""What a roll-out is expected to teach: contacts, brightness, shadow and the information gain by part, step by step."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor, nn

from crl_node.export.parts import Model, State, Step, Vec, grouped, rows, rows_of_each
from crl_node.export.spec import LOOK_SERVES, MOVING, PlanShape
from crl_node.mechanisms.terms import SWITCHING_STEP

#: Two slots touch fully at 1 and not at all beyond this multiple of the sum of their extents.
CONTACT_REACH = 1.25


def contact_degree(squared: Tensor) -> Tensor:
    """0..1 from the squared distance in units of the sum of the extents."""
    return ((CONTACT_REACH - squared.sqrt()) * (1.0 / (CONTACT_REACH - 1.0))).clamp(0.0, 1.0)


def _sum(steps: Tensor) -> Tensor:
    """Over the first axis, which is short: additions cost less than a reduction."""
    return functools.reduce(torch.add, steps.unbind())


def _least(steps: Tensor) -> Tensor:
    return functools.reduce(torch.minimum, steps.unbind())


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
        one_zero = torch.stack([torch.ones(n), torch.zeros(n)]).expand(shape.count_every, 2, n).contiguous()
        self.register_buffer("one_zero", one_zero, persistent=False)
        self.either: Tensor
        self.difference: Tensor
        self.pairs_of: Tensor
        self.pair_table: Tensor
        self.one_zero: Tensor

    def apart(self, extent: Tensor) -> Tensor:
        """[pairs, S]: differences of two slots' places in units of the sum of their extents. `extent` [S] m."""
        return self.difference / (self.either @ extent[:, None]).clamp(min=1e-6)

    def contact(self, z: Vec, m: Model) -> tuple[Tensor, Tensor]:
        """Squared distance of each pair [G, pairs, N] and of each slot to what is nearest [G, S, N], by extents."""
        s = self.shape.slots
        between = z.left(m.apart)
        squared = between.dot(between)
        others = rows_of_each(squared, self.pairs_of).reshape(len(squared), s, s - 1, -1)
        return squared, others.amin(2)

    def causes(self, squared: Tensor, m: Model) -> tuple[Tensor, Tensor]:
        """Of the light terms [g, L, N]: their features for a dark target, and what its brightness adds to them.

        `squared` [2g, S + L, N]: distances of slots to what is nearest, then of the terms' pairs; anticipated in each
        of g steps, then before each.
        """
        pressed, before = contact_degree(squared).chunk(2)
        rises = (pressed - before).clamp(min=0.0)
        base = rows_of_each(torch.cat([pressed, rises, self.one_zero[: len(pressed)]], 1), m.light_source)
        return base, m.light_gain + m.light_toggle * base

    def hidden(self, z: Vec, m: Model) -> Tensor:
        """1 where the arm's shadow (seen from the camera) covers a slot [..., S, N]."""
        tip = z.part(0, 1)
        # A point at height t above the tip hides the table at tip + back * t / (camera height - t).
        far = tip.minus(m.camera).times(m.shadow)
        to = z.minus(tip)
        share = (to.dot(far) / far.dot(far).clamp(min=1e-9)).clamp(0.0, 1.0)
        off = to.minus(far.times(share))
        return (off.dot(off) < m.shade).float()

    def observe(self, s: State, steps: list[Step], discount: Tensor, m: Model) -> tuple[State, Tensor]:
        """The state after g steps with what they tell added, and the features of the light terms [L, N] in the last.

        Adds the information about every weight (one weight moves a slot in x and y: both axes tell of it) and the
        variance of the predicted change between term sets, by the noise. `discount` [1].
        """
        g = len(steps)
        both = grouped(*(step.ahead for step in steps), *(step.before for step in steps))  # [2g, S, N]
        pairs, nearest = self.contact(both, m)
        base, slope = self.causes(torch.cat([nearest, rows_of_each(pairs, m.light_pair)], 1), m)
        light, bright, flash = s.light, list[Tensor](), list[Tensor]()
        for h in range(g):
            bright.append(base[h] + slope[h] * rows(light, m.light_target))
            flash.append(m.light_weights @ bright[h])
            light = (light + flash[h]).clamp(0.0, 1.0)

        unseen = self.hidden(Vec(both.x[g:], both.y[g:]), m)
        moved, after = grouped(*(step.moved.all for step in steps)), grouped(*(step.after.all for step in steps))
        # A fast tip is on a thing before it was ever beside it, and what a spring pulls moves without being touched.
        speed = moved.dot(moved)
        earlier = torch.cat([(s.vx * s.vx + s.vy * s.vy)[None], speed[:-1]])
        closest = torch.minimum(*nearest.chunk(2))
        touching = ((torch.maximum(earlier, speed) > MOVING**2) | (closest < CONTACT_REACH**2)).float()
        # A lamp is not touched when it is switched: what is to change has the noise of contact, as in learning.
        flashes = torch.cat(flash).reshape(touching.shape)
        switched = torch.maximum(touching, (flashes.abs() > SWITCHING_STEP).float())
        # Nothing is learned from what cannot be seen; where the body is the joints tell.
        seen = 1.0 - unseen * m.thing
        free, more = m.precision, m.precision_more  # [2, S, 1]: motion, brightness
        precision = torch.cat([(free[0] + more[0] * touching) * seen, (free[1] + more[1] * switched) * seen], 1)

        told, motion = s.told, list[Tensor]()
        for step, lit, exact in zip(steps, bright, precision, strict=True):
            phi = step.features
            told = told + torch.cat([phi.dot(phi), lit * lit]) * rows(exact, m.variable)
            motion.append(m.summed @ Vec(m.spread @ phi.x, m.spread @ phi.y).dot(phi))
        lights = torch.cat(bright).reshape(base.shape)
        varies = torch.cat(
            [torch.cat(motion).reshape(touching.shape), m.light_summed @ ((m.light_spread @ lights) * lights)], 1
        )
        between = (varies * precision).clamp(min=0.0)  # [g, V, N]
        off = after.minus(m.goal)
        far = m.goal_weight @ off.dot(off).sqrt()  # [g, 1, N]
        last = steps[-1]
        return s._replace(
            x=last.after.all.x, y=last.after.all.y, vx=last.moved.all.x, vy=last.moved.all.y, light=light, told=told,
            between=s.between + _sum(between), far=s.far + _sum(far) * discount,
            seen=torch.maximum(s.seen, (1.0 - _least(unseen)) * discount),
        ), bright[-1]  # fmt: skip

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
