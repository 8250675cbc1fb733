"""Exploration measured: true-state beliefs, one short real episode, resuming, and figures on made-up curves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crl_node.arm.profile import load_profile
from crl_node.cli.bench_exploration import expanded, specs_of
from crl_node.evaluation.pushes import held_out_pushes
from crl_node.exploration import sweep
from crl_node.exploration.episode import EpisodeSpec, run_episode
from crl_node.exploration.sight import TrueSight
from crl_node.exploration.summary import figures, summary
from crl_node.loop import Plans
from crl_node.mechanisms import grammar, terms
from crl_node.parameter_spec import ParameterError
from crl_node.simulator.engine import Simulator
from crl_node.simulator.world import load_world

PROFILE = load_profile("iiwa_sim")


def test_true_sight_says_what_the_simulator_holds_and_velocities_as_displacements() -> None:
    world = load_world("tabletop")
    with Simulator(world, PROFILE, 3) as simulator:
        sight = TrueSight(simulator)
        first = sight.belief(0.0, np.array([0.5, 0.1, 0.1]), np.array([0.02, -0.01]))
        assert first.ids.tolist() == list(range(len(world.things) + 1))
        np.testing.assert_array_equal(first.mean[1:, :2], simulator.truth().positions)
        np.testing.assert_array_equal(first.mean[0, :4], [0.5, 0.1, 0.02, -0.01])
        np.testing.assert_array_equal(first.mean[1:, 2:4], 0.0)
        simulator.advance(0.1)
        second = sight.belief(0.1, np.zeros(3), np.zeros(2))
        np.testing.assert_allclose(
            second.mean[1:, 2:4], (second.mean[1:, :2] - first.mean[1:, :2]) / 0.1, atol=1e-12
        )


def test_many_steps_at_once_are_advanced_as_each_alone() -> None:
    rng = np.random.default_rng(4)
    slots = 5
    lengths = grammar.motion_lengths(np.full(12, 0.03), np.full((12, 12), 0.15))
    table = grammar.table(grammar.MOTION, lengths)
    mine = np.flatnonzero((table.target < slots) & (table.parent < slots) & (table.target != table.parent))
    mine = rng.choice(mine, 60, replace=False)
    table = terms.TermTable(table.kind[mine], table.target[mine], table.parent[mine], table.length[mine])
    weights = rng.normal(0.4, 0.3, len(mine))
    scene = terms.Scene(np.full(slots, 0.03), np.ones(slots, bool), np.array([0.38, 0.82, -0.3, 0.3]), 0.1)
    state = np.zeros((7, slots, 5))
    state[..., :2] = rng.uniform([0.45, -0.1], [0.7, 0.1], (7, slots, 2))
    state[..., 2:4] = rng.normal(0, 0.05, (7, slots, 2))
    action = rng.normal(0, 0.1, (7, 2))
    together = terms.advance_motion(table, weights, state, action, scene)
    assert np.abs(together).max() > 1e-3
    for k in range(7):
        alone, _ = terms.advance(table, weights, state[k], action[k], scene)
        np.testing.assert_allclose(together[k], alone[:, :2], atol=1e-12)


@pytest.mark.parametrize("sight", ["truth", "pixels"])
def test_a_short_episode_is_scored_along_the_way_and_again_gives_the_same(sight: str) -> None:
    world = load_world("four_cubes")
    pushes = held_out_pushes(world, PROFILE, pushes=4)
    spec = EpisodeSpec("four_cubes", 2, "skills", sight, steps=30, every=10)

    def make(policy: str, seed: int) -> Plans:
        from crl_node.curiosity.assembly import default_model
        from crl_node.curiosity.planner import Planner

        return Planner(default_model(), policy, seed, evaluate=False)

    first, second = (run_episode(spec, world, PROFILE, pushes, make) for _ in range(2))
    curves = first["curves"]
    assert curves["step"] == [10, 20, 30]
    assert all(v is not None and v < 1.0 for v in curves["contact_r2"])
    assert curves["metres"] == sorted(curves["metres"])
    assert set(first["time_near"]) == set(world.names)
    assert first["matched"] == sorted(world.names)
    for untimed in (first, second):
        del untimed["processor_seconds"], untimed["milliseconds"]
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(second))


def made_up(policy: str, seed: int, steps_to_r2: int | None, steps: int = 40) -> tuple[EpisodeSpec, dict[str, Any]]:
    spec = EpisodeSpec("four_cubes", seed, policy, "truth", steps, 10)
    at = list(range(10, steps + 1, 10))
    return spec, {
        "spec": asdict(spec), "processor_seconds": 1.0, "things": ["a"], "mechanisms": [["SPRING", "a", "b.position"]],
        "curves": {
            "step": at,
            "contact_r2": [
                0.1 if steps_to_r2 is None or k < steps_to_r2 else 0.82 if k == steps_to_r2 else 0.9 for k in at
            ],
            "edge_auroc": [None] * (len(at) - 1) + [1.0], "things_moved": [1] * len(at), "metres": [0.1] * len(at),
            "found": [[k >= 20] for k in at],
        },
        "time_near": {"a": 0.25}, "first_touched": {"a": 3},
    }  # fmt: skip


def test_figures_and_paired_differences_of_made_up_curves() -> None:
    results = [
        made_up("curious", 0, 10), made_up("curious", 1, 20), made_up("curious", 2, 40),
        made_up("skills", 0, 30), made_up("skills", 1, 20), made_up("skills", 2, None),
    ]  # fmt: skip
    row = figures(results[1][1])
    assert row["steps_to_r2"] == 20
    assert row["steps_to_auroc"] == 40
    assert row["found"] == {"spring": 20}
    assert row["steps_to_high_r2"] == 30
    assert row["mean_r2"] == pytest.approx((0.1 + 0.82 + 2 * 0.9) / 4)
    table = summary(results)["four_cubes/truth"]
    assert table["curious"]["median_steps_to_r2"] == 20
    # What was not reached counts as the whole episode.
    assert table["skills"]["median_steps_to_r2"] == 30
    assert table["skills"]["paired_steps"] == [-20, 0, 0]
    assert table["skills"]["paired_steps_to_high_r2"] == [-20, 0, 0]
    assert table["skills"]["reference_ahead_to_high_r2"] == 1
    assert table["curious"]["median_steps_to_high_r2"] == 30
    assert (table["skills"]["reference_ahead"], table["skills"]["reference_level"]) == (1, 2)
    assert table["skills"]["reference_ahead_in_mean_r2"] == 2


def test_a_sweep_reads_what_is_there_and_writes_what_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, content = made_up("skills", 0, 10)
    (tmp_path / f"{done.name}.json").write_text(json.dumps(content))

    def never(spec: EpisodeSpec) -> dict[str, Any]:
        raise AssertionError(f"{spec.name} was there already")

    monkeypatch.setattr(sweep, "episode", never)
    assert [found for _, found in sweep.run_all([done], tmp_path)] == [content]


def test_names_of_many_random_worlds_and_wrong_names() -> None:
    assert expanded("random:3-5") == ["random:3", "random:4", "random:5"]
    assert expanded("random:7") == ["random:7"]
    assert expanded("clutter") == ["clutter"]
    assert len(specs_of("random:1-2,four_cubes", [0, 1], "curious,skills", "truth,pixels", 100, 5)) == 24
    with pytest.raises(ParameterError, match="no policy 'greedy'"):
        specs_of("four_cubes", [0], "greedy", "truth", 100, 5)
    with pytest.raises(ParameterError, match="sight is 'xray'"):
        specs_of("four_cubes", [0], "skills", "xray", 100, 5)
    with pytest.raises(ParameterError, match="nowhere"):
        specs_of("nowhere", [0], "skills", "truth", 100, 5)
