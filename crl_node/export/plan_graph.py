"""The whole plan as one torch module: roll-outs, information gain, iCEM. The reference the ONNX file is made from.

One trajectory is rolled out per candidate under the model-averaged weights; all particles' predictions are compared
along it. The pieces (`prepare`, `step`, `value`, `refine`, `choose`) are what `export.stitch` traces one by one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crl_node.export.information import InformationGraph
from crl_node.export.motion import MotionGraph
from crl_node.export.parts import Model, Places, State, Step, Trace, Vec, stacked
from crl_node.export.spec import PlanShape, all_inputs
from crl_node.export.tables import Tables


class Population(NamedTuple):
    """The candidates of one iteration."""

    actions: Tensor  # [N, H, 2] m/s
    bonus: Tensor  # [N] nats
    origin: Tensor  # [N] index of the proposal each descends from


class Worth(NamedTuple):
    """What one iteration's candidates are worth."""

    scores: Tensor  # [N] nats
    gains: Tensor  # [N, 3] nats
    preferences: Tensor  # [N] nats


class PlanGraph(nn.Module):
    """`forward(**inputs of spec.all_inputs) -> outputs of spec.outputs`, in the order of the specification."""

    def __init__(self, shape: PlanShape) -> None:
        super().__init__()
        self.shape = shape
        self.motion = MotionGraph(shape)
        self.information = InformationGraph(shape)
        self.tables = Tables(shape, self.information)

    def prepare(self, x: dict[str, Tensor]) -> tuple[Model, State, Population]:
        """What every step and iteration of this call uses."""
        actions = self.clip_speed(x["proposals"], x["max_speed"])
        start = Population(actions, x["bonus"], torch.arange(self.shape.candidates))
        model, begin = self.tables.model(x), self.tables.begin(x)
        return model._replace(look=self.information.look(x, begin, model)), begin, start

    def steps(self, s: State, actions: Vec, discount: Tensor, m: Model) -> tuple[State, Vec, Trace]:
        """A group of g steps of all roll-outs and what they teach: the state, the tip's path [g, N] m, a trace.

        `actions` [g, N] m, the commanded displacements; `discount` [1], the group's mean.
        """
        z, v = Places.of(Vec(s.x, s.y)), Places.of(Vec(s.vx, s.vy))
        moves = list[Step]()
        for h in range(len(actions.x)):
            moves.append(self.motion.move(z, v, actions.part(h, h + 1), m))
            z, v = moves[-1].after, moves[-1].moved
        s, light = self.information.observe(s, moves, discount, m)
        tips = stacked(*(move.after.body for move in moves))
        return self.information.count(s, discount, m), tips, Trace(moves[-1].features, light)

    def displacements(self, actions: Tensor, dt: Tensor) -> list[Vec]:
        """[N, H, 2] m/s -> groups of steps [G, count_every, N] m, and what is left of the horizon [1, rest, N] m."""
        moves = (actions * dt).permute(2, 1, 0)
        return [Vec(x, y) for x, y in zip(self.grouped(moves[0]), self.grouped(moves[1]), strict=True)]

    def grouped(self, rows: Tensor) -> list[Tensor]:
        """Rows [H, ...] of steps as groups [G, count_every, ...] and [1, rest, ...], either only if there are any."""
        g, rest = divmod(self.shape.horizon, self.shape.count_every)
        whole = g * self.shape.count_every
        parts = [rows[:whole].reshape(g, self.shape.count_every, *rows.shape[1:])] if g else []
        return parts + ([rows[None, whole:]] if rest else [])

    def discounts(self, discount: Tensor) -> list[Tensor]:
        """Means [G, 1] and [1, 1] of the discount [H] over the groups."""
        return [part.mean(1, keepdim=True) for part in self.grouped(discount)]

    def value(self, x: dict[str, Tensor], p: Population, begin: State, end: State, path: Vec, m: Model) -> Worth:
        """Information and preference less effort. `path` [H, N] m: the tip after each step."""
        gain = self.information.gain(end, m)
        preference = self.information.preference(x, begin, end, m)
        change = (p.actions[:, 1:] - p.actions[:, :-1]).pow(2).sum((1, 2))
        before = stacked(Vec(begin.x, begin.y).part(0, 1), path.part(0, -1))
        step = path.minus(before)
        way = step.dot(step).sqrt().sum(0)
        cost = x["effort"][0] * way + x["effort"][1] * change
        return Worth(gain.sum(0) - cost + p.bonus + preference, gain.T, preference)

    @staticmethod
    def clip_speed(actions: Tensor, limit: Tensor) -> Tensor:
        """The same directions, no faster than `limit` m/s."""
        speed = actions.pow(2).sum(-1, keepdim=True).clamp(min=1e-12).sqrt()
        return actions * torch.clamp(limit / speed, max=1.0)

    def refine(self, x: dict[str, Tensor], p: Population, scores: Tensor, i: int) -> Population:
        """The population of iteration `i` >= 1: elites, neighbours of theirs, draws from refitted mean and spread."""
        n, elites = self.shape.candidates, self.shape.elites
        around = n - elites - n // 6
        best = torch.topk(scores, elites)[1]
        family = best.repeat(math.ceil(n / elites))[:n]  # whose child each candidate is
        chosen = p.actions[best]
        mean, std = chosen.mean(0), chosen.var(0, unbiased=False).clamp(min=1e-8).sqrt()
        noise = x["noise"][i - 1]
        near = p.actions[family[elites : elites + around]] + x["spread"][i - 1] * noise[elites : elites + around]
        fitted = mean + std * noise[elites + around :]
        actions = self.clip_speed(torch.cat([chosen, near, fitted], 0), x["max_speed"])
        return Population(actions, p.bonus[family], p.origin[family])

    def choose(
        self, x: dict[str, Tensor], p: Population, worth: Worth, first: Worth, path: Vec
    ) -> tuple[Tensor, ...]:
        """The outputs of `spec.outputs`. `path` [H, N] m: the tip after each step of the last iteration."""
        top = torch.topk(worth.scores, 1)[1]
        course = torch.cat([x["position"][0:1], torch.cat([path.x[:, top], path.y[:, top]], 1)])
        return (
            x["posterior_version"] + 0, p.actions[top][0], course, worth.scores[top], worth.gains[top][0],
            worth.preferences[top], p.origin[top], *worth, p.origin, *first,
        )  # fmt: skip

    def named(self, *values: Tensor) -> dict[str, Tensor]:
        """The inputs by name."""
        return {t.name: value for t, value in zip(all_inputs(self.shape), values, strict=True)}

    def roll(
        self, x: dict[str, Tensor], p: Population, begin: State, m: Model
    ) -> tuple[list[State], Vec, list[Trace]]:
        """The states after each group of steps, the tip's path [H, N] m, and what was computed besides."""
        states, tips, traces = [begin], list[Vec](), list[Trace]()
        for moves, discounts in zip(self.displacements(p.actions, x["dt"]), self.discounts(x["discount"]), strict=True):
            for k in range(len(discounts)):
                state, tip, trace = self.steps(states[-1], Vec(moves.x[k], moves.y[k]), discounts[k], m)
                states.append(state)
                tips.append(tip)
                traces.append(trace)
        return states[1:], stacked(*tips), traces

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """iCEM (Pinneri et al. 2020) from `proposals`: evaluate, keep elites, resample around them."""
        x = self.named(*values)
        m, begin, population = self.prepare(x)
        states, path, _ = self.roll(x, population, begin, m)
        first = worth = self.value(x, population, begin, states[-1], path, m)
        for i in range(1, self.shape.iterations):
            population = self.refine(x, population, worth.scores, i)
            states, path, _ = self.roll(x, population, begin, m)
            worth = self.value(x, population, begin, states[-1], path, m)
        return self.choose(x, population, worth, first, path)
