"""How one step moves everything under the mean weights: the torch form of the motion terms in `mechanisms.terms`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crl_node.export.parts import BIG, Model, Places, Step, TermRows, Vec, stacked
from crl_node.export.spec import DRIFT, JAM_FRICTION, JAM_RADIUS, PlanShape


class MotionGraph(nn.Module):
    """Moves N candidates by one step."""

    def __init__(self, shape: PlanShape) -> None:
        super().__init__()
        self.shape = shape
        n = shape.candidates
        # The last rows of the table of steps: two drifts and nothing.
        drift = torch.zeros(2, 3, n)
        drift[0, 0] = drift[1, 1] = DRIFT
        self.register_buffer("drift_x", drift[0], persistent=False)
        self.register_buffer("drift_y", drift[1], persistent=False)
        self.register_buffer("no_limit", torch.full((1, n), BIG), persistent=False)
        self.register_buffer("no_limit_back", torch.full((1, n), -BIG), persistent=False)
        self.register_buffer("ones", torch.ones(1, shape.slots - 1), persistent=False)
        self.drift_x: Tensor
        self.drift_y: Tensor
        self.no_limit: Tensor
        self.no_limit_back: Tensor
        self.ones: Tensor

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

    def move(self, z: Places, v: Places, action: Vec, m: Model) -> Step:
        """From places `z` m and the displacements `v` m of the step before, with `action` [1, N] m commanded."""
        body, rest = z.body, z.things
        # The arm's commander never sends the tip out of its workspace, and does not lean.
        commanded = body.plus(self.held_back(action, body, m)).within(m.box_low, m.box_high)
        move = commanded.minus(body)
        rest_next = rest.plus(v.things)
        inside = rest_next.within(m.wall_low, m.wall_high).minus(rest_next)
        back = m.rim_low.minus(rest)
        back = Vec(back.x.clamp(max=0.0), back.y.clamp(max=0.0))
        forth = m.rim_high.minus(rest)
        forth = Vec(forth.x.clamp(min=0.0), forth.y.clamp(min=0.0))
        jam = self.jammed(rest.minus(commanded), move, m.reach, back, forth)
        # Rows: -a dt, inertia of the body, walls (S), a dt, two drifts, nothing.
        linear = stacked(move.negative(), v.body, jam, inside, move, Vec(self.drift_x, self.drift_y))
        # The body first: it meets the others where they stand.
        away = commanded.minus(z.all.rows(m.body_terms.parent))
        phi = self.pair_features(away, linear.rows(m.body_terms.push), m.body_terms)
        body_next = body.plus(phi.left(m.body_weights)).within(m.box_low, m.box_high)
        step = body_next.minus(body)
        # Then the others, from the body's predicted displacement.
        ahead = stacked(body_next, rest_next)
        parents = stacked(body_next, rest_next, z.all)  # rows from S on are the body's parents
        steps = stacked(step, v.things, linear)
        # Where the targets start from, and how far they can go: whatever pushes a thing, it stays on the table.
        far = Vec(self.no_limit, self.no_limit)
        targets = stacked(commanded, rest, Vec(self.no_limit_back, self.no_limit_back), back, far, forth)
        away = targets.rows(m.target).minus(parents.rows(m.terms.parent))
        phi = self.pair_features(away, steps.rows(m.terms.push), m.terms)
        phi = phi.within(targets.rows(m.room_back), targets.rows(m.room_forth))
        delta = phi.left(m.weights)
        return Step(
            z.all, ahead, Places.joined(body_next, rest.plus(delta)), Places.joined(step, delta), phi
        )  # fmt: skip
