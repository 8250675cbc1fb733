"""`crl goal`: tell a running planner where a thing is wanted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from crl_node.cli.exits import FAILURE
from crl_node.parameter_spec import ParameterError

console = Console()
errors = Console(stderr=True)


def goal(
    thing: Annotated[
        str | None, typer.Argument(metavar="THING", help="Its number in the display (3), or its colour (red).")
    ] = None,
    x: Annotated[float | None, typer.Argument(metavar="X", help="m in front of the robot's base.")] = None,
    y: Annotated[float | None, typer.Argument(metavar="Y", help="m to its left (negative: right).")] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Give up the goal of THING, or all goals: curiosity alone again.")
    ] = False,
    weight: Annotated[float, typer.Option(min=0.0, help="Nats for each metre nearer; 0: 100.")] = 0.0,
    hold: Annotated[
        float, typer.Option(min=0.0, help="Give it up as reached after so many s within 2 cm; 0: never.")
    ] = 0.0,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="The run's folder. [default: the newest in runs/]")
    ] = None,
    domain: Annotated[
        int | None, typer.Option(min=0, max=232, help="ROS domain of the system, where it is no `crl sim`.")
    ] = None,
    network: Annotated[
        bool, typer.Option("--network", help="Use your ROS environment as it is, not shared memory only.")
    ] = False,
    namespace: Annotated[str, typer.Option(help="ROS namespace of the planner.")] = "",
    wait: Annotated[float, typer.Option(min=0.1, help="How long to look for the planner, s.")] = 20.0,
) -> None:
    """Bring a thing somewhere: `crl goal red 0.60 0.10`, `crl goal 3 0.55 -0.12 --hold 2`, `crl goal --clear`.

    A negative number needs `--` before the first argument: `crl goal -- red 0.60 -0.10`. The planner weighs the goal
    against what it would learn; the gate judges every motion as before.
    """
    if clear and (x is not None or y is not None):
        raise ParameterError("--clear takes no place: crl goal --clear, or crl goal --clear red")
    if not clear and (thing is None or x is None or y is None):
        raise ParameterError("a goal is a thing and a place: crl goal red 0.60 0.10; or crl goal --clear")
    number = domain if domain is not None else _domain(run)
    from crl_node.system import ros_environment

    if network:
        os.environ["ROS_DOMAIN_ID"] = str(number)
    else:
        os.environ.update(ros_environment(number))
    from crl_node.nodes.asking import ask_goal

    answer = ask_goal(number, namespace, thing or "", clear, x or 0.0, y or 0.0, weight, hold, wait)
    if answer is None:
        errors.print(f"crl: there is no planner in ROS domain {number} (looked for {wait:g} s)", highlight=False)
        raise typer.Exit(FAILURE)
    success, text = answer
    (console if success else errors).print(escape(text if success else f"crl: {text}"), highlight=False, soft_wrap=True)
    raise typer.Exit(0 if success else FAILURE)


def _domain(run: Path | None) -> int:
    """ROS domain of the run in that folder, of ROS_DOMAIN_ID, or of the newest run in runs/ that is still going."""
    from crl_node.shared_memory import domain_in_use

    if run is not None:
        return _of(run)
    given = os.environ.get("ROS_DOMAIN_ID", "")
    if given.isdigit():
        return int(given)
    found = sorted(Path("runs").glob("*/run.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        number = _of(path.parent)
        if domain_in_use(number):
            return number
    raise ParameterError(
        f"no run is going on in {Path('runs').absolute()} ({len(found)} are over); name its folder with --run, or its "
        "ROS domain with --domain or ROS_DOMAIN_ID"
    )


def _of(run: Path) -> int:
    path = run / "run.json"
    try:
        return int(json.loads(path.read_text(encoding="utf8"))["ros_domain_id"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise ParameterError(f"{path} does not say which ROS domain the run has ({why})") from error
