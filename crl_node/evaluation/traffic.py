"""How long things take through the running loop, from when its messages were sent.

Times are the middleware's source timestamps: when a node handed a message over, whoever listens and however late. The
same figures come from a bag and from a listener beside a loop that records nothing.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: A tick counts as missed when no command starts to act for longer than this share of a period.
LATE = 1.5


@dataclass(frozen=True)
class Sent:
    """A message: the header's stamp, s; when it was sent, s of wall time."""

    stamp: float
    sent: float
    version: int = 0  # of the posterior it brings or was made with


@dataclass
class Traffic:
    """What a loop sent, in the order of sending."""

    images: list[Sent] = field(default_factory=list)
    commands: list[Sent] = field(default_factory=list)  # by the planner; stamp: of the belief that is answered
    executed: list[Sent] = field(default_factory=list)  # by the gate; stamp: when it begins to act
    answered: list[float] = field(default_factory=list)  # s, belief stamps of `executed`
    holds: int = 0  # of `executed`
    posteriors: list[Sent] = field(default_factory=list)  # stamp: of the newest frame in it
    plans: list[Sent] = field(default_factory=list)  # stamp: of the belief
    plan_ms: list[float] = field(default_factory=list)  # of `plans`
    swap_ms: list[float] = field(default_factory=list)  # of `plans`: the last swap before
    perception_ms: list[float] = field(default_factory=list)
    update_ms: list[float] = field(default_factory=list)  # statistics and structure
    frames_dropped: int = 0  # by the learner: a newer one was there first


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """{"p50", "p99"} of `values`; None without any."""
    finite = np.array([v for v in values if np.isfinite(v)])
    if finite.size == 0:
        return {"p50": None, "p99": None}
    return {"p50": float(np.percentile(finite, 50)), "p99": float(np.percentile(finite, 99))}


def camera_to_command(traffic: Traffic) -> list[float]:
    """ms from sending an image to sending the first command that answers it, for the images that got one."""
    answer: dict[float, float] = {}
    for command in traffic.commands:
        answer.setdefault(round(command.stamp, 6), command.sent)
    images = ((image.sent, answer.get(round(image.stamp, 6))) for image in traffic.images)
    return [1e3 * (then - sent) for sent, then in images if then is not None]


def camera_to_motion(traffic: Traffic) -> list[float]:
    """ms on the loop's clock from a picture's stamp to the beginning of the motion that answers it."""
    pairs = zip(traffic.executed, traffic.answered, strict=True)
    return [1e3 * (command.stamp - seen) for command, seen in pairs if 0 <= command.stamp - seen < 10]


def camera_to_weights(traffic: Traffic) -> list[float]:
    """ms from sending an image to the first plan that begins with weights in which its datum is.

    A posterior holds all frames up to its stamp. Frames that the learner dropped, and those after the last plan with
    new weights, have none.
    """
    used: dict[int, float] = {}  # version -> s, when the first plan with it began
    for plan, took in zip(traffic.plans, traffic.plan_ms, strict=True):
        used.setdefault(plan.version, plan.sent - 1e-3 * took)
    versions = sorted(used)
    made = sorted(traffic.posteriors, key=lambda posterior: posterior.stamp)
    stamps = [posterior.stamp for posterior in made]
    found = []
    for image in traffic.images:
        first = bisect_left(stamps, image.stamp - 1e-6)
        if first == len(made):
            continue
        later = bisect_left(versions, made[first].version)
        if later < len(versions):
            found.append(1e3 * (used[versions[later]] - image.sent))
    return found


def camera_to_posterior(traffic: Traffic) -> list[float]:
    """ms from sending an image to sending the first posterior that holds it."""
    made = sorted(traffic.posteriors, key=lambda posterior: posterior.stamp)
    stamps = [posterior.stamp for posterior in made]
    firsts = ((image, bisect_left(stamps, image.stamp - 1e-6)) for image in traffic.images)
    return [1e3 * (made[first].sent - image.sent) for image, first in firsts if first < len(made)]


def swaps(traffic: Traffic) -> list[float]:
    """ms of each swap of weights."""
    pairs = zip(traffic.plans, traffic.plans[1:], traffic.swap_ms[1:], strict=False)
    return [took for before, after, took in pairs if after.version != before.version]


def missed_ticks(starts: Sequence[float], period: float) -> tuple[int, int]:
    """(ticks, missed): control ticks between the first and the last command's beginning, and those without one."""
    stamps = np.unique(np.asarray(starts, float))
    if stamps.size < 2:
        return stamps.size, 0
    gaps = np.diff(stamps)
    late = gaps[gaps > LATE * period]
    return round(float(stamps[-1] - stamps[0]) / period) + 1, int((np.round(late / period) - 1).sum())


def figures(traffic: Traffic, period: float) -> dict[str, Any]:
    """Everything that is told of a loop with this control period, s. Latencies in ms: {p50, p99}."""
    ticks, missed = missed_ticks([command.stamp for command in traffic.executed], period)
    intervals = [1e3 * (b.sent - a.sent) for a, b in itertools.pairwise(traffic.plans)]
    answered = len({round(plan.stamp, 6) for plan in traffic.plans} & {round(i.stamp, 6) for i in traffic.images})
    return {
        "period": period,
        "ticks": ticks,
        "missed": missed,
        "missed_share": missed / ticks if ticks else None,
        "held": traffic.holds,
        "frames": len(traffic.images),
        "frames_planned_from": answered,
        "frames_dropped": traffic.frames_dropped,
        "posteriors": len(traffic.posteriors),
        "plans": len(traffic.plans),
        "latency_ms": {
            "camera_to_command": percentiles(camera_to_command(traffic)),
            "camera_to_motion": percentiles(camera_to_motion(traffic)),
            "camera_to_posterior": percentiles(camera_to_posterior(traffic)),
            "camera_to_weights": percentiles(camera_to_weights(traffic)),
            "perception": percentiles(traffic.perception_ms),
            "update": percentiles(traffic.update_ms),
            "plan": percentiles(traffic.plan_ms),
            "plan_interval": percentiles(intervals),
            "swap": percentiles(swaps(traffic)),
        },
    }
