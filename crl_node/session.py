"""One simulated run from start to end: `crl sim` without its display."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from crl_node import __version__
from crl_node.parameter_spec import ParameterError
from crl_node.shared_memory import OwnFiles
from crl_node.status import Status
from crl_node.supervisor import NodeFailedError, Supervisor
from crl_node.system import (
    RESPAWNED,
    DomainLease,
    NodeSpec,
    SimOptions,
    lease_domain,
    node_command,
    nodes,
    read_params_file,
    ros_environment,
)

if TYPE_CHECKING:
    from crl_node.nodes.status import StatusListener

#: Simulated time that stands still for this long while everything is active means that the loop is stuck, s.
STALL = 120.0
#: How long nodes may take to come up, s.
BRING_UP = 300.0
#: After the last tick: time for the last frame's belief, posterior and bag entry to be made, s.
_SETTLE = 1.0
_PACKAGES = (
    "numpy", "scipy", "torch", "onnx", "onnxruntime-gpu", "onnxruntime", "pybullet", "pin", "pin-pink", "mcap",
    "rosbags", "ros-jazzy-rclpy", "ros-jazzy-rmw-fastrtps-cpp",
)  # fmt: skip


class Outcome(Enum):
    """How a run ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    FAILED = "failed"


@dataclass
class Session:
    """`prepare` checks everything that can be checked before a process starts; `run` then runs it."""

    options: SimOptions
    namespace: str = ""
    params_file: Path | None = None
    log_level: str = "info"
    domain_id: int | None = None
    resume: bool = False
    commands: dict[str, list[str]] = field(default_factory=dict)
    started: float = 0.0  # monotonic s
    restarts: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # run.json

    @property
    def out(self) -> Path:
        return Path(self.options.out).absolute()

    def prepare(self) -> None:
        """Raise ParameterError or WorldError, a sentence, when the user's input or the installation will not do."""
        for module in ("rclpy", "crl_interfaces"):
            if importlib.util.find_spec(module) is None:
                raise ParameterError(f"the Python module '{module}' is not installed; run 'make venv' ('crl doctor')")
        specs = self._specs()
        if self.params_file is not None:
            read_params_file(self.params_file)
            self.params_file = self.params_file.absolute()
        self.commands = {
            spec.name: node_command(
                spec, namespace=self.namespace, params_file=self.params_file, log_level=self.log_level
            )
            for spec in specs
        }
        if (self.out / "run.json").exists() and not self.resume:
            raise ParameterError(
                f"{self.out} already holds a run; name another folder with --out, or go on with it with --resume"
            )
        if self.out.exists() and not self.out.is_dir():
            raise ParameterError(f"{self.out} is a file; --out names the folder the run is written to")

    def _specs(self) -> list[NodeSpec]:
        return nodes(self.options)

    def _keep_inputs(self) -> str:
        """Copy into the run's folder what the run was made from; the world's name."""
        from crl_node.simulator.world import load_world, world_text

        (self.out / "world.yaml").write_text(world_text(self.options.world), encoding="utf-8")
        return load_world(self.options.world).name

    def _environment(self, domain_id: int) -> dict[str, str]:
        return ros_environment(domain_id, run_dir=self.out)

    def _lease(self) -> DomainLease:
        return lease_domain(self.domain_id)

    def run(self, on_update: Callable[[Status], None], on_event: Callable[[str], None]) -> Outcome:
        """Run until the simulated time is over or a signal comes; NodeFailedError when a node ends or cannot start."""
        (self.out / "logs").mkdir(parents=True, exist_ok=True)
        world = self._keep_inputs()
        lease = self._lease()
        environment = self._environment(lease.domain_id)
        os.environ.update(environment)  # for the listener in this process
        self._write_first(world, lease.domain_id)
        signals: list[int] = []

        def on_signal(number: int, frame: FrameType | None) -> None:
            signals.append(number)
            on_event("stopping; once more kills the nodes" if len(signals) == 1 else "killing the nodes")

        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, on_signal) for number in handled}
        self.started = time.monotonic()
        supervisor = Supervisor(
            self.commands,
            environment=environment,
            logs=self.out / "logs",
            domain=lease.domain_id,
            on_event=on_event,
        )
        listener: StatusListener | None = None
        own = OwnFiles()
        outcome, text = Outcome.FAILED, ""
        try:
            supervisor.start()
            from crl_node.nodes.status import StatusListener

            listener = StatusListener(lease.domain_id, self.namespace)
            outcome = self._watch(supervisor, listener, signals, on_update)
            self._take_down(supervisor, listener, signals)
        except NodeFailedError as error:
            text = str(error)
            raise
        finally:
            supervisor.stop()
            own.look()
            if listener is not None:
                listener.close()
            own.remove(known=supervisor.files, domain=lease.domain_id)
            self._write_last(outcome, text, supervisor, listener.status if listener else Status())
            for number, handler in before.items():
                signal.signal(number, handler)
            lease.release()
        return outcome

    def _time(self, status: Status) -> float:
        """How far the run is, s."""
        return status.time

    def _watch(
        self,
        supervisor: Supervisor,
        listener: StatusListener,
        signals: list[int],
        on_update: Callable[[Status], None],
    ) -> Outcome:
        """Look after everything until the end of the run."""
        status, seconds = listener.status, self.options.seconds
        last_time, last_change = -1.0, time.monotonic()
        while not signals:
            listener.spin(0.1)
            supervisor.poll()
            self.restarts = supervisor.restarts
            on_update(status)
            now = time.monotonic()
            for name in RESPAWNED:
                # Killed and started again, a node is unknown until the manager has seen it: once is enough.
                if status.node_states.get(name) == "silent":
                    status.node_states[name] = "unknown"
                    supervisor.restart(name, "does not answer")
            if status.phase == "failed":
                raise NodeFailedError(f"{status.phase_note}. {self._end_of_logs(supervisor, status)}")
            done = self._time(status)
            if 0 < seconds <= done + 1e-6:
                listener.spin(_SETTLE)
                return Outcome.FINISHED
            if done != last_time:
                last_time, last_change = done, now
            limit = STALL if status.phase == "running" else BRING_UP
            if now - last_change > limit and self.options.autostart:
                raise NodeFailedError(
                    f"nothing has moved for {limit:.0f} s: the system is {status.phase}, its time stands at "
                    f"{done:.2f} s, nodes are "
                    f"{', '.join(f'{n} {s}' for n, s in status.node_states.items()) or 'unknown'}. The logs are in "
                    f"{self.out / 'logs'}"
                )
        return Outcome.INTERRUPTED if signals[0] == signal.SIGINT else Outcome.TERMINATED

    def _take_down(self, supervisor: Supervisor, listener: StatusListener, signals: list[int]) -> None:
        """Deactivate and clean up through the manager, so that the arm holds before anything else ends."""
        already = len(signals)
        if not listener.node.request_shutdown():
            return
        deadline = time.monotonic() + 20.0
        while listener.status.phase not in ("stopped", "failed") and time.monotonic() < deadline:
            listener.spin(0.1)
            if len(signals) > max(already, 1):
                supervisor.kill_now()
                return

    def _end_of_logs(self, supervisor: Supervisor, status: Status) -> str:
        named = [child for child in supervisor.children if f"'{child.name}'" in status.phase_note]
        return "\n".join(f"The end of {child.log}:\n{child.log_end()}" for child in named)

    # -- run.json -------------------------------------------------------------------------------------------------

    def _mode(self) -> str:
        return "lockstep" if self.options.lockstep else f"real time x {self.options.rtf:g}"

    def _write_first(self, world: str, domain_id: int) -> None:
        options = self.options
        mode = self._mode()
        self.facts = {
            "world": world,
            "world_file": "world.yaml" if (self.out / "world.yaml").exists() else None,
            "seed": options.seed,
            "policy": options.policy,
            "seconds": options.seconds,
            "mode": mode,
            "robot": options.robot,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "outcome": "running",
            "ros_domain_id": domain_id,
            "options": {key: str(v) if isinstance(v, Path) else v for key, v in asdict(options).items()},
            "commands": self.commands,
            "versions": versions(),
        }
        self._save()

    def _write_last(self, outcome: Outcome, text: str, supervisor: Supervisor, status: Status) -> None:
        self.facts |= {
            "ended": datetime.now(UTC).isoformat(timespec="seconds"),
            "outcome": outcome.value,
            "error": text,
            "simulated_seconds": status.time,
            "wall_seconds": round(time.monotonic() - self.started, 2),
            "peak_memory_mb": supervisor.peak_memory_mb,
            "restarts": supervisor.restarts,
        }
        self._save()

    def _save(self) -> None:
        partial = self.out / "run.json.part"
        partial.write_text(json.dumps(self.facts, indent=2) + "\n")
        partial.replace(self.out / "run.json")


def versions() -> dict[str, str]:
    """Versions of everything a result depends on."""
    found = {"crl_node": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
