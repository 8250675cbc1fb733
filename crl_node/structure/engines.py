"""The engines by name: for parameters, benchmarks and the command line."""

from __future__ import annotations

from collections.abc import Callable

from crl_node.structure.engine import Engine


def _exact(seed: int) -> Engine:
    from crl_node.structure.exact import ExactEngine

    return ExactEngine()


def _greedy(seed: int) -> Engine:
    from crl_node.structure.greedy import GreedyEngine

    return GreedyEngine()


def _mcmc(seed: int) -> Engine:
    from crl_node.structure.mcmc import McmcEngine

    return McmcEngine(seed)


def _particles(seed: int) -> Engine:
    from crl_node.structure.particles import ParticleEngine

    return ParticleEngine(seed)


def _gflownet(seed: int) -> Engine:
    # torch costs the process 200 MB: only who asks for this engine pays.
    from crl_node.structure.gflownet import GFlowNetEngine

    return GFlowNetEngine(seed)


def _amortised(seed: int) -> Engine:
    from crl_node.structure.amortised import AmortisedEngine

    return AmortisedEngine()


def _amortised_raw(seed: int) -> Engine:
    from crl_node.structure.amortised import AmortisedEngine

    return AmortisedEngine(corrected=False)


#: Name: (what it is in a line, how it is made from a seed).
ENGINES: dict[str, tuple[str, Callable[[int], Engine]]] = {
    "exact": ("every set, or all but a bounded mass; about 24 columns", _exact),
    "greedy": ("best set by search, then all sets around it; of many far modes it keeps one", _greedy),
    "mcmc": ("parallel informed jump chains", _mcmc),
    "particles": ("sequential Monte Carlo, 64 particles", _particles),
    "gflownet": ("a policy trained by trajectory balance", _gflownet),
    "amortised": ("the shipped network, corrected by exact evidence", _amortised),
    "amortised_raw": ("the shipped network as it is", _amortised_raw),
}


def make_engine(name: str, seed: int = 0) -> Engine:
    """The engine called `name`. ValueError for a name that is none; ModelError where a model file is missing."""
    if name not in ENGINES:
        raise ValueError(f"there is no structure engine '{name}'; there are {', '.join(ENGINES)}")
    return ENGINES[name][1](seed)
