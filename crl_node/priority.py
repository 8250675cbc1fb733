"""Who gives way when the processor is short: control goes before learning and recording."""

from __future__ import annotations

import os
from pathlib import Path


def give_way(niceness: int) -> str:
    """Run all threads of this process at `niceness` (0 to 19) from now on; what could not be done, a sentence.

    Threads begun later inherit it. Linux weighs sessions before it weighs processes (man 7 sched, "The autogroup
    feature"), so the process that leads a session, as `crl` starts its nodes, says it of the session too; under
    `ros2 launch` nodes share one and their own niceness is what counts.
    """
    if not niceness:
        return ""
    try:
        for task in Path("/proc/self/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), niceness)
        group = Path("/proc/self/autogroup")
        if os.getsid(0) == os.getpid() and group.exists():
            group.write_text(str(niceness))
    except OSError as error:
        return f"cannot give way to others (niceness {niceness}): {error}"
    return ""
