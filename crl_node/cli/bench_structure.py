"""`crl bench structure`: parts, what is done already, figures."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from crl_node.parameter_spec import ParameterError
from crl_node.structure.engines import ENGINES, make_engine

#: Parts that are functions `part(quick, say) -> dict` of other benchmark files.
ELSEWHERE = {"growth": "discover", "discover": "discover"}


def usable(names: list[str], console: Console) -> tuple[str, ...]:
    """The engines asked for, less those that cannot be made here, each with the reason in a line."""
    from crl_node.export.onnx_model import ModelError

    found = []
    for name in names:
        if name not in ENGINES:
            raise ParameterError(f"there is no structure engine '{name}'; there are {', '.join(ENGINES)}")
        try:
            make_engine(name)
        except ModelError as error:
            console.print(f"left out: {name} ({error})", markup=False)
            continue
        found.append(name)
    return tuple(found)


def measure(
    parts: list[str], names: list[str], folder: Path, *, seed: int, quick: bool, again: bool, modules: Any,
    console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Run the parts that are not in `folder` yet for these settings; write JSON and PNG of each; return all results.

    modules: name of a benchmark file -> its module; raises ParameterError where there is none.
    """
    structure: ModuleType = modules("structure")
    unknown = [part for part in parts if part not in structure.PARTS and part not in ELSEWHERE]
    if unknown:
        raise ParameterError(
            f"there is no part '{unknown[0]}'; there are {', '.join([*structure.PARTS, *ELSEWHERE])}"
        )
    missing = [part for part in parts if part in ELSEWHERE and not has(modules, part)]
    if missing:
        raise ParameterError(f"part '{missing[0]}' is not measured by benchmarks/{ELSEWHERE[missing[0]]}.py here")
    engines = usable(names, console)
    settings = replace(structure.QUICK if quick else structure.Settings(engines), engines=engines, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {}

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    for part in parts:
        file = folder / f"{part}.json"
        wanted = {**asdict(settings), "quick": quick}
        wanted = json.loads(json.dumps(wanted))
        kept = _kept(file, wanted) if not again else None
        if kept is not None:
            say(f"{part}: taken from {file}; --again measures anew")
            results[part] = kept
        else:
            load = modules("runs").machine_load
            before = load()
            if part in structure.PARTS:
                found = structure.PARTS[part](settings, say)
            else:
                found = getattr(modules(ELSEWHERE[part]), part)(quick, say)
            found = {"settings": wanted, "machine_before": before, "machine_after": load(), **found}
            # Whole or not at all: an interrupted run leaves no half file to be taken for a result.
            partial = file.with_suffix(".part")
            partial.write_text(json.dumps(found, indent=1))
            partial.replace(file)
            results[part] = found
        plots = modules("structure_plots").PLOTS
        if part in plots:
            plots[part](results[part], folder / f"{part}.png")
    return results


def has(modules: Any, part: str) -> bool:
    """Whether the file that measures a part elsewhere is there."""
    try:
        return hasattr(modules(ELSEWHERE[part]), part)
    except ParameterError:
        return False


def _kept(file: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run measured, if it measured the same."""
    if not file.is_file():
        return None
    try:
        kept: dict[str, Any] = json.loads(file.read_text())
    except json.JSONDecodeError:
        return None
    return kept if kept.get("settings") == wanted else None
