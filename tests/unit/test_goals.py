"""Goals as people give them: which thing is meant, which places make sense, when a goal is reached."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from crl_node.colours import WORDS, colour_name
from crl_node.curiosity.goals import REACHED, WEIGHT, GoalError, Goals, find
from crl_node.data import Belief
from tests.support.plan_inputs import belief_of

TABLE, WORKSPACE = (0.38, 0.82, -0.30, 0.30), (0.40, 0.80, -0.28, 0.28)
PLACES = np.array([[0.42, 0.0], [0.50, 0.10], [0.60, -0.10], [0.70, 0.15], [0.55, -0.2]])
COLOURS = np.array([[0, 0, 0], [0.55, 0.04, 0.06], [0.9, 0.85, 0.05], [0.1, 0.5, 0.15], [0.1, 0.45, 0.1]])


def seen(colours: np.ndarray = COLOURS, places: np.ndarray = PLACES, stamp: float = 1.0) -> Belief:
    """The body and four things, ids 1 to 4: red, yellow, and two green ones."""
    return replace(belief_of(places), colour=colours.astype(float), stamp=stamp)


def goals() -> Goals:
    return Goals(TABLE, WORKSPACE)


@pytest.mark.parametrize(
    ("thing", "slot"), [("red", 1), (" Yellow ", 2), ("3", 3), ("slot_4", 4), ("4", 4), ("orange", 1)]
)
def test_a_thing_is_named_by_its_number_or_by_a_colour_that_tells_it_from_the_others(thing: str, slot: int) -> None:
    # In the shade red is brownish, but nothing else is anything like orange... when yellow is not there.
    belief = seen()
    if thing == "orange":
        belief = replace(belief, existence=np.where(belief.ids == 2, 0.1, belief.existence))
        belief = replace(belief, colour=np.where(belief.ids[:, None] == 1, [0.85, 0.28, 0.05], belief.colour))
    assert find(belief, thing) == slot


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("green", ("2 things are green", "by its number", "1 (red), 2 (yellow), 3 (green), 4 (green)")),
        ("blue", ("no thing is blue", "1 (red)")),
        ("7", ("there is no thing 7", "1 (red)")),
        ("0", ("0 is the arm itself", "1 (red)")),
        ("reddish", ("'reddish'", "no colour", "purple", "1 (red)")),
        ("-1", ("'-1'",)),
        ("²", ("'²'",)),
        ("", ("''",)),
    ],
)
def test_a_thing_that_is_none_or_several_is_refused_with_the_list_of_things(thing: str, words: tuple[str, ...]) -> None:
    with pytest.raises(GoalError) as error:
        find(seen(), thing)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_what_is_not_believed_to_exist_cannot_be_named() -> None:
    belief = seen()
    gone = replace(belief, existence=np.where(belief.ids == 1, 0.2, belief.existence))
    with pytest.raises(GoalError, match=r"there is no thing 1: the things are 2 \(yellow\)"):
        find(gone, "1")


def test_every_word_names_its_own_colour() -> None:
    assert all(colour_name(colour) == word for word, colour in WORDS.items())


def test_a_goal_has_the_usual_weight_and_replaces_the_thing_s_earlier_one() -> None:
    wanted = goals()
    first = wanted.set(seen(), "red", 0.6, 0.1)
    assert (first.slot, first.name, first.place, first.weight, first.hold) == (1, "red", (0.6, 0.1), WEIGHT, 0.0)
    assert str(first) == "the red thing 1 is wanted at (0.60, 0.10) m"
    second = wanted.set(seen(), "1", 0.5, 0.0, weight=20.0, hold=2.0)
    other = wanted.set(seen(), "yellow", 0.7, 0.0)
    assert wanted.all == (second, other) and second.weight == 20.0


@pytest.mark.parametrize(
    ("x", "y", "weight", "hold", "words"),
    [
        (0.9, 0.0, 0.0, 0.0, ("(0.9, 0) m", "no place on the table", "x from 0.4")),
        (0.6, 0.29, 0.0, 0.0, ("(0.6, 0.29) m", "y from -0.2")),
        (0.385, 0.0, 0.0, 0.0, ("allowed",)),
        (math.nan, 0.0, 0.0, 0.0, ("x is nan", "finite")),
        (0.6, math.inf, 0.0, 0.0, ("y is inf",)),
        (0.6, 0.0, -1.0, 0.0, ("weight is -1 nats/m",)),
        (0.6, 0.0, math.inf, 0.0, ("weight is inf",)),
        (0.6, 0.0, 0.0, -2.0, ("hold is -2 s",)),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused_and_changes_nothing(
    x: float, y: float, weight: float, hold: float, words: tuple[str, ...]
) -> None:
    wanted = goals()
    before = wanted.set(seen(), "red", 0.6, 0.1)
    with pytest.raises(GoalError) as error:
        wanted.set(seen(), "red", x, y, weight, hold)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert wanted.all == (before,)


def test_the_arm_need_not_get_where_the_thing_goes_but_the_thing_must_stay_on_the_table() -> None:
    belief = replace(seen(), extent=np.full(5, 0.034))
    goals().set(belief, "red", 0.785, 0.0)  # the tip stops at 0.75
    with pytest.raises(GoalError, match="allowed"):
        Goals(TABLE, (0.40, 0.60, -0.28, 0.28)).set(belief, "red", 0.70, 0.0)


def test_a_goal_is_given_up_when_the_thing_was_there_for_its_time_without_a_break() -> None:
    wanted = goals()
    wanted.set(seen(), "red", 0.60, 0.10, hold=0.5)
    stays = wanted.set(seen(), "yellow", 0.60, -0.10)  # where it is; no hold: never given up

    def at(x: float, stamp: float) -> int:
        places = PLACES.copy()
        places[1] = x, 0.10
        return len(wanted.observe(seen(places=places, stamp=stamp)))

    near, far = 0.60 + 0.9 * REACHED, 0.60 + 1.1 * REACHED
    assert [at(near, 1.0), at(near, 1.4), at(far, 1.45)] == [0, 0, 0]
    assert [at(near, 1.5), at(near, 1.9), at(near, 2.0)] == [0, 0, 1]
    assert wanted.all == (stays,)


def test_a_thing_out_of_sight_has_not_reached_its_goal() -> None:
    wanted = goals()
    wanted.set(seen(), "red", *PLACES[1], hold=0.2)
    assert wanted.observe(seen(stamp=1.0)) == ()
    belief = seen(stamp=1.1)
    kept = belief.ids != 1
    hidden = replace(
        belief,
        **{
            name: getattr(belief, name)[kept]
            for name in ("ids", "mean", "cov", "colour", "extent", "existence", "visible")
        },
    )
    assert wanted.observe(hidden) == ()
    assert wanted.observe(seen(stamp=1.2)) == () and len(wanted.observe(seen(stamp=1.4))) == 1


def test_goals_are_cleared_one_by_one_or_all_and_a_thing_without_one_is_named() -> None:
    wanted = goals()
    red = wanted.set(seen(), "red", 0.6, 0.1)
    yellow = wanted.set(seen(), "yellow", 0.7, 0.0)
    with pytest.raises(GoalError, match=r"'3' has no goal; goals: 1 \(red\), 2 \(yellow\)"):
        wanted.clear(seen(), "3")
    assert wanted.clear(seen(), "red") == (red,)
    assert wanted.clear(None, "") == (yellow,) and wanted.all == () and wanted.clear(None, "") == ()


def test_goals_can_be_put_back() -> None:
    wanted = goals()
    before = (wanted.set(seen(), "red", 0.6, 0.1),)
    wanted.set(seen(), "yellow", 0.7, 0.0)
    wanted.restore(before)
    assert wanted.all == before
