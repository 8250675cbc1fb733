"""`crl bench latency`: the loop at several rates, with learning and recording on and off."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crl_node.parameter_spec import ParameterError

#: Latencies in the order of their way through the loop.
_STAGES = (
    "camera_to_command", "camera_to_motion", "camera_to_posterior", "camera_to_weights", "perception", "update", "plan",
    "plan_interval", "swap",
)  # fmt: skip


def latency(
    rates: Annotated[str, typer.Option(help="Hz, divisors of 240 up to 60 (48 for 50), with commas.")] = "10,20,48",
    seconds: Annotated[float, typer.Option(min=5.0, help="Simulated s of each, after 10 s to warm up.")] = 60.0,
    learning: Annotated[str, typer.Option(help="on, off, or both with a comma.")] = "on,off",
    recording: Annotated[str, typer.Option(help="on, off, or both with a comma.")] = "on,off",
    world: Annotated[str, typer.Option(help="World by name or path.")] = "four_cubes",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    policy: Annotated[str, typer.Option(help="Who chooses where to go.")] = "curious",
    folder: Annotated[Path, typer.Option(help="Runs; what is measured there already is not measured again.")] = Path(
        "runs/bench/latency"
    ),
    again: Annotated[bool, typer.Option("--again", help="Measure anew what is there.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the figures.")] = None,
) -> None:
    """The live loop at real time: camera to command, camera to weights, ticks missed; learning, recording on and off.

    Times are between the sending of messages. With learning off statistics still add up, but a posterior is made only
    every 10 s. Exit code 1 when a run did not come to its end.
    """
    from crl_node.latency import Case, measure

    console, results = Console(), []
    cases = [
        Case(float(rate), learns, records, seconds, world, seed, policy)
        for rate, learns, records in itertools.product(rates.split(","), _on(learning), _on(recording))
    ]
    for number, case in enumerate(cases, 1):
        kept = folder / f"{case.name}.json"
        if kept.is_file() and not again:
            results.append(json.loads(kept.read_text()))
            console.print(f"[{number}/{len(cases)}] {case.name}: measured before", markup=False, highlight=False)
            continue
        console.print(f"[{number}/{len(cases)}] {case.name} …", markup=False, highlight=False)
        _clear(folder / case.name)
        result = measure(case, folder, lambda text: console.print(f"  {text}", markup=False, highlight=False))
        kept.write_text(json.dumps(result, indent=1))
        results.append(result)
    for rate in sorted({result["rate"] for result in results}):
        console.print(_table([result for result in results if result["rate"] == rate]))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(results, indent=1))
        console.print(f"written: {out}")
    raise typer.Exit(0 if all(result["whole"] for result in results) else 1)


def _on(text: str) -> list[bool]:
    words = text.split(",")
    if not set(words) <= {"on", "off"}:
        raise ParameterError(f"'{text}' is not on, off, or both with a comma")
    return [word == "on" for word in words]


def _clear(run: Path) -> None:
    """Remove a run that was measured before or cut short; nothing else is removed."""
    import shutil

    if (run / "run.json").is_file():
        shutil.rmtree(run)


def _table(results: list[dict[str, Any]]) -> Table:
    """The cases of one rate side by side."""
    table = Table(f"{results[0]['rate']:g} Hz", box=None)
    for result in results:
        on = [what for what in ("learning", "recording") if result[what]]
        table.add_column(" and ".join(on) or "neither", justify="right")

    def row(name: str, told: Callable[[dict[str, Any]], str]) -> None:
        table.add_row(name, *(told(result) for result in results))

    row("ticks missed", lambda r: f"{r['missed']} of {r['ticks']} ({_number(r['missed_share'], 100, 2)} %)")
    row("held", lambda r: str(r["held"]))
    row("frames the learner dropped", lambda r: f"{r['frames_dropped']} of {r['frames']}")
    row("frames planned from", lambda r: f"{r['frames_planned_from']} of {r['frames']}")
    for stage in _STAGES:
        digits = 2 if stage == "swap" else 0
        row(f"{stage.replace('_', ' ')} ms", lambda r, s=stage, d=digits: _pair(r["latency_ms"][s], d))  # type: ignore[misc]
    row("processor, cores", lambda r: f"{sum(r['processor'].values()):.2f}")
    row("load average", lambda r: f"{r['load_average'][1]:.1f}")
    table.caption = "half of the time / 99 %"
    return table


def _pair(figures: dict[str, float | None], digits: int) -> str:
    return f"{_number(figures['p50'], 1, digits)} / {_number(figures['p99'], 1, digits)}"


def _number(value: float | None, factor: float, digits: int) -> str:
    return "–" if value is None else f"{factor * value:.{digits}f}"
