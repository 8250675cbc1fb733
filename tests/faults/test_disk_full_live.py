"""A learner at work whose disk takes no checkpoint any more: it says so, counts, learns on, and writes again later."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crl_node.simulator.engine import Simulator
from crl_node.world_model import WorldModel
from tests.integration.test_learner_node import PROFILE, WORLD, Stage, bring_up, parameters

pytestmark = pytest.mark.ros


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(WORLD, PROFILE, 0) as simulator:
        yield simulator


def learned(stage: Stage) -> int:
    return max((report.step for report in stage.reports), default=0)


def test_a_learner_whose_disk_is_full_learns_on_says_so_and_writes_again_when_it_can(
    ros_domain: Any, node_process: Any, simulator: Simulator, tmp_path: Path
) -> None:
    from diagnostic_msgs.msg import DiagnosticArray

    path = tmp_path / "checkpoint.npz"
    learner = node_process("learner", parameters(checkpoint=str(path), checkpoint_period=0.5))
    stage = bring_up(ros_domain, simulator)
    told = ros_domain.collect(DiagnosticArray, "/diagnostics", 20)

    def newest() -> tuple[str, int, bool]:
        """The learner's words, its errors, and whether it warns."""
        found = [s for message in told for s in message.status if s.name.endswith(": learner")]
        if not found:
            return "", 0, False
        values = {entry.key: entry.value for entry in found[-1].values}
        return found[-1].message, int(values["errors"]), found[-1].level != b"\0"

    def tick_until(condition: Any, what: str) -> None:
        for _ in range(200):
            if condition():
                return
            stage.tick()
        pytest.fail(f"{what} did not come\n{learner.log()}")

    tick_until(path.is_file, "the first checkpoint")
    stage.wait(lambda: not list(tmp_path.glob(".checkpoint*")), "the end of its writing")
    size, before = path.stat().st_size, path.read_bytes()
    least = 100_000  # for the log
    assert size > least
    hard = resource.prlimit(learner.popen.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(learner.popen.pid, resource.RLIMIT_FSIZE, (least, hard))  # as a full disk: OSError while writing

    tick_until(lambda: newest()[1] >= 2, "the second failure in the diagnostics")
    words, _, warns = newest()
    assert warns and "while writing the checkpoint" in words and "File too large" in words
    assert "the last one stays, learning goes on" in learner.log()
    at_failure = learned(stage)
    for _ in range(5):
        stage.tick()
    stage.wait(lambda: learned(stage) >= at_failure + 5, "learning in spite of it")
    assert learner.popen.poll() is None and path.read_bytes() == before
    kept = WorldModel.load(path).step

    resource.prlimit(learner.popen.pid, resource.RLIMIT_FSIZE, (hard, hard))
    tick_until(lambda: "can be written again" in learner.log(), "a checkpoint after the disk had room again")
    assert WorldModel.load(path).step > kept
    tick_until(lambda: not newest()[2], "diagnostics without a warning")
