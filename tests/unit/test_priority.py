"""Control goes before learning: a process that gives way does so with all its threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from crl_node.parameter_spec import read_specs
from crl_node.paths import share

SCRIPT = """
import os, threading
from pathlib import Path
from crl_node.priority import give_way

stop = threading.Event()
before = threading.Thread(target=stop.wait)
before.start()
print(give_way({niceness}))
after = threading.Thread(target=stop.wait)
after.start()
print(sorted({{os.getpriority(os.PRIO_PROCESS, int(t.name)) for t in Path("/proc/self/task").iterdir()}}))
group = Path("/proc/self/autogroup")
print(group.read_text().split()[-1] if group.exists() and group.read_text().strip() else "none")
stop.set()
"""


def said(niceness: int, *, leads: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(niceness=niceness)], capture_output=True, text=True, check=True,
        start_new_session=leads,
    )  # fmt: skip
    return done.stdout.splitlines()


def test_threads_of_before_and_after_give_way_and_so_does_the_session_of_its_own() -> None:
    problem, levels, group = said(7, leads=True)
    assert problem == ""
    assert levels == "[7]"
    assert group in ("7", "none")


def test_a_process_that_shares_its_session_leaves_the_others_in_it_alone() -> None:
    here = Path("/proc/self/autogroup")
    before = here.read_text() if here.exists() else ""
    _, levels, _ = said(7, leads=False)
    assert levels == "[7]"
    assert (here.read_text() if here.exists() else "") == before


def test_0_changes_nothing() -> None:
    _, levels, _ = said(0, leads=True)
    assert levels == f"[{os.getpriority(os.PRIO_PROCESS, 0)}]"


@pytest.mark.parametrize("node", ["learner", "recorder"])
def test_who_gives_way_is_declared(node: str) -> None:
    assert read_specs(share() / "config" / "parameters" / f"{node}.yaml")["niceness"].default == 10


@pytest.mark.parametrize("node", ["gate", "planner", "sim"])
def test_control_gives_way_to_nobody(node: str) -> None:
    assert "niceness" not in read_specs(share() / "config" / "parameters" / f"{node}.yaml")
