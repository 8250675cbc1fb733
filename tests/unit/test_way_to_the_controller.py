"""Between gate and controller a trajectory is on its way; whenever it arrives, limits hold in the controller."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.arm.commander import TipCommander
from crl_node.arm.following import Following
from crl_node.arm.gate import Gate
from crl_node.arm.joining import spliced
from crl_node.arm.kinematics import Arm
from crl_node.arm.profile import load_profile
from crl_node.arm.trajectory import JointTrajectory
from crl_node.arm.way import LONG_MEMORY, LONGEST, MOST_BUNCHED, Bunching, Way
from crl_node.command import Command
from crl_node.simulator.controller import TrajectoryController

STEP = 1 / 240  # s
PERIOD, LATENCY = 0.1, 0.05


class Loop:
    """Commander, gate and controller; ways to the gate take up to `way_in` s, to the controller up to `way_out` s."""

    def __init__(self, name: str, *, latency: float, way_in: float, way_out: float, seed: int = 0) -> None:
        self.profile = load_profile(name)
        self.arm = Arm(self.profile)
        self.gate = Gate(self.profile, self.arm, latency=latency)
        self.commander = TipCommander(self.profile, self.arm)
        self.rng = np.random.default_rng(seed)
        self.ways, self.lead = (way_in, way_out), 0.03 + LATENCY
        box = self.profile.workspace
        middle = np.array([np.mean(box.x), np.mean(box.y), self.profile.tip_height])
        self.q = self.arm.solve(middle, self.arm.home, iterations=200)
        self.controller = TrajectoryController(self.profile.joint_names, self.q)
        self.accepted = self.refused = 0
        self.age = 0.0  # s, of joint states when the gate hears them
        self.spent, self.retracted = 0.0, True  # s that every third answer takes, and whether it is taken back then
        self.positions: list[np.ndarray] = []
        self.velocities: list[np.ndarray] = []

    def run(self, seconds: float, *, hold_every: int = 0) -> float:
        """Largest acceleration in the controller as a share of the limit."""
        profile, names = self.profile, self.profile.joint_names
        due: list[tuple[float, int, object]] = []  # time, order, command or (start, trajectory)
        sent = 0
        for n in range(round(seconds / STEP)):
            now = n * STEP
            q, dq = self.controller.reference(now)
            self.velocities.append(dq)
            self.positions.append(q)
            heard = max(now - self.age, 0.0)
            self.gate.way.observe(now, self.age)
            self.gate.observe(heard, names, *(part.tolist() for part in self._at(heard)))
            if n % round(PERIOD / STEP) == 0:
                start = now + self.lead
                chunk = self.commander.chunk(
                    profile.named(q), profile.named(dq), self._wanted(), start=start, measured_at=now
                )
                sent += 1
                command = Command(start, sent, now, 0, False, chunk.velocity, 0.1, 0.1, chunk.trajectory)
                due.append((now + self.rng.uniform(0, self.ways[0]), sent, command))
            if hold_every and n % hold_every == hold_every // 2:
                self._out(due, now, self.gate.hold(now))
            for entry in sorted(e for e in due if e[0] <= now):
                due.remove(entry)
                if isinstance(entry[2], Command):
                    verdict = self.gate.judge(entry[2], now)
                    spent = self.spent if entry[2].sequence % 3 == 0 else 0.0
                    if spent and self.retracted:
                        verdict = self.gate.too_late(entry[2], verdict, spent, now + spent)
                    self.accepted += verdict.accepted
                    self.refused += not verdict.accepted
                    self._out(due, now + spent, verdict.executed)
                else:
                    begin, trajectory = entry[2]
                    self.controller.command(
                        names, trajectory.times, trajectory.positions, trajectory.velocities, start=begin, now=now
                    )
        steps = np.diff(np.array(self.velocities), axis=0) / STEP
        return float((np.abs(steps) / profile.limits.acceleration).max())

    def _at(self, time: float) -> tuple[np.ndarray, np.ndarray]:
        """Position and velocity at an earlier time."""
        index = round(time / STEP)
        return self.positions[index], self.velocities[index]

    def _out(self, due: list, now: float, executed: Command) -> None:
        """On its way to the controller, in order; the commander hears at once."""
        assert executed.trajectory is not None and self.gate.outgoing is not None
        self.commander.adopt(executed.trajectory, executed.stamp)
        last = max((e[0] for e in due if not isinstance(e[2], Command)), default=0.0)
        arrival = max(now + self.rng.uniform(0, self.ways[1]), last)
        due.append((arrival, 10**6 + len(self.velocities), self.gate.outgoing))

    def _wanted(self) -> np.ndarray:
        angle = self.rng.uniform(0, 2 * np.pi)
        return self.profile.max_tip_speed * np.array([np.cos(angle), np.sin(angle)])


@pytest.mark.parametrize("name", ["ur5e", "franka", "so101"])
def test_a_controller_that_hears_late_still_accelerates_within_the_limits(name: str) -> None:
    loop = Loop(name, latency=LATENCY, way_in=0.02, way_out=LATENCY)
    assert loop.run(3.0) <= 1.01
    assert loop.refused == 0 and loop.accepted >= 29
    assert np.abs(loop.velocities).max() > 0.1  # it did move


def test_commands_that_reach_the_gate_late_and_holds_of_its_own_do_not_break_the_limits_either() -> None:
    loop = Loop("ur5e", latency=LATENCY, way_in=0.09, way_out=LATENCY)
    assert loop.run(4.0, hold_every=round(0.47 / STEP)) <= 1.01
    assert loop.accepted > 15


def test_without_room_for_its_way_the_same_commands_would_jump() -> None:
    """What the room is for: this test's commands are as good, the gate just does not think of their way."""
    loop = Loop("ur5e", latency=0.0, way_in=0.09, way_out=LATENCY)
    assert loop.run(3.0) > 1.5


@pytest.mark.parametrize("name", ["ur5e", "so101"])
def test_an_answer_that_the_gate_could_not_send_in_time_is_taken_back_for_a_hold(name: str) -> None:
    kept, sent = (Loop(name, latency=LATENCY, way_in=0.01, way_out=0.03, seed=3) for _ in range(2))
    for loop in (kept, sent):
        loop.spent = 0.06
    sent.retracted = False
    assert kept.run(4.0) <= 1.01
    assert kept.accepted > 15 and kept.gate.rejected["slow"] == kept.refused > 10
    assert kept.gate.accepted == kept.accepted
    assert sent.run(4.0) > 1.2  # what it is for


def test_the_way_is_as_long_as_that_of_the_slowest_joint_states_of_the_last_second() -> None:
    way = Way(0.02)
    assert way.at(0.0) == 0.02
    for now, age in ((1.0, 0.005), (1.1, 0.06), (1.2, 0.03), (1.3, np.nan), (1.4, -5.0)):
        way.observe(now, age)
    assert (way.at(1.5), way.at(2.15), way.at(2.3)) == (0.06, 0.03, 0.02)
    way.observe(3.0, 7.0)
    assert way.at(3.0) == LONGEST
    nothing = Way(0.0)
    nothing.observe(1.0, 0.05)
    assert nothing.at(1.0) == 0.0


def test_a_busy_machine_whose_joint_states_come_late_is_given_more_room() -> None:
    """The way is longer than the profile says, and so are the ages of joint states."""
    loop = Loop("ur5e", latency=0.02, way_in=0.02, way_out=0.07)
    loop.age = 0.07
    assert loop.run(3.0) <= 1.01
    assert loop.accepted >= 25


def test_what_is_sent_repeats_what_is_executed_until_the_new_motion_begins() -> None:
    rng = np.random.default_rng(1)
    names = ("a", "b")
    old = JointTrajectory(names, np.array([0.0, 0.07, 0.1, 0.2]), rng.normal(size=(4, 2)), rng.normal(size=(4, 2)))
    q, dq = old.sample(0.13)
    new = JointTrajectory.stopping(names, q, dq, 0.1)
    start, sent = spliced((5.0, old), 5.06, 5.13, new)
    assert start == 5.06 and sent.times[0] == 0.0
    for time in np.linspace(0.0, 0.0699, 15):
        for ours, theirs in zip(sent.sample(time), old.sample(0.06 + time), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-9)
    for time in np.linspace(0.0, 0.1, 9):
        np.testing.assert_allclose(sent.sample(0.07 + time)[0], new.sample(time)[0], atol=1e-9)


def test_a_motion_that_does_not_go_on_from_what_is_executed_is_sent_as_it_is() -> None:
    names = ("a",)
    old = JointTrajectory.resting(names, np.zeros(1))
    elsewhere = JointTrajectory.resting(names, np.full(1, 0.1))
    assert spliced((5.0, old), 5.06, 5.13, elsewhere) == (5.13, elsewhere)
    assert spliced(None, 5.06, 5.13, elsewhere) == (5.13, elsewhere)


def test_messages_bunch_by_as_much_as_the_ages_of_joint_states_differ() -> None:
    bunching = Bunching(0.005)
    assert bunching.at(0.0) == 0.005
    for n in range(20):  # a clock that is 3 s behind is in all ages
        bunching.observe(0.01 * n, 3.0 + 0.001 * (n % 3))
    assert bunching.at(0.2) == 0.005
    bunching.observe(0.21, 3.02)
    assert bunching.at(0.21) == pytest.approx(0.02)
    bunching.observe(0.22, float("nan"))
    bunching.observe(0.23, 9.0)
    assert bunching.at(0.23) == MOST_BUNCHED
    assert bunching.at(0.23 + 1.1 * LONG_MEMORY) == 0.005


def test_what_was_not_sent_is_not_what_the_arm_is_compared_with() -> None:
    following = Following(("a",))
    sent, unsent = (JointTrajectory.resting(("a",), np.full(1, place)) for place in (0.0, 0.5))
    following.told(1.0, sent)
    following.told(2.0, unsent)
    following.untold()
    np.testing.assert_array_equal(following.reference(3.0), [0.0])


def test_an_answer_that_came_too_late_is_not_waited_for_by_the_watch_on_the_arm() -> None:
    """Else an arm that did what it was told would be taken for one that does not follow."""
    loop = Loop("ur5e", latency=LATENCY, way_in=0.0, way_out=0.0)
    loop.run(0.3)
    now = 0.35
    before = loop.gate.following.reference(now)
    command = Command(now, 99, now, 0, True, np.zeros(2), 0.1, 0.1, None)
    verdict = loop.gate.judge(command, now)
    loop.gate.too_late(command, verdict, 0.06, now + 0.06)
    assert len([start for start, _ in loop.gate.following._acting if start == pytest.approx(now)]) == 0
    np.testing.assert_allclose(loop.gate.following.reference(now), before)
