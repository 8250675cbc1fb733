"""Friction, judged where a thing slides on alone."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.data import MAX_SLOTS, TermKind
from crl_node.mechanisms import grammar
from crl_node.mechanisms.environments import Sums
from crl_node.mechanisms.slides import Slides, slides
from crl_node.mechanisms.terms import Scene
from crl_node.structure.comparison import ChangeConfig, compare

DT = 0.1


def scene(things: int = 3) -> Scene:
    extent, exists = np.zeros(MAX_SLOTS), np.zeros(MAX_SLOTS, bool)
    extent[:things], exists[:things] = 0.02, True
    return Scene(extent, exists, np.array([0.0, 1.0, -0.5, 0.5]), DT)


def states(*places: tuple[float, float], speed: float = 0.0) -> np.ndarray:
    """Slot 1 moves along x with `speed` m/s."""
    out = np.zeros((MAX_SLOTS, 5))
    out[: len(places), :2] = places
    out[1, 2] = speed
    return out


def push(seen: Slides, rng: np.random.Generator, loss: float, pushes: int, noise: float = 0.0004) -> None:
    """Slide 12 mm a step, `loss` m less in every step (Coulomb), until the thing stands still."""
    for _ in range(pushes):
        x, step = 0.3, 0.012
        while step > 0.0:
            after = max(step - loss, 0.0)
            before = states(
                (0.1, 0.0), (x, 0.0), (0.8, 0.3), speed=(step + noise * rng.standard_normal()) / DT
            )
            later = states((0.1, 0.0), (x + after + noise * rng.standard_normal(), 0.0), (0.8, 0.3))
            seen.add(before, later, scene(), np.ones(MAX_SLOTS, bool))
            x, step = x + after, after


@pytest.mark.parametrize("seed", range(3))
def test_friction_that_doubles_is_named_and_friction_that_stays_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for factor, low, high in ((2.0, 0.9, 1.0), (1.0, 0.0, 0.1)):
        seen = Slides()
        push(seen, rng, 0.003, 6)
        assert seen.judge(1) is None
        seen.begin(4)
        push(seen, rng, factor * 0.003, 6)
        found = seen.judge(1)
        assert found is not None and low <= found.changed <= high
        assert found.before == pytest.approx(0.7, abs=0.05)
        assert found.after == pytest.approx(1.0 - 0.3 * factor, abs=0.05)
        assert seen.judge(2) is None


def test_only_a_thing_that_slides_alone_and_goes_on_counts() -> None:
    far = (0.8, 0.3)
    alone = states((0.1, 0.0), (0.3, 0.0), far, speed=0.1), states((0.1, 0.0), (0.307, 0.0), far)
    assert np.flatnonzero(slides(*alone, scene())).tolist() == [1]
    pushed = states((0.262, 0.0), (0.3, 0.0), far, speed=0.1), states((0.27, 0.0), (0.307, 0.0), far)
    met = states((0.1, 0.0), (0.3, 0.0), far, speed=0.1), states((0.1, 0.0), (0.307, 0.0), (0.345, 0.0))
    stopped = alone[0], states((0.1, 0.0), (0.3005, 0.0), far)
    slow = states((0.1, 0.0), (0.3, 0.0), far, speed=0.02), alone[1]
    rim = states((0.1, 0.0), (0.97, 0.0), far, speed=0.1), states((0.1, 0.0), (0.979, 0.0), far)
    for before, after in (pushed, met, stopped, slow, rim):
        assert not slides(before, after, scene()).any()


def test_a_change_lasts_when_another_environment_begins_and_sums_add() -> None:
    rng = np.random.default_rng(1)
    one, other = Slides(), Slides()
    for factor in (1.0, 2.0, 2.0):
        push(one, rng, 0.003 * factor, 5)
        push(other, rng, 0.003 * factor, 5)
        if factor == 1.0 or len(one.sums) == 2:
            one.begin(4)
            other.begin(4)
    found = one.judge(1)
    assert found is not None and found.changed < 0.1 and found.before == pytest.approx(0.4, abs=0.06)
    total = one.sums + other.sums
    one.merge(other)
    np.testing.assert_array_equal(one.sums, total)
    with pytest.raises(ValueError, match="do not add"):
        one.merge(Slides())
    one.forget(1)
    assert one.judge(1) is None


def test_the_comparison_of_inertia_is_that_of_sliding_and_others_are_left() -> None:
    rng, columns = np.random.default_rng(2), grammar.MOTION
    seen = Slides()
    push(seen, rng, 0.003, 6)
    seen.begin(4)
    push(seen, rng, 0.006, 6)
    size = len(columns)
    nothing = Sums(np.zeros((2, size, size)), np.zeros((2, size)), np.zeros(2), np.zeros(2))
    plain = compare(
        columns, nothing, nothing, np.full(2, 0.001), np.zeros(size), np.zeros(size), ChangeConfig()
    )
    found, group = seen.seen_in(plain, columns, 1), columns.of_group(TermKind.INERTIA)
    assert found.changed[group] > 0.9 and plain.changed[group] == 0.0
    np.testing.assert_array_equal(np.delete(found.changed, group), np.delete(plain.changed, group))
    assert seen.seen_in(plain, columns, 2) is plain
