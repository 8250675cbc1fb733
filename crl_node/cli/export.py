"""`crl export`: the planning graph as one ONNX file of the size and build that is wanted."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from crl_node.checkpoint import CheckpointError
from crl_node.export.onnx_model import ModelError
from crl_node.export.spec import PlanShape
from crl_node.parameter_spec import ParameterError
from crl_node.posterior import PosteriorError

console = Console()
_DEFAULT = PlanShape()


class Build(StrEnum):
    """How the steps of a roll-out stand in the file."""

    scan = "scan"
    unrolled = "unrolled"


def export(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|CHECKPOINT|MODEL]",
            help="What was learned: a run's folder, a checkpoint.npz or a model.onnx; without it: nothing.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", "-o", help="Where the file and its card go.")] = Path("models"),
    name: Annotated[str, typer.Option(help="Name of the file without .onnx; else made of its sizes.")] = "",
    build: Annotated[
        Build, typer.Option(help="scan: small, for CPUs. unrolled: no Loop, Scan or If, for CUDA graphs.")
    ] = Build.scan,
    candidates: Annotated[int, typer.Option(min=2, help="N, action sequences.")] = _DEFAULT.candidates,
    horizon: Annotated[int, typer.Option(min=1, help="H, steps.")] = _DEFAULT.horizon,
    iterations: Annotated[int, typer.Option(min=1, help="Of iCEM.")] = _DEFAULT.iterations,
    elites: Annotated[int, typer.Option(min=1, help="Sequences that are kept in an iteration.")] = _DEFAULT.elites,
    slots: Annotated[int, typer.Option(min=2, help="S; the default fits a learner's posterior.")] = _DEFAULT.slots,
    terms: Annotated[int, typer.Option(min=1, help="P, likewise.")] = _DEFAULT.terms,
    particles: Annotated[int, typer.Option(min=1, help="K, likewise.")] = _DEFAULT.particles,
) -> None:
    """Write the planning graph as ONNX, with what a run has learned in it, and a card that says what goes in and out.

    The file plans by itself: examples/plan_from_file.py needs nothing but numpy and onnxruntime. Takes about half a
    minute, most of it tracing.
    """
    try:
        shape = PlanShape(
            slots=slots, terms=terms, particles=particles, candidates=candidates, horizon=horizon,
            iterations=iterations, elites=elites, body_terms=min(_DEFAULT.body_terms, terms),
            light_terms=min(_DEFAULT.light_terms, terms),
        )  # fmt: skip
    except ValueError as error:
        raise ParameterError(str(error)) from error
    from crl_node.export import build as files  # torch takes seconds to import: --help must not wait for it
    from crl_node.export.fill import fill, source_in

    try:
        if source is not None:
            source_in(source)  # before the work, not after it
        console.print(f"tracing {shape.name}, {build} …", highlight=False)
        stem = name or shape.name + ("" if build is Build.scan else f"_{build}")
        info = files.export(shape, folder, str(build), name=stem)
        if source is not None:
            info = fill(info.path, source)
    except (ModelError, CheckpointError, PosteriorError) as error:
        raise ParameterError(str(error)) from error
    known = f"posterior version {info.posterior_version}" if info.posterior_hash else "nothing learned yet"
    console.print(
        f"{info.path}: {info.path.stat().st_size} bytes, opset {info.opset}, {known}, sha256 {info.hash[:12]}…; "
        f"card: {info.path.with_suffix('.md')}", highlight=False, soft_wrap=True, markup=False,
    )  # fmt: skip
