"""What parameters a node has: read from `config/parameters/<node>.yaml`, checked without ROS.

One entry per parameter:

    publish_every:
      type: int              # bool, int, float, string, or one of them with `_array`
      default: 1
      unit: frames           # empty or absent: a pure number or a name
      min: 1                 # inclusive, numbers only; for arrays of every element
      max: 1000
      choices: [a, b]        # strings only
      read_only: true        # only settable at start
      description: One sentence.
"""

from __future__ import annotations

import builtins
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from crl_node.paths import parameters_file

TYPES: dict[str, type] = {"bool": bool, "int": int, "float": float, "string": str}
FIELDS = {"type", "default", "unit", "min", "max", "choices", "read_only", "description"}
#: Declared by rclpy itself for every node.
BUILTIN = ("use_sim_time", "start_type_description_service")


class ParameterError(ValueError):
    """A parameter file or value that cannot be used; the text says which, where and why."""


@dataclass(frozen=True)
class ParameterSpec:
    """One declared parameter."""

    name: str
    type: str  # "float", "string_array", ...
    default: Any
    description: str
    unit: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] = ()
    read_only: bool = False

    @property
    def is_array(self) -> bool:
        return self.type.endswith("_array")

    @property
    def element(self) -> builtins.type:
        """Python type of the value, or of its elements."""
        return TYPES[self.type.removesuffix("_array")]

    def coerce(self, value: Any) -> Any:
        """`value` as this parameter's type, or ParameterError. Whole numbers are welcome where floats are asked for."""
        if not self.is_array:
            return self._one(value)
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            raise ParameterError(f"parameter '{self.name}' is {value!r}, it must be a list of {self.element.__name__}s")
        return [self._one(item) for item in value]

    def _one(self, value: Any) -> Any:
        wanted: Any = self.element
        if hasattr(value, "item"):  # a numpy scalar
            value = value.item()
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not wanted:
            raise ParameterError(
                f"parameter '{self.name}' is {value!r} ({type(value).__name__}), it must be a {wanted.__name__}"
            )
        if wanted is float and math.isnan(value):
            raise ParameterError(f"parameter '{self.name}' is NaN, it must be a number{self._range()}")
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        if wanted in (int, float) and not low <= value <= high:
            raise ParameterError(f"parameter '{self.name}' is {value}{self._unit()}, it must be{self._range()}")
        if self.choices and value not in self.choices:
            raise ParameterError(f"parameter '{self.name}' is '{value}', it must be one of {', '.join(self.choices)}")
        return value

    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _range(self) -> str:
        low = "" if self.min is None else f" >= {self.min:g}"
        high = "" if self.max is None else f" <= {self.max:g}"
        return f"{low}{' and' if low and high else ''}{high}{self._unit() if low or high else ''}"

    def help(self) -> str:
        """Description, unit and range in one line."""
        parts = [self.unit, self._range().strip(), ", ".join(self.choices)]
        note = "; ".join(part for part in parts if part)
        return f"{self.description} [{note}]" if note else self.description


def load_specs(node: str) -> dict[str, ParameterSpec]:
    """Parameters of `node`, in the order of its file."""
    return read_specs(parameters_file(node))


def read_specs(path: Path) -> dict[str, ParameterSpec]:
    """Parameters declared in the file at `path`, checked."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ParameterError(f"cannot read the parameter file {path}: {error.strerror}") from error
    try:
        raw = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ParameterError(f"{path} holds a {type(raw).__name__}, it must map parameter names to their fields")
    return {name: _spec(path, name, entry) for name, entry in raw.items()}


def _spec(path: Path, name: str, entry: Any) -> ParameterSpec:
    where = f"{path}: parameter '{name}'"
    if not isinstance(entry, dict):
        raise ParameterError(f"{where} holds {entry!r}, it must have at least type, default and description")
    unknown = set(entry) - FIELDS
    if unknown:
        raise ParameterError(
            f"{where} has the unknown field '{sorted(unknown)[0]}'; fields are {', '.join(sorted(FIELDS))}"
        )
    for field in ("type", "default", "description"):
        if field not in entry:
            raise ParameterError(f"{where} has no '{field}'")
    if str(entry["type"]).removesuffix("_array") not in TYPES:
        raise ParameterError(f"{where} has type '{entry['type']}'; types are {', '.join(TYPES)} and <type>_array")
    spec = ParameterSpec(
        name=name,
        type=entry["type"],
        default=None,
        description=" ".join(str(entry["description"]).split()),
        unit=str(entry.get("unit", "")),
        min=entry.get("min"),
        max=entry.get("max"),
        choices=tuple(entry.get("choices", ())),
        read_only=bool(entry.get("read_only", False)),
    )
    try:
        default = spec.coerce(entry["default"])
    except ParameterError as error:
        raise ParameterError(f"{path}: the default of {error}") from error
    return ParameterSpec(**{**spec.__dict__, "default": default})


def check_overrides(node: str, values: dict[str, Any]) -> dict[str, Any]:
    """`values` for `node` with their declared types; ParameterError names the first that is unknown or wrong."""
    specs = load_specs(node)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name in BUILTIN:
            checked[name] = value
            continue
        if name not in specs:
            raise ParameterError(
                f"node '{node}' has no parameter '{name}'; it has {', '.join(specs)} (see {parameters_file(node)})"
            )
        try:
            checked[name] = specs[name].coerce(value)
        except ParameterError as error:
            raise ParameterError(f"node '{node}': {error}") from error
    return checked
