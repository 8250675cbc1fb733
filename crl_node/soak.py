"""A soak: the whole system through its lifecycle many times, and then for hours, with what it uses watched.

Real nodes as processes, as in `crl sim`. What counts is growth after a warm-up: resident memory, file descriptors and
threads of every node, and the files of the run in /dev/shm.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from crl_node import shared_memory
from crl_node.processes import Usage, growth, usage
from crl_node.supervisor import NodeFailedError, Supervisor
from crl_node.system import SimOptions, lease_domain, node_command, nodes, ros_environment

if TYPE_CHECKING:
    from crl_node.nodes.status import StatusListener

#: A phase that does not come within this time will not come, s.
PATIENCE = 180.0
#: How often the nodes are looked at while the loop runs, s.
LOOK_EVERY = 10.0


@dataclass(frozen=True)
class Bounds:
    """What counts as growth."""

    rss: float = 0.01  # share of the resident memory after the warm-up
    rss_floor: float = 1e6  # bytes: less than this is not called growth of a small process
    descriptors: int = 0
    threads: int = 0
    shm_files: int = 0


@dataclass
class Sample:
    """One look at everything."""

    time: float  # s since the start, or number of the cycle
    nodes: dict[str, Usage]
    shm_files: int
    shm_bytes: int


@dataclass
class Series:
    """Samples of one part of the soak and what is said of them."""

    name: str
    samples: list[Sample] = field(default_factory=list)

    def verdict(self, bounds: Bounds) -> dict[str, Any]:
        """Growth by node and quantity, and the sentences about what went out of bounds."""
        found: dict[str, Any] = {"samples": len(self.samples), "nodes": {}, "problems": []}
        problems: list[str] = found["problems"]
        if len(self.samples) < 10:
            problems.append(f"{self.name}: {len(self.samples)} samples are too few to tell growth from")
            return found
        for name in self.samples[-1].nodes:
            seen = [s.nodes[name] for s in self.samples if name in s.nodes]
            if len(seen) < len(self.samples):
                problems.append(f"{self.name}: {name} was not there in {len(self.samples) - len(seen)} samples")
            if len(seen) < 10:
                continue
            memory = growth([u.rss for u in seen])
            entry: dict[str, Any] = {
                "rss_mb": [round(memory.first / 1e6, 1), round(memory.last / 1e6, 1)],
                "rss_growth": round(memory.share, 5),
            }
            if memory.share > bounds.rss and memory.last - memory.first > bounds.rss_floor:
                problems.append(f"{self.name}: memory of {name} grew by {100 * memory.share:.2f} %")
            for quantity, most in (("descriptors", bounds.descriptors), ("threads", bounds.threads)):
                change = growth([getattr(u, quantity) for u in seen])
                entry[quantity] = [change.first, change.last]
                if change.last - change.first > most:
                    problems.append(f"{self.name}: {quantity} of {name} went from {change.first:g} to {change.last:g}")
            found["nodes"][name] = entry
        files = growth([s.shm_files for s in self.samples])
        found["shm_files"] = [files.first, files.last]
        if files.last - files.first > bounds.shm_files:
            problems.append(f"{self.name}: files in /dev/shm went from {files.first:g} to {files.last:g}")
        return found


class Interrupted(Exception):  # noqa: N818 - not an error
    """The user has seen enough."""


class Soak:
    """Runs the system and watches it; `say` gets a line now and then."""

    def __init__(
        self, options: SimOptions, loop: Bounds, lifecycle: Bounds, say: Callable[[str], None]
    ) -> None:
        """`loop` and `lifecycle` bound what may grow in each part."""
        self.options, self.say = options, say
        self.bounds = {"loop": loop, "lifecycle": lifecycle}
        self.out = Path(options.out).absolute()
        self._began = 0.0
        self._stop: list[int] = []

    def run(self, cycles: int, seconds: float) -> dict[str, Any]:
        """`cycles` times through the lifecycle, then `seconds` of real time in the loop; the figures as JSON."""
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        lease = lease_domain()
        environment = ros_environment(lease.domain_id, run_dir=self.out)
        os.environ.update(environment)
        commands = {spec.name: node_command(spec) for spec in nodes(self.options)}
        supervisor = Supervisor(
            commands, environment=environment, logs=self.out / "logs", domain=lease.domain_id, on_event=self.say
        )
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        lifecycle, loop = Series("lifecycle"), Series("loop")
        result: dict[str, Any] = {"options": {k: str(v) for k, v in asdict(self.options).items()}, "outcome": "failed"}
        self._began = time.monotonic()
        listener: StatusListener | None = None
        own = shared_memory.OwnFiles()
        try:
            supervisor.start()
            from crl_node.nodes.status import StatusListener

            listener = StatusListener(lease.domain_id)
            self._cycles(supervisor, listener, lifecycle, cycles)
            self._loop(supervisor, listener, loop, seconds)
            result["outcome"] = "finished"
        except Interrupted:
            result["outcome"] = "interrupted"
        except NodeFailedError as error:
            result["error"] = str(error)
        finally:
            supervisor.stop()
            own.look()
            if listener is not None:
                listener.close()
            own.remove(known=supervisor.files, domain=lease.domain_id)
            for number, handler in before.items():
                signal.signal(number, handler)
            lease.release()
        return self._result(result, supervisor, (lifecycle, cycles), (loop, seconds))

    def _result(
        self, result: dict[str, Any], supervisor: Supervisor, *parts: tuple[Series, float]
    ) -> dict[str, Any]:
        problems = [result["error"]] if "error" in result else []
        for series, wanted in parts:
            if wanted > 0:
                result[series.name] = series.verdict(self.bounds[series.name])
                problems += result[series.name]["problems"]
                result[series.name]["series"] = [asdict(sample) for sample in series.samples]
        result |= {
            "seconds": round(time.monotonic() - self._began, 1),
            "restarts": supervisor.restarts,
            "problems": problems,
        }
        problems += [f"{name} was started again {n} times" for name, n in supervisor.restarts.items() if n]
        (self.out / "soak.json").write_text(json.dumps(result, indent=1) + "\n")
        return result

    # -- parts --------------------------------------------------------------------------------------------------------

    def _cycles(self, supervisor: Supervisor, listener: StatusListener, series: Series, cycles: int) -> None:
        """Configure, activate, deactivate, clean up; looked at while everything is unconfigured."""
        if not cycles:
            return
        for cycle in range(cycles):
            self._wait(supervisor, listener, "running", lambda: True)
            self._wait(supervisor, listener, "stopped", listener.node.request_shutdown)
            series.samples.append(self._sample(supervisor, cycle + 1.0))
            if (cycle + 1) % 5 == 0 or cycle == 0:
                self.say(f"lifecycle {cycle + 1} of {cycles}: {self._words(series)}")
            if cycle + 1 < cycles:
                self._ask(supervisor, listener, listener.node.request_startup)

    def _loop(self, supervisor: Supervisor, listener: StatusListener, series: Series, seconds: float) -> None:
        if seconds <= 0:
            return
        if listener.status.phase == "stopped":
            self._ask(supervisor, listener, listener.node.request_startup)
        self._wait(supervisor, listener, "running", lambda: True)
        began = looked = said = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            self._serve(supervisor, listener)
            if now - looked >= LOOK_EVERY:
                looked = now
                series.samples.append(self._sample(supervisor, now - began))
            if series.samples and now - said >= 60.0:
                said = now
                self.say(
                    f"{(now - began) / 60:.0f} of {seconds / 60:.0f} min, {listener.status.transitions} steps learned, "
                    f"{listener.status.commands} commands ({listener.status.holds} holds): {self._words(series)}"
                )
        self._wait(supervisor, listener, "stopped", listener.node.request_shutdown)

    # -- helpers ------------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop.append(number)

    def _serve(self, supervisor: Supervisor, listener: StatusListener) -> None:
        listener.spin(0.1)
        supervisor.poll()
        if self._stop:
            raise Interrupted
        if listener.status.phase == "failed":
            raise NodeFailedError(f"{listener.status.phase_note}; the logs are in {self.out / 'logs'}")

    def _ask(self, supervisor: Supervisor, listener: StatusListener, request: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not request():
            self._serve(supervisor, listener)
            if time.monotonic() > deadline:
                raise NodeFailedError(f"the manager did not answer for {PATIENCE:g} s")

    def _wait(
        self, supervisor: Supervisor, listener: StatusListener, phase: str, request: Callable[[], bool]
    ) -> None:
        """Ask with `request`, then serve until the system is in `phase`."""
        self._ask(supervisor, listener, request)
        deadline = time.monotonic() + PATIENCE
        while listener.status.phase != phase:
            self._serve(supervisor, listener)
            if time.monotonic() > deadline:
                raise NodeFailedError(
                    f"the system was not {phase} after {PATIENCE:g} s but {listener.status.phase} "
                    f"({listener.status.node_states}); the logs are in {self.out / 'logs'}"
                )

    def _sample(self, supervisor: Supervisor, when: float) -> Sample:
        found = {child.name: usage(child.pid) for child in supervisor.children if child.pid is not None}
        files: set[Path] = set()
        for child in supervisor.children:
            if child.pid is not None:
                files |= shared_memory.files_used_by(child.pid)
        size = 0
        for path in files:
            try:
                size += path.stat().st_blocks * 512
            except OSError:
                continue  # gone since
        return Sample(when, {name: u for name, u in found.items() if u is not None}, len(files), size)

    @staticmethod
    def _words(series: Series) -> str:
        first, last = series.samples[0], series.samples[-1]
        parts = []
        for name, now in last.nodes.items():
            began = first.nodes.get(name, now)
            parts.append(f"{name} {now.rss / 1e6:.0f} MB ({(now.rss - began.rss) / 1e6:+.1f}), {now.descriptors} fds")
        return f"{'; '.join(parts)}; {last.shm_files} files in /dev/shm"
