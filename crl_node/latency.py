"""`crl bench latency`: the real loop at a control rate, with learning and recording on or off, timed from beside it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crl_node.evaluation.traffic import figures
from crl_node.parameter_spec import ParameterError
from crl_node.session import Outcome, Session
from crl_node.status import Status
from crl_node.system import NodeSpec, SimOptions, checked, nodes

if TYPE_CHECKING:
    from crl_node.nodes.traffic import TrafficListener

#: A loop that runs is let run so long before it is measured, simulated s: the first plans and posteriors are slow.
WARM_UP = 10.0
#: With learning off, s: statistics still add up, but the structure is judged, and weights are swapped, this seldom.
SELDOM = {"posterior_period": 10.0, "graph_period": 10.0}


@dataclass(frozen=True)
class Case:
    """One measurement."""

    rate: float  # Hz, of camera and control; a divisor of the physics' 240
    learning: bool = True  # else a posterior only every 10 s
    recording: bool = True
    seconds: float = 60.0  # simulated, after the warm-up
    world: str = "four_cubes"
    seed: int = 0
    policy: str = "curious"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{Path(self.world).stem}-{self.rate:g}Hz-{self.seconds:g}s-{self.words}"

    @property
    def words(self) -> str:
        """What is on."""
        on = [what for what, is_on in (("learning", self.learning), ("recording", self.recording)) if is_on]
        return "-".join(on) or "bare"


def world_at(case: Case, folder: Path) -> Path:
    """A copy of the case's world whose camera has the case's rate. ParameterError when its file has no such line."""
    from crl_node.simulator.world import load_world

    source = load_world(case.world).path
    text, count = re.subn(r"(?m)^(\s+rate:\s*)[0-9.]+", rf"\g<1>{case.rate:g}", source.read_text())
    if count != 1:
        raise ParameterError(f"{source}: the camera's 'rate' is not on a line of its own")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{source.stem}.yaml"
    path.write_text(text)
    load_world(path)
    return path


@dataclass
class LatencySession(Session):
    """A simulated run in real time, with a listener beside it from the end of the warm-up on."""

    case: Case = field(default_factory=lambda: Case(10.0))
    listener: TrafficListener | None = field(default=None, repr=False)
    warm: bool = False
    _since: float = field(default=0.0, repr=False)
    spent: tuple[dict[str, float], dict[str, float]] = ({}, {})  # processor s by node: when warm, and last
    measured: float = 0.0  # s of wall time since it was warm

    def _specs(self) -> list[NodeSpec]:
        case, kept = self.case, []
        for spec in nodes(self.options):
            changes: dict[str, Any] = {}
            if spec.name == "recorder" and not case.recording:
                continue
            if spec.name == "learner":
                changes = {"posterior_period": 0.5 / case.rate} if case.learning else dict(SELDOM)
            if spec.name == "manager" and not case.recording:
                changes = {"nodes": [name for name in spec.parameters["nodes"] if name != "recorder"]}
            kept.append(checked(replace(spec, parameters={**spec.parameters, **changes})) if changes else spec)
        return kept

    def watch(self, status: Status) -> None:
        """Begin to listen when the loop runs, and to count when it is warm."""
        if status.phase == "running" and self.listener is None:
            from crl_node.nodes.traffic import TrafficListener

            self.listener = TrafficListener(int(self.facts["ros_domain_id"]), self.namespace)
        if self.listener is not None and not self.warm and status.time >= WARM_UP:
            self.warm = True
            self.listener.node.forget()
            self.spent, self._since = (processor_time(), {}), time.monotonic()
        elif self.warm and status.phase == "running":
            self.spent, self.measured = (self.spent[0], processor_time()), time.monotonic() - self._since

    def shares(self) -> dict[str, float]:
        """Share of one core that each node took while it was measured."""
        before, after = self.spent
        elapsed = max(self.measured, 1e-9)
        return {name: round((after[name] - before[name]) / elapsed, 3) for name in after if name in before}


def processor_time() -> dict[str, float]:
    """Processor seconds, of itself and the kernel for it, of each node that is a child of this process."""
    found: dict[str, float] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it ended while it was looked at
        if int(fields[1]) == os.getpid() and "crl_node.nodes" in words:
            name = words[words.index("crl_node.nodes") + 1]
            found[name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def measure(case: Case, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the case; its figures. NodeFailedError, ParameterError: a sentence."""
    out = folder / case.name
    world = world_at(case, folder / "worlds" / f"{case.rate:g}Hz")
    options = SimOptions(
        out=out, seed=case.seed, policy=case.policy, world=str(world), seconds=WARM_UP + case.seconds, rtf=1.0
    )
    session = LatencySession(options, case=case)
    session.prepare()
    said, before = time.monotonic(), os.getloadavg()

    def on_update(status: Status) -> None:
        nonlocal said
        session.watch(status)
        if time.monotonic() - said >= 10.0:
            said = time.monotonic()
            say(f"{case.name}: {status.phase}, {max(status.time, 0):.0f} of {options.seconds:g} s, "
                f"{status.transitions} steps learned, {status.commands} commands")  # fmt: skip

    try:
        outcome = session.run(on_update, say)
    finally:
        if session.listener is not None:
            session.listener.close()
    if session.listener is None or not session.warm:
        raise ParameterError(f"{case.name} was {outcome.value} before it was warm; the logs are in {out / 'logs'}")
    result = figures(session.listener.node.traffic(), 1.0 / case.rate)
    return {
        "case": case.name, "rate": case.rate, "learning": case.learning, "recording": case.recording,
        "seconds": case.seconds, "world": case.world, "seed": case.seed, "policy": case.policy,
        "whole": outcome is Outcome.FINISHED, "restarts": sum(session.restarts.values()),
        "load_average": [before[0], os.getloadavg()[0]], "cores": os.cpu_count(),
        "processor": session.shares(), **result,
    }  # fmt: skip
