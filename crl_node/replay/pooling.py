"""Models of the same variables are prepared alike, and then their sums are added."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crl_node.data import MAX_SLOTS, Array
from crl_node.world_model import WorldModel


def adopt(model: WorldModel, extents: Mapping[int, float], distances: Array) -> None:
    """Tell an empty model its variables: identity -> extent m, the body first; `distances` [n, n] m (0: never seen).

    Two models that adopted the same have the same candidates, so their statistics add. ValueError once something was
    learned, or when there are more than fit.
    """
    count, registry = len(extents), model.registry
    if model.step or registry.used.any() or count > MAX_SLOTS or distances.shape != (count, count):
        raise ValueError(f"{count} variables, distances {distances.shape}, {model.step} steps: not adopted")
    registry.ids[:count], registry.extent[:count] = list(extents), list(extents.values())
    registry.distance[:count, :count] = distances
    model._slots_changed(list(range(count)))


def absorb(model: WorldModel, other: WorldModel) -> None:
    """Add to `model` what another one of the same variables has seen. ValueError when its variables are others."""
    mine, its = model.registry, other.registry
    if not (np.array_equal(mine.ids, its.ids) and np.array_equal(model._lengths[0], other._lengths[0])):
        raise ValueError(f"the models have other variables ({mine.ids.tolist()}, {its.ids.tolist()}): not added")
    if model.induction is not None and other.induction is not None:
        model.induction.merge(other.induction)
    model.motion.statistics.merge(other.motion.statistics)
    model.brightness.statistics.merge(other.brightness.statistics)
    model.motion.slides.merge(other.motion.slides)
    mine.displaced = np.maximum(mine.displaced, its.displaced)
    model.step += other.step
    model._dirty = True
