"""One running loop meets one fault after the other, and goes on after each. Real nodes, slower than real time.

Camera and joint states pass through a relay of the test on their way, which can lose, freeze or spoil them. Reactions
are measured between stamps, in simulated time, and printed (`pytest -s`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from sensor_msgs.msg import Image, JointState

from crl_node.arm.way import LONGEST
from crl_node.bags.reader import BagReader
from tests.conftest import node_starter
from tests.support.faults import Relay
from tests.support.loop import Loop, seconds

pytestmark = pytest.mark.ros
NAMES = [f"lbr_iiwa_joint_{i}" for i in range(1, 8)]


class Live(Loop):
    """The loop with relays."""

    def __init__(self, domain: Any) -> None:
        raw = {"camera/image_raw": "raw/image", "joint_states": "raw/joint_states"}
        self.camera = Relay(domain, Image, "raw/image", "camera/image_raw")
        self.joints = Relay(domain, JointState, "raw/joint_states", "joint_states")
        super().__init__(domain, node_starter(domain), {"sim": raw}, rtf=0.4, parameters={"gate": {"log_period": 0.0}})
        self.until_moving()

    def until_moving_again(self) -> None:
        """The gate passes on motion, and the tip moves."""
        start = self.now()
        self.until(
            lambda: any(not c.hold and seconds(c.header.stamp) > start for c in self.executed[-5:]), "motion passed on"
        )
        self.until(lambda: self.speed(self.truth[-2:]) > 0.1, "a tip that moves")

    def first_hold_after(self, start: float) -> float:
        """Stamp s of the first hold that is executed after `start` s."""

        def holds() -> list[float]:
            return [seconds(c.header.stamp) for c in self.executed if c.hold and seconds(c.header.stamp) > start]

        self.until(lambda: bool(holds()), f"a hold after {start:.3f} s")
        return holds()[0]

    def says(self, node: str, text: str) -> None:
        self.until(lambda: text in self.processes[node].log(), f"'{text}' in the log of {node}")

    def at_rest_after(self, start: float, within: float) -> None:
        """The tip stands still from `within` s after `start` s on."""
        self.until(lambda: self.time() > start + within + 0.7, "what the arm does afterwards")
        after = [t for t in self.truth if start + within <= seconds(t.header.stamp) <= start + within + 0.7]
        assert len(after) > 4
        assert self.speed(after) < 0.002


@pytest.fixture(scope="module")
def running(module_domain: Any) -> Live:
    return Live(module_domain)


@pytest.fixture
def live(running: Live) -> Iterator[Live]:
    """The loop; what a test did to its topics ends with the test."""
    yield running
    running.camera.spoil = running.joints.spoil = lambda message: message


@pytest.fixture
def measured() -> Callable[[str, float], None]:
    """Prints a figure for docs/faults.md."""
    return lambda what, value: print(f"\nMEASURED {what}: {value:.3f} s (simulated)")


def test_a_camera_that_is_gone_makes_the_arm_hold_when_the_last_belief_is_too_old(live: Live, measured: Any) -> None:
    live.until_moving_again()
    live.now()
    live.camera.spoil = lambda image: None
    last = live.camera.last_stamp
    held = live.first_hold_after(last + 0.15)
    live.says("planner", "no belief since")
    measured("camera gone -> hold, after the last picture", held - last)
    assert held - last < 0.5 + 0.1 + LONGEST  # belief_max_age, 100 ms, and a hold begins a way to the controller later
    live.camera.spoil = lambda image: image
    live.until_moving_again()


def test_a_frozen_picture_while_the_arm_moves_makes_it_hold_within_half_a_second(live: Live, measured: Any) -> None:
    live.until_moving_again()
    frozen: list[Any] = []

    def freeze(image: Image) -> Image:
        frozen.append((image.data, seconds(image.header.stamp)))
        image.data = frozen[0][0]
        return image

    live.camera.spoil = freeze
    live.until(lambda: len(frozen) >= 2, "two frozen pictures")
    first = frozen[1][1]
    held = live.first_hold_after(first)
    live.says("planner", "the camera is frozen")
    live.camera.spoil = lambda image: image
    measured("picture frozen -> hold, after the first repeated picture", held - first)
    assert held - first <= 0.5
    live.until_moving_again()


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [("encoding", "mono16", "encoding 'mono16'"), ("width", 48, "48x96"), ("step", 7, "step is 7 bytes")],
)
def test_pictures_that_cannot_be_read_make_the_arm_hold(live: Live, field: str, value: Any, text: str) -> None:
    live.until_moving_again()
    start = live.now()

    def spoil(image: Image) -> Image:
        setattr(image, field, value)
        return image

    live.camera.spoil = spoil
    held = live.first_hold_after(start)
    live.until(lambda: any(text in step.note for step in live.steps), f"'{text}' in the learner's report")
    live.camera.spoil = lambda image: image
    assert held - start <= 0.5
    live.until_moving_again()


def test_joint_states_in_another_order_twice_and_out_of_order_change_nothing(live: Live) -> None:
    live.until_moving_again()
    before: list[JointState] = []

    def spoil(state: JointState) -> list[JointState]:
        state.name, state.position, state.velocity = state.name[::-1], state.position[::-1], state.velocity[::-1]
        before.append(state)
        return [state, state, before[-2]] if len(before) > 1 else [state]

    live.joints.spoil = spoil
    start, sent = live.now(), len(live.executed)
    live.until(lambda: live.time() > start + 1.5, "a second and a half of it")
    live.joints.spoil = lambda state: state
    moved = [c for c in live.executed[sent:] if not c.hold]
    assert len(moved) >= 8
    assert live.speed([t for t in live.truth if seconds(t.header.stamp) > start]) > 0.05


def test_a_joint_of_another_name_is_refused_with_both_lists(live: Live) -> None:
    live.until_moving_again()
    start = live.now()

    def spoil(state: JointState) -> JointState:
        state.name = ["elbow", *state.name[1:]]
        return state

    live.joints.spoil = spoil
    held = live.first_hold_after(start)
    for node in ("gate", "planner", "learner"):
        live.says(node, f"they name [{', '.join(['elbow', *NAMES[1:]])}], the arm has [{', '.join(NAMES)}]")
    live.joints.spoil = lambda state: state
    assert held - start <= 0.3
    live.until_moving_again()


def test_joint_states_that_stop_make_the_arm_hold(live: Live, measured: Any) -> None:
    live.until_moving_again()
    live.now()
    live.joints.spoil = lambda state: None
    last = live.joints.last_stamp
    held = live.first_hold_after(last + 0.2)
    live.says("gate", "joint states are")
    live.joints.spoil = lambda state: state
    measured("joint states gone -> hold, after the last of them", held - last)
    assert held - last <= 0.25 + 0.1 + LONGEST  # the clock comes with the joint states, every 0.05 s
    live.until_moving_again()


def test_a_planner_that_misses_its_deadline_leaves_the_arm_at_rest(live: Live, measured: Any) -> None:
    live.until_moving_again()
    live.processes["planner"].popen.send_signal(signal.SIGSTOP)
    try:
        stopped = live.now()
        live.at_rest_after(stopped, 0.3)
        # By the watchdog, or by the refusal of its last command when that came too late.
        live.until(lambda: live.executed[-1].hold, "a hold")
    finally:
        live.processes["planner"].popen.send_signal(signal.SIGCONT)
    live.until_moving_again()


def test_a_stranger_on_the_command_topic_is_named_and_refused(live: Live, module_domain: Any) -> None:
    from crl_interfaces.msg import Command

    live.until_moving_again()
    stranger = module_domain.node.create_publisher(Command, "planner/command", 10)
    try:
        live.says("gate", "/test_probe publishes on /planner/command")
        start = live.now()
        live.until(lambda: live.time() > start + 1.2, "a second with the stranger")
    finally:
        module_domain.node.destroy_publisher(stranger)
    # What was passed on before may be stamped up to a picture's period and the planner's lead later.
    assert all(c.hold for c in live.executed if start + 0.2 < seconds(c.header.stamp) < start + 1.2)
    live.until_moving_again()


def test_a_limp_joint_is_noticed_and_the_arm_held(live: Live, module_domain: Any) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    def limp(joint: str) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=joint)
        request = SetParameters.Request(parameters=[Parameter(name="limp_joint", value=value)])
        assert module_domain.call(SetParameters, "sim/set_parameters", request).results[0].successful

    live.until_moving_again()
    limp("lbr_iiwa_joint_2")
    live.says("gate", "the arm does not follow: joint")
    start = live.now()
    live.until(lambda: live.time() > start + 0.6, "time with the limp joint")
    live.assert_all_finite()
    limp("")


def test_a_recorder_that_is_killed_costs_no_command_and_every_complete_chunk_is_there(live: Live) -> None:
    live.until(lambda: len(live.steps) > 40, "a bag with something in it")
    sent = len(live.executed)
    live.processes["recorder"].kill(signal.SIGKILL)
    start = live.now()
    live.until(lambda: live.time() > start + 1.0, "a second without a recorder")
    stamps = [seconds(c.header.stamp) for c in live.executed[sent:]]
    assert max(b - a for a, b in zip(stamps[:-1], stamps[1:], strict=True)) < 0.25
    reader = BagReader(live.options.out / "bag")
    steps = [m.message.step for m in reader.messages() if m.topic == "/learner/report"]
    assert len(steps) > 20


def test_when_the_simulator_is_reset_nothing_moves_for_a_window_and_nothing_stale_is_learned(
    live: Live, measured: Any
) -> None:
    live.until(lambda: live.time() > 5.0, "a clock that is far from where it begins anew")
    live.processes["sim"].kill(signal.SIGKILL)
    old, sent = live.now(), len(live.executed)
    told: list[float] = []  # what the gate is told of the new simulation; this test may see its pictures later

    def note(state: JointState) -> JointState:
        told.append(seconds(state.header.stamp))
        return state

    live.joints.spoil = note
    live.truth.clear()  # of another clock
    live.start("sim")  # the manager brings it up; its time begins at 0 again
    live.until(lambda: bool(told), "the new simulation")
    live.until(lambda: any(not c.hold and seconds(c.header.stamp) < old - 1 for c in live.executed[sent:]), "motion")
    began = told[0]
    first = next(
        seconds(c.header.stamp) for c in live.executed[sent:] if not c.hold and seconds(c.header.stamp) < old - 1
    )
    measured("simulator reset -> motion again, after its first joint state", first - began)
    assert first - began >= 0.3
    stamps = [seconds(step.header.stamp) for step in live.steps]
    back = next(n for n in range(1, len(stamps)) if stamps[n] < stamps[n - 1] - 1.0)
    known = live.steps[back - 1].step
    assert live.steps[back].step == known  # no transition from the last old frame to the first new one
    live.until(lambda: live.steps[-1].step > known, "learning after the reset")
    live.says("gate", "the stamps of joint states jumped")


def test_when_the_gate_is_killed_the_arm_comes_to_rest_by_itself(live: Live) -> None:
    live.until_moving_again()
    live.processes["gate"].kill(signal.SIGKILL)
    live.at_rest_after(live.now(), 0.3)
    live.assert_all_finite()
