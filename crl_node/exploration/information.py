"""A run in windows: the information that the planner expects of what was really done, and what it really brought.

A window begins at a snapshot of the model. Expected: the planning graph's own roll-out and gain, from the belief and
the posterior at its beginning, of the commands that were executed in it (not of the plan that was made: plans are
remade at every step), without discount. Gained: see `crl_node.curiosity.realised`. The graph runs in torch, with a
horizon as long as the window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from crl_node.curiosity.planner import Planner
from crl_node.curiosity.realised import Gained, Snapshot, gained, states_gained
from crl_node.curiosity.scene import scene_from
from crl_node.data import Array, InformationGain
from crl_node.export.spec import (
    PlanShape,
    Values,
    all_inputs,
    defaults,
    initial_values,
    outputs,
    posterior_values,
)
from crl_node.loop import ClosedLoop

#: Settings that belong to a search, not to the world.
_OF_THE_SEARCH = ("discount", "spread", "effort")


@dataclass(frozen=True)
class Window:
    """What one stretch of a run was expected to bring and brought, nats."""

    step: int  # of its end
    expected: InformationGain  # by the planning graph, of the executed commands
    designed: InformationGain  # by exact formulas, of the features that were met (states: as expected)
    gained: InformationGain
    variables: tuple[Gained, ...]


def expected(snapshot: Snapshot, actions: Array, settings: Values) -> InformationGain:
    """Of `actions` [W, 2] m/s from `snapshot` on; `settings` are a planner's (`Planner.settings`)."""
    import torch

    steps = len(actions)
    graph, shape = _graph(steps)
    values = defaults(all_inputs(shape)) | initial_values(shape) | posterior_values(snapshot.posterior)
    values |= {name: array for name, array in settings.items() if name not in _OF_THE_SEARCH}
    scene = scene_from(snapshot.belief, snapshot.posterior)
    for name, array in (
        ("position", scene.position), ("velocity", scene.velocity), ("brightness", scene.brightness),
        ("exists", scene.exists), ("position_variance", scene.variance), ("hidden", scene.hidden),
    ):  # fmt: skip
        values[name] = array.astype(np.float32)
    values["discount"] = np.ones(steps, np.float32)
    values["proposals"] = np.tile(actions.astype(np.float32), (shape.candidates, 1, 1))
    with torch.no_grad():
        out = graph(*(torch.from_numpy(np.ascontiguousarray(values[t.name])) for t in all_inputs(shape)))
    named = {t.name: o for t, o in zip(outputs(shape), out, strict=True)}
    return InformationGain(*(float(part) for part in named["proposal_gains"][0]))


@cache
def _graph(steps: int):  # type: ignore[no-untyped-def]
    from crl_node.export.plan_graph import PlanGraph

    shape = PlanShape(candidates=2, horizon=steps, iterations=1, elites=1)
    return PlanGraph(shape), shape


def windows(
    loop: ClosedLoop, planner: Planner, steps: int, width: int, on_step: Callable[[int], None] = lambda step: None
) -> list[Window]:
    """Run `loop`, which `planner` drives, for `steps` control steps and compare in windows of `width` steps.

    ValueError unless 1 <= width <= steps.
    """
    if not 1 <= width <= steps:
        raise ValueError(f"windows of {width} steps do not fit into {steps} steps")
    found: list[Window] = []
    begin: Snapshot | None = None
    actions: list[Array] = []
    for step in range(steps + 1):
        done = loop.step()
        if step % width == 0:
            now = Snapshot.of(loop.model, done.belief)
            if begin is not None:
                found.append(_window(step, begin, now, loop, np.array(actions), planner.settings))
            begin, actions = now, []
        actions.append(done.action)
        on_step(step)
    return found


def _window(
    step: int, begin: Snapshot, end: Snapshot, loop: ClosedLoop, actions: Array, settings: Values
) -> Window:
    parts = gained(begin, end, loop.model)
    forecast = expected(begin, actions, settings)
    designed = InformationGain(
        sum(p.designed_structure for p in parts), sum(p.designed_parameters for p in parts), forecast.states
    )
    brought = InformationGain(
        sum(p.structure for p in parts), sum(p.parameters for p in parts), states_gained(begin, end)
    )
    return Window(step, forecast, designed, brought, tuple(parts))


@dataclass(frozen=True)
class Agreement:
    """How what was gained follows what was expected."""

    windows: int
    expected: float  # nats, sum
    gained: float  # nats, sum
    slope: float  # least squares through the origin
    median_ratio: float  # median of gained / expected weighted by expected: outliers do not move it
    correlation: float

    @property
    def ratio(self) -> float:
        """Sum gained by sum expected."""
        return self.gained / max(self.expected, 1e-9)


def agreement(expectation: Array, outcome: Array) -> Agreement:
    """Of `expectation` and `outcome` [W] nats; correlation nan where either is constant."""
    x, y = np.asarray(expectation, float), np.asarray(outcome, float)
    positive = x > 0
    ratio = y[positive] / x[positive]
    order = np.argsort(ratio)
    weight = np.cumsum(x[positive][order])
    median = float(ratio[order][np.searchsorted(weight, 0.5 * weight[-1])]) if len(ratio) else float("nan")
    spread = x.std() * y.std()
    correlation = float(np.mean((x - x.mean()) * (y - y.mean())) / spread) if spread > 0 else float("nan")
    return Agreement(len(x), float(x.sum()), float(y.sum()), float(x @ y / max(x @ x, 1e-12)), median, correlation)
