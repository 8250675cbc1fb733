"""Whatever comes in, nothing non-finite, too fast, too far or still moving ever leaves the gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crl_node.arm.commander import TipCommander
from crl_node.arm.gate import Gate
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.command import Command

PROFILE = load_profile("iiwa_sim")
ARM = Arm(PROFILE)
NAMES = PROFILE.joint_names
START = ARM.solve(np.array([0.6, 0.0, 0.02]), ARM.home)

ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
SMALL = st.floats(-0.05, 0.05)
HOSTILE = st.one_of(SMALL, SMALL, ANY, st.sampled_from([0.0, np.nan, np.inf, -np.inf, 1e308, -1e308, 5e-324]))


@st.composite
def trajectories(draw: st.DrawFn) -> JointTrajectory | None:
    if draw(st.integers(0, 9)) == 0:
        return None
    points = draw(st.integers(1, 4))
    tame = draw(st.booleans())
    element = SMALL if tame else HOSTILE
    steps = draw(arrays(float, points, elements=st.floats(1e-6, 0.1) if tame else HOSTILE))
    times = np.cumsum(steps) - steps[0] if tame else steps
    names = list(NAMES)
    if draw(st.integers(0, 4)) == 0:
        names[draw(st.integers(0, 6))] = draw(st.sampled_from([*NAMES, "stranger", ""]))
    with np.errstate(all="ignore"):
        positions = START + draw(arrays(float, (points, 7), elements=element, fill=SMALL))
    velocities = draw(arrays(float, (points, 7), elements=element, fill=st.just(0.0)))
    if tame and draw(st.booleans()):
        positions[0], velocities[0], velocities[-1] = START, 0.0, 0.0
    return JointTrajectory(tuple(names), times, positions, velocities)


COMMANDS = st.builds(
    Command,
    stamp=st.one_of(st.floats(9.8, 10.3), ANY),
    sequence=st.integers(0, 2**63),
    belief_stamp=st.one_of(st.just(10.0), ANY),
    posterior_version=st.integers(0, 2**63),
    hold=st.booleans(),
    velocity=arrays(float, 2, elements=HOSTILE),
    duration=st.one_of(st.just(0.1), ANY),
    ramp=st.one_of(st.just(0.1), ANY),
    trajectory=trajectories(),
)
JOINTS = st.tuples(
    st.sampled_from([NAMES, NAMES[::-1], NAMES[:6], (*NAMES[:6], "stranger")]),
    st.one_of(st.just(START), arrays(float, 7, elements=HOSTILE)),
    st.one_of(st.just(np.zeros(7)), arrays(float, 7, elements=HOSTILE)),
)
EVENTS = st.lists(
    st.one_of(COMMANDS, JOINTS, st.sampled_from(["good joints", "good command", "estop", "reset"])),
    max_size=8,
)


def assert_safe(executed: Command, held_at: Any) -> None:
    assert np.isfinite([executed.stamp, executed.belief_stamp, executed.duration, executed.ramp]).all()
    assert np.isfinite(executed.velocity).all()
    trajectory = executed.trajectory
    if trajectory is None:
        return
    limits = PROFILE.limits
    assert trajectory.is_finite
    assert trajectory.joint_names == NAMES
    assert trajectory.ends_at_rest
    assert trajectory.times[0] == 0
    assert (np.diff(trajectory.times) > 0).all()
    assert trajectory.duration <= 0.2 + 1e-6
    low, high = trajectory.position_range()
    assert (low >= limits.lower - 1e-9).all()
    assert (high <= limits.upper + 1e-9).all()
    assert (trajectory.max_velocity() <= limits.velocity * (1 + 1e-5)).all()
    assert (trajectory.max_acceleration() <= limits.acceleration * (1 + 1e-5)).all()
    if not executed.hold:
        for time in np.linspace(0, trajectory.duration, 7):
            tip = ARM.tip_at(trajectory.sample(time)[0])
            away = np.maximum(PROFILE.workspace.low - tip, tip - PROFILE.workspace.high).max()
            assert away <= 1.1e-3 + held_at


def assert_sent_safely(gate: Gate, executed: Command, now: float) -> None:
    """What goes to the controller: `executed`, after what is under way until it begins."""
    assert gate.outgoing is not None
    start, sent = gate.outgoing
    assert start <= executed.stamp and sent.times[0] == 0 and sent.ends_at_rest
    assert start == executed.stamp or start == now
    assert sent.duration <= 0.2 + 0.2 + 1e-6
    assert (sent.max_velocity() <= PROFILE.limits.velocity * (1 + 1e-5)).all()
    assert (sent.max_acceleration() <= PROFILE.limits.acceleration * (1 + 1e-4)).all()
    np.testing.assert_allclose(
        sent.sample(executed.stamp - start + 1e-9)[0], executed.trajectory.positions[0], atol=1e-5
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, st.booleans(), st.sampled_from([0.0, 0.05]))
def test_nothing_unsafe_ever_leaves_the_gate(events: list[Any], begin_with_joints: bool, latency: float) -> None:
    gate, commander = Gate(PROFILE, ARM, latency=latency), TipCommander(PROFILE, ARM)
    now = 10.0
    if begin_with_joints:
        gate.observe(now, NAMES, START, np.zeros(7))
    commander.reset(PROFILE.named(START), now)
    for event in events:
        now += 0.02
        estopped = bool(gate.estop)
        executed: Command | None = None
        if isinstance(event, Command):
            executed = gate.judge(event, now).executed
        elif event == "good command":
            chunk = commander.chunk(
                PROFILE.named(START), dict.fromkeys(NAMES, 0.0), np.array([0.2, 0.0]), start=now
            )
            good = Command(now, 1, now, 1, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
            executed = gate.judge(good, now).executed
        elif event == "good joints":
            gate.observe(now, NAMES, START, np.zeros(7))
        elif event == "estop":
            gate.latch("test")
        elif event == "reset":
            gate.reset()
        else:
            gate.observe(now, *event)
        if executed is not None:
            tip = ARM.tip_at(gate.measured.position) if gate.measured else np.zeros(3)
            outside = float(np.maximum(PROFILE.workspace.low - tip, tip - PROFILE.workspace.high).max())
            assert_safe(executed, max(0.0, outside))
            if executed.trajectory is not None:
                assert_sent_safely(gate, executed, now)
            assert executed.hold or not estopped
        assert gate.measured is None or np.isfinite(gate.measured.position).all()


@settings(max_examples=60, deadline=None)
@given(
    field=st.sampled_from(["times", "positions", "velocities"]),
    value=st.sampled_from([np.nan, np.inf, -np.inf]),
    point=st.integers(0, 3),
    joint=st.integers(0, 6),
)
def test_one_number_that_is_not_finite_anywhere_is_enough_to_hold(
    field: str, value: float, point: int, joint: int
) -> None:
    gate, commander = Gate(PROFILE, ARM), TipCommander(PROFILE, ARM)
    gate.observe(10.0, NAMES, START, np.zeros(7))
    commander.reset(PROFILE.named(START), 10.0)
    chunk = commander.chunk(PROFILE.named(START), dict.fromkeys(NAMES, 0.0), np.array([0.2, 0.0]), start=10.0)
    parts = {f: getattr(chunk.trajectory, f).copy() for f in ("times", "positions", "velocities")}
    parts[field][point if field == "times" else (point, joint)] = value
    command = Command(10.0, 1, 10.0, 1, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
    assert gate.judge(command, 10.0).accepted
    gate = Gate(PROFILE, ARM)
    gate.observe(10.0, NAMES, START, np.zeros(7))
    verdict = gate.judge(replace(command, trajectory=JointTrajectory(NAMES, **parts)), 10.0)
    assert verdict.reason == "not_finite"
    assert verdict.executed.hold


@settings(max_examples=25, deadline=None)
@given(
    start=st.tuples(st.floats(0.40, 0.80), st.floats(-0.28, 0.28)),
    velocities=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=12),
)
def test_the_gate_accepts_all_that_the_commander_makes(
    start: tuple[float, float], velocities: list[tuple[float, float]]
) -> None:
    q, dq, now = ARM.solve(np.array([*start, 0.02]), ARM.home), np.zeros(7), 10.0
    gate, commander = Gate(PROFILE, ARM), TipCommander(PROFILE, ARM)
    commander.reset(PROFILE.named(q), now)
    for velocity in velocities:
        gate.observe(now, NAMES, q, dq)
        chunk = commander.chunk(PROFILE.named(q), PROFILE.named(dq), np.array(velocity), start=now)
        verdict = gate.judge(Command(now, 1, now, 1, False, chunk.velocity, 0.1, 0.1, chunk.trajectory), now)
        assert verdict.accepted, verdict.sentence
        q, dq = chunk.trajectory.sample(0.1)
        now += 0.1
