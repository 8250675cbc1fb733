"""`crl bag`: look into a bag, check it, make a damaged one whole, convert it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crl_node.cli.exits import FAILURE

bag_app = typer.Typer(no_args_is_help=True, help="Look into bags, check, recover and convert them.")
console = Console()

Bag = Annotated[Path, typer.Argument(metavar="BAG", help="A bag's folder, or one .mcap file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def say(text: str) -> None:
    """One line, as it is."""
    console.print(escape(text), highlight=False, soft_wrap=True)


@bag_app.command()
def info(bag: Bag, as_json: Json = False) -> None:
    """Show what is in a bag: topics, rates, what was sent and dropped, the model and the settings it was made with."""
    from crl_node.bags import metadata
    from crl_node.bags.survey import survey

    found = survey(bag)
    if as_json:
        console.print_json(json.dumps(found.as_json()))
        return
    size = sum(found.sizes)
    say(f"{bag}: {found.messages} messages in {len(found.files)} files, {size / 1e6:.1f} MB, {found.seconds:.1f} s")
    table = Table("topic", "type", "messages", "sent", "dropped", "rate", box=None, pad_edge=False)
    counts = found.note(metadata.TOPICS)
    for name, topic in sorted(found.topics.items()):
        entry = counts.get(name, {})
        rate = f"{topic.rate:.1f}/s" if topic.rate else ""
        shown = [str(entry.get(key)) if entry.get(key) is not None else "" for key in ("sent", "dropped")]
        table.add_row(name, topic.type, str(topic.messages), *shown, rate)
    console.print(table, width=max(console.width, 110))
    model = found.note(metadata.MODEL)
    if model:
        say(f"model: version {model['version']} after {model['step']} steps, hash {str(model['hash'])[:12]}…")
    for node, values in sorted(found.note(metadata.PARAMETERS).items()):
        kept = {key: values[key] for key in ("seed", "lockstep", "policy", "world", "robot") if key in values}
        if kept:
            say(f"{node}: " + ", ".join(f"{key} {value}" for key, value in kept.items()))
    for sentence in found.damage:
        console.print(escape(sentence), style="yellow", soft_wrap=True, highlight=False)


@bag_app.command()
def check(bag: Bag, as_json: Json = False) -> None:
    """Say in sentences what is wrong with a bag; exit code 1 when it is damaged or cannot be replayed."""
    from crl_node.bags.reader import BagReader
    from crl_node.bags.survey import check as examine
    from crl_node.bags.survey import survey
    from crl_node.replay.stream import INPUTS, roles

    found = survey(bag)
    topics = roles(BagReader(bag))
    findings = examine(found, {name: topics[name] for name in INPUTS})
    bad = any(finding.bad for finding in findings)
    if as_json:
        content = {"usable": not bad, "findings": [vars(finding) for finding in findings]}
        console.print_json(json.dumps(content))
    else:
        for finding in findings:
            style = "red" if finding.bad else "yellow"
            console.print(escape(f"- {finding.sentence}"), style=style, soft_wrap=True, highlight=False)
        count = f"{found.messages} messages of {len(found.topics)} topics"
        say(f"{bag}: damaged or not complete" if bad else f"{bag}: whole, {count}")
    raise typer.Exit(FAILURE if bad else 0)


@bag_app.command()
def recover(
    bag: Annotated[Path, typer.Argument(metavar="BAG", help="The folder of a bag whose recorder was killed.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the whole bag here and leave the damaged one as it is.")
    ] = None,
) -> None:
    """Make a bag whole again: every complete chunk of every file, its index, and metadata.yaml."""
    from crl_node.bags.repair import recover_bag

    result = recover_bag(bag, out)
    for note in result.notes:
        say(f"- {note}")
    count = len(result.rewritten)
    done = f"{count} of {result.files} files were rewritten" if count else "every file was whole"
    say(f"{result.folder}: {result.messages} messages; {done}")


@bag_app.command("to-lerobot")
def to_lerobot(
    bag: Bag,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the dataset; it must be new or empty.")],
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="s, an image and a joint state farther apart are not a pair.")
    ] = 0.02,
    fps: Annotated[
        float | None, typer.Option(min=0.1, max=1000.0, help="Frames a second. [default: the camera's own]")
    ] = None,
    task: Annotated[str, typer.Option(help="What the robot was doing, for the dataset.")] = "explore the table",
    as_json: Json = False,
) -> None:
    """Write a bag as a LeRobotDataset (format v3.0): images, joint positions and velocities, executed tip velocity.

    Everything is aligned by header stamps. Frames that have no joint state within the tolerance, and the last frame of
    every stretch, are left out and counted.
    """
    from crl_node.cli.replay import progress
    from crl_node.replay.to_lerobot import convert

    with progress() as bar:
        shown = bar.add_task("writing frames", total=None)
        counts = convert(bag, out, tolerance=tolerance, fps=fps, task=task, on_frame=lambda: bar.advance(shown))
    if as_json:
        console.print_json(json.dumps(counts.as_json()))
    else:
        say(f"{out}: {counts.sentence}")
