"""With which parameters a bag was recorded: in the bag itself, else in the run.json beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from crl_node.bags.metadata import PARAMETERS
from crl_node.bags.reader import BagReader
from crl_node.parameter_spec import BUILTIN, ParameterError, check_overrides, load_specs
from crl_node.system import read_params_file

#: Whose parameters a replay needs.
NODES = ("learner", "planner")


class ReplayError(ValueError):
    """A bag that cannot be replayed or learned from; the text says which and why."""


@dataclass(frozen=True)
class Settings:
    """The recorded parameters of learner and planner."""

    parameters: Mapping[str, Mapping[str, Any]]  # node -> parameter -> value, every declared one is there
    source: str  # where they were found, in words
    notes: tuple[str, ...] = ()

    def node(self, name: str) -> SimpleNamespace:
        """The parameters of one node as attributes, as the node itself has them."""
        return SimpleNamespace(**self.parameters[name])

    @property
    def lockstep(self) -> bool:
        return bool(self.parameters["learner"]["lockstep"])

    @property
    def seed(self) -> int:
        return int(self.parameters["learner"]["seed"])

    def with_seed(self, seed: int) -> Settings:
        """The same settings with another seed of learner and planner."""
        changed = {name: {**values, "seed": seed} for name, values in self.parameters.items()}
        return replace(self, parameters=changed, notes=(*self.notes, f"the seed is {seed} instead of {self.seed}"))


def read_settings(reader: BagReader, params_file: Path | None = None) -> Settings:
    """The settings of a bag; `params_file` (a ROS params file) wins over what was recorded.

    Looked for in the bag's own metadata, then in the run.json beside its folder. ReplayError when there is neither
    and no params file either; ParameterError when a value does not fit its declaration.
    """
    given, source = _from_metadata(reader.custom)
    if not given:
        given, source = _from_run(reader.path)
    overrides = read_params_file(params_file) if params_file is not None else {}
    if not given and "learner" not in overrides:
        raise ReplayError(
            f"bag {reader.path} does not say with which parameters it was recorded (neither in its metadata nor in a "
            "run.json beside it); name a ROS params file with --params-file that holds those of 'learner' and 'planner'"
        )
    if overrides:
        source = f"{source}, then {params_file}" if source else str(params_file)
    notes, parameters = [], {}
    for node in NODES:
        recorded, unknown = _known(node, given.get(node, {}))
        if unknown:
            notes.append(f"parameters of '{node}' that this version does not have are left out: {', '.join(unknown)}")
        if node not in given and node not in overrides:
            notes.append(f"no parameters of '{node}' were recorded; it has its defaults")
        defaults = {spec.name: spec.default for spec in load_specs(node).values()}
        parameters[node] = {**defaults, **check_overrides(node, recorded), **overrides.get(node, {})}
    return Settings(parameters, source, tuple(notes))


def _known(node: str, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Declared parameters of `node` among `values`, and the names of the others."""
    declared = load_specs(node)
    other = [name for name in values if name not in declared and name not in BUILTIN and "." not in name]
    # A parameter that was never set (an empty list is one, for ROS) has its default.
    return {name: value for name, value in values.items() if name in declared and value is not None}, sorted(other)


def _from_metadata(custom: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], str]:
    try:
        found = json.loads(custom[PARAMETERS])
    except (KeyError, ValueError):
        return {}, ""
    if not isinstance(found, dict):
        return {}, ""
    # By full name: of several namespaces the first in the alphabet that has a learner.
    namespaces = sorted(name.rpartition("/")[0] for name in found if name.rpartition("/")[2] == "learner")
    if not namespaces:
        return {}, ""
    prefix = f"{namespaces[0]}/"
    return {
        name.removeprefix(prefix): dict(values) for name, values in found.items() if name.startswith(prefix)
    }, "the bag's metadata"


def _from_run(bag: Path) -> tuple[dict[str, dict[str, Any]], str]:
    """Parameters on the nodes' command lines in run.json, beside the bag's folder."""
    path = (bag if bag.is_dir() else bag.parent).absolute().parent / "run.json"
    try:
        commands = json.loads(path.read_text(encoding="utf8"))["commands"]
        found = {name: _arguments(command, path) for name, command in commands.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}, ""
    return found, str(path)


def _arguments(command: list[str], run: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for option, value in zip(command, command[1:], strict=False):
        if option == "-p":
            name, _, text = value.partition(":=")
            values[name] = yaml.safe_load(text)
        elif option == "--params-file":
            node = next((c.partition(":=")[2] for c in command if c.startswith("__node:=")), "")
            try:
                values |= read_params_file(Path(value)).get(node, {})
            except ParameterError as error:
                raise ReplayError(f"{run} names a params file that cannot be read: {error}") from error
    return values
