"""Latencies of the loop: what is counted from where to where, and which nodes a measurement runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crl_node.evaluation.traffic import Sent, Traffic, camera_to_weights, figures, missed_ticks
from crl_node.latency import SELDOM, Case, LatencySession, world_at
from crl_node.parameter_spec import ParameterError
from crl_node.simulator.world import load_world
from crl_node.system import SimOptions


def traffic() -> Traffic:
    """Ten frames 100 ms apart, each answered 40 ms later; posteriors of frames 1, 4 and 7 come 20 ms after them."""
    frames = [0.1 * n for n in range(10)]
    wall = 1000.0
    return Traffic(
        images=[Sent(t, wall + t) for t in frames],
        commands=[Sent(t, wall + t + 0.040) for t in frames],
        executed=[Sent(t + 0.120, wall + t + 0.041) for t in frames],
        answered=frames,
        posteriors=[Sent(0.1 * n, wall + 0.1 * n + 0.020, version) for version, n in ((1, 1), (2, 4), (3, 7))],
        plans=[Sent(t, wall + t + 0.040, sum(t >= 0.1 * n - 1e-9 for n in (1, 4, 7))) for t in frames],
        plan_ms=[10.0] * 10,
        swap_ms=[0.5, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7, 0.3, 0.3, 0.3],
    )


def test_a_datum_is_in_the_weights_when_the_first_plan_with_its_posterior_begins() -> None:
    # Frames 0 and 1 are in posterior 1, first planned with at 1000.1 + .04 - .01 s; 2 to 4 in 2, 5 to 7 in 3.
    wanted = [130, 30, 230, 130, 30, 230, 130, 30]
    assert camera_to_weights(traffic()) == pytest.approx(wanted, abs=1e-3)


def test_a_posterior_that_was_never_planned_with_counts_when_a_later_one_is() -> None:
    seen = traffic()
    seen.plans = [Sent(p.stamp, p.sent, 3 if p.version == 2 else p.version) for p in seen.plans]
    assert camera_to_weights(seen)[2:5] == pytest.approx([230, 130, 30], abs=1e-3)


def test_the_figures_are_those_of_the_messages() -> None:
    told = figures(traffic(), 0.1)
    assert (told["ticks"], told["missed"], told["frames_planned_from"], told["posteriors"]) == (10, 0, 10, 3)
    latency = told["latency_ms"]
    assert latency["camera_to_command"]["p50"] == pytest.approx(40.0, abs=1e-3)
    assert latency["camera_to_motion"]["p99"] == pytest.approx(120.0, abs=1e-3)
    assert latency["camera_to_posterior"]["p50"] == pytest.approx(120.0, abs=1e-3)
    assert latency["swap"]["p50"] == 0.5  # versions 0 -> 1, 1 -> 2, 2 -> 3: .5, .7 and .3 ms
    assert figures(Traffic(), 0.1)["missed_share"] is None


def test_a_gap_of_three_periods_misses_two_ticks_and_jitter_none() -> None:
    starts = [0.0, 0.05, 0.10, 0.25, 0.32, 0.35]
    assert missed_ticks(starts, 0.05) == (8, 2)
    assert missed_ticks([1.0], 0.05) == (1, 0)


def test_a_bag_and_a_listener_are_counted_alike(tmp_path: Path) -> None:
    from crl_node.evaluation.run import load_run
    from tests.support.synthetic_run import write_run

    run = load_run(write_run(tmp_path, steps=30) / "bag")
    told = figures(run.traffic(), 0.1)
    assert told["latency_ms"]["camera_to_command"]["p50"] == pytest.approx(50.0, abs=0.01)
    assert told["ticks"] == 30 and told["frames"] == 30
    assert told["latency_ms"]["camera_to_weights"]["p50"] is not None


def test_the_camera_and_the_loop_run_at_the_rate_asked_for(tmp_path: Path) -> None:
    assert load_world(world_at(Case(20.0), tmp_path)).camera.rate == 20
    flat = tmp_path / "flat.yaml"
    text = load_world("four_cubes").path.read_text()
    camera = "camera: {eye: [1.25, 0.0, 1.05], target: [0.60, 0.0, 0.0], fov: 34, size: [96, 96], rate: 10}"
    flat.write_text(re.sub(r"(?m)^camera:\n(  .*\n)+", f"{camera}\n", text))
    assert load_world(str(flat)).camera.rate == 10
    with pytest.raises(ParameterError, match="is not on a line of its own"):
        world_at(Case(20.0, world=str(flat)), tmp_path / "out")


@pytest.mark.parametrize("on", [True, False])
def test_what_is_off_is_not_started_or_hardly_ever_due(tmp_path: Path, on: bool) -> None:
    case = Case(20.0, learning=on, recording=on)
    world = str(world_at(case, tmp_path))
    session = LatencySession(SimOptions(out=tmp_path / "run", world=world), case=case)
    specs = {spec.name: spec.parameters for spec in session._specs()}
    assert ("recorder" in specs) == on == ("recorder" in specs["manager"]["nodes"])
    assert specs["learner"]["period"] == specs["planner"]["period"] == pytest.approx(0.05)
    assert specs["learner"]["posterior_period"] == pytest.approx(0.025 if on else SELDOM["posterior_period"])
