"""Strict reading of a YAML file: every complaint names the file, the line and the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

_T = TypeVar("_T")


class ProfileError(ValueError):
    """A robot profile that cannot be used; the message names file, line, field and what was received."""


class Field:
    """One YAML node with its place in the file, read by asking for what is wanted of it."""

    def __init__(self, path: Path, name: str, node: yaml.Node) -> None:
        self.path = path
        self.name = name
        self._node = node
        self._asked: set[str] = set()
        self._children = self._index() if isinstance(node, yaml.MappingNode) else {}

    @classmethod
    def load(cls, path: Path) -> Field:
        """The whole document. Raises ProfileError when it is absent or not one YAML mapping."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: cannot be read: {error}") from error
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ProfileError(f"{path}:{line}: not valid YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            raise ProfileError(f"{path}:1: not valid YAML: {error}") from error
        if not isinstance(node, yaml.MappingNode):
            raise ProfileError(f"{path}:1: wanted a mapping of fields, received {_kind(node)}")
        return cls(path, "", node)

    def error(self, sentence: str) -> ProfileError:
        """A ProfileError that opens with this field's place."""
        place = f"{self.path}:{self._node.start_mark.line + 1}: "
        return ProfileError(place + (f"field '{self.name}' {sentence}" if self.name else sentence))

    def _index(self) -> dict[str, Field]:
        assert isinstance(self._node, yaml.MappingNode)
        children: dict[str, Field] = {}
        for key, value in self._node.value:
            name = str(key.value)
            if name in children:
                raise ProfileError(f"{self.path}:{key.start_mark.line + 1}: field '{name}' is given twice")
            children[name] = Field(self.path, f"{self.name}.{name}" if self.name else name, value)
        return children

    def has(self, key: str) -> bool:
        """The mapping has this key."""
        return key in self._children

    def get(self, key: str) -> Field:
        """The child with this key; ProfileError when it is absent or this is no mapping."""
        self._asked.add(key)
        if not isinstance(self._node, yaml.MappingNode):
            raise self.error(f"is {_kind(self._node)}, wanted a mapping with '{key}'")
        if key not in self._children:
            raise self.error(f"lacks '{key}' (it has {', '.join(self._children) or 'nothing'})")
        return self._children[key]

    def items(self) -> list[tuple[str, Field]]:
        """Key and child of every entry, in the file's order."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.error(f"is {_kind(self._node)}, wanted a mapping")
        self._asked.update(self._children)
        return list(self._children.items())

    def elements(self) -> list[Field]:
        """The elements of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.error(f"is {_kind(self._node)}, wanted a list")
        return [Field(self.path, f"{self.name}[{i}]", node) for i, node in enumerate(self._node.value)]

    def done(self) -> None:
        """Every key was asked for; ProfileError on the first that nobody knows."""
        for key, child in self._children.items():
            if key not in self._asked:
                raise child.error(f"is unknown here (known: {', '.join(sorted(self._asked))})")

    def text(self) -> str:
        """A non-empty string."""
        if not isinstance(self._node, yaml.ScalarNode) or not str(self._node.value).strip():
            raise self.error(f"is {_kind(self._node)}, wanted a text")
        return str(self._node.value)

    def number(self, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number in [low, high]."""
        try:
            if not isinstance(self._node, yaml.ScalarNode):
                raise ValueError
            value = float(self._node.value)
        except ValueError:
            raise self.error(f"is {_kind(self._node)}, wanted a number") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise self.error(f"is {value:g}, wanted a finite number from {low:g} to {high:g}")
        return value

    def numbers(self, count: int) -> tuple[float, ...]:
        """A list of exactly `count` finite numbers."""
        elements = self.elements()
        if len(elements) != count:
            raise self.error(f"has {len(elements)} numbers, wanted {count}")
        return tuple(element.number() for element in elements)

    def interval(self) -> tuple[float, float]:
        """Two numbers, the first smaller than the second."""
        low, high = self.numbers(2)
        if not low < high:
            raise self.error(f"is [{low:g}, {high:g}], wanted the smaller number first")
        return low, high

    def optional(self, key: str, read: Callable[[Field], _T], default: _T) -> _T:
        """`read(child)` when the key is there, else `default`."""
        self._asked.add(key)
        return read(self._children[key]) if key in self._children else default


def _kind(node: yaml.Node | None) -> str:
    if node is None:
        return "nothing"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"'{node.value}'"
