"""One stretch of a recording as the model needs it: beliefs and actions, and when each slot became a variable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from crl_node.checkpoint import FORMAT, Arrays, read_arrays, write_arrays
from crl_node.data import Array, Belief
from crl_node.replay.identity import Seen
from crl_node.replay.pooling import adopt
from crl_node.world_model import ModelConfig, WorldModel

#: Column of the share of a slot that is in view, and the share from which its size and colour count.
VISIBLE, FULL_VIEW = 35, 0.9


@dataclass
class Episode:
    """T beliefs of the same camera without a break, as arrays. N slots at most, padded with identity -1."""

    config: ModelConfig
    stamps: Array  # [T] s
    actions: (
        Array  # [T, 2] m/s, mean velocity commanded since the last belief; NaN: no transition to this one
    )
    ids: Arrays  # [T, N]
    values: Array  # [T, N, 5 + 25 + 3 + 3] mean, covariance, colour, extent, existence, visible
    since: dict[int, int]  # slot -> belief from which on it is a variable, T: never
    extents: dict[int, float]  # slot -> m, as it was registered
    distances: dict[tuple[int, int], float]  # slots -> m, when both were first variables

    @property
    def digest(self) -> str:
        """sha256 of the content: a name that does not depend on where the recording lies."""
        digest = hashlib.sha256()
        for array in (self.stamps, self.actions, self.ids, self.values):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def seen(self) -> list[Seen]:
        """What the things of this episode look like where they are in full view, the body left out."""
        name, found = self.digest, []
        for slot, since in self.since.items():
            rows = self.values[since:][self.ids[since:] == slot]
            if slot == 0 or not len(rows):
                continue
            whole = rows[rows[:, VISIBLE] >= FULL_VIEW]
            look = np.median(whole if len(whole) else rows, axis=0)
            r, g, b, extent = (float(v) for v in look[30:34])
            found.append(Seen(name, slot, (r, g, b), extent, len(rows)))
        return found

    def beliefs(self, identity: Mapping[int, int]) -> Iterator[tuple[Belief, Array | None]]:
        """(belief, action) with slots renamed by `identity`; one is left out until it became a variable and settled."""
        settle = self.config.settle
        for t, stamp in enumerate(self.stamps):
            rows = [
                n
                for n, slot in enumerate(self.ids[t])
                if slot == 0 or (slot in identity and t >= self.since[int(slot)] + settle)
            ]
            v = self.values[t, rows]
            belief = Belief(
                stamp=float(stamp),
                ids=np.array([0 if s == 0 else identity[int(s)] for s in self.ids[t, rows]], np.int64),
                mean=v[:, :5], cov=v[:, 5:30].reshape(-1, 5, 5), colour=v[:, 30:33], extent=v[:, 33],
                existence=v[:, 34], visible=v[:, 35],
            )  # fmt: skip
            action = None if np.isnan(self.actions[t]).any() else self.actions[t]
            yield belief, action

    def save(self, path: Path) -> None:
        """Write it as arrays."""
        pairs = sorted(self.distances)
        write_arrays(
            path,
            {
                "format": np.array(FORMAT), "dt": np.array(self.config.dt), "wall": np.array(self.config.wall),
                "stamps": self.stamps, "actions": self.actions, "ids": self.ids, "values": self.values,
                "since": np.array(sorted(self.since.items()), np.int64).reshape(-1, 2),
                "extents": np.array(sorted(self.extents.items()), float).reshape(-1, 2),
                "pairs": np.array(pairs, np.int64).reshape(-1, 2),
                "distances": np.array([self.distances[pair] for pair in pairs], float),
            },
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> Episode:
        """Read what `save` wrote; CheckpointError when it is damaged."""
        a = read_arrays(path)
        wall = tuple(float(v) for v in a["wall"])
        return cls(
            ModelConfig(dt=float(a["dt"]), wall=(wall[0], wall[1], wall[2], wall[3])),
            a["stamps"], a["actions"], a["ids"], a["values"],
            {int(slot): int(t) for slot, t in a["since"]},
            {int(slot): float(v) for slot, v in a["extents"]},
            {(int(i), int(j)): float(v) for (i, j), v in zip(a["pairs"], a["distances"], strict=True)},
        )  # fmt: skip


def fit(
    episode: Episode, identity: Mapping[int, int], extents: Mapping[int, float], distances: Array, seed: int
) -> WorldModel:
    """A fresh model of the common variables after one episode; its statistics add to those of others."""
    # Sums of one environment: a model that let another one begin would keep two. And one that found lengths of its own
    # would have other columns.
    model = WorldModel(replace(episode.config, watch_changes=False, induce=False), seed)
    adopt(model, extents, distances)
    for belief, action in episode.beliefs(identity):
        model.observe(belief, action)
        model.refresh()
    return model
