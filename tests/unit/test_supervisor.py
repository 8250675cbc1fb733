"""The supervisor starts, watches, respawns and ends processes, and leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from crl_node.supervisor import NodeFailedError, Supervisor, describe_exit

SLEEPER = "import signal, sys, time; print('up', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def make(tmp_path: Path, commands: dict[str, list[str]], **options: object) -> Supervisor:
    return Supervisor(commands, environment=dict(os.environ), logs=tmp_path / "logs", **options)  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def poll_until_it_fails(supervisor: Supervisor) -> None:
    def once() -> bool:
        supervisor.poll()
        return False

    eventually(once)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_stop_ends_willing_and_stubborn_processes(tmp_path: Path) -> None:
    events: list[str] = []
    supervisor = make(tmp_path, {"a": python(SLEEPER), "b": python(STUBBORN)}, on_event=events.append)
    supervisor.start()
    eventually(lambda: all("up" in child.log_end() for child in supervisor.children))
    pids = [child.pid for child in supervisor.children]
    supervisor.stop(interrupt=1.0, terminate=0.2)
    assert not any(alive(pid) for pid in pids if pid is not None)
    assert events == ["b did not stop when asked to and was killed"]


def test_a_grandchild_is_ended_too(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; "
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); print(child.pid, flush=True); time.sleep(600)"
    )
    supervisor = make(tmp_path, {"a": python(code)})
    supervisor.start()
    child = supervisor.children[0]
    eventually(lambda: child.log_end().split()[0].isdigit())
    grandchild = int(child.log_end().split()[0])
    supervisor.stop(interrupt=5.0, terminate=5.0)
    eventually(lambda: not alive(grandchild))


def test_the_end_of_a_node_fails_the_run_with_the_end_of_its_log(tmp_path: Path) -> None:
    supervisor = make(tmp_path, {"gate": python("import sys; print('the arm is on fire'); sys.exit(3)")})
    with supervisor, pytest.raises(NodeFailedError, match="(?s)gate ended with exit code 3.*the arm is on fire"):
        poll_until_it_fails(supervisor)


def test_the_learner_is_started_again_when_it_is_killed(tmp_path: Path) -> None:
    events: list[str] = []
    with make(tmp_path, {"learner": python(SLEEPER)}, on_event=events.append, early=0.0) as supervisor:
        child = supervisor.children[0]
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)

        def back() -> bool:
            supervisor.poll()
            return child.restarts == 1 and child.pid not in (None, first)

        eventually(back)
    assert events == ["learner was killed by SIGKILL; it is started again and goes on from its checkpoint"]
    assert supervisor.restarts == {"learner": 1}


def test_a_learner_that_keeps_dying_at_once_fails_the_run(tmp_path: Path) -> None:
    command = python("import sys; print('no such camera'); sys.exit(2)")
    with (
        make(tmp_path, {"learner": command}, backoff=0.0) as supervisor,
        pytest.raises(NodeFailedError, match="(?s)died 3 times within 5 s of its start.*no such camera"),
    ):
        poll_until_it_fails(supervisor)


def test_a_node_that_does_not_answer_is_ended_and_started_again(tmp_path: Path) -> None:
    events: list[str] = []
    with make(tmp_path, {"learner": python(SLEEPER), "gate": python(SLEEPER)}, early=0.0, on_event=events.append) as s:
        learner, gate = s.children
        eventually(lambda: "up" in learner.log_end())
        first, other = learner.pid, gate.pid
        s.restart("learner", "does not answer")
        s.restart("gate", "does not answer")  # which nobody starts again: its end is for the run to decide

        def back() -> bool:
            s.poll()
            return learner.restarts == 1 and learner.pid not in (None, first)

        eventually(back)
        assert gate.pid == other
    assert events[:2] == [
        "learner does not answer: it is ended",
        "learner was killed by SIGKILL; it is started again and goes on from its checkpoint",
    ]


def test_peak_memory_is_recorded(tmp_path: Path) -> None:
    with make(tmp_path, {"a": python(f"x = bytearray(80_000_000); {SLEEPER}")}, look_every=0.0) as supervisor:
        eventually(lambda: "up" in supervisor.children[0].log_end())
        supervisor.poll()
        assert supervisor.peak_memory_mb["a"] > 80


def test_nodes_end_when_their_supervisor_is_killed(tmp_path: Path) -> None:
    node = "from crl_node.supervisor import die_with_parent; die_with_parent(); " + SLEEPER
    parent = (
        "import os, sys, time; from pathlib import Path; from crl_node.supervisor import Supervisor; "
        f"s = Supervisor({{'a': [sys.executable, '-c', {node!r}]}}, environment=dict(os.environ), "
        f"logs=Path({str(tmp_path)!r})); s.start(); "
        "print(s.children[0].pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        eventually(lambda: "up" in (tmp_path / "a.log").read_text())
        process.kill()
    eventually(lambda: not alive(pid))


def test_exits_are_told_in_words() -> None:
    assert describe_exit(1) == "ended with exit code 1"
    assert describe_exit(-9) == "was killed by SIGKILL"
