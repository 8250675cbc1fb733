"""`crl learn`: one model from many bags. Every bag is perceived and summed up by itself, then the sums are added.

What makes the order of the bags not matter: slots are named by what they look like (`identity.py`), the candidates'
lengths are medians over all episodes, every episode is learned by a fresh model, and the sums are added in the order
of the episodes' content. Structure is then inferred once, from the sum.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.bags.reader import BagReader
from crl_node.data import Array, Posterior
from crl_node.replay.episode import Episode, fit
from crl_node.replay.frames import FrameCounts
from crl_node.replay.identity import Seen, match
from crl_node.replay.perceive import episodes
from crl_node.replay.pooling import absorb, adopt
from crl_node.replay.settings import ReplayError, read_settings
from crl_node.world_model import WorldModel

#: Rounds over all variables after the sums are added: edges learn from one another through the prior.
ROUNDS = 3


@dataclass
class Learned:
    """What came out."""

    model: WorldModel
    posterior: Posterior
    groups: list[list[Seen]]
    episodes: int
    frames: FrameCounts
    wall: float = 0.0  # s
    seconds: float = 0.0  # s of recorded time
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The content of `crl learn --json`."""
        return {
            "posterior_hash": self.posterior.hash,
            "posterior_version": self.posterior.version,
            "steps": self.model.step,
            "episodes": self.episodes,
            "variables": [
                {
                    "slot": number, "episodes": len(group), "frames": sum(s.frames for s in group),
                    "colour": [round(float(v), 4) for v in np.median([s.colour for s in group], axis=0)],
                    "extent": round(float(np.median([s.extent for s in group])), 5),
                }
                for number, group in enumerate(self.groups, 1)
            ],
            "frames": asdict(self.frames),
            "seconds": round(self.seconds, 3),
            "wall_seconds": round(self.wall, 3),
            "notes": self.notes,
        }  # fmt: skip


def learn(
    bags: Sequence[Path], *, jobs: int = 1, seed: int = 0, params_file: Path | None = None,
    on_progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Learned:  # fmt: skip
    """One model from `bags` (folders or files), with `jobs` processes.

    `on_progress` hears what is done and how much of it. ReplayError, BagError, ParameterError: a sentence; one bag that
    cannot be used is an error, a model of the others would not be what was asked for.
    """
    began = time.perf_counter()
    if not bags:
        raise ReplayError("no bag was named: there is nothing to learn from")
    with tempfile.TemporaryDirectory(prefix="crl_learn_") as scratch:
        work = Path(scratch)
        tasks = [(bag, work / f"bag_{n}", params_file) for n, bag in enumerate(bags)]
        found: list[Path] = []
        counts, notes = FrameCounts(), list[str]()
        for paths, bag_counts, bag_notes in _all(_perceive_bag, tasks, jobs, "bags perceived", on_progress):
            found += paths
            notes += bag_notes
            for name, value in bag_counts.items():
                setattr(counts, name, getattr(counts, name) + value)
        parts = sorted((Episode.load(path) for path in found), key=lambda e: e.digest)
        if not parts:
            raise ReplayError(f"no frame of {', '.join(map(str, bags))} could be used: {asdict(counts)}")
        _agree(parts)
        groups, more = match([slot for part in parts for slot in part.seen()])
        extents, distances = _common(parts, groups)
        fits = []
        for number, part in enumerate(parts):
            path = work / f"episode_{number}.npz"
            part.save(path)
            names = {s.slot: k for k, group in enumerate(groups, 1) for s in group if s.episode == part.digest}
            fits.append((path, names, extents, distances, seed, work / f"model_{number}.npz"))
        paths = list(_all(_fit_episode, fits, jobs, "episodes learned", on_progress))
        model = WorldModel(parts[0].config, seed)
        adopt(model, extents, distances)
        for path in paths:  # in the order of the digests, whoever was ready first
            absorb(model, WorldModel.load(path))
    for _ in range(ROUNDS):
        model.refresh_all()
    seconds = sum(float(part.stamps[-1] - part.stamps[0]) for part in parts)
    return Learned(
        model, model.posterior(), groups, len(parts), counts, time.perf_counter() - began, seconds, notes + more
    )


def _agree(parts: Sequence[Episode]) -> None:
    """Models of different tables or control periods do not add."""
    first = parts[0].config
    for part in parts:
        if part.config != first:
            raise ReplayError(
                f"the bags were recorded with different set-ups (period {first.dt} s and {part.config.dt} s, table "
                f"{first.wall} m and {part.config.wall} m): their statistics do not add"
            )


def _common(parts: Sequence[Episode], groups: Sequence[Sequence[Seen]]) -> tuple[dict[int, float], Array]:
    """Extent m by identity, the body first, and distances [n, n] m: medians over the episodes."""
    names = {(s.episode, s.slot): k for k, group in enumerate(groups, 1) for s in group}
    extents = {0: float(np.median([part.extents[0] for part in parts]))}
    extents |= {k: float(np.median([s.extent for s in group])) for k, group in enumerate(groups, 1)}
    seen: dict[tuple[int, int], list[float]] = {}
    for part in parts:
        for (a, b), distance in part.distances.items():
            i, j = names.get((part.digest, a)), names.get((part.digest, b))
            if i is not None and j is not None:
                seen.setdefault((min(i, j), max(i, j)), []).append(distance)
    distances = np.zeros((len(extents), len(extents)))
    for (i, j), values in seen.items():
        distances[i, j] = distances[j, i] = float(np.median(values))
    return extents, distances


# -- the parts that run in processes of their own; they speak through files ------------------------------------------


def _perceive_bag(task: tuple[Path, Path, Path | None]) -> tuple[list[Path], dict[str, int], list[str]]:
    bag, folder, params_file = task
    folder.mkdir(parents=True)
    reader = BagReader(bag)
    settings = read_settings(reader, params_file)
    found, counts = episodes(bag, settings)
    paths = []
    for number, episode in enumerate(found):
        paths.append(folder / f"{number}.npz")
        episode.save(paths[-1])
    return paths, asdict(counts), [f"{bag}: {note}" for note in settings.notes if "'planner'" not in note]


def _fit_episode(task: tuple[Path, dict[int, int], dict[int, float], Array, int, Path]) -> Path:
    path, names, extents, distances, seed, out = task
    fit(Episode.load(path), names, extents, distances, seed).save(out)
    return out


def _all(
    work: Callable[[Any], Any], tasks: Sequence[Any], jobs: int, what: str, on_progress: Callable[[str, int, int], None]
) -> Iterable[Any]:
    """Results of `work` on every task, in their order."""
    on_progress(what, 0, len(tasks))
    if jobs <= 1 or len(tasks) <= 1:
        for number, task in enumerate(tasks, 1):
            yield work(task)
            on_progress(what, number, len(tasks))
        return
    # Fresh processes: forking one that holds numeric libraries' threads may hang.
    with ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn")) as pool:
        for number, result in enumerate(pool.map(work, tasks), 1):
            yield result
            on_progress(what, number, len(tasks))
