"""How one step moves everything under the mean weights: the torch form of the motion terms in `mechanisms.terms`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crl_node.export.parts import BIG, Model, State, TermRows, Vec, stacked
from crl_node.export.spec import DRIFT, JAM_FRICTION, JAM_RADIUS, PlanShape

#: A place that no slot reaches: linear features look there for their parent [m].
NOWHERE = 1000.0


class MotionGraph(nn.Module):
    """Moves N candidates by one step."""

    def __init__(self, shape: PlanShape) -> None:
        super().__init__()
        self.shape = shape
        n = shape.candidates
        self.register_buffer("nothing", torch.zeros(1, n), persistent=False)
        self.register_buffer("drift", torch.full((1, n), DRIFT), persistent=False)
        self.register_buffer("nowhere", torch.full((1, n), -NOWHERE), persistent=False)
        self.register_buffer("no_limit", torch.full((1, n), BIG), persistent=False)
        self.register_buffer("ones", torch.ones(1, shape.slots - 1), persistent=False)
        self.ones: Tensor
        self.nothing: Tensor
        self.drift: Tensor
        self.nowhere: Tensor
        self.no_limit: Tensor

    @staticmethod
    def pair_features(away: Vec, push: Vec, c: TermRows) -> Vec:
        """PUSH, DRAG, SPRING and linear features in one formula [R, N] m.

        `away` = z_i - z'_j, `push` = u_j, -a dt (body as target) or the linear feature itself.
        """
        distance = away.dot(away).clamp(min=1e-12).sqrt()
        depth = c.length - distance
        strength = depth - torch.minimum(torch.maximum(depth, c.low), c.high)
        along = push.dot(away) / distance
        strength = torch.minimum(strength, torch.maximum(along, c.cap))
        slip = (depth * c.slide).clamp(0.0, 1.0)
        pull = (strength - slip * along) / distance
        return away.times(pull).plus(push.times(slip + c.linear))

    def jammed(self, beyond: Vec, move: Vec, reach: Tensor, back: Vec, forth: Vec) -> Vec:
        """WALL for the body [1, N] m: what things pinned at the rim do not give way pushes it back.

        `beyond` = z_j - z_0 - a dt, `back` (negative) and `forth` the things' rooms [S - 1, N] m, `reach` [S - 1, 1] m.
        """
        distance = beyond.dot(beyond).clamp(min=1e-12).sqrt()
        approach = beyond.dot(move) / distance
        depth = torch.minimum((reach - distance).clamp(min=0.0), approach.clamp(min=0.0))
        wanted = beyond.times(depth / distance)
        held = wanted.within(back, forth).minus(wanted)
        return held.left(self.ones)  # their sum

    @staticmethod
    def held_back(action: Vec, body: Vec, m: Model) -> Vec:
        """What a commander lets through of `action` [1, N] m where the body is at a jam.

        Nothing that goes into it, and of what goes along it what friction leaves. It is the command and not its effect
        that is held back: leaning on a thing that does not give way teaches nothing either.
        """
        off = body.minus(m.jam_at)  # [J, N]
        at = (off.dot(off) < JAM_RADIUS**2).float()
        into = m.jam_along.dot(action).clamp(min=0.0) * at
        along = action.minus(Vec(m.jam_across.x @ into, m.jam_across.y @ into))
        rubs = JAM_FRICTION * into.sum(0, keepdim=True)
        size = along.dot(along).clamp(min=1e-12).sqrt()
        return along.times((1.0 - rubs / size).clamp(min=0.0))

    def move(self, s: State, action: Vec, m: Model) -> tuple[Vec, Vec, Vec, Vec]:
        """(new positions [S, N] m, displacements [S, N] m, anticipated positions [S, N] m, features [P, N] m).

        `action` [1, N] m: the commanded displacement.
        """
        z, v = Vec(s.x, s.y), Vec(s.vx, s.vy)
        body, rest, rest_v = z.part(0, 1), z.part(1), v.part(1)
        zero = Vec(self.nothing, self.nothing)
        # The arm's commander never sends the tip out of its workspace, and does not lean.
        commanded = body.plus(self.held_back(action, body, m)).within(m.box_low, m.box_high)
        move = commanded.minus(body)
        rest_next = rest.plus(rest_v)
        inside = rest_next.within(m.wall_low, m.wall_high).minus(rest_next)
        back = m.rim_low.minus(rest)
        back = Vec(back.x.clamp(max=0.0), back.y.clamp(max=0.0))
        forth = m.rim_high.minus(rest)
        forth = Vec(forth.x.clamp(min=0.0), forth.y.clamp(min=0.0))
        jam = self.jammed(rest.minus(commanded), move, m.reach, back, forth)
        drifts = Vec(torch.cat([self.drift, self.nothing]), torch.cat([self.nothing, self.drift]))
        # Rows: -a dt, inertia of the body, walls (S), a dt, two drifts, nothing.
        linear = stacked(move.negative(), v.part(0, 1), jam, inside, move, drifts, zero)
        # The body first: it meets the others where they stand.
        nowhere = Vec(self.nowhere, self.nowhere)
        standing = stacked(z, nowhere)
        away = commanded.minus(standing.rows(m.body_terms.parent))
        phi = self.pair_features(away, linear.rows(m.body_terms.push), m.body_terms)
        body_next = body.plus(phi.left(m.body_weights)).within(m.box_low, m.box_high)
        step = body_next.minus(body)
        # Then the others, from the body's predicted displacement.
        ahead = stacked(body_next, rest_next)
        places = stacked(ahead, standing)  # rows from S on are the body's parents
        away = stacked(commanded, rest).rows(m.target).minus(places.rows(m.terms.parent))
        steps = stacked(step, rest_v, linear)
        phi = self.pair_features(away, steps.rows(m.terms.push), m.terms)
        # Whatever pushes a thing, it stays on the table.
        free = Vec(self.no_limit, self.no_limit)
        most_back, most_forth = stacked(free.negative(), back), stacked(free, forth)
        phi = phi.within(most_back.rows(m.room), most_forth.rows(m.room))
        delta = phi.left(m.weights)
        return stacked(body_next, rest.plus(delta)), stacked(step, delta), ahead, phi
