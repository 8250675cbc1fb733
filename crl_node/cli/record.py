"""`crl record`: the recorder alone, on any running system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from crl_node.cli.exits import FAILURE, INTERRUPTED, TERMINATED
from crl_node.parameter_spec import ParameterError

console = Console()
errors = Console(stderr=True)
#: Real time between two lines, s.
_LINE_EVERY = 5.0

Patterns = Annotated[list[str] | None, typer.Option(metavar="REGEX")]


def record(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The bag's folder; without it bags/<time>. One that is there is gone on with."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            "-p",
            metavar="NAME|FILE",
            help="config/record/NAME.yaml: loop, input, everything. [default: loop, or none with --include]",
        ),
    ] = None,
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include", "-i", metavar="REGEX", help="Topics whose whole name matches; as often as you like."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", "-x", metavar="REGEX", help="Topics that are not recorded."),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", "-t", min=0.0, help="Real seconds; 0: until Ctrl-C.")
    ] = 0.0,
    compression: Annotated[str, typer.Option(help="zstd, lz4 or none.")] = "lz4",
    split_seconds: Annotated[
        float, typer.Option(min=0.0, help="Begin a new file after this time; 0 never.")
    ] = 60.0,
    split_mb: Annotated[int, typer.Option(min=0, help="Begin a new file at this size; 0 never.")] = 1024,
    min_free_mb: Annotated[
        int, typer.Option(min=0, help="Stop when the disk has less than this left.")
    ] = 1000,
    domain: Annotated[
        int | None,
        typer.Option(min=0, max=232, help="ROS domain of the system. [default: ROS_DOMAIN_ID, else 0]"),
    ] = None,
    network: Annotated[
        bool,
        typer.Option(
            "--network", help="Listen as your ROS environment says, not through shared memory only."
        ),
    ] = False,
    namespace: Annotated[str, typer.Option(help="ROS namespace of the topics in the profile.")] = "",
    params_file: Annotated[Path | None, typer.Option(help="ROS params file for the node 'recorder'.")] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warn or error.")] = "warn",
) -> None:
    """Record a running system into a crash-safe MCAP bag, until Ctrl-C.

    `crl sim` records itself; this is for systems that run already. It only listens: nothing in the system waits for it.
    """
    from crl_node.system import NodeSpec, checked, node_command, read_params_file, ros_environment

    if params_file is not None:
        read_params_file(params_file)
    folder = (out or Path("bags") / f"{datetime.now():%Y%m%d-%H%M%S}").absolute()
    parameters: dict[str, Any] = {
        "output": str(folder),
        "profile": profile if profile is not None else ("" if include else "loop"),
        "include": include or [], "exclude": exclude or [], "compression": compression,
        "split_period": split_seconds, "split_size": split_mb, "min_free": min_free_mb, "autostart": True,
    }  # fmt: skip
    _check_profile(parameters)
    given = os.environ.get("ROS_DOMAIN_ID", "")
    if domain is None and given and not given.isdigit():
        raise ParameterError(f"ROS_DOMAIN_ID is '{given}', it must be a whole number from 0 to 232")
    number = domain if domain is not None else int(given or 0)
    environment = dict(os.environ, ROS_DOMAIN_ID=str(number)) if network else ros_environment(number)
    # Empty lists have no type on a command line.
    kept = {name: value for name, value in parameters.items() if value != []}
    spec = checked(NodeSpec("recorder", "recorder", kept))
    command = node_command(spec, namespace=namespace, params_file=params_file, log_level=log_level)
    console.print(
        f"crl record: domain {number} to [bold]{escape(str(folder))}[/]; Ctrl-C ends it.", soft_wrap=True
    )
    raise typer.Exit(_run(command, environment, folder, seconds))


def _check_profile(parameters: dict[str, Any]) -> None:
    """Mistakes in the user's input are told here, not in a node's log."""
    from crl_node.bags.profile import load_record_profile

    found = load_record_profile(parameters["profile"]).extended(
        topics=(), include=parameters["include"], exclude=parameters["exclude"]
    )
    if not (found.topics or found.include):
        raise ParameterError("there is nothing to record: name a --profile or topics with --include")


def _run(command: list[str], environment: dict[str, str], folder: Path, seconds: float) -> int:
    """Run the recorder until a signal, the end of the time, or its own end; the exit code."""
    got: list[int] = []
    handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda n, frame: got.append(n)) for number in handled}
    # A session of its own: Ctrl-C reaches it once, from here.
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    began = told = time.monotonic()
    try:
        while process.poll() is None and not got and not (0 < seconds <= time.monotonic() - began):
            time.sleep(0.1)
            if time.monotonic() - told >= _LINE_EVERY:
                told = time.monotonic()
                console.print(escape(_line(folder, told - began)), highlight=False, soft_wrap=True)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60.0)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    console.print(escape(_line(folder, time.monotonic() - began)), highlight=False, soft_wrap=True)
    if code != 0:
        errors.print(f"crl: the recorder ended with exit code {code}", highlight=False)
        return FAILURE
    if got:
        return INTERRUPTED if got[0] == signal.SIGINT else TERMINATED
    return 0


def _line(folder: Path, seconds: float) -> str:
    from crl_node.bags.metadata import COUNTS

    try:
        noted = json.loads((folder / COUNTS).read_text(encoding="utf8"))
        topics = noted["topics"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return f"[{seconds:.0f} s] nothing recorded yet"
    recorded = sum(t["recorded"] for t in topics)
    dropped = sum(t["dropped"] for t in topics)
    heard = sum(t["received"] > 0 for t in topics)
    line = f"[{seconds:.0f} s] {recorded} messages of {heard} of {len(topics)} topics, {dropped} dropped"
    return f"{line}; STOPPED: {noted['stopped_because']}" if noted.get("stopped_because") else line
