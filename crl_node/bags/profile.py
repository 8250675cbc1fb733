"""What to record: `config/record/*.yaml`, topics by name and by regular expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from crl_node.bags.metadata import TopicInfo
from crl_node.parameter_spec import ParameterError
from crl_node.paths import share

#: Words that may follow topic and type.
OPTIONS = ("transient_local", "best_effort")
_FIELDS = ("description", "topics", "include", "exclude")


@dataclass(frozen=True)
class RecordProfile:
    """Topics that are waited for, and patterns of those that are taken up when they appear."""

    topics: tuple[TopicInfo, ...] = ()  # type "": whatever type it has when it appears
    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()

    def excludes(self, topic: str) -> bool:
        """True when the full name `topic` is not to be recorded, whatever else names it."""
        return any(pattern.fullmatch(topic) for pattern in self.exclude)

    def includes(self, topic: str) -> bool:
        """True when a pattern asks for the full name `topic`."""
        return not self.excludes(topic) and any(pattern.fullmatch(topic) for pattern in self.include)

    def extended(self, *, topics: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> RecordProfile:
        """With other `topics` (none: keep these) and more patterns. ParameterError for one that cannot be used."""
        return replace(
            self,
            topics=tuple(parse_topic(t) for t in topics) or self.topics,
            include=(*self.include, *(_pattern("include", p) for p in include)),
            exclude=(*self.exclude, *(_pattern("exclude", p) for p in exclude)),
        )


def parse_topic(entry: str) -> TopicInfo:
    """'topic [type] [transient_local] [best_effort]' as TopicInfo; ParameterError with a sentence otherwise."""
    words = entry.split() if isinstance(entry, str) else []
    typed = len(words) > 1 and "/" in words[1]
    options = words[2 if typed else 1 :]
    if not words or (typed and words[1].count("/") != 2) or set(options) - set(OPTIONS):
        raise ParameterError(
            f"recorder topic '{entry}' must read 'topic [package/msg/Type] [{'] ['.join(OPTIONS)}]', "
            "for example 'joint_states sensor_msgs/msg/JointState'"
        )
    return TopicInfo(
        words[0], words[1] if typed else "", reliable="best_effort" not in options,
        transient_local="transient_local" in options,
    )  # fmt: skip


def load_record_profile(name_or_path: str) -> RecordProfile:
    """`config/record/<name>.yaml`, or a file; empty: nothing. ParameterError names the file and what is wrong in it."""
    if not name_or_path:
        return RecordProfile()
    path = Path(name_or_path)
    folder = share() / "config" / "record"
    if path.suffix not in (".yaml", ".yml"):
        path = folder / f"{name_or_path}.yaml"
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf8")) or {}
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ParameterError(f"cannot read the recording profile {path}: {error.strerror}; there is {known}") from error
    except yaml.YAMLError as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict) or set(raw) - set(_FIELDS):
        raise ParameterError(f"{path} must map {', '.join(_FIELDS)} to their values, nothing else")
    lists = {name: raw.get(name) or [] for name in ("topics", "include", "exclude")}
    for name, values in lists.items():
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise ParameterError(f"{path}: '{name}' must be a list of strings, it is {values!r}")
    try:
        return RecordProfile().extended(**lists)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error


def _pattern(field: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ParameterError(f"'{text}' in '{field}' is no regular expression: {error}") from error
