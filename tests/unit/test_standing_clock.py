"""A clock that stands still is told from one that moves seldom; the gate then refuses, and sends no hold either."""

from __future__ import annotations

import numpy as np

from crl_node.arm.commander import TipCommander
from crl_node.arm.gate import Gate
from crl_node.arm.profile import load_profile
from crl_node.arm.standing_clock import StandingClock
from crl_node.command import Command

PROFILE = load_profile("iiwa_sim")


def test_a_clock_that_has_not_moved_for_longer_than_its_patience_stands_still_until_it_moves() -> None:
    clock = StandingClock(1.0)
    for step in range(20):
        assert clock.observe(5.0 + 0.05 * step, 100.0 + 0.05 * step) == ""
    assert clock.observe(5.95, 101.9) == ""
    assert "has stood still at 5.950 s for 1.1 s of real time" in clock.observe(5.95, 102.05)
    assert clock.observe(5.96, 102.1) == clock.problem == ""


def test_a_clock_that_has_not_begun_does_not_stand_still() -> None:
    clock = StandingClock(1.0)
    assert clock.observe(0.0, 10.0) == clock.observe(0.0, 100.0) == ""


def test_a_slow_simulation_whose_clock_moves_seldom_does_not_stand_still() -> None:
    clock, steady = StandingClock(1.0), 0.0
    for step in range(10):
        for _ in range(8):  # a step every 0.8 s
            steady += 0.1
            assert clock.observe(0.05 * step, steady) == ""
    for _ in range(20):
        assert clock.observe(0.45, steady) == ""
        steady += 0.1
    steady += 1.5
    assert clock.observe(0.45, steady)


def test_one_long_pause_does_not_make_the_next_one_go_unnoticed() -> None:
    clock = StandingClock(1.0)
    for step in range(15):
        clock.observe(0.05 * step, 0.05 * step)
    clock.observe(0.75, 60.0)
    assert clock.observe(0.75, 62.0)


def test_the_gate_refuses_and_sends_nothing_at_all_while_the_clock_stands_still() -> None:
    gate, commander = Gate(PROFILE), TipCommander(PROFILE)
    q = gate.arm.solve(np.array([0.6, 0.0, PROFILE.tip_height]), gate.arm.home, iterations=200)
    still = np.zeros_like(q)

    def command(start: float) -> Command:
        commander.reset(PROFILE.named(q), start)
        chunk = commander.chunk(PROFILE.named(q), PROFILE.named(still), np.array([0.05, 0.0]), start=start)
        return Command(start, 1, start, 0, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)

    gate.observe(10.0, PROFILE.joint_names, q, still)
    assert gate.judge(command(10.0), 10.0).accepted
    gate.standing = "the clock has stood still"
    assert "stood still" in gate.overdue(10.0)
    assert gate.hold(10.0).trajectory is None
    verdict = gate.judge(command(10.0), 10.0)
    assert not verdict.accepted and verdict.reason == "clock" and verdict.executed.trajectory is None
    assert gate.overdue(10.0) == ""  # said once
    gate.standing = ""
    gate.observe(10.1, PROFILE.joint_names, q, still)
    assert gate.judge(command(10.1), 10.1).accepted
