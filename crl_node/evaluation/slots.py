"""Are the slots the things? Matching over the whole run, accuracy, identity, time to first sight, lamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.bags.messages import Truth
from crl_node.data import BODY, Array, Belief
from crl_node.metrics import auroc, match, pooled_variance, r2, r2_given_variance

#: m, a slot farther from a thing than this counts as if it were not there.
FAR = 0.15
#: m, a slot this close to a thing is on it.
ON = 0.05
#: A slot belongs to a thing when it is on it for more than this share of its time.
BELONGS = 0.25
#: Things that went farther than this count as moved, m.
MOVED = 0.05
#: m per step below which a thing rests: what the physics engine jitters.
JITTER = 0.0005
#: A change of the nearest thing must last this many frames to be an identity swap.
SWAP_FRAMES = 5


@dataclass(frozen=True)
class Track:
    """All slots and all things at the instants where both are known. T instants, I slot ids, N things."""

    stamps: Array  # [T] s
    ids: NDArray[np.int64]  # [I] slot ids other than the body's
    names: tuple[str, ...]  # N
    slots: Array  # [T, I, 2] m, NaN where the slot is not in the belief
    things: Array  # [T, N, 2] m
    visible: Array  # [T, I] share that is not hidden, NaN where absent
    slot_brightness: Array  # [T, I], NaN where absent
    brightness: Array  # [T, N]


@dataclass(frozen=True)
class SlotScore:
    """How well one thing is tracked. Scores are None where they are not defined."""

    object: str
    slot: int | None  # id of the slot it was matched to
    r2: float | None  # 1 - MSE / variance of all things' positions over table and time
    r2_own: float | None  # the same with its own variance, only when it moved farther than 5 cm
    rmse: float | None  # m
    visible: float | None  # mean visible share of the slot
    present: float  # share of the instants at which its slot was in the belief
    first_seen: float | None  # s from the start until a slot was on it
    swaps: int  # times its slot went over to another thing
    identities: int  # slots that were on it for half a second or more
    moved: float  # m, length of its path
    lamp_auroc: float | None  # ranking of its slot's brightness, when it was both on and off


def align(beliefs: Sequence[Belief], truths: Sequence[Truth], *, tolerance: float = 0.02) -> Track:
    """Beliefs paired with the truth of the same stamp (within `tolerance` s)."""
    names = truths[0].names if truths else ()
    truth_stamps = np.array([t.stamp for t in truths])
    pairs = []
    for belief in beliefs:
        if truth_stamps.size == 0:
            break
        nearest = int(np.abs(truth_stamps - belief.stamp).argmin())
        if abs(truth_stamps[nearest] - belief.stamp) <= tolerance and truths[nearest].names == names:
            pairs.append((belief, truths[nearest]))
    ids = np.array(sorted({int(i) for b, _ in pairs for i in b.ids} - {BODY}), np.int64)
    column = {int(i): c for c, i in enumerate(ids)}
    shape = (len(pairs), len(ids))
    slots, visible, shine = np.full((*shape, 2), np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for t, (belief, _) in enumerate(pairs):
        for row, slot_id in enumerate(belief.ids):
            if slot_id == BODY:
                continue
            c = column[int(slot_id)]
            slots[t, c] = belief.mean[row, :2]
            visible[t, c], shine[t, c] = belief.visible[row], belief.mean[row, 4]
    return Track(
        np.array([b.stamp for b, _ in pairs]),
        ids,
        names,
        slots,
        np.array([t.positions for _, t in pairs]).reshape(len(pairs), len(names), 2),
        visible,
        shine,
        np.array([t.brightness for _, t in pairs]).reshape(len(pairs), len(names)),
    )


def distances(track: Track) -> Array:
    """[T, I, N] m between every slot and every thing; infinite where the slot is absent."""
    gap = np.linalg.norm(track.slots[:, :, None] - track.things[:, None], axis=-1)
    return np.where(np.isnan(gap), np.inf, gap)


def match_slots(track: Track) -> dict[int, str]:
    """{slot id: thing}: Hungarian over the time-averaged distance; an absent or far slot costs `FAR`."""
    if track.stamps.size == 0 or track.ids.size == 0:
        return {}
    gap = distances(track)
    cost = np.minimum(gap, FAR).mean(0)
    pairs = match(cost)
    # A good part of its time it must be on the thing: else two strangers were left over for each other.
    return {
        int(track.ids[i]): track.names[n]
        for i, n in pairs.items()
        if (gap[np.isfinite(gap[:, i, n]), i, n] < ON).mean() > BELONGS
    }


def score_slots(track: Track, truths: Sequence[Truth], start: float) -> tuple[SlotScore, ...]:
    """One score per thing, in the world's order. `start` s: stamp of the run's first frame."""
    matching = match_slots(track)
    gap = distances(track)
    total = pooled_variance(track.things.reshape(-1, 2)) if track.things.size else 0.0
    travelled = path_lengths(truths)
    scores = []
    for n, name in enumerate(track.names):
        slot_id = next((i for i, thing in matching.items() if thing == name), None)
        near = gap[:, :, n].min(1, initial=np.inf) < ON if track.stamps.size else np.zeros(0, bool)
        first = float(track.stamps[near][0] - start) if near.any() else None
        identities = _identities(gap, n)
        moved = travelled.get(name, 0.0)
        if slot_id is None:
            scores.append(
                SlotScore(name, None, None, None, None, None, 0.0, first, 0, identities, moved, None)
            )
            continue
        c = int(np.flatnonzero(track.ids == slot_id)[0])
        there = np.isfinite(gap[:, c, n])
        truth, estimate = track.things[there, n], track.slots[there, c]
        lamp = auroc(track.brightness[there, n] > 0.5, track.slot_brightness[there, c])
        scores.append(
            SlotScore(
                object=name,
                slot=slot_id,
                r2=r2_given_variance(truth, estimate, total),
                r2_own=r2(truth, estimate) if moved > MOVED else None,
                rmse=float(np.sqrt(((truth - estimate) ** 2).sum(1).mean())),
                visible=float(np.nanmean(track.visible[there, c])),
                present=float(there.mean()),
                first_seen=first,
                swaps=count_swaps(gap[there, c]),
                identities=identities,
                moved=moved,
                lamp_auroc=lamp,
            )
        )
    return tuple(scores)


def spurious(track: Track, matching: dict[int, str]) -> list[int]:
    """Slots that were in the belief for half a second or more, and on no thing that another slot stands for."""
    present = np.isfinite(track.slots[:, :, 0]).sum(0)
    return [
        int(i)
        for i, count in zip(track.ids, present, strict=True)
        if int(i) not in matching and count >= SWAP_FRAMES
    ]


def path_lengths(truths: Sequence[Truth]) -> dict[str, float]:
    """Metres travelled by every thing, steps below `JITTER` left out."""
    if not truths:
        return {}
    positions = np.array([t.positions for t in truths if t.names == truths[0].names])  # [T, N, 2]
    step = np.linalg.norm(np.diff(positions, axis=0), axis=-1)
    length = np.where(step > JITTER, step, 0.0).sum(0)
    return {name: float(v) for name, v in zip(truths[0].names, length, strict=True)}


def _runs(flags: NDArray[np.bool_]) -> int:
    """Longest run of true values."""
    longest = current = 0
    for flag in flags:
        current = current + 1 if flag else 0
        longest = max(longest, current)
    return longest


def _identities(gap: Array, n: int) -> int:
    """Slots that were on thing `n`, and nearer to it than any other slot, for `SWAP_FRAMES` frames on end."""
    if gap.shape[1] == 0:
        return 0
    nearest = gap[:, :, n].argmin(1)
    return sum(_runs((nearest == i) & (gap[:, i, n] < ON)) >= SWAP_FRAMES for i in range(gap.shape[1]))


def count_swaps(gap: Array) -> int:
    """Times a slot went over to another thing: nearest to it, on it and off the old one, for half a second.

    gap: [T, N] m from the slot to every thing. The first thing that it was on is its own.
    """
    on = np.flatnonzero(gap.min(1, initial=np.inf) < ON)
    if on.size == 0:
        return 0
    held = candidate = int(gap[on[0]].argmin())
    swaps = streak = 0
    for row in gap[on[0] :]:
        nearest = int(row.argmin())
        clear = nearest != held and row[nearest] < ON and row[held] > 2 * row[nearest]
        streak = (streak + 1 if nearest == candidate else 1) if clear else 0
        candidate = nearest
        if streak >= SWAP_FRAMES:
            swaps, held, streak = swaps + 1, nearest, 0
    return swaps


def total_swaps(track: Track) -> int:
    """Identity swaps of all slots, those that were matched to no thing included."""
    gap = distances(track)
    return sum(count_swaps(gap[np.isfinite(gap[:, c, :]).all(1), c]) for c in range(len(track.ids)))
