"""Reading a YAML file with checks whose errors name file, line and field: worlds, robot profiles, cameras."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

#: Cut-off for values quoted in errors, characters.
QUOTE = 60


class FieldError(ValueError):
    """A file that cannot be used, in one sentence: file:line, field, value received, what is allowed."""


class WorldError(FieldError):
    """A world that cannot be used."""


class ProfileError(FieldError):
    """A robot profile that cannot be used, or joints that do not fit it."""


class CameraError(FieldError):
    """A camera calibration that cannot be used."""


def quote(value: Any) -> str:
    """`value` as short text for an error message."""
    text = repr(_plain(value))
    return text if len(text) <= QUOTE else text[: QUOTE - 3] + "..."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(value)
    return str(value) if isinstance(value, str) else value


class Fields:
    """One mapping of a YAML file. Every read is checked; `done()` then refuses what nobody asked for."""

    def __init__(
        self, mapping: CommentedMap, file: Path, path: str = "", line: int = 1, kind: type[FieldError] = FieldError
    ) -> None:
        """`path` is the mapping's own name in the file, `kind` what its errors are raised as."""
        self._map = mapping
        self._file = file
        self._path = path
        self._line = line
        self._kind = kind
        self._known: list[str] = []

    @property
    def file(self) -> Path:
        """The file this comes from."""
        return self._file

    def names(self) -> tuple[str, ...]:
        """Names of the fields that are there, in the file's order."""
        return tuple(str(key) for key in self._map)

    def line(self, key: str | None = None) -> int:
        """Line (from 1) of `key`, or of the mapping itself."""
        if key is not None and key in self._map:
            return int(self._map.lc.key(key)[0]) + 1
        return self._line

    def name(self, key: str) -> str:
        """The field's full name, "things[2].colour"."""
        return f"{self._path}.{key}" if self._path else key

    def error(self, key: str | None, message: str) -> FieldError:
        """An error that begins with file:line and the field."""
        field = self.name(key) if key is not None else (self._path or "the file")
        return self._kind(f"{self._file}:{self.line(key)}: {field} {message}")

    def __contains__(self, key: str) -> bool:
        self._known.append(key)
        return key in self._map and self._map[key] is not None

    def raw(self, key: str) -> Any:
        """The value as it stands in the file."""
        return self._map[key]

    def _get(self, key: str, default: Any, allowed: str) -> Any:
        if key in self:
            return self._map[key]
        if key in self._map:
            raise self.error(key, f"is empty; allowed: {allowed}")
        if default is None:
            raise self.error(None, f"lacks the field '{key}'; allowed: {allowed}")
        return default

    def number(
        self, key: str, default: float | None = None, *, low: float, high: float, unit: str = ""
    ) -> float:
        """A finite number in [low, high]."""
        allowed = f"a number from {low:g} to {high:g}" + (f" {unit}" if unit else "")
        value = self._get(key, default, allowed)
        if not _is_number(value) or not low <= value <= high:
            raise self.error(key, f"is {quote(value)}; allowed: {allowed}")
        return float(value)

    def integer(self, key: str, default: int | None = None, *, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        allowed = f"a whole number from {low} to {high}"
        value = self._get(key, default, allowed)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(key, f"is {quote(value)}; allowed: {allowed}")
        return int(value)

    def vector(
        self,
        key: str,
        sizes: tuple[int, ...],
        default: tuple[float, ...] | None = None,
        *,
        low: float,
        high: float,
        unit: str = "",
    ) -> tuple[float, ...]:
        """A list of finite numbers in [low, high] whose length is one of `sizes`."""
        length = " or ".join(str(s) for s in sizes)
        allowed = f"a list of {length} numbers from {low:g} to {high:g}" + (f" {unit}" if unit else "")
        value = self._get(key, default, allowed)
        if not isinstance(value, (list, tuple)) or len(value) not in sizes:
            raise self.error(key, f"is {quote(value)}; allowed: {allowed}")
        for position, item in enumerate(value):
            if not _is_number(item) or not low <= item <= high:
                raise self.error(key, f"has {quote(item)} at position {position}; allowed: {allowed}")
        return tuple(float(item) for item in value)

    def text(self, key: str, default: str | None = None) -> str:
        """A non-empty string."""
        value = self._get(key, default, "a text")
        if not isinstance(value, str) or (not value and value != default):
            raise self.error(key, f"is {quote(value)}; allowed: a text")
        return str(value)

    def choice(self, key: str, options: tuple[str, ...], default: str | None = None) -> str:
        """One of `options`."""
        allowed = "one of " + ", ".join(options)
        value = self._get(key, default, allowed)
        if not isinstance(value, str) or value not in options:
            raise self.error(key, f"is {quote(value)}; allowed: {allowed}")
        return str(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        value = self._get(key, default, "true or false")
        if not isinstance(value, bool):
            raise self.error(key, f"is {quote(value)}; allowed: true or false")
        return value

    def child(self, key: str, *, optional: bool = False) -> Fields | None:
        """A nested mapping; None when it is optional and absent."""
        if optional and key not in self:
            return None
        value = self._get(key, None, "a mapping of fields")
        if not isinstance(value, CommentedMap):
            raise self.error(key, f"is {quote(value)}; allowed: a mapping of fields")
        return Fields(value, self._file, self.name(key), self.line(key), self._kind)

    def required(self, key: str) -> Fields:
        """A nested mapping that must be there."""
        child = self.child(key)
        assert child is not None
        return child

    def children(self, key: str, *, optional: bool = False, most: int) -> Iterator[Fields]:
        """A list of at most `most` mappings."""
        if optional and key not in self:
            return
        value = self._get(key, None, "a list of mappings")
        if not isinstance(value, CommentedSeq) or len(value) > most:
            received = (
                f"has {len(value)} entries" if isinstance(value, CommentedSeq) else f"is {quote(value)}"
            )
            raise self.error(key, f"{received}; allowed: a list of at most {most} mappings")
        for index, item in enumerate(value):
            path = f"{self.name(key)}[{index}]"
            line = int(value.lc.item(index)[0]) + 1
            if not isinstance(item, CommentedMap):
                raise self._kind(
                    f"{self._file}:{line}: {path} is {quote(item)}; allowed: a mapping of fields"
                )
            yield Fields(item, self._file, path, line, self._kind)

    def done(self) -> None:
        """Refuse fields that nobody read."""
        for key in self._map:
            if key not in self._known:
                allowed = ", ".join(sorted(set(self._known)))
                value = quote(self._map[key])
                raise self.error(str(key), f"is an unknown field (value {value}); allowed here: {allowed}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def read_fields(file: Path, kind: type[FieldError]) -> Fields:
    """The top mapping of a YAML file; `kind` is raised for a missing, unreadable or malformed one."""
    return parse_fields(read_text(file, kind), file, kind)


def read_text(file: Path, kind: type[FieldError]) -> str:
    """What stands in the file; `kind` is raised when it cannot be read as text."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise kind(
            f"{file}: cannot be read as a text file ({error.__class__.__name__}: {error})"
        ) from None


def parse_fields(text: str, file: Path, kind: type[FieldError]) -> Fields:
    """The top mapping of `text`, which errors call `file`; `kind` is raised when it is none."""
    try:
        content = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        problem = (error.problem or "it is not YAML").splitlines()[0]
        raise kind(f"{file}:{line}: is not valid YAML: {problem}") from None
    except YAMLError as error:
        raise kind(f"{file}:1: is not valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, CommentedMap):
        raise kind(f"{file}:1: the file holds {quote(content)}; allowed: a mapping of fields")
    return Fields(content, file, kind=kind)
