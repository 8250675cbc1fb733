"""Does Stein variational gradient descent earn its place for the weights of a term set? Against exact draws.

`python benchmarks/stein_weights.py [--particles 64] [--out FILE]`. Given a set, the posterior of the weights is a
Gaussian (known noise) or Student t (unknown noise) in closed form (`weights_given`). SVGD (Liu & Wang 2016, eq. 8, RBF
kernel with the median bandwidth, Adam) moves K particles towards it. Baselines in the same run: K exact draws, and the
same draws shifted and scaled so that their mean and covariance are exact. Processor seconds of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from crl_node.data import Array
from crl_node.structure.draws import DrawConfig, draw
from crl_node.structure.evidence import weights_given


def svgd(mean: Array, covariance: Array, count: int, steps: int, rng: np.random.Generator, rate: float = 0.05) -> Array:
    """[count, m] particles after `steps` of SVGD on N(mean, covariance), started from the prior N(0, 1)."""
    precision = np.linalg.inv(covariance)
    x = rng.standard_normal((count, len(mean)))
    first, second = np.zeros_like(x), np.zeros_like(x)
    for step in range(1, steps + 1):
        gap = x[:, None] - x[None]
        square = np.square(gap).sum(axis=2)
        width = max(float(np.median(square)) / np.log(count + 1.0), 1e-12)
        kernel = np.exp(-square / width)
        score = -(x - mean) @ precision
        direction = (kernel @ score + (2.0 / width) * (kernel[:, :, None] * gap).sum(axis=1)) / count
        first, second = 0.9 * first + 0.1 * direction, 0.999 * second + 0.001 * direction**2
        x = x + rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-12)
    return x


def errors(x: Array, mean: Array, covariance: Array) -> tuple[float, float]:
    """Of particles whitened by the true posterior: root mean square of the mean, of the covariance's entries."""
    root = np.linalg.inv(np.linalg.cholesky(covariance))
    white = (x - mean) @ root.T
    spread = np.cov(white.T).reshape(len(mean), len(mean)) - np.eye(len(mean))
    return float(np.sqrt(np.mean(white.mean(axis=0) ** 2))), float(np.sqrt(np.mean(spread**2)))


def matched(mean: Array, covariance: Array, count: int, rng: np.random.Generator) -> Array:
    """[count, m] normal draws, whitened by their own moments and coloured by the exact ones. count > m."""
    z = rng.standard_normal((count, len(mean)))
    z -= z.mean(axis=0)
    own = np.linalg.cholesky(np.cov(z.T).reshape(len(mean), len(mean)))
    return np.asarray(mean + z @ np.linalg.inv(own).T @ np.linalg.cholesky(covariance).T)


def measure(
    *, particles: int = 64, problems: int = 8, sizes: tuple[int, ...] = (2, 5, 10), seed: int = 0
) -> dict[str, Any]:
    """Median errors and seconds over problems, by number of weights."""
    rows = []
    for size in sizes:
        found: dict[str, list[tuple[float, float, float]]] = {}
        for number in range(problems):
            rng = np.random.default_rng([seed, size, number])
            problem = draw(rng, DrawConfig(columns=12, rows=(60, 300))).problem
            mean, covariance = weights_given(problem, np.sort(rng.permutation(12)[:size]))
            began = time.process_time()
            exact = rng.multivariate_normal(mean, covariance, particles, method="cholesky")
            found.setdefault("exact draws", []).append((*errors(exact, mean, covariance), time.process_time() - began))
            began = time.process_time()
            same = matched(mean, covariance, particles, rng)
            found.setdefault("draws of exact moments", []).append(
                (*errors(same, mean, covariance), time.process_time() - began)
            )
            for steps in (100, 500, 2000):
                began = time.process_time()
                moved = svgd(mean, covariance, particles, steps, rng)
                spent = time.process_time() - began
                found.setdefault(f"SVGD {steps} steps", []).append((*errors(moved, mean, covariance), spent))
        for name, values in found.items():
            median = np.median(values, axis=0)
            rows.append({"weights": size, "method": name, "mean_error": float(median[0]),
                         "covariance_error": float(median[1]), "seconds": float(median[2])})  # fmt: skip
    return {"particles": particles, "problems": problems, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--particles", type=int, default=64)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    result = measure(particles=arguments.particles)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text)


if __name__ == "__main__":
    main()
