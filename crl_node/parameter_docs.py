"""docs/parameters.md, made from the files that declare the parameters: what is documented is what is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crl_node.parameter_spec import ParameterSpec, load_specs
from crl_node.paths import share

_HEAD = """# Parameters

Of every node, made by `crl params --write` from `config/parameters/*.yaml`, where each is declared once; a test checks
that this page is current. A value of a wrong type or outside its range is refused, at the start (the node ends with a
sentence and exit code 2) and at run time (`ros2 param set` says why). "start" parameters cannot be changed while the
node runs. Set them in a ROS params file (`crl sim --params-file`, `params_file:=` of the launch files).
"""


def nodes_with_parameters() -> list[str]:
    """Names of the declared parameter files."""
    return sorted(path.stem for path in (share() / "config" / "parameters").glob("*.yaml"))


def page() -> str:
    """The whole page as markdown."""
    parts = [_HEAD]
    for node in nodes_with_parameters():
        parts.append(f"\n## {node}\n\n| parameter | type | default | unit, range | |\n|---|---|---|---|---|\n")
        parts += [_row(spec) for spec in load_specs(node).values()]
    return "".join(parts)


def _row(spec: ParameterSpec) -> str:
    kind = spec.type + (", start" if spec.read_only else "")
    cells = (f"`{spec.name}`", kind, _value(spec.default), _allowed(spec), spec.description)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    if isinstance(value, list):
        return ", ".join(map(_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(spec: ParameterSpec) -> str:
    low = "" if spec.min is None else f"{spec.min:g}"
    high = "" if spec.max is None else f"{spec.max:g}"
    bounds = f"{low} … {high}" if low and high else f"≥ {low}" if low else f"≤ {high}" if high else ""
    return "; ".join(part for part in (spec.unit, bounds, ", ".join(spec.choices)) if part)


def documentation_file() -> Path:
    """Where the page lies in the source tree."""
    return share() / "docs" / "parameters.md"
