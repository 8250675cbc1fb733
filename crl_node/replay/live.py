"""`crl replay --live`: the nodes of `launch/replay.launch.py` as supervised processes, until the bag is over."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

from crl_node.bags.metadata import COUNTS
from crl_node.parameter_spec import ParameterError
from crl_node.supervisor import NodeFailedError, Supervisor
from crl_node.system import (
    RESPAWNED,
    ReplayOptions,
    lease_domain,
    node_command,
    replay_nodes,
    ros_environment,
)

#: Real time between two looks at the processes, s.
_LOOK = 0.2


def run_live(
    options: ReplayOptions, *, params_file: Path | None = None, on_event: Callable[[str], None],
    on_progress: Callable[[int], None] = lambda beliefs: None,
) -> int:  # fmt: skip
    """Play the bag to a live learner; returns the number of a signal that ended it, 0 at the end of the bag.

    NodeFailedError when a node ends that must not; ParameterError, BagError, ReplayError about the input.
    """
    out = options.out.absolute()
    if out.exists() and any(out.iterdir()):
        raise ParameterError(f"{out} is not empty; name another folder with --out")
    commands = {spec.name: node_command(spec, params_file=params_file) for spec in replay_nodes(options)}
    (out / "logs").mkdir(parents=True, exist_ok=True)
    lease = lease_domain()
    got: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, frame: got.append(n)) for number in handled}
    supervisor = Supervisor(
        commands, environment=ros_environment(lease.domain_id, run_dir=out), logs=out / "logs",
        respawn=RESPAWNED, domain=lease.domain_id, on_event=on_event,
    )  # fmt: skip
    try:
        supervisor.start()
        while not got:
            time.sleep(_LOOK)
            try:
                supervisor.poll()
            except NodeFailedError:
                player = next(child for child in supervisor.children if child.name == "player")
                if player.process is None or player.process.poll() != 0:
                    raise
                return 0  # it ends with the bag
            on_progress(_beliefs(out / "bag" / COUNTS))
        return got[0]
    finally:
        supervisor.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
        lease.release()


def _beliefs(counts: Path) -> int:
    """Beliefs recorded so far; 0 while that is not known."""
    try:
        topics = json.loads(counts.read_text(encoding="utf8"))["topics"]
        return sum(int(entry["recorded"]) for name, entry in topics.items() if name.endswith("learner/belief"))
    except (OSError, ValueError, KeyError, TypeError):
        return 0
