"""`crl replay` and `crl learn`: recorded runs again."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from crl_node.cli.exits import FAILURE, INTERRUPTED, TERMINATED

console = Console()


def progress() -> Progress:
    """A bar with frames done, frames to do and time left; on stderr, so that output can be piped."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True,
    )  # fmt: skip


def replay(
    bag: Annotated[
        Path, typer.Argument(metavar="BAG", help="A bag's folder, a run's folder, or one .mcap file.")
    ],
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result here; '-': print it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write model.onnx, checkpoint.npz and replay.json."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", "-s", min=0, max=2**31 - 1, help="Another seed; then nothing is compared."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan/--no-plan", help="Also the planner; without it only the learner.")
    ] = True,
    live: Annotated[
        bool, typer.Option("--live", help="Play the bag to a live learner node instead, as replay.launch.py does.")
    ] = False,
    rate: Annotated[
        float, typer.Option(min=0.01, max=1000.0, help="With --live: recorded seconds per second of real time.")
    ] = 1.0,
    lockstep: Annotated[
        bool, typer.Option("--lockstep", help="With --live: every frame waits for the belief about the one before.")
    ] = False,
    params_file: Annotated[
        Path | None,
        typer.Option(help="ROS params file for 'learner' and 'planner'; wins over what was recorded."),
    ] = None,
) -> None:
    """Learn from a recorded run again, as fast as it goes, and compare with what the live run made of it.

    A run in lockstep gives the same beliefs, posteriors and commands bit for bit; exit code 1 when it does not. Of a
    run in real time the frames that the live learner used are used again; what differs then is reported.
    """
    from crl_node.bags.reader import BagReader
    from crl_node.replay.run import Replay
    from crl_node.replay.settings import read_settings

    folder = bag / "bag" if (bag / "bag").is_dir() else bag
    if live:
        raise typer.Exit(_live(folder, out, rate, lockstep, params_file))
    reader = BagReader(folder)
    settings = read_settings(reader, params_file)
    changed = seed is not None and seed != settings.seed
    if seed is not None and changed:
        settings = settings.with_seed(seed)
    with progress() as bar:
        task = bar.add_task("replaying", total=None)
        run = Replay(reader, settings, plan=plan, on_frame=lambda stamp: bar.advance(task))
        bar.update(task, total=run.expected_frames)
        outcome = run.run()
    result = outcome.as_json()
    if out is not None:
        _write_model(outcome, out)
        (out / "replay.json").write_text(json.dumps(result, indent=1) + "\n")
    if as_json is not None and str(as_json) == "-":
        print(json.dumps(result, indent=1))
    else:
        if as_json is not None:
            as_json.parent.mkdir(parents=True, exist_ok=True)
            as_json.write_text(json.dumps(result, indent=1) + "\n")
        _tell(result, compared=not changed)
    same = all(result[f"{what}_equal"] is not False for what in ("beliefs", "posteriors", "commands"))
    raise typer.Exit(FAILURE if settings.lockstep and not changed and params_file is None and not same else 0)


def _live(bag: Path, out: Path | None, rate: float, lockstep: bool, params_file: Path | None) -> int:
    from datetime import datetime

    from crl_node.replay.live import run_live
    from crl_node.supervisor import NodeFailedError
    from crl_node.system import ReplayOptions

    folder = out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_replay"
    options = ReplayOptions(bag=bag, out=folder, rate=rate, lockstep=lockstep)

    def on_event(text: str) -> None:
        console.print(escape(text), style="yellow", soft_wrap=True)

    with progress() as bar:
        task = bar.add_task("beliefs", total=None)
        try:
            number = run_live(
                options, params_file=params_file, on_event=on_event,
                on_progress=lambda beliefs: bar.update(task, completed=beliefs),
            )  # fmt: skip
        except NodeFailedError as error:
            console.print(escape(f"crl: {error}"), highlight=False, soft_wrap=True)
            return FAILURE
    console.print(escape(f"What the learner made of it is in {folder}."), highlight=False, soft_wrap=True)
    return {0: 0, signal.SIGINT: INTERRUPTED}.get(number, TERMINATED)


def _write_model(outcome: Any, out: Path) -> None:
    from crl_node.checkpoint import write_arrays
    from crl_node.curiosity.assembly import default_model
    from crl_node.export.onnx_model import write_model

    out.mkdir(parents=True, exist_ok=True)
    write_arrays(out / "checkpoint.npz", outcome.learner.checkpoint())
    if outcome.posterior is not None:
        planner = outcome.commands.planner if outcome.commands is not None else None
        settings = planner.settings if planner is not None else None
        write_model(
            outcome.posterior,
            out / "model.onnx",
            default_model(),
            **({"settings": settings} if settings else {}),
        )


def _tell(result: dict[str, Any], *, compared: bool) -> None:
    frames = result["frames"]
    lines = [
        f"{frames['used']} of {frames['recorded']} frames replayed ({frames['learned']} steps learned, "
        f"{frames['not_used_live']} not used live, {frames['rejected']} rejected, {frames['unpaired']} without a joint "
        f"state), {result['seconds']:.1f} s in {result['wall_seconds']:.1f} s: {result['times_real_time']} x real time",
        f"posterior version {result['posterior_version']}, {result['steps']} steps, hash {result['posterior_hash']}",
    ]
    if compared:
        lines += [_compared(result, what, topic) for what, topic in _COMPARED]
        first = result["first_difference"]
        if first:
            lines.append(
                f"the first difference is at {first['stamp']:.3f} s in {first['topic']}: {first['what']}"
            )
    for line in [*(text for text in lines if text), *result["notes"]]:
        console.print(escape(line), highlight=False, soft_wrap=True)


_COMPARED = (
    ("beliefs", "learner/belief"), ("posteriors", "learner/posterior"), ("plans", "planner/plan"),
    ("commands", "planner/command"),
)  # fmt: skip


def _compared(result: dict[str, Any], what: str, topic: str) -> str:
    equal, tally = result[f"{what}_equal"], result["topics"].get(topic)
    if equal is None or tally is None:
        return ""
    if equal:
        return f"{what}: all {tally['compared']} the same bit for bit"
    missing = f", {tally['only_recorded']} recorded but not replayed" if tally["only_recorded"] else ""
    return f"{what}: {tally['different']} of {tally['compared']} differ (by at most {tally['most']:.3g}){missing}"


def learn(
    bags: Annotated[
        list[Path], typer.Argument(metavar="BAG...", help="Folders of bags or runs, or .mcap files, in any order.")
    ],
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes; the result does not depend on it.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="model.npz (a checkpoint) or model.onnx (a planner's model)."),
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the result here; '-': print it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, max=2**31 - 1, help="Seed of the model.")] = 0,
    params_file: Annotated[
        Path | None, typer.Option(help="ROS params file for 'learner'; wins over what was recorded.")
    ] = None,
) -> None:
    """Learn one model from many bags: each is summed up by itself, and the sums are added.

    The bags' order does not matter. Things are recognised from one bag to the next by colour and size; what cannot be
    told apart stays a thing of its own, and is said.
    """
    from crl_node.parameter_spec import ParameterError
    from crl_node.replay.learn import learn as learn_from

    if out is not None and out.suffix not in (".npz", ".onnx"):
        raise ParameterError(f"--out is {out}, it must end in .npz (a checkpoint) or .onnx (a model to plan with)")
    folders = [bag / "bag" if (bag / "bag").is_dir() else bag for bag in bags]
    with progress() as bar:
        tasks: dict[str, Any] = {}

        def on_progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        learned = learn_from(folders, jobs=jobs, seed=seed, params_file=params_file, on_progress=on_progress)
    result = {**learned.as_json(), "bags": [str(bag) for bag in bags]}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".npz":
            learned.model.save(out)
        else:
            from crl_node.curiosity.assembly import default_model
            from crl_node.export.onnx_model import write_model

            write_model(learned.posterior, out, default_model())
    if as_json is not None and str(as_json) == "-":
        print(json.dumps(result, indent=1))
        return
    if as_json is not None:
        as_json.parent.mkdir(parents=True, exist_ok=True)
        as_json.write_text(json.dumps(result, indent=1) + "\n")
    lines = [
        f"{result['episodes']} episodes of {len(bags)} bags, {result['frames']['used']} frames "
        f"({result['seconds']:.0f} s) in {result['wall_seconds']:.0f} s: {result['steps']} steps learned",
        *(
            f"slot {v['slot']}: colour {v['colour']}, extent {1e3 * v['extent']:.1f} mm, {v['frames']} frames in "
            f"{v['episodes']} episodes"
            for v in result["variables"]
        ),
        f"posterior hash {result['posterior_hash']}",
        *result["notes"],
    ]
    for line in lines:
        console.print(escape(line), highlight=False, soft_wrap=True)
