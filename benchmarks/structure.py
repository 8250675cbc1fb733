"""Structure engines on problems drawn from the prior: agreement with the exact posterior, time, calibration, modes.

Used by `crl bench structure`. Seconds are processor seconds of this process (one core's worth of work), so that they
mean the same on a busy machine; the load is in the result. All problems come from seeds; every figure that compares
engines compares them on the same problems in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crl_node.metrics import (
    brier,
    calibration_error,
    inclusion_divergence,
    jensen_shannon,
    reliability,
    total_variation,
)
from crl_node.structure.draws import Draw, DrawConfig, draw, draw_features, problem_of
from crl_node.structure.engine import Engine
from crl_node.structure.engines import make_engine
from crl_node.structure.evidence import Problem
from crl_node.structure.exact import ExactEngine
from crl_node.structure.greedy import GreedyConfig, GreedyEngine
from crl_node.structure.mcmc import McmcConfig, McmcEngine
from crl_node.structure.particles import ParticleConfig, ParticleEngine

#: Called with a line of progress.
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is measured, and on how much."""

    engines: tuple[str, ...]
    columns: int = 14
    problems: int = 60  # agreement
    warm: int = 20  # of these, also with growing statistics
    curve: int = 20  # problems of the time curves
    calibration: int = 240
    wrong: int = 240  # problems for each wrong noise
    pairs: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    seed: int = 0


QUICK = Settings((), columns=8, problems=4, warm=2, curve=2, calibration=12, wrong=12, pairs=(1, 2))


def _draws(settings: Settings, count: int, stream: int) -> list[Draw]:
    config = DrawConfig(columns=settings.columns)
    return [draw(np.random.default_rng([settings.seed, stream, i]), config) for i in range(count)]


def _first_rows(drawn: Draw, share: float) -> Problem:
    """The problem as it stood after a share of its rows."""
    n = max(2, int(share * len(drawn.change)))
    return problem_of(
        drawn.features[:n], drawn.change[:n], drawn.problem.prior_std, DrawConfig(columns=drawn.features.shape[1])
    )


def _update(engine: Engine, problems: list[Problem]) -> float:
    """Processor seconds until inclusion probabilities are there: some engines put work off until asked."""
    began = time.process_time()
    engine.update(problems)
    engine.inclusion()
    return time.process_time() - began


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "worst": float(np.max(values)),
    }


def _exact(problems: list[Problem]) -> ExactEngine:
    engine = ExactEngine()
    engine.update(problems)
    return engine


def agreement(settings: Settings, say: Say) -> dict[str, Any]:
    """Every engine against the exact posterior, one problem at a time from scratch; some with growing statistics."""
    drawn = _draws(settings, settings.problems, 0)
    exact = _exact([d.problem for d in drawn])
    truth = exact.inclusion()
    out: dict[str, Any] = {"problems": len(drawn), "columns": settings.columns, "engines": {}}
    for name in settings.engines:
        rows: dict[str, list[float]] = {key: [] for key in ("jsd", "tv", "inclusion_jsd", "inclusion_error", "seconds")}
        warm: dict[str, list[float]] = {"jsd": [], "seconds": []}
        for i, d in enumerate(drawn):
            engine = make_engine(name, i)
            rows["seconds"].append(_update(engine, [d.problem]))
            found, target = engine.support(0), exact.support(i)
            rows["jsd"].append(jensen_shannon(found, target))
            rows["tv"].append(total_variation(found, target))
            inclusion = engine.inclusion()[0]
            rows["inclusion_jsd"].append(inclusion_divergence(inclusion, truth[i]))
            rows["inclusion_error"].append(float(np.abs(inclusion - truth[i]).max()))
            if i < settings.warm:
                engine = make_engine(name, i)
                engine.update([_first_rows(d, 0.9)])
                engine.inclusion()
                warm["seconds"].append(_update(engine, [d.problem]))
                warm["jsd"].append(jensen_shannon(engine.support(0), target))
        entry: dict[str, Any] = {key: _spread(values) for key, values in rows.items()}
        entry["warm"] = {key: _spread(values) for key, values in warm.items()}
        if name != "gflownet":  # one network for all variables: another setting, measured by structure_gflownet.py
            together = make_engine(name, 0)
            entry["seconds_a_variable_together"] = _update(together, [d.problem for d in drawn]) / len(drawn)
        out["engines"][name] = entry
        say(
            f"agreement: {name} JSD median {entry['jsd']['median']:.2g} worst {entry['jsd']['worst']:.2g}, inclusion "
            f"{entry['inclusion_jsd']['worst']:.2g} worst, {entry['seconds']['median']:.3g} s"
        )
    return out


def efforts(settings: Settings) -> dict[str, list[tuple[float, Callable[[int], Engine]]]]:
    """Per iterative engine: how much work, and the engine that does as much."""
    found: dict[str, list[tuple[float, Callable[[int], Engine]]]] = {}
    if "greedy" in settings.engines:
        found["greedy"] = [
            (n, lambda seed, n=n: GreedyEngine(GreedyConfig(most_sets=n))) for n in (16, 64, 256, 768, 3072)
        ]
    if "mcmc" in settings.engines:
        found["mcmc"] = [
            (n, lambda seed, n=n: McmcEngine(seed, McmcConfig(steps=n, most_steps=n))) for n in (2, 10, 50, 200, 800)
        ]
    if "particles" in settings.engines:
        found["particles"] = [
            (n, lambda seed, n=n: ParticleEngine(seed, config=ParticleConfig(last_moves=n))) for n in (1, 3, 12, 48)
        ]
    if "gflownet" in settings.engines:
        from crl_node.structure.gflownet import GFlowNetConfig, GFlowNetEngine

        found["gflownet"] = [
            (n, lambda seed, n=n: GFlowNetEngine(seed, GFlowNetConfig(rounds=n))) for n in (0, 1, 3, 12, 36)
        ]
    return found


def time_to_agreement(settings: Settings, say: Say) -> dict[str, Any]:
    """Divergence against processor seconds, for engines whose work can be set; exact enumeration for scale."""
    drawn = _draws(settings, settings.curve, 1)
    began = time.process_time()
    exact = _exact([d.problem for d in drawn])
    seconds = (time.process_time() - began) / len(drawn)
    truth = exact.inclusion()
    out: dict[str, Any] = {"problems": len(drawn), "exact_seconds": seconds, "curves": {}}
    for name, steps in efforts(settings).items():
        out["curves"][name] = []
        for effort, make in steps:
            jsd, inclusion, spent = [], [], []
            for i, d in enumerate(drawn):
                engine = make(i)
                spent.append(_update(engine, [d.problem]))
                jsd.append(jensen_shannon(engine.support(0), exact.support(i)))
                inclusion.append(inclusion_divergence(engine.inclusion()[0], truth[i]))
            point = {
                "effort": effort, "seconds": float(np.median(spent)), "jsd": _spread(jsd),
                "inclusion_jsd": _spread(inclusion),
            }  # fmt: skip
            out["curves"][name].append(point)
            say(f"time: {name} at {effort}: {point['seconds']:.3g} s, JSD median {point['jsd']['median']:.2g}")
    return out


def wrong_noise(rng: np.random.Generator, config: DrawConfig, kind: str) -> Draw:
    """A draw whose noise is not what the model assumes; its scale has the prior of the model.

    heavy tails: Student t with 2 degrees of freedom (no variance). heteroscedastic: the standard deviation of each row
    is multiplied by exp(x), x the first feature. autocorrelated: noise and features are AR(1), .9 from row to row.
    """
    right = draw(rng, config)
    n = len(right.change)
    phi = right.features
    if kind == "autocorrelated":
        phi = _autoregressive(draw_features(rng, n, config), rng)
    scale = np.sqrt(config.rate / rng.gamma(config.shape))
    held = np.abs(right.weights) > 0.0
    weights = np.where(held, right.problem.prior_std * scale * rng.standard_normal(len(held)), 0.0)
    noise = rng.standard_normal(n)
    if kind == "heavy tails":
        noise = rng.standard_t(2.0, n)
    elif kind == "heteroscedastic":
        noise = noise * np.exp(phi[:, 0])
    elif kind == "autocorrelated":
        noise = _autoregressive(noise[:, None], rng)[:, 0]
    elif kind != "as assumed":
        raise ValueError(f"there is no noise '{kind}'")
    change = phi @ weights + scale * noise
    problem = problem_of(phi, change, right.problem.prior_std, config)
    return replace(right, problem=problem, weights=weights, features=phi, change=change)


def _autoregressive(values: NDArray[np.float64], rng: np.random.Generator, keep: float = 0.9) -> NDArray[np.float64]:
    """[n, F] first-order autoregressive rows of the same variance."""
    out = np.array(values)
    for row in range(1, len(out)):
        out[row] = keep * out[row - 1] + np.sqrt(1.0 - keep**2) * values[row]
    return out


NOISES = ("as assumed", "heavy tails", "heteroscedastic", "autocorrelated")


def _scores(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> dict[str, Any]:
    bins = reliability(truth, probability)
    return {
        "ece": calibration_error(truth, probability),
        "brier": brier(truth, probability),
        "stated": [None if np.isnan(v) else float(v) for v in bins.stated],
        "true": [None if np.isnan(v) else float(v) for v in bins.true],
        "count": bins.count.tolist(),
        "ece_of_a_perfect_forecaster": _perfect(probability),
    }


def _perfect(probability: NDArray[np.float64], repeats: int = 40) -> float:
    """Mean ECE when each edge is true with just the stated probability: what so few edges cannot tell from 0."""
    rng = np.random.default_rng(0)
    found = [calibration_error(rng.random(probability.shape) < probability, probability) for _ in range(repeats)]
    return float(np.mean([f for f in found if f is not None]))


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for i in range(0, len(items), size):
        yield items[i : i + size]


def calibration(settings: Settings, say: Say) -> dict[str, Any]:
    """Of edges given probability p, which share is true: on problems from the prior, and with wrong noise."""
    drawn = _draws(settings, settings.calibration, 2)
    truth = np.stack([d.truth for d in drawn])
    out: dict[str, Any] = {"problems": len(drawn), "engines": {}, "noise": {}}
    for name in settings.engines:
        parts = []
        for number, chunk in enumerate(_chunks([d.problem for d in drawn], 12)):
            engine = make_engine(name, number)
            engine.update(chunk)
            parts.append(engine.inclusion())
        out["engines"][name] = _scores(truth, np.concatenate(parts))
        say(f"calibration: {name} ECE {out['engines'][name]['ece']:.4f}")
    config = DrawConfig(columns=settings.columns)
    for kind in NOISES:
        wrong = [
            wrong_noise(np.random.default_rng([settings.seed, 3, i]), config, kind) for i in range(settings.wrong)
        ]
        inclusion = _exact([d.problem for d in wrong]).inclusion()
        out["noise"][kind] = _scores(np.stack([d.truth for d in wrong]), inclusion)
        say(f"calibration: exact posterior, noise {kind}: ECE {out['noise'][kind]['ece']:.4f}")
    return out


def twins(seed: int, pairs: int, rows: int = 200) -> Problem:
    """2^pairs modes: pairs of nearly equal columns of which one each is a cause, and two columns that are none."""
    rng = np.random.default_rng([seed, 4, pairs])
    size = 2 * pairs + 2
    phi = rng.standard_normal((rows, size))
    phi[:, 1 : 2 * pairs : 2] = phi[:, 0 : 2 * pairs : 2] + 0.02 * rng.standard_normal((rows, pairs))
    weights = np.zeros(size)
    weights[0 : 2 * pairs : 2] = rng.choice([-1.0, 1.0], pairs)
    change = phi @ weights + rng.standard_normal(rows)
    return problem_of(phi, change, np.full(size, 1.5), DrawConfig(columns=size, mean_rate=0.1, strength=50.0))


def modes_in(sets: NDArray[np.bool_], pairs: int) -> NDArray[np.int64]:
    """[N] number of the mode of each set, its bits saying which of each pair is in; -1 where not one of each is."""
    first, second = sets[:, 0 : 2 * pairs : 2], sets[:, 1 : 2 * pairs : 2]
    number = second @ (1 << np.arange(pairs))
    return np.where((first ^ second).all(axis=1), number, -1)


def modes(settings: Settings, say: Say, draws: tuple[int, ...] = (4, 16, 64, 256)) -> dict[str, Any]:
    """How many of 2^k equally good explanations each engine names, and how many are among K samples."""
    out: dict[str, Any] = {"draws": list(draws), "rows": []}
    for pairs in settings.pairs:
        problem = twins(settings.seed, pairs)
        target = _exact([problem]).support(0)
        mass = _mode_mass(target.sets, target.log_probability, pairs)
        real = np.flatnonzero(mass >= 0.25 / 2**pairs)  # the chance resemblance of columns favours some
        for name in settings.engines:
            engine = make_engine(name, 0)
            seconds = _update(engine, [problem])
            support = engine.support(0)
            found = _mode_mass(support.sets, support.log_probability, pairs)
            seen = {}
            for count in draws:
                particles = engine.sample(count, np.random.default_rng(count))[0]
                drawn_modes = np.unique(modes_in(particles.sets, pairs))
                seen[str(count)] = int(np.isin(drawn_modes, real).sum())
            row = {
                "pairs": pairs, "modes": len(real), "engine": name,
                "named": int((found[real] >= 0.25 * mass[real]).sum()), "sampled": seen, "seconds": seconds,
                "jsd": jensen_shannon(support, target),
            }  # fmt: skip
            out["rows"].append(row)
            say(f"modes: {name} names {row['named']} of {len(real)}, among 64 samples {seen.get('64')}")
    return out


def _mode_mass(sets: NDArray[np.bool_], log_probability: NDArray[np.float64], pairs: int) -> NDArray[np.float64]:
    """[2^pairs] probability of each mode."""
    number = modes_in(sets, pairs)
    inside = number >= 0
    return np.bincount(number[inside], np.exp(log_probability[inside]), 1 << pairs)


PARTS: dict[str, Callable[[Settings, Say], dict[str, Any]]] = {
    "agreement": agreement, "time": time_to_agreement, "calibration": calibration, "modes": modes,
}  # fmt: skip
