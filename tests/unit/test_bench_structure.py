"""`crl bench structure` on a few small problems, and the parts its figures rest on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crl_node.cli.app import app
from crl_node.cli.bench import _module
from crl_node.structure.draws import DrawConfig
from crl_node.structure.engines import ENGINES, make_engine
from crl_node.structure.exact import ExactPosterior

structure = _module("structure")


def test_the_quick_benchmark_writes_json_and_figures_and_does_not_measure_twice(tmp_path: Path) -> None:
    command = ["bench", "structure", "--quick", "--parts", "agreement,modes", "--engines", "greedy,particles"]
    first = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert first.exit_code == 0, first.output
    assert {p.name for p in tmp_path.iterdir()} == {
        "agreement.json", "agreement.png", "modes.json", "modes.png", "structure.json"
    }  # fmt: skip
    found = json.loads((tmp_path / "agreement.json").read_text())
    greedy = found["engines"]["greedy"]
    assert greedy["jsd"]["worst"] < 1e-9  # 8 columns: greedy enumerates them all
    assert 0.0 < found["engines"]["particles"]["inclusion_jsd"]["worst"] < 0.05
    second = CliRunner().invoke(app, [*command, "--out", str(tmp_path)])
    assert "agreement: taken from" in second.output
    # Other settings are another measurement.
    other = ["bench", "structure", "--quick", "--parts", "agreement", "--engines", "greedy", "--out", str(tmp_path)]
    third = CliRunner().invoke(app, other)
    assert "taken from" not in third.output


def test_an_unknown_part_or_engine_is_named(tmp_path: Path) -> None:
    for option, sentence in (("--parts", "there is no part 'no'"), ("--engines", "no structure engine 'no'")):
        result = CliRunner().invoke(app, ["bench", "structure", option, "no", "--quick", "--out", str(tmp_path)])
        assert result.exit_code != 0
        assert sentence in str(result.exception)
    with pytest.raises(ValueError, match="there is no structure engine 'no'; there are exact"):
        make_engine("no")


@pytest.mark.parametrize("name", ["exact", "greedy", "mcmc", "particles"])
def test_engines_are_made_by_name(name: str) -> None:
    problem = structure.twins(0, 1)
    engine = make_engine(name)
    engine.update([problem])
    assert engine.inclusion()[0].shape == (4,)
    assert name in ENGINES


@pytest.mark.parametrize("pairs", [1, 3])
def test_twins_have_as_many_modes_as_they_should(pairs: int) -> None:
    posterior = ExactPosterior()
    posterior.update(structure.twins(0, pairs))
    support = posterior.support()
    mass = structure._mode_mass(support.sets, support.log_probability, pairs)
    assert mass.sum() > 0.6
    assert (mass > 0.05 / 2**pairs).all()


def test_modes_are_numbered_by_which_of_each_pair_is_in() -> None:
    sets = np.array([[1, 0, 1, 0, 0, 0], [0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0], [1, 1, 1, 0, 0, 0]], bool)
    np.testing.assert_array_equal(structure.modes_in(sets, 2), [0, 1, 2, -1])


def test_wrong_noise_is_what_its_name_says() -> None:
    config = DrawConfig(columns=3, rows=(3000, 3000), correlated=0.0, twins=0.0)

    def noise(kind: str) -> tuple[np.ndarray, np.ndarray]:
        drawn = structure.wrong_noise(np.random.default_rng(1), config, kind)
        left = drawn.change - drawn.features @ drawn.weights
        return left / left.std(), drawn.features

    def kurtosis(values: np.ndarray) -> float:
        return float(np.mean(values**4))

    right, _ = noise("as assumed")
    assert kurtosis(right) == pytest.approx(3.0, abs=0.4)
    assert kurtosis(noise("heavy tails")[0]) > 20.0
    uneven, phi = noise("heteroscedastic")
    assert np.std(uneven[phi[:, 0] > 1.0]) > 4.0 * np.std(uneven[phi[:, 0] < -1.0])
    slow, phi = noise("autocorrelated")
    assert np.mean(slow[1:] * slow[:-1]) == pytest.approx(0.9, abs=0.05)
    assert np.corrcoef(phi[1:, 0], phi[:-1, 0])[0, 1] == pytest.approx(0.9, abs=0.05)
    with pytest.raises(ValueError, match="there is no noise 'no'"):
        noise("no")


def test_problems_of_a_benchmark_repeat_with_the_seed() -> None:
    settings = replace(structure.QUICK, engines=())
    one, other = structure._draws(settings, 2, 0), structure._draws(settings, 2, 0)
    np.testing.assert_array_equal(one[1].change, other[1].change)
    assert not np.array_equal(structure._draws(settings, 2, 1)[1].truth, one[1].features)


def test_weights_of_exact_moments_are_exact_and_stein_finds_the_mean() -> None:
    stein = _module("stein_weights")
    mean, covariance = np.array([1.0, -2.0]), np.array([[0.5, 0.2], [0.2, 0.3]])
    rng = np.random.default_rng(0)
    assert max(stein.errors(stein.matched(mean, covariance, 16, rng), mean, covariance)) < 1e-9
    of_mean, of_spread = stein.errors(stein.svgd(mean, covariance, 16, 300, rng), mean, covariance)
    assert of_mean < 0.05
    assert 0.0 < of_spread < 0.5
