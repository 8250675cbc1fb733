"""What the planner sees in one belief: slots in the rows of the model, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crl_node.data import BODY, MAX_SLOTS, Array, Belief, Posterior

#: Below this existence a slot is no thing, below this visible share it is hidden.
EXISTS, HIDDEN = 0.5, 0.5
#: Position variances are kept inside this range [m^2]: a lost slot is not worth everything.
VARIANCE_RANGE = (1e-8, 9e-4)


class SceneError(ValueError):
    """A belief that must not be planned from; the text says why."""


@dataclass(frozen=True)
class Scene:
    """Belief in model rows. Row 0 is the body. S = MAX_SLOTS."""

    stamp: float  # s
    ids: NDArray[np.int64]  # [S] identity, -1 where empty
    known: NDArray[np.bool_]  # [S] the model has a row for it
    exists: NDArray[np.bool_]  # [S]
    position: Array  # [S, 2] m
    velocity: Array  # [S, 2] m/s
    brightness: Array  # [S] 0..1
    extent: Array  # [S] m
    variance: Array  # [S] m^2 per axis
    hidden: NDArray[np.bool_]  # [S]

    @property
    def tip(self) -> Array:
        """[2] m."""
        return np.asarray(self.position[BODY])

    @property
    def things(self) -> NDArray[np.int64]:
        """Rows of what exists besides the body."""
        return np.flatnonzero(self.exists[1:]) + 1

    def name(self, row: int) -> str:
        """"body" or "slot_<id>"."""
        return "body" if row == BODY else f"slot_{self.ids[row]}"


def scene_from(belief: Belief, posterior: Posterior | None) -> Scene:
    """Sort a belief's slots into the rows of the model; what the model does not know yet takes free rows.

    Raises SceneError when the body is missing or a value is not finite (slots beyond the capacity are left out).
    """
    for name in ("mean", "cov", "extent", "existence", "visible"):
        array = getattr(belief, name)
        if not np.isfinite(array).all():
            raise SceneError(
                f"belief at {belief.stamp:.3f} s: '{name}' holds {int((~np.isfinite(array)).sum())} "
                "non-finite values; not planning from it"
            )
    body = belief.index_of(BODY)
    if body is None:
        raise SceneError(
            f"belief at {belief.stamp:.3f} s has {len(belief.ids)} slots but none with id 0 (the body); "
            "not planning from it"
        )
    s = MAX_SLOTS
    ids = np.full(s, -1, np.int64)
    known = np.zeros(s, bool)
    if posterior is not None:
        ids[:] = posterior.slot_ids
        known = ids >= 0
    ids[BODY] = BODY
    row_of = {int(identity): row for row, identity in enumerate(ids) if identity >= 0}
    free = [row for row in range(1, s) if ids[row] < 0]
    exists = np.zeros(s, bool)
    position, velocity = np.zeros((s, 2)), np.zeros((s, 2))
    brightness, variance = np.zeros(s), np.full(s, VARIANCE_RANGE[0])
    extent = np.zeros(s) if posterior is None else np.array(posterior.slot_extent, float)
    hidden = np.zeros(s, bool)
    for i, identity in enumerate(belief.ids.tolist()):
        if identity != BODY and belief.existence[i] < EXISTS:
            continue
        row = row_of.get(identity)
        if row is None:
            if not free:
                continue
            row = free.pop(0)
            ids[row], extent[row] = identity, belief.extent[i]
        exists[row] = True
        position[row], velocity[row] = belief.mean[i, :2], belief.mean[i, 2:4]
        brightness[row] = belief.mean[i, 4]
        extent[row] = extent[row] if extent[row] > 0 else belief.extent[i]
        variance[row] = np.clip(max(belief.cov[i, 0, 0], belief.cov[i, 1, 1]), *VARIANCE_RANGE)
        hidden[row] = row != BODY and belief.visible[i] < HIDDEN
    return Scene(
        belief.stamp, ids, known & exists, exists, position, velocity, brightness, extent, variance, hidden
    )
