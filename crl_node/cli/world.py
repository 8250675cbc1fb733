"""`crl world`: the shipped worlds, a world file in words, a new file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crl_node.parameter_spec import ParameterError

world_app = typer.Typer(no_args_is_help=True, help="Look at world files (`sim/worlds/*.yaml`) and make new ones.")
console = Console()


@world_app.command("check")
def check(
    file: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A world by name, random:SEED, or path.")],
) -> None:
    """Read a world file; say what is in it and what truly moves what, or name the line and field that is wrong."""
    describe(file)


@world_app.command("list")
def list_worlds() -> None:
    """List the shipped worlds."""
    from crl_node.simulator.world import load_world, world_names

    for name in world_names():
        console.print(f"[bold]{name}[/]  {load_world(name).description}")
    console.print("[bold]random:SEED[/]  three to six things drawn at random, one world for each seed")


@world_app.command("new")
def new(
    like: Annotated[
        str | None, typer.Option("--like", metavar="NAME|FILE", help="The world to begin with (else four_cubes).")
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Draw a world at random.")] = False,
    seed: Annotated[int, typer.Option("--seed", "-s", min=0, max=2**31 - 1, help="Which random world.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it here (.yaml), else onto the screen.")
    ] = None,
) -> None:
    """Write a world file to change as you like: a copy of a shipped world, or one drawn at random."""
    from crl_node.simulator.world import world_text

    if random and like is not None:
        raise ParameterError("--random and --like exclude each other: one says which world to begin with")
    text = world_text(f"random:{seed}" if random else like or "four_cubes")
    if out is None:
        typer.echo(text, nl=False)
        return
    if out.suffix not in (".yaml", ".yml"):
        raise ParameterError(f"--out is {out}; a world file ends in .yaml")
    if out.exists():
        raise ParameterError(f"{out} is there already; name another file with --out, nothing was written")
    if not out.parent.is_dir():
        raise ParameterError(f"--out is {out}, but there is no folder {out.parent}")
    out.write_text(text, encoding="utf-8")
    console.print(f"{out}: look at it with [bold]crl world check {out}[/], try it with [bold]crl sim --world {out}[/]")


def describe(name_or_path: str) -> None:
    """Print what the world holds and what truly moves what; WorldError when it cannot be read."""
    from crl_node.simulator.causality import true_graph
    from crl_node.simulator.world import load_world

    world = load_world(name_or_path)
    camera = world.camera
    console.print(f"[bold]{world.name}[/] ({world.path}): {world.description}")
    console.print(
        f"table {world.table.x[1] - world.table.x[0]:.2f} x {world.table.y[1] - world.table.y[0]:.2f} m, camera "
        f"{camera.width}x{camera.height} at {camera.rate:g} Hz"
    )
    table = Table("thing", "shape", "size (cm)", "mass", "pose", "", box=None)
    for thing in world.things:
        size = " x ".join(f"{100 * value:g}" for value in thing.size)
        pose = "random" if thing.pose is None else f"{thing.pose[0]:.2f}, {thing.pose[1]:.2f} m"
        role = "button of " + thing.button.lamp if thing.button else "lamp" if thing.lamp else ""
        own = [word for word, there in (("shakes", thing.shake), ("flickers", thing.flicker)) if there]
        role = ", ".join([role, *own] if role else own)
        mass = f"{thing.mass:g} kg" if thing.movable else "immovable"
        table.add_row(thing.name, thing.shape, size, mass, pose, role)
    console.print(table)
    graph = true_graph(world)
    edges = [f"{cause} -> {effect}" for (cause, effect), true in graph.edges.items() if true]
    console.print(f"{len(edges)} of {len(graph.edges)} possible edges are true:")
    for edge in edges:
        console.print(f"  {edge}", highlight=False)
    for kind, cause, effect in graph.mechanisms:
        console.print(f"  special: {kind} {cause} -> {effect}", highlight=False)
