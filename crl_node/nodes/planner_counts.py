"""What the planner node counts, for /diagnostics."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crl_node.curiosity.planner import Planner

#: A tick without a command of its own is missed when this share of a period lies between two beginnings.
MISSED = 1.75


@dataclass
class PlannerCounts:
    """Since the node was configured."""

    sequence: int = 0  # of the last command
    ticks: int = 0  # commands sent
    missed: int = 0  # control periods without a command that begins
    continued: int = 0  # commands that went on with a plan because the next was not ready
    holds: int = 0
    refused: int = 0  # posteriors
    ignored: int = 0  # beliefs that came while not active
    plan_ms: deque[float] = field(default_factory=lambda: deque(maxlen=1000))

    def command(self, gap: float, hold: bool) -> None:
        """A command that begins `gap` periods after the last one; 0 for the first."""
        self.sequence += 1
        self.ticks += 1
        self.holds += hold
        self.missed += max(0, round(gap) - 1) if gap > MISSED else 0

    def values(self, planner: Planner) -> dict[str, Any]:
        """For /diagnostics."""
        p50, p99 = np.percentile(self.plan_ms, [50, 99]) if self.plan_ms else (np.nan, np.nan)
        session = planner.session
        return {
            "provider": planner.provider,
            "cuda_graph": session.cuda_graph,
            "provider_note": session.provider_note,
            "model": session.info.path,
            "model_hash": session.info.hash,
            "posterior_hash": planner.posterior.hash if planner.posterior is not None else "",
            "plan_ms_p50": f"{p50:.2f}",
            "plan_ms_p99": f"{p99:.2f}",
            "swap_ms": f"{session.swap_ms:.3f}",
            "swaps": session.swaps,
            "posterior_version": planner.version,
            "posteriors_refused": self.refused,
            "ticks": self.ticks,
            "missed": self.missed,
            "continued": self.continued,
            "holds": self.holds,
            "ignored": self.ignored,
            "gave_up": planner.gave_up,
        }
