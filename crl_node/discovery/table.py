"""Recorded series from files and arrays: columns told apart, gaps and bad rows found, all of it said in sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crl_node.data import Array

#: Column names that are taken for actions when the user names none.
ACTION_NAME = re.compile(
    r"(?:actions?|act|cmd|command|control|torque)(?:[_.\[\s-].*|\d.*)?$|[ua][_\[]?\d*\]?$", re.IGNORECASE
)
#: Column names that are taken for time, for the number of an episode and for an environment's label.
TIME_NAME = re.compile(r"(t|time|stamp|timestamp|seconds)$", re.IGNORECASE)
EPISODE_NAME = re.compile(r"(episode|episode_index|run|trajectory)$", re.IGNORECASE)
ENVIRONMENT_NAME = re.compile(r"(env|environment|domain|regime)$", re.IGNORECASE)
#: Standard deviation, as a share of the largest value, below which a column is constant.
CONSTANT = 1e-12


class SeriesError(ValueError):
    """Input that cannot be used; the text says what is wrong with it and where."""


@dataclass(frozen=True)
class Series:
    """T samples of D states and A actions in stretches without gaps. Action t acts between samples t and t + 1."""

    states: Array  # [T, D]
    actions: Array  # [T, A]
    state_names: tuple[str, ...]
    action_names: tuple[str, ...]
    stretch: NDArray[np.int64]  # [T] number of the gap-free stretch, -1 for unusable rows
    environment: NDArray[np.int64]  # [T] index into environment_names
    environment_names: tuple[str, ...]
    dt: float | None  # s between samples, None when unknown
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """States, then actions."""
        return self.state_names + self.action_names

    @property
    def data(self) -> Array:
        """[T, D + A] states and actions side by side."""
        return np.hstack([self.states, self.actions])


def from_arrays(
    states: ArrayLike,
    actions: ArrayLike | None = None,
    *,
    names: Sequence[str] | None = None,
    action_names: Sequence[str] | None = None,
    time: ArrayLike | None = None,
    episode: ArrayLike | None = None,
    environment: ArrayLike | None = None,
    dt: float | None = None,
) -> Series:
    """Series of arrays: `states` [T, D], `actions` [T, A] (or [T - 1, A]), labels [T]. `time` in s.

    Rows with NaN or infinity end a stretch and are left out, as are gaps in `time` (steps of more than 1.5 medians, or
    backwards) and changes of `episode`. SeriesError when shapes do not fit or nothing usable is left.
    """
    x = _matrix("states", states)
    notes: list[str] = []
    u = np.zeros((len(x), 0)) if actions is None else _matrix("actions", actions)
    if len(u) == len(x) - 1:  # the action after the last state has no outcome
        u = np.vstack([u, u[-1:] if len(u) else np.zeros((1, u.shape[1]))])
    if len(u) != len(x):
        raise SeriesError(f"states have {len(x)} rows, actions {len(u)}; they must have as many (or one action less)")
    state_names = tuple(names or (f"x{i}" for i in range(x.shape[1])))
    input_names = tuple(action_names or (f"a{i}" for i in range(u.shape[1])))
    for what, given, count in (("states", state_names, x.shape[1]), ("actions", input_names, u.shape[1])):
        if len(given) != count:
            raise SeriesError(f"{len(given)} names were given for {count} columns of {what}")
    twice = {n for n in state_names + input_names if (state_names + input_names).count(n) > 1}
    if twice:
        raise SeriesError(f"the name '{sorted(twice)[0]}' stands for more than one column")
    for block, labels, what in ((x, state_names, "state"), (u, input_names, "action")):
        for name in np.array(labels, object)[~np.isfinite(block).any(axis=0)]:
            block[:, labels.index(name)] = 0.0
            notes.append(
                f"{what} '{name}' holds no finite value at all: treated as not recorded, its probabilities stay at the "
                "prior; what it really causes may be blamed on others that vary with it"
            )
    good = np.asarray(np.isfinite(x).all(axis=1) & np.isfinite(u).all(axis=1))
    if not good.all():
        columns = [
            name
            for name, column in zip(state_names + input_names, np.hstack([x, u]).T, strict=True)
            if not np.isfinite(column).all()
        ]
        notes.append(
            f"{int((~good).sum())} of {len(x)} rows hold NaN or infinite values (in {_listed(columns)}); they and the "
            "steps into and out of them are left out"
        )
    breaks = np.zeros(len(x), bool)  # a new stretch begins here
    clock = None if time is None else np.asarray(time, float).ravel()
    if clock is not None:
        if len(clock) != len(x):
            raise SeriesError(f"time has {len(clock)} entries, states have {len(x)} rows")
        good &= np.isfinite(clock)
        step = np.diff(clock)
        usual = float(np.median(step[np.isfinite(step)])) if np.isfinite(step).any() else 0.0
        if not usual > 0:
            raise SeriesError(f"time does not run forwards (median step {usual:g} s)")
        gap = ~((step > 0.5 * usual) & (step < 1.5 * usual))
        breaks[1:] |= gap
        if gap.any():
            notes.append(f"{int(gap.sum())} gaps or jumps in time (step {usual:g} s); nothing is learned across them")
        dt = dt or usual
    if episode is not None:
        label = np.asarray(episode).ravel()
        if len(label) != len(x):
            raise SeriesError(f"episode has {len(label)} entries, states have {len(x)} rows")
        breaks[1:] |= label[1:] != label[:-1]
    where, env_names = np.zeros(len(x), np.int64), ("all",)
    if environment is not None:
        label = np.asarray(environment).ravel().astype(str)
        if len(label) != len(x):
            raise SeriesError(f"environment has {len(label)} entries, states have {len(x)} rows")
        env_names = tuple(dict.fromkeys(label.tolist()))
        where = np.array([env_names.index(one) for one in label], np.int64)
        breaks[1:] |= label[1:] != label[:-1]
    breaks[1:] |= good[1:] & ~good[:-1]
    stretch = np.where(good, np.cumsum(breaks), -1)
    if good.sum() < 3:
        raise SeriesError(f"only {int(good.sum())} usable rows of {len(x)}; at least 3 are needed")
    series = Series(
        np.where(good[:, None], x, 0.0), np.where(good[:, None], u, 0.0), state_names, input_names, stretch, where,
        env_names, dt, tuple(notes),
    )  # fmt: skip
    return replace(series, notes=series.notes + tuple(_oddities(series)))


def _oddities(series: Series) -> list[str]:
    """Sentences about columns that cannot say much."""
    notes = []
    data = series.data[series.stretch >= 0]
    most = np.abs(data).max(axis=0)
    data = data / np.where(most > 0, most, 1.0)
    varies = data.std(axis=0) > CONSTANT
    for name, changes in zip(series.names, varies, strict=True):
        if not changes:
            notes.append(f"'{name}' is constant: nothing can be said about what it causes or what causes it")
    varying = np.flatnonzero(varies)
    if 1 < len(varying) <= 400:
        correlation = np.corrcoef(data[:, varying].T)
        for a, b in zip(*np.nonzero(np.triu(np.abs(correlation) > 1.0 - 1e-9, 1)), strict=True):
            notes.append(
                f"'{series.names[varying[a]]}' and '{series.names[varying[b]]}' are the same up to scale: either may "
                "be the cause wherever one is, and the probability is shared between them"
            )
    return notes


def read(
    path: str | Path,
    *,
    states: Sequence[str] | None = None,
    actions: Sequence[str] | None = None,
    environment: str | None = None,
    dt: float | None = None,
) -> Series:
    """Series of an npz, csv or parquet file. SeriesError says what is wrong with the file or the columns.

    npz: arrays `states` [T, D] and optionally `actions` [T, A], `time`, `episode`, `environment` [T], `names`,
    `action_names`; or one 1-d array per column. csv and parquet: a header and one column each; columns named like
    actions (`ACTION_NAME`) are actions, `time`, `episode` and `environment` columns are used as such. `states` and
    `actions` name the columns instead.
    """
    path = Path(path)
    if not path.is_file():
        raise SeriesError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix == ".npz":
        found = _read_npz(path)
        if "states" in found:
            if states or actions:
                raise SeriesError(f"{path} holds arrays 'states' and 'actions'; columns cannot be named for it")
            return _from_npz_arrays(path, found, dt)
        columns = found
    elif suffix in (".csv", ".tsv", ".txt"):
        columns = _read_csv(path)
    elif suffix in (".parquet", ".pq"):
        columns = _read_parquet(path)
    else:
        raise SeriesError(f"{path} is neither .npz, .csv nor .parquet")
    return _from_columns(path, columns, states, actions, environment, dt)


def _read_npz(path: Path) -> dict[str, NDArray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # numpy, zipfile and zlib each have their own errors for a damaged file
        raise SeriesError(f"cannot read {path}: {error}") from error


def _from_npz_arrays(path: Path, found: dict[str, NDArray], dt: float | None) -> Series:
    def labels(key: str) -> list[str] | None:
        return [str(name) for name in np.ravel(found[key])] if key in found else None

    given = found.get("dt")
    return from_arrays(
        found["states"], found.get("actions"), names=labels("names") or labels("state_names"),
        action_names=labels("action_names"), time=found.get("time"), episode=found.get("episode"),
        environment=found.get("environment"), dt=dt or (float(np.ravel(given)[0]) if given is not None else None),
    )  # fmt: skip


def _read_csv(path: Path) -> dict[str, NDArray]:
    import pyarrow
    import pyarrow.csv

    try:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        table = pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter))
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SeriesError(f"cannot read {path} as csv with a header line: {error}") from error
    return _columns(path, table)


def _read_parquet(path: Path) -> dict[str, NDArray]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise SeriesError(f"cannot read {path} as parquet: {error}") from error
    return _columns(path, table)


def _columns(path: Path, table: object) -> dict[str, NDArray]:
    """Columns of an Arrow table by name; lists of numbers (as in robot data sets) become one column per entry."""
    import pyarrow

    assert isinstance(table, pyarrow.Table)
    if len(set(table.column_names)) < len(table.column_names):
        raise SeriesError(f"{path} names a column twice: {_listed(table.column_names)}")
    out: dict[str, NDArray] = {}
    for name in table.column_names:
        column = table.column(name)
        if pyarrow.types.is_list(column.type) or pyarrow.types.is_fixed_size_list(column.type):
            try:
                block = np.stack([np.asarray(row, float) for row in column.to_pylist()])
            except (TypeError, ValueError) as error:
                raise SeriesError(
                    f"{path}: the lists of column '{name}' differ in length or hold no numbers"
                ) from error
            out.update({f"{name}_{k}": block[:, k] for k in range(block.shape[1])})
        else:
            out[name] = column.to_numpy()
    return out


def _from_columns(
    path: Path,
    columns: dict[str, NDArray],
    states: Sequence[str] | None,
    actions: Sequence[str] | None,
    environment: str | None,
    dt: float | None,
) -> Series:
    special: dict[str, str] = {}
    for key, pattern in (("time", TIME_NAME), ("episode", EPISODE_NAME), ("environment", ENVIRONMENT_NAME)):
        named = environment if key == "environment" and environment else None
        hits = [named] if named else [n for n in columns if pattern.match(n)]
        if hits and hits[0] not in (*(states or ()), *(actions or ())):
            special[key] = hits[0]
    for wanted in (*(states or ()), *(actions or ()), *([environment] if environment else [])):
        if wanted not in columns:
            raise SeriesError(f"{path} has no column '{wanted}'; it has {_listed(columns)}")
    free = [n for n in columns if n not in special.values()]
    chosen_actions = list(actions) if actions is not None else [
        n for n in free if ACTION_NAME.match(n) and n not in (states or ())
    ]  # fmt: skip
    chosen_states = list(states) if states is not None else [n for n in free if n not in chosen_actions]
    if not chosen_states:
        raise SeriesError(f"{path} has no state column left (columns: {_listed(columns)}); name them with --states")
    both = set(chosen_states) & set(chosen_actions)
    if both:
        raise SeriesError(f"column '{sorted(both)[0]}' is named as a state and as an action")
    lengths = {n: np.shape(columns[n]) for n in (*chosen_states, *chosen_actions)}
    for name, shape in lengths.items():
        if len(shape) != 1 or shape != lengths[chosen_states[0]]:
            raise SeriesError(
                f"column '{name}' of {path} has shape {shape}, '{chosen_states[0]}' has {lengths[chosen_states[0]]}"
            )
    numbers = {name: _numbers(path, name, columns[name]) for name in lengths}
    series = from_arrays(
        np.stack([numbers[n] for n in chosen_states], axis=1),
        np.stack([numbers[n] for n in chosen_actions], axis=1) if chosen_actions else None,
        names=chosen_states, action_names=chosen_actions,
        time=_numbers(path, special["time"], columns[special["time"]]) if "time" in special else None,
        episode=columns[special["episode"]] if "episode" in special else None,
        environment=columns[special["environment"]] if "environment" in special else None, dt=dt,
    )  # fmt: skip
    used = f"states: {_listed(chosen_states)}; actions: {_listed(chosen_actions) or 'none'}"
    used += "".join(f"; {key}: {name}" for key, name in special.items())
    return replace(series, notes=(used, *series.notes))


def _numbers(path: Path, name: str, column: NDArray) -> Array:
    try:
        return np.asarray(column, float)
    except (TypeError, ValueError) as error:
        raise SeriesError(
            f"column '{name}' of {path} holds something that is no number ({error}); leave it out"
        ) from error


def _matrix(what: str, values: ArrayLike) -> Array:
    try:
        array = np.array(values, float)
    except (TypeError, ValueError) as error:
        raise SeriesError(f"{what} must be numbers [T, columns]: {error}") from error
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[0] == 0:
        raise SeriesError(f"{what} must have shape [T, columns], got {array.shape}")
    if what == "states" and array.shape[1] == 0:
        raise SeriesError("there is no state column")
    return array


def _listed(names: Sequence[str] | dict[str, NDArray], most: int = 12) -> str:
    shown = [str(n) for n in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")
