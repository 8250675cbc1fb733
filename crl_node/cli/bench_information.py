"""`crl bench information`: expected against gained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from crl_node.parameter_spec import ParameterError

SIGHTS = ("pixels", "truth")


def measure(
    modules: Callable[[str], ModuleType], worlds: list[str], seeds: list[int], sights: list[str], steps: int,
    width: int, folder: Path, again: bool, console: Console,
) -> dict[str, Any]:  # fmt: skip
    """Run benchmarks/information.py, write its JSON and picture into `folder`, print the slopes."""
    if unknown := [sight for sight in sights if sight not in SIGHTS]:
        raise ParameterError(f"there is no sight '{unknown[0]}'; there are {', '.join(SIGHTS)}")
    if not 1 <= width <= steps:
        raise ParameterError(f"windows of {width} steps do not fit into {steps} steps")
    module = modules("information")

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    before = modules("runs").machine_load()
    found = module.measure(worlds, seeds, sights, steps, width, folder, again, say)
    result: dict[str, Any] = {"machine_before": before, **found}
    (folder / "information.json").write_text(json.dumps(result, indent=1, default=float))
    module.picture(result, folder / "information.png")
    table = Table("run", "part", "windows", "expected", "gained", "sums", "slope", "median ratio", "correlation")
    for name, rows in result["agreement"].items():
        for part, row in rows.items():
            values = [row[k] for k in ("expected", "gained", "ratio", "slope", "median_ratio", "correlation")]
            table.add_row(name, part, str(row["windows"]), *(f"{value:.2f}" for value in values))
    console.print(table)
    say(f"written: {folder / 'information.json'}, {folder / 'information.png'}")
    return result
