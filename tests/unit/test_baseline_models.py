"""The forward models of `disagreement` and `rnd`: gradients, what they learn, what they disagree about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crl_node.curiosity.dynamics import Dynamics, DynamicsConfig, Limits, Rows
from crl_node.curiosity.nets import NetShape, SlotNets, Weights
from crl_node.curiosity.scene import Scene, scene_from
from crl_node.curiosity.slot_features import NEIGHBOURS, OWN_SIZE, PAIR_SIZE, UNIT, Cast, Lens, State, points
from tests.support.plan_inputs import belief_of

RIM = np.array([0.38, 0.82, -0.30, 0.30])
BOX = np.array([0.40, 0.80, -0.28, 0.28])
NO_JAMS = np.zeros((4, 4), np.float32)
DT, REACH = 0.1, 0.045  # s; m, radius of the tip and of a thing together
THINGS = np.array([[0.5, -0.15], [0.65, 0.15]])


def push(tip: np.ndarray, action: np.ndarray, things: np.ndarray) -> np.ndarray:
    """A world of discs: the tip moves by its action, a thing in its way is put beyond its reach."""
    after = tip + action * DT
    away = things - after
    distance = np.linalg.norm(away, axis=1, keepdims=True)
    moved = things + np.maximum(REACH - distance, 0.0) * away / np.maximum(distance, 1e-9)
    return np.vstack([after, moved])


def scene(positions: np.ndarray, *, stamp: float = 1.0, velocity: np.ndarray | None = None) -> Scene:
    found = scene_from(belief_of(positions, stamp=stamp), None)
    speeds = np.zeros_like(found.velocity)
    if velocity is not None:
        speeds[: len(velocity)] = velocity
    return replace(found, velocity=speeds)


def teach(
    dynamics: Dynamics, rng: np.random.Generator, steps: int, which: tuple[int, ...], *, contact: float,
    noise: float = 0.0,
) -> None:  # fmt: skip
    """Steps of the tip near things `which` (1, 2), in contact with probability `contact`; `noise` m shakes them."""
    for _ in range(steps):
        row = int(rng.choice(which)) - 1
        angle = rng.uniform(-np.pi, np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        gap = rng.uniform(-0.005, 0.02) if rng.random() < contact else rng.uniform(0.05, 0.09)
        tip = THINGS[row] - direction * (REACH + gap)
        action = 0.25 * direction
        after = push(tip, action, THINGS)
        after[1:] += noise * rng.standard_normal((2, 2))
        dynamics.observe(scene(np.vstack([tip, THINGS])), action, scene(after, stamp=1.1), RIM, DT)
        dynamics.train(rng)


def disagreement(dynamics: Dynamics, tip: np.ndarray, action: np.ndarray, things: np.ndarray) -> float:
    """Of one step."""
    now = scene(np.vstack([tip, things]))
    cast, rows = dynamics.cast(now, RIM)
    state = dynamics.state(now, rows, DT)
    _, spread = dynamics.step(state, points(action * DT / UNIT)[None], Lens(cast, 1), Limits(BOX, NO_JAMS, cast))
    return float(spread[0])


def pushes(row: int, gap: float = 0.005, count: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    """Tips, `gap` m before thing `row`, and actions that go towards it from all sides."""
    out = []
    for k in range(count):
        direction = np.array([np.cos(k * 2 * np.pi / count + 0.2), np.sin(k * 2 * np.pi / count + 0.2)])
        out.append((THINGS[row - 1] - direction * (REACH + gap), 0.25 * direction))
    return out


def mean_disagreement(dynamics: Dynamics, row: int, gap: float = 0.005) -> float:
    """Of steps towards thing `row`; with a `gap` of 7 cm it is not met."""
    return float(np.mean([disagreement(dynamics, tip, action, THINGS) for tip, action in pushes(row, gap)]))


def test_gradients_written_by_hand_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    nets = SlotNets(NetShape(2, 5, 4, message=3, width=6, outputs=2), rng)
    nets.weights = Weights(*(w.astype(np.float64) for w in nets.weights))  # type: ignore[arg-type]
    own, pair = rng.standard_normal((2, 7, 5)), rng.standard_normal((2, 7, 3, 4))
    target = rng.standard_normal((2, 7, 2))

    def loss() -> float:
        return float(np.square(nets.forward(own, pair)[0] - target).sum())

    answers, trace = nets.forward(own, pair)
    gradients = nets.gradients(trace, 2 * (answers - target))
    for name, weight, gradient in zip(Weights._fields, nets.weights, gradients, strict=True):
        for at in [tuple(rng.integers(0, s) for s in weight.shape) for _ in range(8)]:
            kept = weight[at]
            weight[at] = kept + 1e-6
            up = loss()
            weight[at] = kept - 1e-6
            down = loss()
            weight[at] = kept
            assert gradient[at] == pytest.approx((up - down) / 2e-6, rel=1e-4, abs=1e-6), name


def test_members_start_and_learn_each_on_its_own() -> None:
    rng = np.random.default_rng(1)
    nets = SlotNets(NetShape(3, 4, 4), rng)
    own, pair = rng.standard_normal((1, 50, 4)), np.zeros((1, 50, 1, 4))
    target = own[..., :3] * 0.5
    first = nets.train(own, pair, target, 1e-2)
    for _ in range(300):
        last = nets.train(own, pair, target, 1e-2)
    assert (last < 0.02 * first).all()
    assert len({float(w) for w in nets.weights.own[:, 0, 0]}) == 3


def test_averaged_weights_shake_less_than_single_steps() -> None:
    """On answers that are noise: what a fixed input is answered, from step to step."""
    rng = np.random.default_rng(2)
    nets = SlotNets(NetShape(2, 4, 4), rng)
    probe, none = rng.standard_normal((1, 20, 4)).astype(np.float32), np.zeros((1, 64, 1, 4), np.float32)
    answers: list[np.ndarray] = []
    single: list[np.ndarray] = []
    for _ in range(200):
        own = rng.standard_normal((1, 64, 4)).astype(np.float32)
        nets.train(own, none, rng.standard_normal((2, 64, 3)).astype(np.float32), 5e-3, memory=0.95)
        answers.append(nets.answer(probe, none[:, :20]))
        single.append(nets.forward(probe, none[:, :20])[0])
    assert np.diff(answers[100:], axis=0).std() < 0.3 * np.diff(single[100:], axis=0).std()


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="every size must be at least 1"):
        NetShape(5, 0, 3)
    with pytest.raises(ValueError, match="must be at least 1"):
        DynamicsConfig(members=0)
    with pytest.raises(ValueError, match=r"events must be in 0..1"):
        DynamicsConfig(events=1.5)


def test_a_push_learned_on_one_thing_is_predicted() -> None:
    rng = np.random.default_rng(2)
    dynamics = Dynamics(DynamicsConfig(), rng)
    teach(dynamics, rng, 250, (1, 2), contact=0.6)
    errors, sizes = [], []
    for tip, action in pushes(1):
        now = scene(np.vstack([tip, THINGS]))
        cast, rows = dynamics.cast(now, RIM)
        start = dynamics.state(now, rows, DT)
        after = dynamics.imagine(start, np.float32(action)[None, None], cast, Limits(BOX, NO_JAMS, cast), DT).states[1]
        truth = push(tip, action, THINGS)
        predicted = np.stack([after.position[0].real, after.position[0].imag], 1) * UNIT
        errors.append(np.linalg.norm(predicted - truth, axis=1))
        sizes.append(np.linalg.norm(truth[1] - THINGS[0]))
    assert np.mean(sizes) > 0.015
    assert np.mean(np.array(errors)[:, 1]) < 0.2 * np.mean(sizes)
    assert np.max(np.array(errors)[:, 2]) < 0.002
    assert np.max(np.array(errors)[:, 0]) < 0.003


def test_predictions_turn_with_the_scene() -> None:
    """In the middle of a table without a rim, a scene turned by 70 degrees has its prediction turned by 70 degrees."""
    rng = np.random.default_rng(3)
    dynamics = Dynamics(DynamicsConfig(), rng)
    far = np.array([-1e3, 1e3, -1e3, 1e3])
    cast = Cast(np.array([0.75, 1.5, 1.5, 1.5, 1.5, 1.5], np.float32), np.arange(6), far)
    limits = Limits(far, NO_JAMS, cast)
    z = points(rng.uniform(-5, 5, (1, 6, 2)))
    v = points(rng.normal(0, 0.3, (1, 6, 2)))
    command = points(rng.normal(0, 1, (1, 2)))
    turn = np.complex64(np.exp(1j * np.deg2rad(70)))
    plain, spread = dynamics.step(State(z, v, np.zeros((1, 6), np.float32)), command, Lens(cast, 1), limits)
    turned, also = dynamics.step(
        State(z * turn, v * turn, np.zeros((1, 6), np.float32)), command * turn, Lens(cast, 1), limits
    )
    np.testing.assert_allclose(turned.position, plain.position * turn, atol=2e-4)
    np.testing.assert_allclose(also, spread, rtol=1e-3)


def test_they_disagree_where_they_saw_nothing_and_agree_where_data_are_plentiful() -> None:
    rng = np.random.default_rng(4)
    dynamics = Dynamics(DynamicsConfig(), rng)
    teach(dynamics, rng, 100, (1, 2), contact=0.0)
    free = mean_disagreement(dynamics, 1, 0.07)
    before = mean_disagreement(dynamics, 1)
    assert before > 4 * free
    teach(dynamics, rng, 150, (1,), contact=0.6)
    assert mean_disagreement(dynamics, 1) < 0.3 * before


def test_a_thing_never_touched_stays_more_interesting_than_one_that_was() -> None:
    """Networks are shared between things, but know which is which."""
    rng = np.random.default_rng(5)
    dynamics = Dynamics(DynamicsConfig(), rng)
    teach(dynamics, rng, 200, (1,), contact=0.6)
    assert mean_disagreement(dynamics, 2) > 1.5 * mean_disagreement(dynamics, 1)


def test_noise_attracts_until_it_has_been_seen_often() -> None:
    """Means of pure noise differ by its variance over the data that each member has: falling, but not at once."""
    levels = {}
    for noise in (0.01, 0.0):
        rng = np.random.default_rng(6)
        dynamics = Dynamics(DynamicsConfig(), rng)
        for steps in (60, 260):
            teach(dynamics, rng, steps, (1, 2), contact=0.0, noise=noise)
            levels[noise, steps] = mean_disagreement(dynamics, 1, 0.07)
    assert levels[0.01, 260] < 0.4 * levels[0.01, 60]
    assert levels[0.01, 60] > 2 * levels[0.0, 60]
    assert levels[0.01, 260] > 4 * levels[0.0, 260]


@pytest.mark.parametrize("what", ["hidden before", "hidden after", "uncertain", "gone", "jumped"])
def test_what_is_not_well_seen_teaches_nothing(what: str) -> None:
    dynamics = Dynamics(DynamicsConfig(), np.random.default_rng(0))
    positions = np.vstack([[0.5, 0.0], THINGS])
    before, after = scene(positions), scene(positions, stamp=1.1)
    assert dynamics.observe(before, np.zeros(2), after, RIM, DT) == 3
    second = np.arange(len(before.exists)) == 2
    if what == "hidden before":
        before = replace(before, hidden=second)
    elif what == "hidden after":
        after = replace(after, hidden=second)
    elif what == "uncertain":
        before = replace(before, variance=np.where(second, 9e-4, before.variance))
    elif what == "gone":
        after = replace(after, exists=after.exists & ~second)
    else:
        after = replace(after, position=after.position + 0.07 * second[:, None])
    assert dynamics.observe(before, np.zeros(2), after, RIM, DT) == 2
    assert (len(dynamics.thing_rows), len(dynamics.body_rows)) == (3, 2)


def test_a_transition_that_is_not_finite_is_refused_in_words() -> None:
    dynamics = Dynamics(DynamicsConfig(), np.random.default_rng(0))
    now = scene(np.vstack([[0.5, 0.0], THINGS]))
    with pytest.raises(ValueError, match="not finite"):
        dynamics.observe(now, np.array([np.nan, 0.0]), now, RIM, DT)
    with pytest.raises(ValueError, match="not finite"):
        dynamics.observe(now, np.zeros(2), replace(now, position=np.full_like(now.position, np.inf)), RIM, DT)


def test_things_keep_their_number_and_new_ones_get_that_of_the_longest_gone() -> None:
    dynamics = Dynamics(DynamicsConfig(), np.random.default_rng(0))
    numbers = {}
    for first in range(1, 15):
        ids = np.array([0, first, first + 1])
        found = scene_from(belief_of(np.vstack([[0.5, 0.0], THINGS]), stamp=float(first), ids=ids), None)
        cast, rows = dynamics.cast(found, RIM)
        for row, number in zip(rows[1:], cast.identity[1:], strict=True):
            identity = int(found.ids[row])
            assert numbers.setdefault(identity, int(number)) == number
    assert numbers[12] == numbers[1] and numbers[13] == numbers[2]
    with pytest.raises(ValueError, match="identities"):
        Cast(np.ones(2, np.float32), np.array([0, 12]), RIM)


def test_the_tip_stays_in_its_workspace_and_out_of_jams() -> None:
    dynamics = Dynamics(DynamicsConfig(), np.random.default_rng(0))
    dynamics.body.mean.out[:] = 0.0  # it obeys
    now = scene(np.vstack([[0.5, 0.0], THINGS]))
    cast, rows = dynamics.cast(now, RIM)
    start = dynamics.state(now, rows, DT)
    actions = np.tile(np.float32([0.25, 0.0]), (1, 30, 1))
    free = dynamics.imagine(start, actions, cast, Limits(BOX, NO_JAMS, cast), DT).path
    assert free[0, :, 0].max() > 0.7
    assert free[0, :, 0].max() <= BOX[1] + 1e-5
    jam = NO_JAMS.copy()
    jam[0] = [0.55, 0.0, 1.0, 0.0]
    held = dynamics.imagine(start, actions, cast, Limits(BOX, jam, cast), DT).path
    assert held[0, :, 0].max() < 0.55
    jam[0] = [0.5, 0.0, 1.0, 0.0]
    for action, to in (((0.2, 0.08), (0.5, 0.0)), ((0.1, 0.1), (0.5, 0.015)), ((-0.2, 0.1), (0.44, 0.03))):
        actions = np.tile(np.float32(action), (1, 3, 1))
        path = dynamics.imagine(start, actions, cast, Limits(BOX, jam, cast), DT).path
        np.testing.assert_allclose(path[0, -1], to, atol=1e-4)  # what leans on it rubs


def test_rows_are_a_ring_and_events_make_up_their_share_of_a_batch() -> None:
    rows = Rows(10, 3)
    answer = np.zeros((8, 3), np.float32)
    answer[2, 0] = 1.0
    own, pair = np.zeros((8, OWN_SIZE), np.float32), np.zeros((8, NEIGHBOURS, PAIR_SIZE), np.float32)
    own[:, 0] = np.arange(8)
    rows.add(own, pair, answer)
    drawn = rows.draw(2, 400, 0.5, np.random.default_rng(0))
    assert drawn.shape == (2, 400)
    assert (drawn == 2).mean() > 0.5
    rows.add(own, pair, np.zeros((8, 3), np.float32))
    assert len(rows) == 10
    assert sorted(rows.own[:, 0].tolist()) == [0, 1, 2, 3, 4, 5, 6, 6, 7, 7]
    assert not rows.event.any()
