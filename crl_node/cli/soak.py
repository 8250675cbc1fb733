"""`crl soak`: does anything grow?"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from crl_node.cli.exits import FAILURE, INTERRUPTED

console = Console()


def soak(
    cycles: Annotated[
        int, typer.Option("--cycles", min=0, help="Times through the whole lifecycle; 0 skips this part.")
    ] = 200,
    seconds: Annotated[
        float, typer.Option("--seconds", "-t", min=0.0, help="Real time in the running loop after that; 0 skips it.")
    ] = 3600.0,
    world: Annotated[str, typer.Option("--world", "-w", metavar="NAME|FILE", help="The world.")] = "tabletop",
    rtf: Annotated[
        float, typer.Option(min=0.01, max=10.0, help="Simulated seconds per second; less than 1 on a busy machine.")
    ] = 1.0,
    rss: Annotated[
        float, typer.Option(min=0.0, help="Largest growth of a node's memory in the loop, after the warm-up, %.")
    ] = 1.0,
    cycles_rss: Annotated[float, typer.Option(min=0.0, help="The same for the lifecycles, %.")] = 5.0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for soak.json, bag and logs; else a new one in runs/.")
    ] = None,
) -> None:
    """Watch memory, file descriptors, threads and /dev/shm over many lifecycles and hours of the loop.

    Exit code 0: nothing grew beyond its bound; 1: something did, or a node failed; 130: stopped by Ctrl-C. What was
    seen until then is in soak.json in each case.
    """
    from crl_node.soak import Bounds, Soak
    from crl_node.system import SimOptions

    folder = out or Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}_soak"
    console.print(f"crl soak: {cycles} lifecycles, then {seconds:g} s of the loop; to {escape(str(folder))}")

    def say(text: str) -> None:
        console.print(f"{datetime.now():%H:%M:%S} {escape(text)}", highlight=False, soft_wrap=True)

    options = SimOptions(world=world, out=folder, seconds=0.0, rtf=rtf)
    bounds = Bounds(rss=rss / 100.0), Bounds(rss=cycles_rss / 100.0)
    result = Soak(options, *bounds, say).run(cycles, seconds)
    for problem in result["problems"]:
        console.print(problem, style="red", highlight=False, soft_wrap=True, markup=False)
    console.print(f"{result['outcome']} after {result['seconds']:.0f} s: {escape(str(folder / 'soak.json'))}")
    if result["outcome"] == "interrupted":
        raise typer.Exit(INTERRUPTED)
    if result["problems"]:
        raise typer.Exit(FAILURE)
    console.print("nothing grew beyond its bound")
