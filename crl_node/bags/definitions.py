"""Message definitions from the ament share folders: what makes a bag readable without this package."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

#: Line between the concatenated definitions of a `ros2msg` schema.
SEPARATOR = "=" * 80

_PRIMITIVES = frozenset(
    ("bool", "byte", "char", "string", "wstring", "float32", "float64")
    + tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
)
_FIELD = re.compile(r"^\s*(?P<type>[A-Za-z][A-Za-z0-9_/]*)(?P<bound><=\d+)?(?P<array>\[[^\]]*\])?\s+[A-Za-z]")


class DefinitionError(LookupError):
    """A message type whose definition is not to be found."""


def share_folders() -> tuple[Path, ...]:
    """The `share` folders of every prefix in AMENT_PREFIX_PATH, in order."""
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    return tuple(Path(p) / "share" for p in prefixes)


class Definitions:
    """Finds `.msg` files under share folders (or source packages) and joins them with what they need.

    `roots` are folders that hold `<package>/msg/<Name>.msg`; default: `share_folders()`.
    """

    def __init__(self, roots: Iterable[Path] | None = None) -> None:
        self.roots = tuple(roots) if roots is not None else share_folders()

    def text(self, type_name: str) -> str:
        """The definition of `pkg/msg/Name`, followed by those of every type it uses (`ros2msg` encoding)."""
        parts = [self._own(type_name)]
        seen = {type_name}
        queue = list(_references(type_name, parts[0]))
        while queue:
            name = queue.pop(0)
            if name in seen:
                continue
            seen.add(name)
            own = self._own(name)
            package, _, message = name.split("/")
            parts.append(f"{SEPARATOR}\nMSG: {package}/{message}\n{own}")
            queue.extend(_references(name, own))
        return "\n".join(parts)

    def type_hash(self, type_name: str) -> str:
        """The RIHS01 hash that rosidl wrote beside the definition; empty where there is none."""
        try:
            path = self._find(type_name).with_suffix(".json")
            hashes = json.loads(path.read_text(encoding="utf8"))["type_hashes"]
            return str(next(h["hash_string"] for h in hashes if h["type_name"] == type_name))
        except (DefinitionError, OSError, ValueError, KeyError, StopIteration, TypeError):
            return ""

    def _own(self, type_name: str) -> str:
        return _read(self._find(type_name))

    def _find(self, type_name: str) -> Path:
        parts = type_name.split("/")
        if len(parts) != 3:
            raise DefinitionError(f"'{type_name}' is not a message type of the form pkg/msg/Name")
        for root in self.roots:
            path = root / parts[0] / parts[1] / f"{parts[2]}.msg"
            if path.is_file():
                return path
        looked = ", ".join(str(r) for r in self.roots) or "nowhere: AMENT_PREFIX_PATH is empty"
        raise DefinitionError(
            f"message type '{type_name}' has no definition {parts[0]}/msg/{parts[2]}.msg "
            f"(looked in {looked}); its topic is not recorded"
        )


@cache
def _read(path: Path) -> str:
    return path.read_text(encoding="utf8")


def _references(type_name: str, text: str) -> Iterator[str]:
    """Full names of the message types that the fields in `text` use."""
    package = type_name.split("/")[0]
    for line in text.splitlines():
        match = _FIELD.match(line.split("#", 1)[0])
        if match is None or match["type"] in _PRIMITIVES:
            continue
        name = match["type"]
        if "/" not in name:
            yield f"{package}/msg/{name}"
        elif name.count("/") == 1:
            yield "{}/msg/{}".format(*name.split("/"))
        else:
            yield name
