"""Discovery on systems with a known graph, beside PCMCI (tigramite) and plain lasso on the same data in the same run.

Used by `crl bench structure`. tigramite and scikit-learn are needed for the comparison only (requirements/bench.txt);
without them their columns say so.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from crl_node.discovery.discover import discover as find
from crl_node.discovery.library import evaluate, parent_mask, polynomials
from crl_node.discovery.online import OnlineDiscovery
from crl_node.discovery.systems import System, dense_tail, lorenz96, random_polynomial, sparse_law
from crl_node.metrics import auprc, auroc, brier, calibration_error

Progress = Callable[[str], None]


def systems(seeds: list[int]) -> Iterator[tuple[str, int, System]]:
    """(family, seed, system): Lorenz-96 weakly to strongly forced, coarsely sampled, noisy; random polynomials."""
    for seed in seeds:
        for forcing in (8.0, 20.0, 40.0):
            for dt in (0.01, 0.05):
                yield f"lorenz96 F={forcing:g} dt={dt:g}", seed, lorenz96(seed=seed, forcing=forcing, dt=dt)
        yield "lorenz96 F=8 dt=0.1", seed, lorenz96(seed=seed, forcing=8.0, dt=0.1)
        yield "lorenz96 F=40 dt=0.1", seed, lorenz96(seed=seed, forcing=40.0, dt=0.1)
        yield "lorenz96 F=10 dt=0.05 noisy", seed, lorenz96(seed=seed, forcing=10.0, observation_noise=0.1)
        yield "lorenz96 F=10 dt=0.05 driven", seed, lorenz96(seed=seed, forcing=10.0, actions=2)
        yield "polynomial noise=.5", seed, random_polynomial(seed=seed, noise=0.5)
        yield "polynomial noise=.2 driven", seed, random_polynomial(seed=seed, noise=0.2, actions=2, forcing=1.0)
        yield "polynomial noise=.2 driven hard", seed, random_polynomial(seed=seed, noise=0.2, actions=2, forcing=3.0)
        yield "polynomial noise=.1 (weak)", seed, random_polynomial(seed=seed, noise=0.1)


def lasso(system: System) -> np.ndarray | None:
    """[D, D + A] largest standardised weight of a term with that parent; polynomials of degree 2, penalty by CV."""
    try:
        from sklearn.linear_model import LassoCV
    except ImportError:
        return None
    data = system.states if system.actions is None else np.hstack([system.states, system.actions])
    terms = polynomials(range(data.shape[1]), 2)
    phi = evaluate(terms, data)[:-1]
    phi = (phi - phi.mean(axis=0)) / np.maximum(phi.std(axis=0), 1e-12)
    mask = parent_mask(terms, data.shape[1])
    out = np.zeros((system.states.shape[1], data.shape[1]))
    for i, change in enumerate(np.diff(system.states, axis=0).T):
        fit = LassoCV(cv=5, max_iter=4000, tol=1e-3, alphas=30).fit(phi, (change - change.mean()) / change.std())
        out[i] = (np.abs(fit.coef_)[:, None] * mask).max(axis=0)
    return out


def pcmci(system: System) -> np.ndarray | None:
    """[D, D + A] -log10 p of the lag-1 link by PCMCI with partial correlation (Runge et al. 2019), tau_max 1."""
    try:
        from tigramite import data_processing
        from tigramite.independence_tests.parcorr import ParCorr
        from tigramite.pcmci import PCMCI
    except ImportError:
        return None
    data = system.states if system.actions is None else np.hstack([system.states, system.actions])
    size = system.states.shape[1]
    run = PCMCI(data_processing.DataFrame(data.copy()), ParCorr(), verbosity=0)
    result = run.run_pcmci(tau_min=1, tau_max=1, pc_alpha=0.05)
    return -np.log10(np.maximum(result["p_matrix"][:, :size, 1].T, 1e-300))


def scores(system: System, score: np.ndarray | None, probability: bool = False) -> dict[str, Any] | None:
    """AUROC and AUPRC over all pairs and without the diagonal; for probabilities also Brier and calibration error."""
    if score is None:
        return None
    graph = system.graph
    off = ~np.eye(*graph.shape, dtype=bool)
    out: dict[str, Any] = {
        "auroc": auroc(graph, score), "auroc_off_diagonal": auroc(graph[off], score[off]),
        "auprc": auprc(graph, score),
    }  # fmt: skip
    if probability:
        out |= {"brier": brier(graph, score), "ece": calibration_error(graph, score)}
    return out


def discover(quick: bool, say: Progress) -> dict[str, Any]:
    """The part of `crl bench structure`: dynamics, and core and tail told apart."""
    seeds = [0] if quick else [0, 1, 2]
    families = 3 if quick else None
    return {"dynamics": dynamics(seeds, say, families), "core_and_tail": core_and_tail(seeds, say)}


def dynamics(seeds: list[int], progress: Progress, families: int | None = None) -> dict[str, Any]:
    """Every system (or the first `families`) with ours, PCMCI and lasso: scores and CPU seconds; summary by family."""
    rows = []
    for family, seed, system in islice(systems(seeds), families):
        row: dict[str, Any] = {"family": family, "seed": seed, "rows": len(system.states)}
        for name, method in (("ours", None), ("pcmci", pcmci), ("lasso", lasso)):
            began = time.process_time()
            if method is None:
                found = find(system.states, system.actions, seed=seed)
                row[name] = scores(system, found.inclusion, probability=True)
                row["order"] = max(found.orders, key=lambda o: found.orders[o])
            else:
                row[name] = scores(system, method(system))
            row[f"{name}_cpu_s"] = time.process_time() - began
        rows.append(row)
        shown = " ".join(
            f"{n} {row[n]['auroc']:.3f}" if row[n] else f"{n} not installed" for n in ("ours", "pcmci", "lasso")
        )
        progress(f"{family} seed {seed}: AUROC {shown}")
    summary = {}
    for family in dict.fromkeys(row["family"] for row in rows):
        mine = [row for row in rows if row["family"] == family]
        summary[family] = {
            name: {
                key: {"median": float(np.median(values)), "worst": float(np.min(values))}
                for key in ("auroc", "auroc_off_diagonal")
                if (values := [row[name][key] for row in mine if row[name]])
            }
            for name in ("ours", "pcmci", "lasso")
        }
    return {"rows": rows, "summary": summary}


def core_and_tail(seeds: list[int], progress: Progress) -> dict[str, Any]:
    """A truly sparse law and one with a dense tail: shares and the probability that there is a tail."""
    rows = []
    for seed in seeds:
        for make in (sparse_law, dense_tail):
            system = make(seed=seed)
            found = find(system.states, seed=seed)
            share = found.shares.mean(axis=0)
            rows.append({
                "system": system.name, "seed": seed, "true": system.facts,
                "found": {part: {"mean": m, "low": lo, "high": hi}
                          for part, (m, lo, hi) in zip(("core", "tail", "noise"), share.tolist(), strict=True)},
                "tail_probability": [h["tail_probability"] for h in found.hypers],
            })  # fmt: skip
            true = system.facts["tail"]
            progress(f"{system.name} seed {seed}: tail {share[1, 0]:.3f} of the variance (true {true:.3f})")
    return {"rows": rows}


def growth(quick: bool, say: Progress) -> dict[str, Any]:
    """The part of `crl bench structure`: a long stream with many variables and terms."""
    return stream(say, variables=20, terms=200, steps=2_000) if quick else stream(say)


def stream(progress: Progress, *, variables: int = 50, terms: int = 1000, steps: int = 100_000) -> dict[str, Any]:
    """A stream of D variables with F candidate terms: CPU time of a step and of a refresh, memory, over many steps.

    CPU time of one thread, so that other load on the machine does not count.
    """
    rng = np.random.default_rng(0)
    law = np.zeros((variables, variables))
    for i in range(variables):
        law[i, rng.choice(variables, 3, replace=False)] = rng.uniform(0.1, 0.3, 3) * rng.choice([-1.0, 1.0], 3)
        law[i, i] = -0.4
    online = OnlineDiscovery(variables, terms=polynomials(range(variables), 2)[:terms])
    x, milliseconds, refreshes = np.zeros(variables), [], []
    marks = {int(m) for m in np.geomspace(200, steps - 1, 12)} | {steps - 1}
    for t in range(steps):
        began = time.process_time()
        online.observe(x)
        milliseconds.append(1e3 * (time.process_time() - began))
        x = x + law @ x + 0.3 * rng.standard_normal(variables)
        if t in marks:
            began = time.process_time()
            online.refresh()
            refreshes.append({
                "step": t, "cpu_s": time.process_time() - began, "auroc": auroc(law != 0, online.inclusion),
                "least_eigenvalue": float(np.linalg.eigvalsh(online.moments.standardised().gram)[0]),
            })  # fmt: skip
            progress(f"step {t}: refresh {refreshes[-1]['cpu_s']:.2f} s, AUROC {refreshes[-1]['auroc']:.3f}")
    cpu = np.array(milliseconds)
    parts = np.array_split(cpu, 10)
    return {
        "variables": variables, "terms": terms, "steps": steps,
        "step_cpu_ms": {"p50": float(np.percentile(cpu, 50)), "p99": float(np.percentile(cpu, 99)),
                        "max": float(cpu.max()), "mean": float(cpu.mean())},
        "step_cpu_ms_by_tenth": [float(part.mean()) for part in parts],
        "refresh_cpu_s": {"first": refreshes[0]["cpu_s"], "worst_later": max(r["cpu_s"] for r in refreshes[1:])},
        "refreshes": refreshes,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "statistics_mb": online.moments.gram.nbytes / 1e6,
    }  # fmt: skip
