"""What was seen in two places is movable, also when nobody saw it move; what may have been put there is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.data import BODY, MAX_SLOTS, Belief, TermKind
from crl_node.mechanisms.registry import CARRIED, MOST_DISPLACED, Registry
from crl_node.structure import prior
from crl_node.world_model import WorldModel
from tests.unit.test_world_model import DT, Discs, belief, registered

S = MAX_SLOTS
HIDDEN = 1  # index of the disc that the body pushes while nobody sees it


def noted(*sights: tuple[float, float], variance: float = 2e-5, lost: bool = False) -> Registry:
    """A registry whose slot 1 was seen at each of `sights` m in turn."""
    registry = Registry(confirm=2, certainty=0.9, absent_after=50)
    sure = np.zeros(S, bool)
    sure[1] = True
    for number, place in enumerate(sights):
        position = np.zeros((S, 2))
        position[1] = place
        registry.note_places(position, np.full(S, variance), sure, sure & (lost and number > 0))
    return registry


def gaussian(offset: float, variance: float) -> float:
    """ln density of an offset along x with `variance` m^2 of each axis."""
    return -0.5 * offset**2 / variance - np.log(2.0 * np.pi * variance)


def test_evidence_is_the_log_ratio_of_the_offsets_densities_with_and_without_a_move() -> None:
    offset, variance = 0.022, 4e-5
    expected = gaussian(offset, variance + CARRIED**2) - gaussian(offset, variance)
    assert 0.5 < expected < MOST_DISPLACED
    assert noted((0.5, 0.1), (0.5 + offset, 0.1)).displaced[1] == pytest.approx(expected)


def test_standing_still_says_nothing_and_no_evidence_is_too_loud() -> None:
    assert noted((0.5, 0.1), (0.503, 0.1)).displaced[1] == 0.0
    assert noted((0.5, 0.1), (0.6, 0.1)).displaced[1] == MOST_DISPLACED


def test_evidence_stays_when_the_thing_comes_back() -> None:
    assert noted((0.5, 0.1), (0.6, 0.1), (0.5, 0.1)).displaced[1] == MOST_DISPLACED


def test_from_where_it_was_lost_nothing_is_counted() -> None:
    assert noted((0.5, 0.1), (0.6, 0.1), lost=True).displaced[1] == 0.0


def test_only_the_slot_that_was_seen_counts() -> None:
    assert np.flatnonzero(noted((0.5, 0.1), (0.6, 0.1)).displaced).tolist() == [1]


def test_checkpoint_keeps_the_evidence_and_older_ones_load_without() -> None:
    registry = noted((0.5, 0.1), (0.55, 0.1))
    state = {name: np.asarray(array).copy() for name, array in registry.state().items()}
    again = Registry(confirm=2, certainty=0.9, absent_after=50)
    again.restore(state)
    np.testing.assert_array_equal(again.displaced, registry.displaced)
    np.testing.assert_array_equal(again.place, registry.place)
    older = Registry(confirm=2, certainty=0.9, absent_after=50)
    older.restore({name: array for name, array in state.items() if "place" not in name and "displaced" not in name})
    assert not older.displaced.any()


def test_what_was_displaced_is_probably_pushed_by_everything() -> None:
    things = np.zeros(S, bool)
    things[1:4] = True
    # The arm was held by something beside slot 1, and its row blames slot 1 a little.
    push = np.zeros((S, S))
    push[BODY, 1] = 2.0
    without = prior.traits(push, np.zeros((S, S)), things, np.zeros(S))
    displaced = np.zeros(S)
    displaced[1] = MOST_DISPLACED
    seen = prior.traits(push, np.zeros((S, S)), things, displaced)
    assert without.push[1, BODY] < 0.4
    assert seen.push[1, BODY] > 0.85
    assert seen.push[BODY, 1] < 0.05  # and does not hold the arm up
    assert seen.movable[2] == pytest.approx(without.movable[2], abs=0.01)


def unseen(world: Discs) -> Belief:
    """As the camera has it while the arm hides one disc: where it was, in doubt."""
    now = world.belief()
    visible = np.ones(len(now.ids))
    visible[HIDDEN] = 0.0
    return replace(now, visible=visible)


def pushed_unseen(model: WorldModel, world: Discs, *, moves: bool = True, pause: float | None = None) -> float:
    """Probability that the body pushes a disc that was moved by 5 cm while hidden, or not; then all is seen again.

    `pause` s: the stream is broken for so long meanwhile.
    """
    world.velocity[:] = 0.0
    world.time = model._last.stamp + DT if model._last is not None else 0.0
    start = world.position[HIDDEN].copy()
    for step in range(10):
        broken = pause is not None and step == 5
        if moves and step == 5:
            world.position[HIDDEN] = start + (0.05, 0.0)
        world.time += pause if broken and pause is not None else 0.0
        now = unseen(world) if 3 <= step < 7 else world.belief()
        model.observe(replace(now, stamp=world.time), None if broken else np.zeros(2))
        world.time += DT
    model.refresh_all()
    posterior = model.posterior()
    push = (posterior.term_kind == TermKind.PUSH) & (posterior.term_target == HIDDEN)
    return float(posterior.term_probability[push & (posterior.term_parent == BODY)].sum())


def test_a_thing_that_was_moved_out_of_sight_is_known_to_be_movable() -> None:
    still, moved = (pushed_unseen(*registered(), moves=moves) for moves in (False, True))
    assert moved > still + 0.1
    assert moved > 0.9


def test_a_dropped_picture_changes_nothing_about_that_but_in_a_pause_anybody_may_have_moved_it() -> None:
    still, dropped, paused = (
        pushed_unseen(*registered(), moves=moves, pause=pause)
        for moves, pause in ((False, None), (True, DT), (True, 5.0))
    )
    assert dropped > 0.9
    assert paused == pytest.approx(still, abs=0.02)


def test_slots_that_are_taken_over_begin_anew() -> None:
    registry = noted((0.5, 0.1), (0.6, 0.1))
    registry.confirm = 1
    registry.ids[:] = np.arange(S)  # all taken
    registry.absent[:] = 0
    registry.absent[1] = registry.absent_after + 1
    now = belief(0.0, np.zeros((4, 2)) + np.arange(4)[:, None], np.zeros((4, 2)))
    _, recycled = registry.update(replace(now, ids=np.array([0, 2, 3, 99])))
    assert recycled == [1]
    assert registry.displaced[1] == 0.0
    assert registry.place_variance[1] == 0.0
