"""`crl bench`: the measurements behind every number of the README, as JSON."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crl_node.cli import bench_exploration
from crl_node.cli.bench_latency import latency
from crl_node.parameter_spec import ParameterError
from crl_node.paths import share

bench_app = typer.Typer(
    no_args_is_help=True, help="Measure: whole runs, real time, the planner, structure engines. JSON with `--out`."
)
console = Console()

Out = Annotated[Path | None, typer.Option("--out", "-o", help="JSON file for the figures.")]
Folder = Annotated[Path, typer.Option(help="Where the runs go; finished ones there are not run again.")]


def _module(name: str) -> ModuleType:
    """benchmarks/<name>.py, which is data of the package, not part of it."""
    path = share() / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"crl_benchmarks_{name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ParameterError(f"there is no benchmark {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _numbers(text: str) -> list[int]:
    """'0-2,7' -> [0, 1, 2, 7]."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            found += range(int(first), int(last or first) + 1)
        except ValueError as error:
            raise ParameterError(f"'{text}' is not a list of numbers like 0-4 or 0,2,5") from error
    return found


def _write(result: dict[str, Any], out: Path | None) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1, default=str))
        console.print(f"written: {out}")


def _text(value: Any) -> str:
    return "–" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


@bench_app.command()
def runs(
    worlds: Annotated[str, typer.Option(help="Worlds by name, with commas.")] = "tabletop,four_cubes,clutter",
    seeds: Annotated[str, typer.Option(help="Seeds like 0-4 or 0,2.")] = "0-4",
    policies: Annotated[str, typer.Option(help="curious, skills, random; with commas.")] = "curious",
    seconds: Annotated[float, typer.Option(min=1.0, help="Simulated seconds of each run.")] = 180.0,
    jobs: Annotated[
        int, typer.Option(min=1, help="Runs at the same time (in lockstep the results do not depend on it).")
    ] = 1,
    folder: Folder = Path("runs/bench"),
    out: Out = None,
) -> None:
    """Whole runs in lockstep, worlds x seeds x policies: slots, held-out contact R², edges, things moved."""
    module = _module("runs")
    specs = module.matrix(worlds.split(","), _numbers(seeds), policies.split(","), seconds)
    keys = (
        "slot_r2_median", "slot_r2_worst", "identity_swaps", "lamp_auroc", "contact_r2", "contact_r2_60", "edge_auroc",
        "things_moved_60", "metres_moved_60",
    )  # fmt: skip
    table = Table("run", *keys, box=None)
    rows = []
    for number, (spec, report) in enumerate(module.run_all(specs, folder, jobs=jobs), 1):
        row = module.row(spec, report)
        rows.append(row)
        shown = row.get("error") or " ".join(f"{key} {_text(row[key])}" for key in keys)
        console.print(
            f"[{number}/{len(specs)}] {spec.name}: {shown}", highlight=False, soft_wrap=True, markup=False
        )
        table.add_row(spec.name, *(_text(row.get(key)) for key in keys))
    result = {"machine": module.machine_load(), "rows": rows, "summary": module.summary(rows)}
    for key in ("contact_r2_60", "metres_moved_60", "things_moved_60"):
        for other in set(policies.split(",")) - {"curious"}:
            result[f"{key}: curious against {other}"] = module.paired(rows, key, "curious", other)
    console.print(table)
    _write(result, out)
    raise typer.Exit(1 if any("error" in row for row in rows) else 0)


@bench_app.command()
def realtime(
    world: Annotated[str, typer.Option(help="World by name or path.")] = "tabletop",
    seconds: Annotated[float, typer.Option(min=5.0, help="Seconds at real time.")] = 120.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    folder: Folder = Path("runs/bench"),
    out: Out = None,
) -> None:
    """One run at real time, learning and recording on: ticks missed, latencies p50/p99, memory, bag completeness."""
    module = _module("runs")
    before = module.machine_load()
    spec = module.RunSpec(world, seed, "curious", seconds, lockstep=False)
    report = module.run_one(spec, folder)
    row = module.row(spec, report)
    if "error" in row:
        console.print(row["error"], markup=False)
        raise typer.Exit(1)
    result = {
        "machine_before": before,
        "machine_after": module.machine_load(),
        **{key: row[key] for key in ("ticks", "latency_ms", "memory_mb", "bag_share", "contact_r2")},
    }
    console.print_json(json.dumps(result))
    _write(result, out)


@bench_app.command()
def faults(
    inputs: Annotated[int, typer.Option(min=0, help="Generated inputs to the gate.")] = 1_000_000,
    mutants: Annotated[int, typer.Option(min=0, help="Damaged and forged model files and checkpoints.")] = 1000,
    kills: Annotated[int, typer.Option(min=0, help="Writers of exports and checkpoints killed with -9.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Out = None,
) -> None:
    """Campaigns against everything that takes input (docs/faults.md); a campaign of 0 is left out. About half an hour.

    Exit code 1 when anything unsafe left the gate, a file was not whole, or an old model stopped serving.
    """
    module, machine = _module("faults"), _module("runs").machine_load
    result: dict[str, Any] = {"machine": machine(), "seed": seed}

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, markup=False)

    campaigns = (
        ("gate", inputs, lambda: module.GateCampaign(seed).run(inputs, say)),
        ("kills", kills, lambda: module.kills(kills, seed=seed, say=say)),
        ("mutants", mutants, lambda: module.mutants(mutants, seed=seed, say=say)),
    )
    for name, count, campaign in campaigns:
        if count:
            result[name] = campaign()
            result[name]["machine_after"] = machine()
            _write(result, out)
    console.print_json(json.dumps(result))
    served = result.get("mutants", {"old_model_served": 0, "old_model_asked": 0})
    good = (
        result.get("gate", {"unsafe": 0})["unsafe"] == 0
        and result.get("kills", {"loadable": 0, "kills": 0})["loadable"] == (kills if "kills" in result else 0)
        and served["old_model_served"] == served["old_model_asked"]
    )
    raise typer.Exit(0 if good else 1)


@bench_app.command()
def planner(
    model: Annotated[
        Path | None, typer.Option(help="Only this model.onnx (`shipped`: the shipped one) against eager torch.")
    ] = None,
    calls: Annotated[int, typer.Option(min=10, help="Planning calls a figure.")] = 100,
    provider: Annotated[str, typer.Option(help="cpu, or cuda: the unrolled build on the GPU beside it.")] = "cpu",
    folder: Annotated[
        Path, typer.Option(help="Plan files of all sizes; those there are not exported again.")
    ] = Path("runs/bench/planner"),
    quick: Annotated[bool, typer.Option("--quick", help="One size, no growth, no quality: does it run?")] = False,
    out: Out = None,
) -> None:
    """Planning calls side by side: ours, the same in eager torch, mbrl-lib's PETS-like iCEM; both libraries' optimisers
    (mbrl-lib, pytorch_mppi) on our model; growth with N, H, K and slots; what bounds a call. Plot beside the JSON.

    About ten minutes, half of it exporting plan files of all sizes. What is not installed is left out and named
    (requirements/bench.txt).
    """
    module, before = _module("planner"), _module("runs").machine_load()
    result: dict[str, Any] = {"machine": before}
    if model is not None:
        shipped = next(iter(sorted((share() / "models").glob("plan_*.onnx"))))
        file = shipped if str(model) == "shipped" else model
        result |= module.measure(file, calls=calls, provider="auto" if provider == "cpu" else provider)
    else:

        def say(text: str) -> None:
            console.print(text, highlight=False, soft_wrap=True, markup=False)

        result |= module.compare(folder, _module, say, calls=calls, quick=quick, provider=provider)
        for name in result["left_out"]:
            console.print(f"left out: {name} is not installed (requirements/bench.txt)", style="yellow")
    result["machine_after"] = _module("runs").machine_load()
    console.print_json(json.dumps(result))
    _write(result, out)
    if out is not None and model is None:
        _module("planner_plots").plot(result, out.with_suffix(".png"))
        console.print(f"written: {out.with_suffix('.png')}")


@bench_app.command()
def structure(
    parts: Annotated[
        str, typer.Option(help="agreement, time, calibration, modes, growth, discover. With commas.")
    ] = "agreement,time,calibration,modes,growth,discover",
    engines: Annotated[
        str, typer.Option(help="Engines by name, with commas.")
    ] = "greedy,mcmc,particles,gflownet,amortised,amortised_raw",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for JSON and figures.")] = Path(
        "runs/bench/structure"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Seed of all problems.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A few small problems: does it run?")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure parts anew that are in the folder already.")] = False,
) -> None:
    """Structure engines on problems from the prior: agreement with exact, time to it, calibration, modes.

    One JSON and one figure for each part; a part that is in the folder with the same settings is not measured again.
    """
    from crl_node.cli.bench_structure import measure

    result = measure(
        parts.split(","), engines.split(","), out, seed=seed, quick=quick, again=again, modules=_module, console=console
    )
    _write(result, out / "structure.json")


@bench_app.command()
def environments(
    seeds: Annotated[str, typer.Option(help="Seeds like 0-4 or 0,2.")] = "0-2",
    worlds: Annotated[bool, typer.Option(help="Also the changing world (minutes a seed).")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few problems: does it work?")] = False,
    folder: Annotated[Path, typer.Option(help="Recorded logs; missing ones are recorded.")] = Path("runs/logs"),
    out: Out = None,
) -> None:
    """What is invariant: calibration, PC against the posterior on time series, the changing world. Plot beside JSON."""
    module, numbers = _module("environments"), _numbers(seeds)
    result: dict[str, Any] = {"machine": _module("runs").machine_load()}
    console.print("calibration of P(invariant) on problems from its prior …")
    result["calibration"] = module.calibration(numbers, problems=10 if quick else 70)
    console.print(f"calibration error {_text(result['calibration']['calibration_error'])}")
    console.print("edges of linear time series, PC and the posterior …")
    result["pc"] = module.against_pc(numbers[:1] if quick else numbers)
    if result["pc"]["note"]:
        console.print(result["pc"]["note"], style="yellow")
    if worlds:
        result["worlds"] = {"states": True, "rows": []}
        for number, seed in enumerate(numbers, 1):
            console.print(f"[{number}/{len(numbers)}] the changing world, seed {seed} …", markup=False)
            result["worlds"]["rows"] += module.worlds([seed], folder)["rows"]
        console.print("how fast the changed mechanism is learned anew …")
        result["recovery"] = module.recovery(numbers, folder)
        result["worlds_pc"] = module.worlds_against_pc(numbers, folder)
    console.print_json(json.dumps(result, default=str))
    _write(result, out)
    if out is not None:
        module.plot(result, out.with_suffix(".png"))
        console.print(f"written: {out.with_suffix('.png')}")


@bench_app.command()
def research(
    questions: Annotated[
        str, typer.Option(help="core_and_tail, particles, inference, point; with commas.")
    ] = "core_and_tail,particles,inference,point",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for JSON and figures.")] = Path(
        "runs/bench/research"
    ),
    structure: Annotated[
        Path, typer.Option("--structure", help="Folder of `crl bench structure`, for the question of inference.")
    ] = Path("runs/bench/structure"),
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the runs in simulation.")] = 4,
    quick: Annotated[bool, typer.Option("--quick", help="Short runs: does it work?")] = False,
) -> None:
    """The research questions of docs/research.md: one JSON and one figure each."""
    module = _module("research")
    unknown = [name for name in questions.split(",") if name not in module.QUESTIONS]
    if unknown:
        raise ParameterError(f"there is no question '{unknown[0]}'; there are {', '.join(module.QUESTIONS)}")
    out.mkdir(parents=True, exist_ok=True)
    setattr(module, "RUNS", out / "runs")  # noqa: B010
    results: dict[str, Any] = {}
    for name in questions.split(","):
        measure, picture = module.QUESTIONS[name]
        extra: dict[str, Any] = {"seeds": seeds}
        if name == "inference":
            parts = {p.stem: json.loads(p.read_text()) for p in sorted(structure.glob("*.json"))}
            extra["structure"] = parts or None
        before = _module("runs").machine_load()
        found = measure(quick, lambda line: console.print(line, highlight=False, markup=False), **extra)
        if not found:
            continue
        results[name] = {"machine_before": before, **found}
        _write(results[name], out / f"{name}.json")
        picture(found, out / f"{name}.png")
        console.print(f"written: {out / name}.png")


bench_app.command()(latency)


@bench_app.command()
def exploration(
    worlds: bench_exploration.Worlds = "four_cubes",
    seeds: Annotated[str, typer.Option(help="Of placement, model and policy: 0-9 or 0,2,5.")] = "0-9",
    policies: bench_exploration.Policies = "curious,skills,random,disagreement,rnd",
    sight: bench_exploration.Sight = "pixels",
    steps: Annotated[int, typer.Option(min=20, help="Control steps of .1 s in an episode.")] = 300,
    every: Annotated[int, typer.Option(min=1, help="Control steps between two points of the curves.")] = 5,
    model: bench_exploration.Model = "",
    jobs: Annotated[int, typer.Option(min=1, help="Episodes at a time, a process each.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for episodes, JSON and figures.")] = Path(
        "runs/bench/exploration"
    ),
) -> None:
    """How soon each policy finds things out, in lockstep, paired by seed; curves beside the JSON. Resumes."""
    todo = bench_exploration.specs_of(worlds, _numbers(seeds), policies, sight, steps, every, model)
    before = _module("runs").machine_load()
    found = bench_exploration.run(_module("exploration"), todo, out, jobs)
    _write({"machine_before": before, **found}, out / "exploration.json")


@bench_app.command()
def information(
    worlds: Annotated[str, typer.Option(help="Worlds by name, with commas.")] = "four_cubes,tabletop",
    seeds: Annotated[str, typer.Option(help="Seeds like 0-4 or 0,2.")] = "0-2",
    sights: Annotated[str, typer.Option(help="pixels, truth; with commas.")] = "pixels,truth",
    steps: Annotated[int, typer.Option(min=1, help="Control steps of each run.")] = 300,
    width: Annotated[int, typer.Option(min=1, help="Control steps of one window.")] = 10,
    folder: Folder = Path("runs/bench/information"),
    again: Annotated[bool, typer.Option("--again", help="Measure anew what is there.")] = False,
) -> None:
    """Is the curiosity calibrated? Nats expected of what was done against nats gained, by part: slopes, a picture."""
    from crl_node.cli.bench_information import measure

    measure(
        _module, worlds.split(","), _numbers(seeds), sights.split(","), steps, width, folder, again, console
    )  # fmt: skip
