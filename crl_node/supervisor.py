"""Starts the nodes as processes, watches them, and ends them so that nothing is left: no process, no shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crl_node import shared_memory

#: Set for every node: the process that started it. A node whose parent is another ends itself.
PARENT_VARIABLE = "CRL_NODE_PARENT"
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """For a node's process: get SIGTERM when the supervisor is gone, even by SIGKILL. Does nothing without one.

    A node that does not heed it is ended by the janitor.
    """
    given = os.environ.get(PARENT_VARIABLE, "")
    if not given.isdigit():
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(given):  # it died before prctl
        os._exit(1)


class NodeFailedError(RuntimeError):
    """A node the run cannot do without has ended; the text names it and the end of its log."""


@dataclass
class Child:
    """One supervised process."""

    name: str
    command: list[str]
    log: Path
    respawn: bool
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    early_deaths: int = 0  # in a row
    started: float = 0.0  # monotonic s
    start_again: float | None = None  # monotonic s
    peak_memory: int = 0  # bytes, largest resident set over all its lives
    shm: set[Path] = field(default_factory=set)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    def look(self) -> None:
        """Note peak memory and shared memory while it lives."""
        if self.pid is None:
            return
        self.shm |= shared_memory.files_used_by(self.pid)
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_memory = max(self.peak_memory, int(line.split()[1]) * 1024)

    def log_end(self, lines: int = 12) -> str:
        """The last lines of its log."""
        try:
            text = self.log.read_bytes()[-20_000:].decode(errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"


class Supervisor:
    """Start, `poll()` often, `stop()`; use it as a context manager so that an exception stops it too."""

    def __init__(
        self,
        commands: dict[str, list[str]],
        *,
        environment: dict[str, str],
        logs: Path,
        respawn: Sequence[str] = ("learner", "planner", "recorder"),
        domain: int | None = None,
        on_event: Callable[[str], None] = lambda text: None,
        early: float = 5.0,
        most_early_deaths: int = 3,
        backoff: float = 0.5,
        look_every: float = 1.0,
    ) -> None:
        """`commands` by node name, in starting order. `respawn`: nodes that are started again when they die.

        A respawned node that dies within `early` s for the `most_early_deaths`th time in a row fails the run.
        """
        self.environment = {**environment, PARENT_VARIABLE: str(os.getpid())}
        self.domain, self.on_event = domain, on_event
        self.early, self.most_early_deaths, self.backoff = early, most_early_deaths, backoff
        self.look_every, self._looked = look_every, 0.0
        self._janitor: subprocess.Popen[str] | None = None
        self._told: set[Path] = set()
        self.children = [
            Child(name, command, logs / f"{name}.log", name in respawn) for name, command in commands.items()
        ]
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start every node."""
        # Its stdin ends when this process does, however it ends; then it clears up (see `janitor.py`).
        domain = -1 if self.domain is None else self.domain
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "crl_node.janitor", str(os.getpid()), str(domain)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        for child in self.children:
            self._start(child)

    def _start(self, child: Child) -> None:
        with child.log.open("ab") as log:
            # Own session: a Ctrl-C in the terminal reaches the supervisor only, which then stops them in order.
            child.process = subprocess.Popen(
                child.command,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child.started, child.start_again = time.monotonic(), None

    def poll(self) -> None:
        """Look after the processes; NodeFailedError when one has ended that must not."""
        now = time.monotonic()
        if now - self._looked > self.look_every:
            self._looked = now
            self._look()
        for child in self.children:
            if child.start_again is not None:
                if now >= child.start_again:
                    child.restarts += 1
                    self._start(child)
                continue
            if child.process is not None and child.process.poll() is not None:
                self._ended(child, now)

    def _look(self) -> None:
        """Note memory and shared memory of all; the janitor is told what there is to clear up."""
        for child in self.children:
            child.look()
        files = set().union(*(child.shm for child in self.children), shared_memory.files_used_by(os.getpid()))
        if self._janitor is not None and self._janitor.stdin is not None and files - self._told:
            try:
                self._janitor.stdin.write("".join(f"{path}\n" for path in sorted(files - self._told)))
                self._janitor.stdin.flush()
            except OSError:
                self._janitor = None  # somebody killed it: the run does not need it
        self._told |= files

    def _ended(self, child: Child, now: float) -> None:
        assert child.process is not None
        how = describe_exit(child.process.returncode)
        early = now - child.started < self.early
        child.early_deaths = child.early_deaths + 1 if early else 0
        if not child.respawn:
            raise NodeFailedError(f"{child.name} {how}. The end of {child.log}:\n{child.log_end()}")
        if child.early_deaths >= self.most_early_deaths:
            raise NodeFailedError(
                f"{child.name} {how}: it died {child.early_deaths} times within {self.early:g} s of its start. "
                f"The end of {child.log}:\n{child.log_end()}"
            )
        child.start_again = now + self.backoff * 2 ** min(child.early_deaths, 4) if early else now
        how_on = " and goes on from its checkpoint" if child.name == "learner" else ""
        self.on_event(f"{child.name} {how}; it is started again{how_on}")

    def restart(self, name: str, why: str) -> None:
        """End the respawned node `name` by SIGKILL, because it does not answer; `poll` starts it again.

        Does nothing for one that cannot be respawned, or that was started less than `early` s ago.
        """
        for child in self.children:
            if child.name == name and child.respawn and child.process is not None and child.pid is not None:
                if time.monotonic() - child.started < self.early:
                    return
                child.look()
                self.on_event(f"{name} {why}: it is ended")
                child.process.kill()

    def stop(self, *, interrupt: float = 15.0, terminate: float = 5.0) -> None:
        """End all: SIGINT, after `interrupt` s SIGTERM, after `terminate` s SIGKILL to the whole process group."""
        self._look()
        for child in self.children:
            child.start_again = None
        for number, patience in ((signal.SIGINT, interrupt), (signal.SIGTERM, terminate), (signal.SIGKILL, 5.0)):
            alive = [child for child in self.children if child.pid is not None and child.process is not None]
            for child in alive:
                if number == signal.SIGKILL:
                    self.on_event(f"{child.name} did not stop when asked to and was killed")
                if child.process is not None and child.process.poll() is None:
                    child.process.send_signal(number)
            deadline = time.monotonic() + patience
            for child in alive:
                try:
                    if child.process is not None:
                        child.process.wait(timeout=max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue
        for child in self.children:  # what a node may have started itself
            if child.process is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process.pid, signal.SIGKILL)
        shared_memory.remove_abandoned(known=self._told, domain=self.domain)
        if self._janitor is not None:
            janitor, self._janitor = self._janitor, None
            try:
                janitor.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                janitor.kill()
                janitor.wait()

    @property
    def files(self) -> set[Path]:
        """Shared memory that the nodes, and this process for them, have used so far."""
        return self._told

    def kill_now(self) -> None:
        """SIGKILL to all at once."""
        self.stop(interrupt=0.0, terminate=0.0)

    @property
    def peak_memory_mb(self) -> dict[str, float]:
        """Largest resident set of each node so far, MB."""
        return {child.name: round(child.peak_memory / 1e6, 1) for child in self.children}

    @property
    def restarts(self) -> dict[str, int]:
        """How often each node was started again."""
        return {child.name: child.restarts for child in self.children}


def describe_exit(code: int) -> str:
    """'ended with exit code 1', 'was killed by SIGKILL'."""
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with exit code {code}"
