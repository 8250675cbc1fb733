"""Looks at model and checkpoint files of foreign origin in a process that may die.

Parsers of ONNX, protobuf, zip and npy are large, and a file made to break them breaks the process it is opened in. So
a file's bytes go to a child first, which forks for each, bounds its memory and time, parses, builds what it describes
and runs it once. Only when all of that went well does the caller open the same bytes. The child is
`python -m crl_node.quarantine`; it reads a line (kind, size, limits) and the bytes from stdin, and answers with a line
of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

#: Limits of one look: address space beyond what the imported libraries take [bytes], processor time, real time [s].
MEMORY, PROCESSOR_SECONDS, REAL_SECONDS = 2 * 1024**3, 30, 60.0
#: How long the child may take to import its libraries, s.
START_SECONDS = 120.0
#: Nothing of ours is larger [bytes].
SIZE_LIMIT = 256 * 1024 * 1024
KINDS = ("model", "checkpoint")


class QuarantineError(ValueError):
    """A file that must not be opened here; the text says what became of the child that did."""


class Quarantine:
    """The child, started on first use and again after it has died. Use as a context manager."""

    def __init__(self, *, memory: int = MEMORY, seconds: float = REAL_SECONDS) -> None:
        self.memory, self.seconds = memory, seconds
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process, None when it does not run."""
        return None if self._child is None else self._child.pid

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        child.wait()

    def examine(self, data: bytes, kind: str, name: str = "file") -> dict[str, Any]:
        """What the child says of `data`; QuarantineError, a sentence, when it may not be opened."""
        if kind not in KINDS:
            raise ValueError(f"kind is '{kind}', it must be one of {', '.join(KINDS)}")
        if len(data) > SIZE_LIMIT:
            raise QuarantineError(f"{kind} {name} has {len(data)} bytes, at most {SIZE_LIMIT} are looked at")
        child = self._started()
        assert child.stdin is not None and child.stdout is not None
        try:
            child.stdin.write(f"{kind} {len(data)} {self.memory} {self.seconds}\n".encode())
            child.stdin.write(data)
            child.stdin.flush()
            ready, _, _ = select.select([child.stdout], [], [], START_SECONDS + self.seconds)
            answer = child.stdout.readline() if ready else b""
        except OSError:
            answer = b""
        if not answer:
            code = child.poll()
            self.close()
            raise QuarantineError(f"{kind} {name}: the process that looked at it gave no answer (exit code {code})")
        result: dict[str, Any] = json.loads(answer)
        if not result["ok"]:
            raise QuarantineError(f"{kind} {name}: {result['problem']}")
        return result

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "crl_node.quarantine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return self._child


def read_examined(path: str | Path, kind: str) -> bytes:
    """The bytes of `path` after a child has opened them unharmed; QuarantineError otherwise. Takes about a second."""
    path = Path(path)
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise QuarantineError(f"{kind} {path} has {path.stat().st_size} bytes, at most {SIZE_LIMIT} are read")
        data = path.read_bytes()
    except OSError as error:
        raise QuarantineError(f"{kind} {path} cannot be read: {error.strerror}") from error
    with Quarantine() as quarantine:
        quarantine.examine(data, kind, str(path))
    return data


# -- the child --------------------------------------------------------------------------------------------------------


def _look_at_model(data: bytes) -> dict[str, Any]:
    """Parse, check, build a session, plan once: nothing of it may fail, and all numbers must be finite."""
    import numpy as np

    from crl_node.curiosity.session import PlanSession

    session = PlanSession("in quarantine", provider="cpu", data=data)
    for name, value in session.warm().items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError(f"its output '{name}' is not finite")
    return {"hash": session.info.hash, "version": session.info.posterior_version}


def _look_at_checkpoint(data: bytes) -> dict[str, Any]:
    from crl_node.checkpoint import read_arrays
    from crl_node.world_model import WorldModel

    model = WorldModel.from_arrays(read_arrays("in quarantine", data), "in quarantine")
    return {"hash": model.posterior().hash, "step": model.step}


_LOOKS: dict[str, Callable[[bytes], dict[str, Any]]] = {"model": _look_at_model, "checkpoint": _look_at_checkpoint}


def _import(kind: str) -> None:
    """Before the fork, so that it is paid once."""
    if kind == "model":
        import onnx.numpy_helper  # noqa: F401

        import crl_node.curiosity.session
    else:
        import crl_node.world_model  # noqa: F401


def _grandchild(kind: str, data: bytes, memory: int, answer: int) -> None:
    """Bounded, and its end ends nobody else. Writes its answer into the pipe `answer`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # it has nothing to write
    try:
        result = {"ok": True, **_LOOKS[kind](data)}
    except BaseException as error:  # whatever it is, it is told and this process ends
        result = {"ok": False, "problem": f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"}
    os.write(answer, json.dumps(result).encode())


def _look(kind: str, data: bytes, memory: int, seconds: float) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            _grandchild(kind, data, memory, writing)
        finally:
            os._exit(0)
    os.close(writing)
    deadline, text = time.monotonic() + seconds, b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reading], [], [], left)[0]:
            break
        piece = os.read(reading, 65536)
        if not piece:
            break
        text += piece
    os.close(reading)
    late = time.monotonic() >= deadline
    if late:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if late:
        return {"ok": False, "problem": f"looking at it took longer than {seconds:g} s; the child was killed"}
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return {"ok": False, "problem": f"the child that looked at it was killed by {name}"}
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"ok": False, "problem": "the child that looked at it ended without a word"}
    return found


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    while header := requests.readline():
        kind, size, memory, seconds = header.split()
        data = requests.read(int(size))
        _import(kind.decode())
        answers.write(json.dumps(_look(kind.decode(), data, int(memory), float(seconds))).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    serve(sys.stdin.buffer, sys.stdout.buffer)
