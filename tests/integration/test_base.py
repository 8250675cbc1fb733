"""ManagedNode: lifecycle with honest errors, parameters from files, guarded callbacks, clean exit."""

from __future__ import annotations

import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

PARAMETERS = """
gain: {type: float, default: 1.5, unit: m, min: 0.0, max: 10.0, description: A length.}
mode: {type: string, default: calm, choices: [calm, wild], description: A mood.}
names: {type: string_array, default: [], description: Some names.}
fail_in: {type: string, default: "", description: The hook that fails.}
"""

NODE = """
import pathlib, sys
from crl_node.nodes import parameters
from crl_node import parameter_spec
parameters.load_specs = lambda name: parameter_spec.read_specs(pathlib.Path({parameters!r}))
from crl_node.nodes.base import ManagedNode, run
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

class Probe(ManagedNode):
    def __init__(self):
        super().__init__("probe")
    def say(self, text):
        p = self.params
        print(f"HOOK {{text}} gain={{p.gain}} mode={{p.mode}} names={{p.names}}", flush=True)
        if self.params.fail_in == text:
            raise RuntimeError(f"{{text}} went wrong on purpose")
    def setup(self):
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.out = self.create_lifecycle_publisher(String, "out", latched)  # a reader it meets late misses nothing
        self.sub = self.create_subscription(String, "in", self.guarded(self.on_message), 10)
        self.say("setup")
    def start(self):
        self.say("start")
        self.out.publish(String(data="hello"))
    def stop(self):
        self.out.publish(String(data="goodbye"))
        self.say("stop")
    def teardown(self):
        self.say("teardown")
    def on_message(self, message):
        if message.data == "bad":
            raise ValueError("this message is bad")
        self.out.publish(String(data=f"{{message.data}} {{self.error_count}} {{self.active}}"))

run(Probe)
"""


@pytest.fixture
def probe(ros_domain: Any, tmp_path: Path) -> Any:
    def start(*arguments: str) -> Any:
        (tmp_path / "probe.yaml").write_text(PARAMETERS)
        script = tmp_path / "probe.py"
        script.write_text(textwrap.dedent(NODE.format(parameters=str(tmp_path / "probe.yaml"))))
        command = [sys.executable, str(script), "--ros-args", *arguments]
        return ros_domain.process("probe", command)

    return start


def test_a_node_walks_through_its_life_and_publishes_while_stopping(ros_domain: Any, probe: Any) -> None:
    from rclpy.qos import DurabilityPolicy, QoSProfile
    from std_msgs.msg import String

    process = probe()
    assert ros_domain.state("probe") == "unconfigured"
    assert ros_domain.transition("probe", "configure")
    received = ros_domain.collect(String, "out", QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL))
    assert ros_domain.transition("probe", "activate")
    ros_domain.wait_until(lambda: len(received) == 1, "the greeting")
    assert ros_domain.state("probe") == "active"
    assert process.kill(signal.SIGTERM) == 0
    ros_domain.wait_until(lambda: len(received) == 2, "the goodbye")
    assert [m.data for m in received] == ["hello", "goodbye"]
    hooks = [line.split()[1] for line in process.log().splitlines() if line.startswith("HOOK")]
    assert hooks == ["setup", "start", "stop", "teardown"]


@pytest.mark.parametrize(
    ("hook", "label", "state"), [("setup", "configure", "unconfigured"), ("start", "activate", "inactive")]
)
def test_a_hook_that_raises_fails_the_transition_with_a_sentence(
    ros_domain: Any, probe: Any, hook: str, label: str, state: str
) -> None:
    process = probe("-p", f"fail_in:={hook}")
    if label == "activate":
        assert ros_domain.transition("probe", "configure")
    assert not ros_domain.transition("probe", label)
    assert ros_domain.state("probe") == state
    assert f"RuntimeError while trying to {label}: {hook} went wrong on purpose" in process.log()


def test_a_failing_stop_still_counts_as_stopped(ros_domain: Any, probe: Any) -> None:
    probe("-p", "fail_in:=stop")
    assert ros_domain.transition("probe", "configure")
    assert ros_domain.transition("probe", "activate")
    assert ros_domain.transition("probe", "deactivate")
    assert ros_domain.state("probe") == "inactive"


def test_an_exception_in_a_callback_is_logged_once_and_the_node_lives(ros_domain: Any, probe: Any) -> None:
    from std_msgs.msg import String

    process = probe()
    assert ros_domain.transition("probe", "configure")
    assert ros_domain.transition("probe", "activate")
    received = ros_domain.collect(String, "out")
    publisher = ros_domain.publisher(String, "in")
    for text in ("bad", "bad", "good"):
        publisher.publish(String(data=text))
    ros_domain.wait_until(lambda: bool(received), "an answer")
    assert received[-1].data == "good 2 True"
    assert process.log().count("this message is bad") == 1


def test_parameters_are_checked_at_start_and_when_set(ros_domain: Any, probe: Any) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    process = probe("-p", "gain:=3", "-p", "names:=[a, b]", "-p", "gian:=1.0")
    assert ros_domain.transition("probe", "configure")
    assert "gain=3.0 mode=calm names=['a', 'b']" in process.log()
    assert "parameter 'gian' = 1.0 is not one of probe's" in process.log()

    def set_to(name: str, **value: Any) -> Any:
        request = SetParameters.Request(parameters=[Parameter(name=name, value=ParameterValue(**value))])
        return ros_domain.call(SetParameters, "probe/set_parameters", request).results[0]

    refused = set_to("mode", type=ParameterType.PARAMETER_STRING, string_value="sad")
    assert not refused.successful and refused.reason == "parameter 'mode' is 'sad', it must be one of calm, wild"
    assert not set_to("gain", type=ParameterType.PARAMETER_DOUBLE, double_value=99.0).successful
    assert not set_to("gain", type=ParameterType.PARAMETER_DOUBLE, double_value=float("nan")).successful
    assert set_to("gain", type=ParameterType.PARAMETER_DOUBLE, double_value=2.5).successful
    assert ros_domain.transition("probe", "activate")
    assert "HOOK start gain=2.5" in process.log()


def test_a_wrong_start_value_ends_the_node_with_a_sentence(ros_domain: Any, probe: Any) -> None:
    process = probe("-p", "gain:=11.0")
    assert process.popen.wait(timeout=60) == 2
    assert "Probe cannot start: parameter 'gain' is 11.0 m, it must be >= 0 and <= 10 m" in process.log()
    assert "Traceback" not in process.log()
