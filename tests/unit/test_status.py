"""What the terminal says about a run is in plain words and never fails, whatever is missing."""

from __future__ import annotations

import pytest
from rich.console import Console

from crl_node.cli.live import LiveView, line
from crl_node.colours import colour_name
from crl_node.data import ACTION_PARENT, Edge, InformationGain, Term, TermKind
from crl_node.status import GoalView, SlotView, Status, sentence, where

TABLE = (0.4, 0.8, -0.3, 0.3)
SLOTS = {
    0: SlotView(0, 0.5, 0.0, (0.3, 0.3, 0.3), 0.0, 1.0),
    3: SlotView(3, 0.75, 0.25, (0.8, 0.05, 0.1), 0.6, 0.4, moved=0.31),
    5: SlotView(5, 0.45, -0.25, (0.95, 0.9, 0.1), 1.0, 1.0),
}


def edge(cause: int, effect: int, kind: TermKind | None, probability: float = 0.97, what: str = "position") -> Edge:
    terms = () if kind is None else ((Term(kind, 1, 2), probability, 1.0, 0.1),)
    return Edge("a", f"slot_{effect}.{what}", cause, effect, probability, terms)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (edge(0, 3, TermKind.PUSH), "the arm pushes the red thing 3"),
        (edge(ACTION_PARENT, 0, TermKind.ACTION), "its command moves the arm"),
        (edge(3, 5, TermKind.LIT_BY, what="brightness"), "the red thing 3 lights the yellow thing 5"),
        (edge(5, 3, TermKind.SPRING), "the yellow thing 5 pulls the red thing 3"),
        (edge(5, 3, None), "the yellow thing 5 moves the red thing 3"),
        (edge(5, 3, None, what="brightness"), "the yellow thing 5 changes the brightness of the red thing 3"),
        (edge(9, 3, TermKind.PUSH), "thing 9 pushes the red thing 3"),
    ],
)
def test_edges_read_as_sentences(given: Edge, expected: str) -> None:
    assert sentence(given, SLOTS) == expected


@pytest.mark.parametrize(
    ("colour", "word"),
    [
        ((0.85, 0.05, 0.08), "red"), ((0.05, 0.55, 0.12), "green"), ((0.45, 0.08, 0.62), "purple"),
        ((0.98, 0.9, 0.05), "yellow"), ((1.0, 0.35, 0.7), "pink"), ((0.1, 0.9, 0.88), "cyan"),
        ((1.0, 1.0, 1.0), "white"), ((0.05, 0.12, 0.6), "blue"), ((0.0, 0.0, 0.0), "black"),
    ],
)  # fmt: skip
def test_colours_of_the_shipped_worlds_have_their_names(colour: tuple[float, float, float], word: str) -> None:
    assert colour_name(colour) == word


def test_places_are_named_as_the_robot_sees_them() -> None:
    assert where(0.41, 0.29, TABLE) == "near, left"
    assert where(0.6, 0.0, TABLE) == "middle, centre"
    assert where(0.79, -0.29, TABLE) == "far, right"


def render(status: Status, seconds: float = 180.0) -> str:
    console = Console(width=120, record=True, color_system=None, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(LiveView(title="tabletop", seconds=seconds, table=TABLE).render(status))
    return console.export_text()


def test_an_empty_status_is_drawn() -> None:
    text = render(Status(), seconds=0.0)
    assert "system is starting" in text and "nothing yet" in text and "no plan yet" in text
    assert "starting: 0 things seen" in line(Status(), 0.0)


def test_a_full_status_shows_what_it_sees_found_and_expects() -> None:
    status = Status(time=12.0, slots=dict(SLOTS), phase="running", doing="push slot_3", provider="CPUExecutionProvider")
    status.edges = (edge(0, 3, TermKind.PUSH), *(edge(5, 3, TermKind.SPRING, 0.5),) * 20)
    status.gain = InformationGain(0.5, 0.25, 0.0)
    status.gain_history.append((12.0, 0.75))
    status.note_latency("plan", 12.0)
    text = render(status)
    for words in ("the arm pushes the red thing 3", "97%", "thing 3", "31 cm", "0.500 nats", "push slot_3",
                  "plan 12.0 ms", "12.0 s of 180 s", "and 11 more"):  # fmt: skip
        assert words in text
    assert "2 things seen" in line(status, 180.0) and "expects 0.750 nats" in line(status, 180.0)


def test_a_status_with_nothing_finite_is_drawn() -> None:
    nan = float("nan")
    status = Status(slots={1: SlotView(1, nan, nan, (nan, nan, nan), nan, nan, nan)})
    status.gain = InformationGain(nan, nan, nan)
    status.gain_history.append((0.0, nan))
    assert "thing 1" in render(status)


def test_goals_are_shown_with_how_far_there_is_to_go() -> None:
    status = Status(slots=dict(SLOTS), gain=InformationGain(0.1, 0.2, 0.0), preference=1.5, doing="bring it")
    red = SLOTS[3]
    status.goals = (GoalView(3, "red", red.x + 0.04, red.y), GoalView(77, "blue", 0.6, 0.1))
    text = render(status)
    assert "+1.50 nats" in text and "(4 cm to go)" in text and "the blue thing 77" in text and "out of sight" in text
    assert "goal: the red thing 3 to" in line(status, 10.0)
