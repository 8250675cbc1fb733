"""Which slot of one recording is which of another: by colour and size, and the same whatever comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crl_node.data import MAX_SLOTS

#: Two looks at one thing differ by less than this in hue (colour over its sum, so that light and shade do not count)
#: and in extent, m; between eight runs of four cubes, each turned another way, it was 0.001 and 0.0075 m.
HUE, EXTENT = 0.12, 0.015


@dataclass(frozen=True)
class Seen:
    """One slot of one episode."""

    episode: str  # digest of its content: an order that does not depend on names and places of files
    slot: int
    colour: tuple[float, float, float]  # median, 0..1
    extent: float  # m
    frames: int  # in which it was a variable

    @property
    def look(self) -> np.ndarray:
        """[4] hue and extent, each in units of what still is the same thing."""
        colour = np.array(self.colour)
        return np.append(colour / max(float(colour.sum()), 1e-6) / HUE, self.extent / EXTENT)

    @property
    def key(self) -> tuple[float, ...] | tuple[object, ...]:
        """Sorts slots by what they are, then by episode."""
        return (*(round(float(v), 9) for v in self.look), self.episode, self.slot)


def match(slots: Sequence[Seen]) -> tuple[list[list[Seen]], list[str]]:
    """Groups of slots that are one thing, most frames first, at most MAX_SLOTS - 1; notes about what could not be told.

    Complete linkage: all slots of a group look alike, and no two are of one episode. Things of one episode that look
    alike cannot be told apart in another: they and their likes stay things of their own, one for each episode.
    """
    slots = sorted(slots, key=lambda s: s.key)
    looks = np.array([s.look for s in slots]).reshape(len(slots), 4)
    distance = np.linalg.norm(looks[:, None] - looks[None], axis=-1)
    alike = distance < 1.0
    same_episode = np.array([[a.episode == b.episode for b in slots] for a in slots]).reshape(alike.shape)
    twins = (alike & same_episode & ~np.eye(len(slots), dtype=bool)).any(axis=1)
    doubtful = (alike & twins[None]).any(axis=1) if len(slots) else twins
    notes = []
    episodes = len({s.episode for s in slots})
    if doubtful.any() and episodes > 1:
        notes.append(
            f"{int(doubtful.sum())} slots look like another thing of the same recording and cannot be recognised in "
            "another: each stays a thing of its own"
        )
    group_of = list(range(len(slots)))
    groups = {i: [i] for i in group_of}
    pairs = np.argwhere(np.triu(alike & ~same_episode & ~doubtful[:, None] & ~doubtful[None], 1))
    for i, j in sorted(map(tuple, pairs.tolist()), key=lambda pair: (round(float(distance[pair]), 9), pair)):
        a, b = group_of[i], group_of[j]
        if a == b or not alike[np.ix_(groups[a], groups[b])].all() or same_episode[np.ix_(groups[a], groups[b])].any():
            continue
        groups[a] += groups.pop(b)
        for member in groups[a]:
            group_of[member] = a
    found = [sorted((slots[i] for i in members), key=lambda s: s.key) for members in groups.values()]
    found.sort(key=lambda group: (-sum(s.frames for s in group), group[0].key))
    if len(found) > MAX_SLOTS - 1:
        left = found[MAX_SLOTS - 1 :]
        notes.append(
            f"there are {len(found)} things and the model holds {MAX_SLOTS - 1}: the {len(left)} seen least "
            f"({sum(s.frames for group in left for s in group)} frames) are left out"
        )
    return found[: MAX_SLOTS - 1], notes
