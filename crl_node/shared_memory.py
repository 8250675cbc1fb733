"""The files Fast DDS keeps in /dev/shm: which are whose, and removing those that a killed process left."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

SHM = Path("/dev/shm")
#: Fast DDS port numbers: 7400 + 250 * domain + offset (RTPS specification, 9.6.1.1).
_PORT_BASE, _DOMAIN_GAIN = 7400, 250


def _is_ours(name: str) -> bool:
    return name.startswith(("fastrtps_", "sem.fastrtps_", "fastdds_", "sem.fastdds_"))


def fastdds_files() -> set[Path]:
    """Every Fast DDS file there is."""
    try:
        return {path for path in SHM.iterdir() if _is_ours(path.name)}
    except OSError:
        return set()


def domain_of(path: Path) -> int | None:
    """The ROS domain a port file belongs to; None for segments, whose names are random."""
    name = path.name.removeprefix("sem.")
    digits = name.removeprefix("fastrtps_port").removeprefix("fastdds_port").split("_")[0]
    if not digits.isdigit() or int(digits) < _PORT_BASE:
        return None
    return (int(digits) - _PORT_BASE) // _DOMAIN_GAIN


def domain_in_use(domain: int) -> bool:
    """A port file of this domain exists (its owner may be dead)."""
    return any(domain_of(path) == domain for path in fastdds_files())


def files_used_by(pid: int) -> set[Path]:
    """Fast DDS files the living process `pid` has mapped or open; empty when it is gone or not ours to look at."""
    used: set[Path] = set()
    process = Path("/proc") / str(pid)
    try:
        for line in (process / "maps").read_text().splitlines():
            start = line.find("/dev/shm/")
            if start >= 0:
                used.add(Path(line[start:].removesuffix(" (deleted)")))
    except OSError:
        pass
    try:
        for entry in (process / "fd").iterdir():
            try:
                target = entry.readlink()
            except OSError:
                continue
            if target.parent == SHM:
                used.add(target)
    except OSError:
        pass
    return {path for path in used if _is_ours(path.name)}


def files_in_use(*, but_for: int | None = None) -> set[Path]:
    """Fast DDS files that any living process uses; `but_for`: a process that does not count."""
    used: set[Path] = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != but_for:
            used |= files_used_by(int(entry.name))
    return used


def remove_abandoned(
    *, known: Iterable[Path] = (), domain: int | None = None, released: Iterable[Path] = ()
) -> list[Path]:
    """Remove those of `known`, and of the port files of `domain`, that no living process uses; returns them.

    A segment's lock file and semaphore go with it. `released`: files this process may still have mapped, but for
    participants it has closed (see `OwnFiles`); its own mapping of these is no use of them.
    """
    existing = fastdds_files()
    stems = {_stem(path) for path in known}
    mine = {
        path for path in existing if _stem(path) in stems or (domain is not None and domain_of(path) == domain)
    }
    removed = []
    if mine:
        kept = files_in_use(but_for=os.getpid()) | (files_used_by(os.getpid()) - set(released))
        for path in sorted(mine - kept):
            try:
                path.unlink()
            except OSError:
                continue
            removed.append(path)
    return removed


def _stem(path: Path) -> str:
    return path.name.removeprefix("sem.").removesuffix("_el").removesuffix("_mutex")


class OwnFiles:
    """Shared memory that this process comes to use from now on, for participants it makes and closes again.

    Fast DDS keeps what it has mapped for some seconds after a participant is closed, and then does not remove the
    segment of a peer that was killed. So whoever closes the participant says here that it has.
    """

    def __init__(self) -> None:
        self._before = files_used_by(os.getpid())
        self._files: set[Path] = set()

    def look(self) -> set[Path]:
        """All files seen so far; for the last time right before the participants are closed."""
        self._files |= files_used_by(os.getpid()) - self._before
        return self._files

    def remove(self, *, known: Iterable[Path] = (), domain: int | None = None) -> list[Path]:
        """`remove_abandoned` with these files, after the participants were closed."""
        return remove_abandoned(known={*known, *self._files}, domain=domain, released=self._files)
