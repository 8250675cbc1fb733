"""The aligner: pairs by stamp, averages what was really commanded, never pairs stale with fresh."""

from __future__ import annotations

import numpy as np
import pytest

from crl_node.alignment import AlignConfig, Aligned, Aligner, ExecutedCommand, mean_velocity
from crl_node.arm.trajectory import JointTrajectory

IMAGE = np.zeros((2, 2, 3), np.uint8)


def aligner(**settings: object) -> Aligner:
    return Aligner(AlignConfig(**settings))  # type: ignore[arg-type]


def joints(one: Aligner, stamp: float, q: float = 0.0) -> None:
    one.add_joints(stamp, {"j": q}, {"j": 0.0})


def command(stamp: float, vx: float = 0.1, duration: float = 0.1, ramp: float = 0.1) -> ExecutedCommand:
    return ExecutedCommand(stamp, np.array([vx, 0.0]), duration, ramp)


def feed(one: Aligner, stamp: float, vx: float | None = None, q: float = 0.0) -> Aligned | None:
    """Joint state and image at `stamp`, then what `pop` says, then a command from then on."""
    joints(one, stamp, q)
    one.add_image(stamp, IMAGE)
    got = one.pop()
    if vx is not None:
        one.add_command(command(stamp, vx))
    return got


def test_an_image_goes_with_the_joint_state_nearest_in_time() -> None:
    one = aligner()
    for stamp, q in ((0.984, 1.0), (0.997, 2.0), (1.004, 3.0), (1.02, 4.0)):
        joints(one, stamp, q)
    one.add_image(1.0, IMAGE)
    got = one.pop()
    assert got is not None
    assert got.joints.positions == {"j": 2.0}
    assert got.frame.stamp == 1.0


def test_an_image_without_a_joint_state_within_the_tolerance_is_never_used() -> None:
    one = aligner(tolerance=0.02)
    joints(one, 0.9)
    one.add_image(1.0, IMAGE)
    assert one.pop() is None
    assert one.counts.dropped == 0  # it may still come
    joints(one, 1.05)
    assert one.pop() is None
    assert (one.counts.dropped, one.counts.unpaired) == (1, 1)


def test_a_joint_state_that_comes_after_the_image_still_finds_it() -> None:
    one = aligner()
    one.add_image(1.0, IMAGE)
    assert one.pop() is None
    joints(one, 1.0)
    assert one.pop() is not None


def test_the_first_frame_and_a_command_from_before_the_start_make_no_transition() -> None:
    one = aligner()
    first, second = feed(one, 0.0), feed(one, 0.1)
    assert first is not None and first.action is None
    assert second is not None and second.action is None
    assert "before the start" in second.note


def test_an_arm_without_commands_is_at_rest_once_no_old_command_can_act() -> None:
    one = aligner()
    got = [feed(one, 0.1 * k) for k in range(6)]
    assert got[-1] is not None
    assert got[-1].action is not None
    np.testing.assert_array_equal(got[-1].action, [0.0, 0.0])


def test_the_action_is_the_mean_velocity_of_the_command_that_acted() -> None:
    one = aligner()
    feed(one, 0.0, 0.2)
    got = feed(one, 0.1, 0.1)
    assert got is not None and got.action is not None
    np.testing.assert_allclose(got.action, [0.2, 0.0])


def test_a_command_that_is_not_replaced_ramps_down_to_rest() -> None:
    commands = [command(0.0, 0.2)]
    np.testing.assert_allclose(mean_velocity(commands, 0.0, 0.1), [0.2, 0])
    np.testing.assert_allclose(mean_velocity(commands, 0.1, 0.2), [0.1, 0])  # linear ramp: half
    np.testing.assert_allclose(mean_velocity(commands, 0.1, 0.15), [0.15, 0])  # its first half: three quarters
    np.testing.assert_allclose(mean_velocity(commands, 0.2, 0.3), [0.0, 0])


def test_a_command_that_starts_between_two_frames_counts_for_its_part() -> None:
    commands = [command(0.0, 0.2), command(0.13, -0.1)]
    # 30 ms of the first ramp (0.2 down to 0.14), then 70 ms of the second command.
    expected = (0.03 * 0.5 * (0.2 + 0.14) - 0.07 * 0.1) / 0.1
    np.testing.assert_allclose(mean_velocity(commands, 0.1, 0.2), [expected, 0])


def test_when_busy_the_newest_frame_wins_and_drops_are_counted() -> None:
    one = aligner()
    for k in range(4):
        joints(one, 0.1 * k)
        one.add_image(0.1 * k, IMAGE)
    got = one.pop()
    assert got is not None and got.frame.stamp == pytest.approx(0.3)
    assert one.pop() is None
    assert one.counts.dropped == 3


def test_there_is_no_transition_across_dropped_frames() -> None:
    one = aligner()
    for k in range(6):
        feed(one, 0.1 * k, 0.1)
    joints(one, 0.6)
    one.add_image(0.6, IMAGE)
    got = feed(one, 0.7, 0.1)
    assert got is not None and got.action is None
    assert "since the last frame used" in got.note
    after = feed(one, 0.8, 0.1)
    assert after is not None and after.action is not None


def test_lockstep_uses_every_frame_in_order_and_waits_for_its_command() -> None:
    one = aligner(lockstep=True)
    assert feed(one, 0.0) is not None
    joints(one, 0.1)
    one.add_image(0.1, IMAGE)
    assert one.pop() is None
    one.add_command(command(0.0))
    got = one.pop()
    assert got is not None and got.action is not None


def test_lockstep_goes_on_without_the_command_when_told_to() -> None:
    one = aligner(lockstep=True)
    feed(one, 0.0)
    joints(one, 0.1)
    one.add_image(0.1, IMAGE)
    got = one.pop(force=True)
    assert got is not None and got.action is None


@pytest.mark.parametrize("stamp", [-50.0, 40.0])
def test_a_clock_jump_flushes_everything_and_breaks_the_stream(stamp: float) -> None:
    one = aligner()
    for k in range(6):
        feed(one, 0.1 * k, 0.1)
    joints(one, 0.6)
    one.add_image(0.6, IMAGE)
    got = feed(one, stamp)
    assert got is not None and got.frame.stamp == stamp
    assert got.action is None
    assert one.counts.jumps == 1
    after = feed(one, stamp + 0.1, 0.1)
    assert after is not None and after.action is None  # what acted before the jump is not known


def test_a_stale_command_is_not_used_after_a_clock_jump() -> None:
    one = aligner()
    for k in range(6):
        feed(one, 10.0 + 0.1 * k, 0.25)
    got = [feed(one, 0.1 * k) for k in range(6)]
    assert got[-1] is not None and got[-1].action is not None
    np.testing.assert_array_equal(got[-1].action, [0.0, 0.0])


def test_repeated_and_late_messages_are_ignored_and_counted() -> None:
    one = aligner()
    feed(one, 1.0)
    one.add_image(1.0, IMAGE)
    one.add_image(0.9, IMAGE)
    joints(one, 0.95)
    assert one.pop() is None
    assert one.counts.late == 3
    assert one.counts.dropped == 2


def test_silence_of_the_commands_is_no_clock_jump() -> None:
    one = aligner()
    for k in range(40):
        feed(one, 0.1 * k, 0.1 if k in (0, 39) else None)
    assert one.counts.jumps == 0


def test_a_frame_that_could_not_be_used_breaks_the_stream() -> None:
    one = aligner()
    for k in range(6):
        feed(one, 0.1 * k, 0.1)
    one.interrupt("the last frame was rejected")
    got = feed(one, 0.6, 0.1)
    assert got is not None and got.action is None
    assert got.note == "the last frame was rejected"


def test_memory_is_bounded() -> None:
    one = aligner(queue=4, memory=1.0)
    for k in range(400):
        joints(one, 0.01 * k)
        one.add_command(command(0.01 * k))
    assert len(one._joints) <= 102
    assert len(one._commands) <= 102
    for k in range(20):
        one.add_image(0.1 * k, IMAGE)
    assert len(one._images) <= 4


def test_a_step_in_which_the_arm_was_elsewhere_than_it_was_told_teaches_nothing() -> None:
    one, actions = aligner(), []
    for n in range(10):
        stamp = round(0.1 * n, 6)
        got = feed(one, stamp, q=0.5 if 4 <= n <= 6 else 0.05)  # told to be at 0; 0.05 rad off is an arm that presses
        told = JointTrajectory.resting(("j",), np.zeros(1))
        one.add_command(ExecutedCommand(stamp, np.zeros(2), 0.1, 0.1, told))
        assert got is not None
        actions.append((got.action is not None, got.note))
    # The step into it and the one out of it have one good end each; between them nothing is believed.
    assert [known for known, _ in actions[3:]] == [True, True, False, False, True, True, True]
    assert "joint 'j' was 0.500 rad from where it was told to be" in actions[5][1]
    assert one.counts.masked == 2


@pytest.mark.parametrize("jump", [-50.0, 50.0])
def test_no_pair_is_made_across_a_jump_of_the_clock(jump: float) -> None:
    one = aligner()
    for n in range(6):
        feed(one, 100 + 0.1 * n, vx=0.1)
    first, second = feed(one, 100.6 + jump, vx=0.1), feed(one, 100.7 + jump, vx=0.1)
    assert first is not None and first.action is None
    assert second is not None and second.action is not None or "before the start" in (second.note if second else "")
    assert one.counts.jumps >= 1


def test_a_hold_replaces_a_command_that_was_to_begin_later() -> None:
    one = aligner()
    feed(one, 1.0, 0.1)
    one.add_command(command(1.18, 0.2))  # on its way, to begin at 1.18 s
    one.add_command(ExecutedCommand(1.15, np.zeros(2), 0.1, 0.1, hold=True))
    assert one.counts.late == 0
    feed(one, 1.1)
    got = feed(one, 1.2)
    assert got is not None and got.action is not None
    # At .1 m/s from 1.0 s for .1 s, ramping down from 1.1 s, and held from 1.15 s on.
    np.testing.assert_allclose(got.action, [0.1 * 0.75 * 0.05 / 0.1, 0.0], atol=1e-9)
    one.add_command(command(1.16, 0.3))  # a command stamped before, again, is late as before
    assert one.counts.late == 0
    one.add_command(command(1.155, 0.3))
    assert one.counts.late == 1
