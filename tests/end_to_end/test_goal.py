"""A goal given to a running system: `crl goal red X Y`, brought there over real ROS 2, and replayed bit for bit."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
pytest.importorskip("crl_interfaces")

from crl_node.bags.metadata import COUNTS
from crl_node.bags.reader import BagReader

pytestmark = pytest.mark.ros

SECONDS = 60
#: s of simulated time after which the goal is given.
LEARNED = 8.0
#: Where the red cube is wanted, m.
GOAL = (0.60, 0.0)


def crl(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "crl_node.cli", *arguments],
        capture_output=True, text=True, check=False, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


def wait(condition: Callable[[], Any], what: str, patience: float = 600.0) -> Any:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"waited {patience:.0f} s for {what}")


def clock(out: Path) -> float:
    """Simulated time in the bag's counts, s."""
    try:
        counts = json.loads((out / "bag" / COUNTS).read_text())
    except (OSError, ValueError):
        return 0.0
    return 0.1 * sum(t["recorded"] for n, t in counts["topics"].items() if n.endswith("learner/belief"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("goal")
    out = folder / "run"
    command = [
        sys.executable, "-m", "crl_node.cli", "sim", "--lockstep", "--headless", "--world", "four_cubes", "--seed", "1",
        "--seconds", str(SECONDS), "--out", str(out), "--no-report",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        try:
            wait(lambda: process.poll() is not None or clock(out) > LEARNED, f"{LEARNED:g} s of simulated time")
            assert process.poll() is None, (folder / "log").read_text()[-2000:]
            refused = crl("goal", "red", "0.95", "0.0", "--run", str(out))
            given = crl("goal", "red", *map(str, GOAL), "--hold", "1", "--run", str(out))
            assert process.wait(timeout=600) == 0, (folder / "log").read_text()[-2000:]
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=60)
    return {"out": out, "refused": refused, "given": given}


def messages(out: Path, topic: str) -> list[Any]:
    return [decoded.message for decoded in BagReader(out / "bag").messages([topic])]


def seconds(stamp: Any) -> float:
    return float(stamp.sec + stamp.nanosec * 1e-9)


def test_a_place_off_the_table_is_refused_in_words_and_a_good_one_taken(run: dict[str, Any]) -> None:
    assert run["refused"].returncode == 1 and "no place on the table" in run["refused"].stderr
    assert run["given"].returncode == 0, run["given"].stderr
    assert "the red thing" in run["given"].stdout and "is wanted at (0.60, 0.00) m" in run["given"].stdout


def test_the_red_cube_is_brought_there_and_then_the_goal_is_given_up(run: dict[str, Any]) -> None:
    told = messages(run["out"], "/planner/goals")
    assert [len(message.goals) for message in told] == [1, 0]
    assert "reached, given up" in told[1].note
    reached = seconds(told[1].header.stamp)
    truth = min(messages(run["out"], "/sim/ground_truth"), key=lambda m: abs(seconds(m.header.stamp) - reached))
    cube = next(thing for thing in truth.objects if thing.name == "red_cube").pose.position
    assert math.dist((cube.x, cube.y), GOAL) < 0.04
    plans = messages(run["out"], "/planner/plan")
    followed = [p for p in plans if seconds(told[0].header.stamp) < seconds(p.header.stamp) < reached]
    assert any(plan.chosen.label.startswith("bring slot_") for plan in followed)
    assert all(p.chosen.preference == 0.0 for p in plans if seconds(p.header.stamp) > reached)


def test_a_replay_follows_the_same_goals_to_the_same_commands(run: dict[str, Any]) -> None:
    replayed = crl("replay", str(run["out"] / "bag"), "--json", "-")
    assert replayed.returncode == 0, replayed.stderr
    result = json.loads(replayed.stdout)
    assert result["plans_equal"] and result["commands_equal"], result["first_difference"]
