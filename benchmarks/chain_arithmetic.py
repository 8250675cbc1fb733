"""The arithmetic of one step of the chains in numpy and in torch, one thread each: which one should carry them?

`python benchmarks/chain_arithmetic.py`: processor milliseconds of B inverses [m, m], the product with [m, F] and the
two contractions of `structure/neighbours.py`, median of 50, for several sizes.
"""

from __future__ import annotations

import json
import time

import numpy as np
import torch


def measure(states: int, members: int, columns: int, repeats: int = 50) -> dict[str, float]:
    """Median processor ms of the same batch in both libraries."""
    rng = np.random.default_rng(0)
    half = rng.standard_normal((states, members, 2 * members))
    inner = half @ half.transpose(0, 2, 1) + np.eye(members)
    cross, own = rng.standard_normal((states, members, columns)), rng.standard_normal((states, members))
    inner_t, cross_t, own_t = (torch.from_numpy(a) for a in (inner, cross, own))
    spent: dict[str, list[float]] = {"numpy": [], "torch": []}
    for _ in range(repeats):
        began = time.process_time()
        solved = np.linalg.inv(inner) @ cross
        np.einsum("bmf,bmf->bf", cross, solved)
        np.einsum("bm,bmf->bf", own, solved)
        spent["numpy"].append(1e3 * (time.process_time() - began))
        began = time.process_time()
        solved_t = torch.linalg.inv(inner_t) @ cross_t
        torch.einsum("bmf,bmf->bf", cross_t, solved_t)
        torch.einsum("bm,bmf->bf", own_t, solved_t)
        spent["torch"].append(1e3 * (time.process_time() - began))
    return {name: float(np.median(values)) for name, values in spent.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for size in ((8, 4, 14), (80, 4, 14), (400, 8, 65), (200, 6, 96)):
        print(json.dumps({"states, members, columns": size, **measure(*size)}))
