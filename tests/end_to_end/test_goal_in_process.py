"""Told where a thing is wanted, the planner brings it there once it knows how things are pushed."""

from __future__ import annotations

import numpy as np

from crl_node.arm.profile import load_profile
from crl_node.curiosity.assembly import default_model
from crl_node.curiosity.planner import Planner
from crl_node.loop import ClosedLoop
from crl_node.simulator.world import load_world

#: Control steps of learning by curiosity, then at most this many to reach the goal.
LEARN, CARRY = 120, 120


def test_a_thing_is_brought_to_within_3_cm_of_a_goal_12_cm_away() -> None:
    planner = Planner(default_model(), policy="curious", seed=0, provider="cpu")
    with ClosedLoop(load_world("four_cubes"), load_profile("iiwa_sim"), planner, seed=0) as loop:
        for _ in range(LEARN):
            step = loop.step()
        belief = step.belief
        things = [i for i, identity in enumerate(belief.ids.tolist()) if identity != 0 and belief.existence[i] > 0.5]
        # The thing nearest to the middle of the table, to be brought 12 cm along the side with more room.
        row = min(things, key=lambda i: float(np.linalg.norm(belief.mean[i, :2] - [0.6, 0.0])))
        identity, start = int(belief.ids[row]), belief.mean[row, :2].copy()
        goal = start + [0.0, 0.12 if start[1] < 0 else -0.12]
        planner.set_goal({identity: (float(goal[0]), float(goal[1]))}, weight=200.0)
        truth = loop.simulator.truth()
        nearest = min(truth.objects, key=lambda o: float(np.linalg.norm(np.asarray(o.position)[:2] - start)))
        course = []
        for _ in range(CARRY):
            step = loop.step()
            now = next(o for o in loop.simulator.truth().objects if o.name == nearest.name)
            course.append(float(np.linalg.norm(np.asarray(now.position)[:2] - goal)))
            if course[-1] < 0.02:
                break
        print(f"goal {goal.round(3)} from {start.round(3)}: distances {np.round(course[::5], 3)} m")
    assert min(course) < 0.03
    assert step.plan.chosen.preference >= 0.0
