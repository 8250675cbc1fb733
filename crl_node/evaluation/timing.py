"""Ticks and latencies of a run, from what was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crl_node.evaluation.run import RunData
from crl_node.evaluation.traffic import LATE, figures

#: s, control step and camera period.
PERIOD = 0.1
#: Stages of a report's latencies.
STAGES = ("camera_to_command", "camera_to_weights", "perception", "update", "plan", "swap")


@dataclass(frozen=True)
class Ticks:
    """Control ticks of a run."""

    planned: int
    missed: int
    held: int  # a command to stay put: planned, but nothing moved
    reasons: tuple[str, ...]  # where ticks were missed, in words


def count_ticks(run: RunData, period: float = PERIOD) -> Ticks:
    """Ticks from the first executed command to the last frame, and those in which no command began to act."""
    stamps = np.array(sorted({c.stamp for c in run.executed}))
    if stamps.size == 0:
        return Ticks(0, 0, 0, ("no executed command was recorded: the arm was never told to move",))
    start, end = float(stamps[0]), max(float(stamps[-1]), run.end)
    planned = round((end - start) / period) + 1
    missed, reasons = 0, []
    for before, after in zip(stamps, [*stamps[1:], end + period], strict=True):
        gap = after - before
        if gap > LATE * period:
            lost = round(gap / period) - 1
            missed += lost
            reasons.append(
                f"{lost} tick{'s' * (lost > 1)} after {before - run.start:.1f} s: {_reason(run, before)}"
            )
    held = sum(c.hold for c in run.executed)
    return Ticks(planned, missed, held, tuple(reasons[:20]))


def _reason(run: RunData, stamp: float) -> str:
    """The most upstream part of the loop that was silent then."""
    window = (stamp + 0.5 * PERIOD, stamp + 1.5 * PERIOD)

    def silent(stamps: Sequence[float]) -> bool:
        return not any(window[0] < s < window[1] for s in stamps)

    if silent(run.image_stamps):
        return "no camera frame was recorded"
    if silent([b.stamp for b in run.beliefs]):
        return "the learner published no belief"
    if silent([c.stamp for c in run.commands]):
        return "the planner sent no command"
    return "the gate passed no command on"


def latencies(run: RunData) -> dict[str, dict[str, float | None]]:
    """Milliseconds by stage; see `evaluation/traffic.py`."""
    told: dict[str, dict[str, float | None]] = figures(run.traffic(), PERIOD)["latency_ms"]
    return {stage: told[stage] for stage in STAGES}
