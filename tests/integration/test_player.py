"""The player node: recorded input to a live learner, which makes of it what a replay in one process makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crl_node.bags.reader import BagReader
from crl_node.replay.run import Replay
from crl_node.replay.settings import read_settings
from crl_node.system import ReplayOptions, replay_nodes
from tests.support.recorded_pushes import record_pushes

pytestmark = pytest.mark.ros


def test_a_live_learner_in_lockstep_makes_the_same_posterior_of_a_played_bag(
    ros_domain: Any, node_process: Callable[..., Any], tmp_path: Path
) -> None:
    from crl_interfaces.msg import Belief, Posterior
    from rclpy.qos import DurabilityPolicy, QoSProfile

    bag = record_pushes(tmp_path / "bag", seed=2, steps=15, truth=b"\x00\x01\x00\x00!")
    specs = replay_nodes(ReplayOptions(bag=bag, out=tmp_path / "run", lockstep=True, record=False))
    assert [spec.name for spec in specs] == ["learner", "player", "manager"]
    processes = {spec.name: node_process(spec.executable, dict(spec.parameters)) for spec in specs[:2]}
    beliefs = ros_domain.collect(Belief, "learner/belief", matched=False)
    kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    posteriors = ros_domain.collect(Posterior, "learner/posterior", kept, matched=False)
    for name in processes:
        assert ros_domain.transition(name, "configure")
    for name in processes:
        assert ros_domain.transition(name, "activate")
    ros_domain.wait_until(lambda: processes["player"].popen.poll() is not None, "the end of the player")
    assert processes["player"].popen.returncode == 0, processes["player"].log()
    ros_domain.wait_until(lambda: len(beliefs) == 15, "a belief about every frame")
    reader = BagReader(bag)
    expected = Replay(reader, read_settings(reader), plan=False).run()
    assert expected.posterior is not None
    ros_domain.wait_until(lambda: posteriors[-1].version == expected.posterior.version, "the last posterior")
    assert posteriors[-1].hash == expected.posterior.hash
