"""`crl discover`: the causal graph and laws behind a recorded series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from crl_node.parameter_spec import ParameterError

console = Console()


def _list(text: str | None) -> list[str] | None:
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def discover(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="npz, csv or parquet with columns of states and actions.")
    ],
    states: Annotated[
        str | None, typer.Option(help="State columns, with commas; without it all that are not named like actions.")
    ] = None,
    actions: Annotated[
        str | None, typer.Option(help="Action columns, with commas; without it those named like u0, a1, action_x, cmd.")
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="Column with the label of the environment each row was recorded in.")
    ] = None,
    dt: Annotated[float | None, typer.Option(min=1e-9, help="s between rows, where no time column says it.")] = None,
    degree: Annotated[int, typer.Option(min=1, max=4, help="Degree of the polynomials the library starts with.")] = 2,
    grow: Annotated[
        bool, typer.Option("--grow/--no-grow", help="Let the grammar propose terms where the residual calls for them.")
    ] = True,
    engine: Annotated[
        str, typer.Option(help="What computes the posterior: mcmc, exact, greedy, particles, gflownet, amortised.")
    ] = "mcmc",
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the engine.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write everything as JSON.")] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Write the picture (.png, .svg, .pdf).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Which variable drives the change of which, by which law, with probabilities: from recorded states and actions.

    Rows are samples at equal distance in time; an action in a row acts from that row to the next. An `episode` column
    (or gaps in a `time` column) separates recordings.
    """
    from crl_node.discovery.discover import DiscoverConfig
    from crl_node.discovery.discover import discover as run
    from crl_node.discovery.table import SeriesError, read
    from crl_node.structure.engines import ENGINES

    if engine not in ENGINES:
        raise ParameterError(f"there is no structure engine '{engine}'; there are {', '.join(ENGINES)}")
    config = DiscoverConfig(degree=degree, grow=1 if grow else 0, engine=engine)
    try:
        series = read(file, states=_list(states), actions=_list(actions), environment=environment, dt=dt)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
            task = bar.add_task("reading", total=1.0)
            found = run(
                series, config=config, seed=seed,
                progress=lambda what, share: bar.update(task, description=what, completed=share),
            )  # fmt: skip
    except SeriesError as error:
        raise ParameterError(str(error)) from error
    for path in (json_file, figure):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if json_file is not None:
        json_file.write_text(json.dumps(found.to_json(), indent=1))
    if figure is not None:
        from crl_node.discovery.figure import draw

        draw(found).savefig(figure, dpi=130)
    if quiet:
        return
    for note in found.notes:
        console.print(f"[dim]{note}[/]", highlight=False)
    table = Table("effect", "causes (probability 0.5 or more)", "unsure (.05 to .5)", box=None)
    for effect, row in zip(found.states, found.inclusion, strict=True):
        ranked = sorted(zip(row.tolist(), found.names, strict=True), key=lambda pair: -pair[0])
        likely = ", ".join(f"{name} {p:.2f}" for p, name in ranked if p >= 0.5)
        unsure = ", ".join(f"{name} {p:.2f}" for p, name in ranked if 0.05 < p < 0.5)
        table.add_row(effect, likely or "–", unsure)
    console.print(table)
    console.print("\n[italic]laws[/] (terms more likely in than out; weights with 5-95 % intervals)")
    for law, share in zip(found.laws, found.shares, strict=True):
        parts = "core {:.0%}, tail {:.0%}, noise {:.0%}".format(*share[:, 0])
        console.print(f"  {law.text}    [dim]{parts}[/]", highlight=False, soft_wrap=True)
    if found.environments is not None:
        console.print("\n[italic]environments[/]")
        for sentence in found.environments["sentences"]:
            console.print(f"  {sentence}", highlight=False, soft_wrap=True)
    likeliest = max(found.orders, key=lambda o: found.orders[o])
    flow = f"a flow sampled in time (Adams-Bashforth order {likeliest})"
    way = "a map (or driven by noise)" if likeliest == 1 else flow
    console.print(
        f"\n{found.rows} steps, {len(found.terms)} terms, stepped as {way} with probability "
        f"{found.orders[likeliest]:.2f}; {found.seconds:.1f} s", highlight=False,
    )  # fmt: skip
    for path in (json_file, figure):
        if path is not None:
            console.print(f"written: {path}", highlight=False)
