"""`crl bench exploration`: how soon each policy finds things out."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crl_node.curiosity.names import POLICIES
from crl_node.parameter_spec import ParameterError

console = Console()


def specs_of(
    worlds: str, seeds: list[int], policies: str, sight: str, steps: int, every: int, model: str = ""
) -> list[Any]:
    """The episodes asked for; ParameterError, a sentence, when one of the names is wrong."""
    from crl_node.curiosity.assembly import shipped_model
    from crl_node.exploration.sweep import specs
    from crl_node.simulator.world import WorldError, load_world

    names = policies.split(",")
    unknown = [name for name in names if name not in POLICIES]
    if unknown:
        raise ParameterError(f"there is no policy '{unknown[0]}'; there are {', '.join(POLICIES)}")
    found = [world for part in worlds.split(",") for world in expanded(part)]
    try:
        shipped_model(model)
        for world in found:
            load_world(world)
        return [s for kind in sight.split(",") for s in specs(found, seeds, names, kind, steps, every, model)]
    except (ValueError, WorldError) as error:
        raise ParameterError(str(error)) from error


def expanded(world: str) -> list[str]:
    """'random:3-5' -> three random worlds; every other name stands for itself."""
    kind, _, numbers = world.partition(":")
    first, dash, last = numbers.partition("-")
    if kind != "random" or not dash or not (first.isdigit() and last.isdigit()):
        return [world]
    return [f"random:{number}" for number in range(int(first), int(last) + 1)]


def table(worlds: dict[str, Any]) -> Table:
    """Medians by world and policy, with the pairs in which the reference was ahead."""
    view = Table(title="median control steps; what was not reached counts as the whole episode")
    for head in ("world", "policy", "episodes", "to R² .8", "to R² .85", "to AUROC .95", "R² over time", "moved",
                 "curious ahead at .8, .85"):  # fmt: skip
        view.add_column(head)
    for world, policies in worlds.items():
        for policy, row in policies.items():
            ahead = ""
            if "pairs" in row and policy != "curious":
                ahead = f"{row['reference_ahead']}, {row['reference_ahead_to_high_r2']} of {row['pairs']}"
            view.add_row(
                world, policy, str(row["episodes"]), f"{row['median_steps_to_r2']:g}",
                f"{row['median_steps_to_high_r2']:g}",
                f"{row['median_steps_to_auroc']:g}", f"{row['median_mean_r2']:.3f}", f"{row['median_things_moved']:g}",
                ahead,
            )  # fmt: skip
    return view


def run(module: ModuleType, todo: list[Any], out: Path, jobs: int) -> dict[str, Any]:
    """Measure, print the table, draw the curves; what is to be written as JSON."""
    found, results = module.measure(
        todo, out / "episodes", jobs, lambda line: console.print(line, highlight=False, markup=False)
    )
    console.print(table(found["worlds"]))
    for path in module.plot(results, out):
        console.print(f"written: {path}")
    return dict(found)


Worlds = Annotated[str, typer.Option(help="Worlds with commas: names, files, random:7, or random:100-119 for many.")]
Policies = Annotated[str, typer.Option(help=f"With commas, of {', '.join(POLICIES)}.")]
Model = Annotated[str, typer.Option(help="Plan file: a path, or a name in models/; without it the default.")]
Sight = Annotated[str, typer.Option(help="pixels (camera and encoder), truth (true states), or both with a comma.")]
