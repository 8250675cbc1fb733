"""The evaluation on a made-up run whose answers are known."""

from pathlib import Path

import numpy as np
import pytest

from crl_node.bags.messages import CommandRecord, Truth
from crl_node.data import BODY, Belief, Edge, Term, TermKind
from crl_node.evaluation.contact import Pushes, contact_r2, contact_r2_by_thing, predict
from crl_node.evaluation.edges import score_graph
from crl_node.evaluation.evaluate import curve_times, evaluate
from crl_node.evaluation.run import RunData, load_run
from crl_node.evaluation.slots import align, match_slots, path_lengths, score_slots, spurious
from crl_node.evaluation.timing import count_ticks, latencies
from crl_node.evaluation.traffic import percentiles
from tests.support.synthetic_run import ERROR, NAMES, START, posterior, write_run

MAPPING = {n + 1: name for n, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return load_run(write_run(tmp_path_factory.mktemp("run")) / "bag")


def truth(stamp: float, positions: list[list[float]], brightness: list[float] | None = None) -> Truth:
    count = len(positions)
    names = tuple("abcdefgh"[:count])
    zeros = np.zeros((count, 2))
    lit = np.array(brightness or [0.0] * count)
    return Truth(stamp, np.zeros(2), names, np.array(positions), zeros, lit, ((),) * count)


def belief(stamp: float, slots: dict[int, list[float]], brightness: float = 0.0) -> Belief:
    """Slots {id: [x, y]} beside the body."""
    count = len(slots) + 1
    mean = np.zeros((count, 5))
    mean[1:, :2] = list(slots.values()) if slots else np.zeros((0, 2))
    mean[:, 4] = brightness
    ones = np.ones(count)
    ids = np.array([BODY, *slots], np.int64)
    return Belief(stamp, ids, mean, np.zeros((count, 5, 5)), np.zeros((count, 3)), 0.03 * ones, ones, ones)


def pushes_of(before: np.ndarray, after: np.ndarray, tip: np.ndarray, action: np.ndarray) -> Pushes:
    zeros, steps = np.zeros_like(before), len(before)
    return Pushes(
        NAMES, before, zeros, after, tip, np.zeros((steps, 2)), action, np.zeros(before.shape[:2], bool)
    )


def test_every_thing_is_matched_to_its_slot(run: RunData) -> None:
    assert match_slots(align(run.beliefs, run.truths)) == MAPPING


def test_slot_accuracy_is_measured_against_the_variance_of_all_things(run: RunData) -> None:
    track = align(run.beliefs, run.truths)
    scores = score_slots(track, run.truths, run.start)
    variance = ((track.things.reshape(-1, 2) - track.things.reshape(-1, 2).mean(0)) ** 2).sum(1).mean()
    for score in scores:
        assert score.r2 == pytest.approx(1 - ERROR**2 / variance)
        assert score.rmse == pytest.approx(ERROR)
        assert score.first_seen == pytest.approx(0.0)
        assert (score.swaps, score.identities, score.present, score.visible) == (0, 1, 1.0, 1.0)
    # Each cube goes 6 cm in 15 steps, so its own variance is defined and small.
    assert all(s.r2_own is not None and s.r2_own < s.r2 for s in scores if s.r2 is not None)


def test_metres_moved_leave_the_physics_engine_s_jitter_out() -> None:
    truths = [truth(0.1 * t, [[0.5, 0.0], [0.6, 0.01 * t + 0.0001 * (t % 2)]]) for t in range(11)]
    moved = path_lengths(truths)
    assert moved["a"] == 0.0
    assert moved["b"] == pytest.approx(0.1, abs=0.002)


def test_two_slots_that_trade_places_are_an_identity_swap() -> None:
    left, right = [0.5, -0.1], [0.5, 0.1]
    truths = [truth(0.1 * t, [left, right]) for t in range(40)]
    beliefs = [belief(0.1 * t, {1: left, 2: right} if t < 20 else {1: right, 2: left}) for t in range(40)]
    scores = score_slots(align(beliefs, truths), truths, 0.0)
    assert [s.swaps for s in scores] == [1, 1]
    assert [s.identities for s in scores] == [2, 2]


def test_a_flicker_shorter_than_half_a_second_is_no_swap() -> None:
    left, right = [0.5, -0.1], [0.5, 0.1]
    truths = [truth(0.1 * t, [left, right]) for t in range(40)]
    beliefs = [belief(0.1 * t, {1: right if 18 <= t < 21 else left, 2: right}) for t in range(40)]
    assert [s.swaps for s in score_slots(align(beliefs, truths), truths, 0.0)] == [0, 0]


def test_a_thing_that_is_found_late_says_when() -> None:
    here, there = [0.5, -0.1], [0.5, 0.1]
    truths = [truth(0.1 * t, [here, there]) for t in range(30)]
    beliefs = [belief(0.1 * t, {1: here} if t < 12 else {1: here, 2: there}) for t in range(30)]
    scores = score_slots(align(beliefs, truths), truths, 0.0)
    assert scores[1].first_seen == pytest.approx(1.2)
    assert scores[1].present == pytest.approx(18 / 30)


def test_a_thing_that_is_never_seen_has_no_score_but_is_listed() -> None:
    here, there = [0.5, -0.1], [0.5, 0.1]
    truths = [truth(0.1 * t, [here, there]) for t in range(10)]
    beliefs = [belief(0.1 * t, {1: here}) for t in range(10)]
    scores = score_slots(align(beliefs, truths), truths, 0.0)
    assert (scores[1].object, scores[1].slot, scores[1].r2, scores[1].first_seen) == ("b", None, None, None)


def test_a_slot_on_nothing_is_not_matched_to_a_thing_that_is_left_over() -> None:
    here, there, nowhere = [0.5, -0.1], [0.5, 0.1], [0.75, 0.28]
    truths = [truth(0.1 * t, [here, there]) for t in range(10)]
    beliefs = [belief(0.1 * t, {1: here, 7: nowhere}) for t in range(10)]
    track = align(beliefs, truths)
    matching = match_slots(track)
    assert matching == {1: "a"}
    assert spurious(track, matching) == [7]


def test_a_lamp_is_scored_by_the_ranking_of_its_slot_s_brightness() -> None:
    here = [0.5, 0.0]
    lit = [0.0, 0.0, 1.0, 1.0]
    truths = [truth(0.1 * t, [here], [on]) for t, on in enumerate(lit)]
    beliefs = [belief(0.1 * t, {1: here}, b) for t, b in enumerate([0.2, 0.6, 0.5, 0.9])]
    assert score_slots(align(beliefs, truths), truths, 0.0)[0].lamp_auroc == pytest.approx(3 / 4)


def test_without_beliefs_there_is_nothing_to_match() -> None:
    track = align([], [truth(0.0, [[0.5, 0.0]])])
    assert match_slots(track) == {}
    assert score_slots(track, [truth(0.0, [[0.5, 0.0]])], 0.0)[0].slot is None


def test_edges_are_compared_by_the_names_of_the_things() -> None:
    terms = (
        (Term(TermKind.SPRING, 2, 1, 0.1), 0.5, 1.0, 0.1),
        (Term(TermKind.SPRING, 2, 1, 0.15), 0.2, 1.0, 0.1),
    )
    edges = [
        Edge("slot_1", "slot_2.position", 1, 2, 0.8, terms),
        Edge("body", "slot_1.position", 0, 1, 0.6, ()),
        Edge("slot_9", "slot_2.position", 9, 2, 0.4, ()),
    ]
    truth_edges = {
        ("a", "b.position"): True,
        ("b", "a.position"): True,
        ("body", "a.position"): False,
        ("body", "b.position"): False,
    }
    score = score_graph(
        edges, truth_edges, [("SPRING", "a", "b.position"), ("SPRING", "b", "a")], {1: "a", 2: "b"}
    )
    assert [(e.probability, e.true) for e in score.edges] == [
        (0.8, True),
        (0.0, True),
        (0.6, False),
        (0.0, False),
    ]
    # Of the 4 pairs (true, false): .8 beats both, 0 loses to .6 and ties with 0.
    assert score.auroc == pytest.approx((2 + 0.5) / 4)
    # The two lengths are alternatives: together .7. The other way round nothing is believed.
    assert [(m.probability, m.found) for m in score.mechanisms] == [(pytest.approx(0.7), True), (0.0, False)]
    assert [(m.edge_probability, m.believed) for m in score.mechanisms] == [(0.8, "SPRING"), (0.0, None)]
    assert score.unmatched == ("slot_9 -> slot_2.position (0.40)",)


def test_a_model_that_knows_the_push_predicts_it() -> None:
    # The tip comes from below at .2 m/s, 2 cm a step; the model pushes what is nearer than 5 cm straight away.
    gaps = np.linspace(0.04, 0.06, 8)
    before = np.repeat(START[None], len(gaps), 0)
    tip = START[0] - np.column_stack([np.zeros(len(gaps)), gaps])
    action = np.tile([0.0, 0.2], (len(gaps), 1))
    after = before.copy()
    after[:, 0, 1] += np.minimum(np.maximum(0.05 - (gaps - 0.02), 0.0), 0.02)
    pushes = pushes_of(before, after, tip, action)
    assert contact_r2(posterior(), pushes, MAPPING) == pytest.approx(1.0, abs=1e-6)
    assert contact_r2_by_thing(posterior(), pushes, MAPPING) == {"red_cube": pytest.approx(1.0, abs=1e-6)}


def test_a_thing_without_a_slot_is_predicted_to_stay() -> None:
    before = np.repeat(START[None], 4, 0)
    after = before.copy()
    after[:, 0, 1] += [0.01, 0.02, 0.01, 0.02]
    pushes = pushes_of(before, after, START[[0] * 4] - [0.0, 0.04], np.tile([0.0, 0.2], (4, 1)))
    unknown = {i: name for i, name in MAPPING.items() if name != "red_cube"}
    assert np.all(predict(posterior(), pushes, unknown) == 0.0)
    score = contact_r2(posterior(), pushes, unknown)
    assert score is not None and score < 0


def test_pushes_that_touch_nothing_have_no_score() -> None:
    before = np.repeat(START[None], 2, 0)
    pushes = pushes_of(before, before, np.zeros((2, 2)), np.zeros((2, 2)))
    assert contact_r2(posterior(), pushes, MAPPING) is None


def test_a_tick_without_a_command_is_missed_and_says_who_was_silent(tmp_path: Path) -> None:
    whole = load_run(write_run(tmp_path / "a", steps=30) / "bag")
    assert (count_ticks(whole).planned, count_ticks(whole).missed) == (30, 0)
    one_missed = count_ticks(load_run(write_run(tmp_path / "b", steps=30, skip_command=12) / "bag"))
    assert (one_missed.planned, one_missed.missed) == (30, 1)
    assert one_missed.reasons == ("1 tick after 1.1 s: the planner sent no command",)


def test_an_arm_that_falls_silent_misses_every_tick_to_the_end() -> None:
    command = CommandRecord(0.0, 0.0, 0, 1, False, np.zeros(2))
    run = RunData(executed=[command], image_stamps=[0.1 * n for n in range(11)])
    assert count_ticks(run).missed == 10
    assert count_ticks(RunData()).reasons == (
        "no executed command was recorded: the arm was never told to move",
    )


def test_latency_runs_from_an_image_to_the_command_that_answers_it(run: RunData) -> None:
    measured = latencies(run)
    assert measured["camera_to_command"]["p50"] == pytest.approx(50.0, abs=0.01)
    assert measured["perception"] == {"p50": 12.0, "p99": 12.0}
    assert measured["update"]["p50"] == pytest.approx(4.0)
    assert percentiles([]) == {"p50": None, "p99": None}


def test_sent_messages_are_taken_from_the_recorder(run: RunData) -> None:
    assert run.sent == run.recorded


def test_the_learning_curve_has_a_point_at_sixty_seconds_and_at_the_end() -> None:
    assert 60.0 in curve_times(180.0)
    assert curve_times(100.0)[-1] == 100.0
    assert curve_times(7.0)[-1] == 7.0


def test_the_newest_posterior_at_a_time_is_the_one_published_by_then(run: RunData) -> None:
    assert run.posterior_at(0.5) is None
    early, late = run.posterior_at(3.0), run.posterior_at(6.9)
    assert early is not None and late is not None
    assert (early.version, late.version) == (1, 3)


def test_of_a_resumed_run_only_the_last_part_is_evaluated(tmp_path: Path) -> None:
    from crl_node.bags.metadata import TopicInfo
    from crl_node.bags.writer import BagWriter
    from tests.support.synthetic_run import TOPICS, Messages, definitions

    m = Messages()
    with BagWriter(tmp_path / "bag", definitions=definitions(), min_free_bytes=0) as writer:
        for topic in ("/clock", "/learner/belief"):
            writer.add_topic(TopicInfo(topic, TOPICS[topic]))
        for n, t in enumerate([0.0, 1.0, 2.0, 3.0, 0.0, 1.0]):
            writer.write("/clock", m.bytes(m.make(TOPICS["/clock"], clock=m.time(t))), log_time=2 * n)
            belief_message = m.make(TOPICS["/learner/belief"], header=m.header(t))
            writer.write("/learner/belief", m.bytes(belief_message), log_time=2 * n + 1)
    resumed = load_run(tmp_path / "bag")
    assert [b.stamp for b in resumed.beliefs] == [0.0, 1.0]
    assert resumed.recorded == {"/clock": 6, "/learner/belief": 6}
    assert any("the run was resumed there" in note for note in resumed.notes)


def test_what_is_missing_becomes_a_sentence(tmp_path: Path) -> None:
    topics = ("/sim/ground_truth", "/learner/posterior", "/learner/graph")
    result = evaluate(load_run(write_run(tmp_path / "run", steps=10, leave_out=topics) / "bag"), world=None)
    assert "no ground truth was recorded" in " ".join(result.notes)
    assert "which world it was is not known" in " ".join(result.notes)
    nothing = evaluate(load_run(tmp_path / "nowhere"), world="no_such_world")
    assert "does not exist" in nothing.notes[0]
    assert "world or robot cannot be loaded" in " ".join(nothing.notes)
