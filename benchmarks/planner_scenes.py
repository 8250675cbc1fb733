"""Planning calls as they come in a run: a posterior learned in the simulator and the inputs of later plans."""

from __future__ import annotations

from dataclasses import dataclass

from crl_node.curiosity.session import PlanSession
from crl_node.export.spec import PlanShape, Values, all_inputs, call_inputs, defaults, initial_values


@dataclass(frozen=True)
class Recorded:
    """What a plan depends on but its own size."""

    learned: Values
    settings: Values
    calls: list[Values]  # belief and jams of each call; proposals of the recording planner


def record(world: str = "four_cubes", *, seed: int = 0, learn: int = 40, calls: int = 8, every: int = 5) -> Recorded:
    """Run the closed loop in this process for `learn` steps, then keep the inputs of every `every`th plan."""
    from crl_node.arm.profile import load_profile
    from crl_node.curiosity.assembly import default_model
    from crl_node.curiosity.planner import Planner
    from crl_node.export.spec import posterior_values
    from crl_node.loop import ClosedLoop
    from crl_node.simulator.world import load_world

    planner = Planner(default_model(), "curious", seed, provider="cpu")
    seen: list[Values] = []
    run = planner.session.run

    def keep(values: Values) -> Values:
        seen.append(dict(values))
        return run(values)

    planner.session.run = keep  # type: ignore[method-assign, assignment]
    learned: Values = {}
    with ClosedLoop(load_world(world), load_profile("iiwa_sim"), planner, seed=seed) as loop:
        for step in range(learn + calls * every):
            loop.step()
            if step == learn:
                learned = posterior_values(loop.model.posterior())
    return Recorded(learned, dict(planner.settings), seen[learn::every][:calls])


def fitted(recorded: Recorded, call: Values, shape: PlanShape, session: PlanSession | None = None) -> Values:
    """The inputs of one call for a plan of another size: proposals repeated or cut to N and H, fresh noise.

    With `session` its learned inputs are swapped in and its settings fixed, and only the call's inputs come back.
    """
    import numpy as np

    values = defaults(all_inputs(shape)) | initial_values(shape) | recorded.learned
    sizes = {t.name: t.shape for t in all_inputs(shape)}
    for name, value in {**recorded.settings, **call}.items():
        if value.shape == sizes[name]:
            values[name] = value
    n, h = shape.candidates, shape.horizon
    given = call["proposals"][: n, :h]
    rng = np.random.default_rng(0)
    values["proposals"][:] = 0.1 * rng.standard_normal((n, h, 2))
    values["proposals"][: len(given), : given.shape[1]] = given
    values["bonus"][:] = 0.0
    if session is None:
        return values
    session.swap({name: values[name] for name in recorded.learned})
    calls = {t.name for t in call_inputs(shape)}
    session.fix(**{k: v for k, v in values.items() if k not in calls and k not in recorded.learned})
    return {name: values[name] for name in calls}
