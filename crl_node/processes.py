"""What a process uses, read from /proc: memory, file descriptors, threads; and whether that grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Usage:
    """One look at one process."""

    rss: int  # bytes, resident set
    descriptors: int  # open file descriptors
    threads: int


@dataclass(frozen=True)
class Growth:
    """How a quantity went over a run: the median of its last tenth against that of the tenth after the warm-up."""

    first: float
    last: float

    @property
    def share(self) -> float:
        """(last - first) / first; 0 when there was nothing to begin with and nothing at the end."""
        return 0.0 if self.first == self.last else (self.last - self.first) / max(self.first, 1.0)


def usage(pid: int) -> Usage | None:
    """What `pid` uses now; None when it is gone."""
    process = Path("/proc") / str(pid)
    try:
        fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
        descriptors = sum(1 for _ in (process / "fd").iterdir())
        return Usage(int(fields["VmRSS"].split()[0]) * 1024, descriptors, int(fields["Threads"]))
    except (OSError, KeyError, ValueError):  # it ended while it was looked at (a zombie has no VmRSS)
        return None


def growth(values: Sequence[float], *, warm_up: float = 0.2) -> Growth:
    """Growth of `values`, taken at equal distances; the first `warm_up` share of them does not count.

    ValueError with fewer than ten values: there is no telling then.
    """
    if len(values) < 10:
        raise ValueError(f"{len(values)} values are too few to tell growth from (10 at least)")
    kept = np.asarray(values[int(warm_up * len(values)) :], float)
    tenth = max(1, len(kept) // 10)
    return Growth(float(np.median(kept[:tenth])), float(np.median(kept[-tenth:])))
