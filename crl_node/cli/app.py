"""Commands and their options. Heavy imports wait until a command needs them: `crl --help` must be instant."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crl_node import __version__
from crl_node.cli.bag import bag_app
from crl_node.cli.bench import bench_app
from crl_node.cli.discover import discover
from crl_node.cli.export import export
from crl_node.cli.goal import goal
from crl_node.cli.params import params
from crl_node.cli.record import record
from crl_node.cli.replay import learn, replay
from crl_node.cli.robot import robot_app
from crl_node.cli.soak import soak
from crl_node.cli.world import world_app
from crl_node.parameter_spec import ParameterError

console = Console()
errors = Console(stderr=True)

app = typer.Typer(
    name="crl",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""
**A curious robot arm.** It watches a table through a camera, finds out which thing moves which, and runs the
experiments that will teach it most.

Begin with `crl doctor` (does everything work here?), then `crl sim`. A run leaves a folder with the bag of everything
that was seen and done, the learned model as ONNX, and a report with pictures.

Exit codes: 0 done, 1 a node failed, 2 a mistake in the input, 130 stopped by Ctrl-C, 143 stopped by SIGTERM.
""",
)
app.add_typer(world_app, name="world")
app.add_typer(bench_app, name="bench")
app.command()(discover)
app.command()(export)
app.command()(goal)
app.command()(soak)
app.command()(params)
app.add_typer(robot_app, name="robot")
app.add_typer(bag_app, name="bag")
app.command()(record)
app.command()(replay)
app.command()(learn)


class Policy(StrEnum):
    """Who chooses the experiments."""

    curious = "curious"
    skills = "skills"
    random = "random"
    disagreement = "disagreement"
    rnd = "rnd"


def user_errors() -> tuple[type[Exception], ...]:
    """Exceptions whose text is written for the user."""
    from crl_node.bags.metadata import BagError
    from crl_node.replay.settings import ReplayError
    from crl_node.yaml_fields import FieldError

    found: list[type[Exception]] = [ParameterError, FieldError, BagError, ReplayError]
    if "crl_node.report.build" in sys.modules:
        from crl_node.report.build import ReportError

        found.append(ReportError)
    return tuple(found)


def _version(asked: bool) -> None:
    if asked:
        console.print(f"crl_node {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def sim(
    world: Annotated[
        str,
        typer.Option("--world", "-w", metavar="NAME|FILE", help="A world by name, random:SEED, or your own file."),
    ] = "tabletop",
    seconds: Annotated[
        float, typer.Option("--seconds", "-t", min=0.0, help="Simulated seconds; 0 goes on until Ctrl-C.")
    ] = 180.0,
    seed: Annotated[
        int, typer.Option("--seed", "-s", min=0, max=2**31 - 1, help="Seed of the world, the learner and the planner.")
    ] = 0,
    policy: Annotated[
        Policy,
        typer.Option(
            "--policy",
            "-p",
            help="Who chooses what to do: expected information gain, random skills (walk to a random thing and push "
            "through), random motion, where five networks disagree, or where a random network is not yet imitated.",
        ),
    ] = Policy.curious,
    rtf: Annotated[
        float | None,
        typer.Option("--rtf", min=0.01, max=100.0, help="Simulated seconds per second of real time. [default: 1]"),
    ] = None,
    lockstep: Annotated[
        bool,
        typer.Option(
            "--lockstep", help="Simulated time waits for every command: the same seed gives the same bytes."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the run; without it a new one in runs/.")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="No live display, one line now and then (also when piped).")
    ] = False,
    robot: Annotated[str, typer.Option(metavar="NAME|FILE", help="Robot profile of config/robots.")] = "iiwa_sim",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out: its checkpoint, its bag.")
    ] = False,
    report_at_end: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the report when the run is over.")
    ] = True,
    params_file: Annotated[
        Path | None, typer.Option("--params-file", help="ROS params file; wins over everything else.")
    ] = None,
    namespace: Annotated[str, typer.Option(help="ROS namespace of all nodes.")] = "",
    log_level: Annotated[str, typer.Option(help="debug, info, warn or error.")] = "info",
) -> None:
    """Run the curious arm in simulation.

    All nodes are started as processes of their own, watched, and stopped in order; Ctrl-C stops cleanly, and what was
    learned until then is reported. The run has a ROS domain of its own unless ROS_DOMAIN_ID is set, and does not
    touch the network.
    """
    from crl_node.cli.run import run_sim
    from crl_node.session import Session
    from crl_node.system import SimOptions

    if lockstep and rtf is not None:
        raise ParameterError("--rtf and --lockstep exclude each other: in lockstep time goes as fast as the nodes do")
    folder = out or default_folder(world, policy.value, seed)
    options = SimOptions(
        world=world,
        out=folder,
        seed=seed,
        policy=policy.value,
        seconds=seconds,
        rtf=rtf or 1.0,
        lockstep=lockstep,
        robot=robot,
    )
    session = Session(
        options, namespace=namespace, params_file=params_file, log_level=log_level, resume=resume
    )
    raise typer.Exit(run_sim(session, console, errors, headless=headless, report=report_at_end))


def default_folder(world: str, policy: str, seed: int) -> Path:
    """runs/<time>_<world>_<policy>_<seed>."""
    from datetime import datetime

    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_{Path(world).stem.replace(':', '_')}_{policy}_{seed}"


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The run's folder (`crl sim --out DIR`).")],
) -> None:
    """Evaluate a run and write report.json, report.html and the animation into its folder."""
    from crl_node.cli.run import make_report

    raise typer.Exit(make_report(folder, console, errors))


@app.command()
def doctor() -> None:
    """Check what works here: ROS, messages, simulator, ONNX Runtime, kinematics; each in a sentence."""
    from crl_node.cli.doctor import examine

    raise typer.Exit(examine(console))
