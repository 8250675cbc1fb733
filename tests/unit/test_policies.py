"""The policies behind one interface: what they propose, that they do not jam, that they are repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.curiosity.jams import LINGER_PLANS, JamMemory, paths
from crl_node.curiosity.policies import (
    EXPLORE,
    POLICIES,
    Curious,
    Random,
    Request,
    Skills,
    coloured_noise,
    make_policy,
)
from crl_node.curiosity.proposals import Table
from crl_node.curiosity.scene import scene_from
from crl_node.data import Candidate, InformationGain, Plan
from tests.support.plan_inputs import belief_of

BOX = np.array([0.40, 0.80, -0.28, 0.28])
TABLE = Table(box=BOX)


def request(
    tip: tuple[float, float] = (0.5, 0.0), *, stamp: float = 1.0, previous: Plan | None = None,
    banned: frozenset[str] = frozenset(), leave: bool = False,
    tedious: tuple[tuple[float, float], ...] = (), things: tuple[tuple[float, float], ...] = ((0.6, 0.1),),
) -> Request:  # fmt: skip
    scene = scene_from(belief_of(np.array([tip, *things]), stamp=stamp), None)
    return Request(scene, TABLE, [], previous, banned, leave, np.array(tedious).reshape(-1, 2), 64, 30, 0.1)


def plan(label: str, action: tuple[float, float], *, stamp: float = 0.9, at: tuple[float, float] = (0.5, 0.0)) -> Plan:
    actions = np.tile(np.array(action, np.float32), (30, 1))
    path = np.array(at, np.float32) + np.vstack([np.zeros(2), np.cumsum(actions * 0.1, axis=0)]).astype(np.float32)
    return Plan(stamp, 1, Candidate(actions, 2.0, InformationGain(1.0, 1.0, 0.0), label), (), path, 1.0, 0.1)


def test_half_of_the_curious_candidates_are_experiments() -> None:
    things = tuple((0.5 + 0.12 * (k % 3), -0.15 + 0.15 * (k // 3)) for k in range(6))
    proposals = Curious().propose(request((0.42, -0.25), things=things), np.random.default_rng(0))
    assert proposals.actions.shape == (64, 30, 2)
    assert len(proposals.labels) == 64
    assert sum(label != EXPLORE for label in proposals.labels) == 32
    assert np.isfinite(proposals.actions).all()


def test_the_last_plan_goes_on_shifted_by_the_time_that_has_passed_and_is_preferred_a_little() -> None:
    last = plan("push slot_1 from the left", (0.1, 0.05))
    last = replace(last, chosen=replace(last.chosen, actions=np.arange(60, dtype=np.float32).reshape(30, 2)))
    proposals = Curious().propose(request(previous=last), np.random.default_rng(0))
    np.testing.assert_array_equal(proposals.actions[0, :29], last.chosen.actions[1:])
    np.testing.assert_array_equal(proposals.actions[0, 29], 0.0)
    assert proposals.labels[0] == "push slot_1 from the left"
    assert proposals.bonus[0] == pytest.approx(1.0 + 0.3 * 2.0)


def test_a_plan_that_is_over_is_not_held_on_to() -> None:
    proposals = Curious().propose(request(previous=plan("push slot_1", (0.0, 0.0))), np.random.default_rng(0))
    assert proposals.bonus[0] == 0.0


def test_an_experiment_is_held_on_to_for_as_long_as_one_takes() -> None:
    """What is left of a refined plan always promises a little: held on to, it kept the arm where it was."""
    policy, label = Curious(), "push slot_1 from the left"
    bonus = [
        policy.propose(
            request(stamp=k + 0.1, previous=plan(name, (0.1, 0.0), stamp=float(k))), np.random.default_rng(0)
        ).bonus[0]
        for k, name in enumerate([label, label, label, label, "push slot_2", label])
    ]
    np.testing.assert_allclose(bonus, [1.6, 1.6, 1.6, 0.0, 1.6, 1.6], atol=1e-6)


def test_a_plan_that_jammed_is_neither_continued_nor_proposed_again() -> None:
    first = Curious().propose(request(), np.random.default_rng(0))
    label = first.labels[0]
    again = Curious().propose(
        request(previous=plan(label, (0.1, 0.0)), banned=frozenset({label})), np.random.default_rng(0)
    )
    assert again.labels[0] != label or again.bonus[0] < -10
    assert all(bonus < -10 for bonus, name in zip(again.bonus, again.labels, strict=True) if name == label)


def test_after_lingering_only_what_leads_away_is_proposed_in_earnest() -> None:
    """And what leans on the jam leads nowhere, however far it is told to go."""
    jams = np.array([[0.5, 0.0, 1.0, 0.0], [0, 0, 0, 0]], np.float32)
    for known in (np.zeros_like(jams), jams):
        proposals = Curious().propose(replace(request(leave=True), jams=known), np.random.default_rng(0))
        gone = paths(np.array([0.5, 0.0]), proposals.actions, known, BOX, 0.1)
        reach = np.linalg.norm(gone - [0.5, 0.0], axis=2).max(1)
        assert (proposals.bonus[reach < 0.119] < -10).all()
        assert (proposals.bonus[reach > 0.121] > -10).all()
        assert (proposals.bonus > -10).any()
    straight = (np.abs(proposals.actions[..., 1]).max(1) < 1e-6) & (proposals.actions[:, 0, 0] > 0.1)
    assert straight.any() and (proposals.bonus[straight] < -10).all()


def test_a_tip_at_a_jam_slides_along_it_as_far_as_friction_lets_it_and_leaves_freely() -> None:
    jam = np.array([[0.5, 0.0, 1.0, 0.0]])
    for action, to in (
        ((0.2, 0.0), (0.5, 0.0)), ((0.2, 0.09), (0.5, 0.0)), ((0.1, 0.1), (0.5, 0.02)), ((-0.2, 0.0), (0.42, 0.0)),
    ):  # fmt: skip
        actions = np.tile(np.array(action), (1, 4, 1))
        np.testing.assert_allclose(paths(np.array([0.5, 0.0]), actions, jam, BOX, 0.1)[0, -1], to, atol=1e-9)
    far = paths(np.array([0.6, 0.0]), np.tile([0.25, 0.0], (1, 30, 1)), jam, BOX, 0.1)
    assert far[0, -1, 0] == BOX[1]


def test_staying_at_a_tedious_place_is_worth_less_and_going_elsewhere_is_not() -> None:
    fresh_request = request()
    fresh = Curious().propose(fresh_request, np.random.default_rng(0))
    bored = Curious().propose(request(tedious=((0.5, 0.0),)), np.random.default_rng(0))
    lost = fresh.bonus - bored.bonus
    gone = paths(np.array([0.5, 0.0]), fresh.actions, fresh_request.jams, BOX, 0.1)
    near = (np.linalg.norm(gone - [0.5, 0.0], axis=2) < 0.07).mean(1)
    np.testing.assert_allclose(lost, 3.0 * near, atol=1e-5)
    assert lost.min() < 1.0 < lost.max()


def test_without_things_curious_still_moves() -> None:
    proposals = Curious().propose(request(things=()), np.random.default_rng(0))
    assert np.abs(proposals.actions).max() > 0.05


def test_skills_walk_to_a_thing_push_through_and_choose_the_next() -> None:
    """On a tip that follows exactly, the skill ends behind where the thing was, then another begins."""
    policy, rng = Skills(), np.random.default_rng(1)
    tip, labels, closest = np.array([0.45, -0.2]), [], np.inf
    for k in range(150):
        proposals = policy.propose(request(tuple(tip), stamp=0.1 * k, things=((0.6, 0.0), (0.6, 0.18))), rng)
        assert proposals.actions.shape == (1, 30, 2)
        labels.append(proposals.labels[0])
        tip = np.clip(tip + proposals.actions[0, 0] * 0.1, BOX[0::2], BOX[1::2])
        closest = min(closest, float(np.linalg.norm(tip - [0.6, 0.0])))
    assert len(set(labels)) >= 3
    assert closest < 0.045


def test_a_skill_that_does_not_get_on_is_dropped_in_time_and_at_once_when_jammed() -> None:
    policy, rng = Skills(), np.random.default_rng(1)
    first = policy.propose(request(stamp=0.0), rng).labels[0]
    chosen = {policy.propose(request(stamp=0.1 * k), rng).labels[0] for k in range(1, 10)}
    assert chosen == {first}
    deadline = policy._deadline
    policy.propose(request(stamp=deadline + 0.1), rng)
    assert policy._deadline > deadline
    policy.gave_up(first)
    assert policy._legs == []


def test_length_speed_and_pause_of_a_skill_are_those_asked_for() -> None:
    """On a tip that follows exactly, with one thing in the middle of the table."""

    def drive(policy: Skills) -> tuple[float, float, int]:
        rng, tip, thing = np.random.default_rng(1), np.array([0.45, -0.2]), np.array([0.6, 0.0])
        first, pushed, fastest, still = None, 0.0, 0.0, 0
        for k in range(120):
            proposals = policy.propose(request(tuple(tip), stamp=0.1 * k, things=(tuple(thing),)), rng)
            first = first or proposals.labels[0]
            step = proposals.actions[0, 0] * 0.1
            if not np.any(step):
                still += 1
            elif still or proposals.labels[0] != first:
                break
            tip = tip + step
            if np.linalg.norm(tip - thing) < 0.044:  # from here on the tip would push
                fastest = max(fastest, float(np.linalg.norm(step)) / 0.1)
                pushed += float(np.linalg.norm(step))
        return pushed, fastest, still

    short, slow, none = drive(Skills(length=0.04))
    long, fast, some = drive(Skills(length=0.08, speed=0.22, pause=1.0))
    assert long - short == pytest.approx(0.04, abs=0.015)
    assert slow < 0.17 and fast == pytest.approx(0.22, abs=0.01)
    assert none == 0 and some == pytest.approx(10, abs=1)


def test_random_turns_back_at_the_border_and_wanders_over_the_whole_table() -> None:
    policy, rng, tip = Random(), np.random.default_rng(0), np.array([0.5, 0.0])
    visited = []
    for k in range(1500):
        action = policy.propose(request(tuple(tip), stamp=0.1 * k, things=()), rng).actions[0, 0]
        tip = np.clip(tip + action * 0.1, BOX[0::2], BOX[1::2])
        visited.append(tip.copy())
    visited_array = np.array(visited)
    at_border = ((visited_array <= BOX[0::2] + 1e-6) | (visited_array >= BOX[1::2] - 1e-6)).any(1)
    assert at_border.mean() < 0.1
    assert np.ptp(visited_array[:, 0]) > 0.3 and np.ptp(visited_array[:, 1]) > 0.4


@pytest.mark.parametrize("name", POLICIES)
def test_same_seed_and_calls_give_the_same_proposals(name: str) -> None:
    runs = []
    for _ in range(2):
        policy, rng = make_policy(name), np.random.default_rng(5)
        runs.append([policy.propose(request(stamp=0.1 * k), rng) for k in range(4)])
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a.actions, b.actions)
        assert a.labels == b.labels


def test_unknown_policy_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no policy 'bored'; there are curious, skills, random, disagreement, rnd"):
        make_policy("bored")


def test_coloured_noise_has_unit_variance_and_memory() -> None:
    noise = coloured_noise(np.random.default_rng(0), (400, 40, 2))
    assert noise.std() == pytest.approx(1.0, abs=0.05)
    assert np.mean(noise[:, 1:] * noise[:, :-1]) == pytest.approx(0.85, abs=0.05)


def drive(memory: JamMemory, moves: list[tuple[float, float]], action: tuple[float, float]) -> list[str | None]:
    """Plans that ask for `action` m/s while the tip makes `moves` m each step."""
    tip, previous, results = np.array([0.6, 0.0]), None, []
    for k in range(len(moves) + 1):
        results.append(memory.observe(0.1 * k, tip, previous, 0.1))
        previous = plan("push slot_1", action, stamp=0.1 * k, at=tuple(tip))
        if k < len(moves):
            tip = tip + moves[k]
    return results


def test_a_tip_that_does_not_get_on_is_a_jam_there_and_in_that_direction() -> None:
    memory = JamMemory()
    assert "push slot_1" in drive(memory, [(0.001, 0.0)] * 4, (0.2, 0.0))
    jam = memory.array()[0]
    np.testing.assert_allclose(jam[:2], [0.603, 0.0], atol=2e-3)
    np.testing.assert_allclose(jam[2:], [1.0, 0.0], atol=1e-6)
    assert memory.banned == {"push slot_1"}


def test_a_tip_that_follows_or_does_not_want_to_move_is_no_jam() -> None:
    for moves, action in (([(0.02, 0.0)] * 8, (0.2, 0.0)), ([(0.0, 0.0)] * 8, (0.01, 0.0))):
        memory = JamMemory()
        assert drive(memory, moves, action) == [None] * 9
        assert not memory.array().any()


def test_a_block_that_was_foreseen_is_a_jam_too() -> None:
    """The plan knew that the thing would not give way, and leant on it to learn more; nothing came."""
    memory, tip, found = JamMemory(), np.array([0.6, 0.0]), []
    for k in range(6):
        leaning = plan("push slot_1", (0.2, 0.0), stamp=0.1 * (k - 1), at=tuple(tip))
        stays = replace(leaning, path=np.tile(np.float32(tip), (31, 1)))
        found.append(memory.observe(0.1 * k, tip, stays if k else None, 0.1))
    assert "push slot_1" in found
    np.testing.assert_allclose(memory.array()[0], [0.6, 0.0, 1.0, 0.0], atol=1e-6)


def test_where_the_tip_jammed_it_is_tedious_for_a_while() -> None:
    """What can be learned of a block comes with the first touch; what more is promised of it does not."""
    memory = JamMemory()
    drive(memory, [(0.0, 0.0)] * 6, (0.2, 0.0))
    np.testing.assert_allclose(memory.tedious, [[0.6, 0.0]], atol=1e-9)
    memory.observe(10.0, np.array([0.5, 0.0]), None, 0.1)
    assert len(memory.tedious) == 1
    memory.observe(30.0, np.array([0.5, 0.0]), None, 0.1)
    assert len(memory.tedious) == 0


def test_the_border_of_the_workspace_is_no_jam() -> None:
    memory, tip = JamMemory(box=BOX), np.array([0.8, 0.0])
    for k in range(3 * LINGER_PLANS):
        assert memory.observe(0.1 * k, tip, plan("out", (0.2, 0.0), stamp=0.1 * (k - 1)) if k else None, 0.1) is None
    assert not memory.array().any() and not memory.leave


def test_jams_are_forgotten_after_a_while() -> None:
    memory = JamMemory()
    drive(memory, [(0.0, 0.0)] * 4, (0.2, 0.0))
    memory.observe(10.0, np.array([0.5, 0.0]), None, 0.1)
    assert not memory.array().any()
    assert memory.banned == frozenset()


def test_leaning_on_one_place_for_long_makes_it_leave() -> None:
    memory = JamMemory()
    drive(memory, [(0.004, 0.0), (-0.004, 0.0)] * LINGER_PLANS, (0.2, 0.0))
    assert memory.leave
    np.testing.assert_allclose(memory.tedious[0], [0.602, 0.0], atol=3e-3)
    memory.observe(100.0, np.array([0.5, 0.0]), None, 0.1)
    assert len(memory.tedious) == 0 and not memory.leave


def test_a_jump_of_time_is_not_mistaken_for_a_jam() -> None:
    memory = JamMemory()
    memory.observe(0.0, np.array([0.6, 0.0]), None, 0.1)
    for stamp in (5.0, 10.0, 15.0, 20.0):
        previous = plan("push slot_1", (0.2, 0.0), stamp=stamp - 5.0)
        assert memory.observe(stamp, np.array([0.6, 0.0]), previous, 0.1) is None
