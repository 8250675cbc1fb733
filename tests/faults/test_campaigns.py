"""A small share of the campaigns of `crl bench faults`, with a fixed seed."""

from __future__ import annotations

from crl_node.cli.bench import _module

faults = _module("faults")


def test_nothing_unsafe_leaves_the_gate_over_15000_generated_inputs() -> None:
    result = faults.GateCampaign(seed=7).run(15_000)
    assert result["unsafe"] == 0, result["examples"]
    assert result["accepted"] > 200
    # Every kind of rule has been met, or the inputs are too tame to say anything.
    for reason in ("not_finite", "names", "times", "joint_states", "estop", "clock", "acceleration", "future"):
        assert result["rejected"].get(reason, 0) > 0, reason


def test_a_file_is_whole_after_20_writers_were_killed_at_random_moments() -> None:
    result = faults.kills(20, seed=7)
    assert (result["loadable"], result["export"], result["checkpoint"]) == (20, 10, 10)


def test_60_damaged_and_forged_files_harm_nobody_and_the_old_model_serves_on() -> None:
    result = faults.mutants(60, seed=7, forged=0.03)
    assert result["refused"] + result.get("harmless", 0) == 60
    assert result["refused"] > 50
    assert result["forged"] >= 1
    assert result["old_model_served"] == result["old_model_asked"] == 2
