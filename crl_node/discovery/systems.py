"""Dynamical systems with a known graph, for tests and benchmarks of discovery. Everything comes from a seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crl_node.data import Array

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class System:
    """A recorded series with the truth behind it. Actions are held constant between two samples."""

    name: str
    states: Array  # [T, D]
    actions: Array | None  # [T, A]
    graph: Bools  # [D, D + A] effect by cause
    note: str = ""
    facts: dict[str, float] = field(default_factory=dict)


def lorenz96(
    *, seed: int, size: int = 10, steps: int = 1000, forcing: float = 8.0, dt: float = 0.05,
    process_noise: float = 0.0, observation_noise: float = 0.0, substeps: int = 10, actions: int = 0,
) -> System:  # fmt: skip
    """dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F (Lorenz 1996, Predictability: a problem partly solved).

    Integrated with Runge-Kutta 4, `substeps` a sample; `process_noise` is added once a sample (standard deviation per
    sample), `observation_noise` to what is recorded. `actions` random commands push the first variables, one each.
    """
    rng = np.random.default_rng([seed, 96])
    x = forcing + 0.5 * rng.standard_normal(size)
    commands = np.repeat(rng.standard_normal((steps // 5 + 1, max(actions, 1))), 5, axis=0)[:steps] * 0.5 * forcing

    def rate(state: Array, command: Array) -> Array:
        push = np.zeros(size)
        push[:actions] = command[:actions]
        return np.asarray(
            (np.roll(state, -1) - np.roll(state, 2)) * np.roll(state, 1) - state + forcing + push
        )

    out = np.zeros((steps, size))
    burn_in = int(20.0 / dt)
    for t in range(-burn_in, steps):
        command = commands[t] if t >= 0 else np.zeros(max(actions, 1))
        if t >= 0:
            out[t] = x
        x = runge_kutta(rate, x, command, dt, substeps) + process_noise * rng.standard_normal(size)
    graph = np.zeros((size, size + actions), bool)
    for i in range(size):
        graph[i, [i, (i + 1) % size, (i - 1) % size, (i - 2) % size]] = True
    graph[np.arange(actions), size + np.arange(actions)] = True
    observed = out + observation_noise * rng.standard_normal(out.shape)
    return System(
        f"lorenz96 F={forcing:g} dt={dt:g}", observed, commands[:, :actions] if actions else None, graph
    )


def runge_kutta(rate, state: Array, command: Array, dt: float, substeps: int) -> Array:  # type: ignore[no-untyped-def]
    """One sample of classical Runge-Kutta 4 in `substeps` pieces."""
    h = dt / substeps
    for _ in range(substeps):
        a = rate(state, command)
        b = rate(state + 0.5 * h * a, command)
        c = rate(state + 0.5 * h * b, command)
        d = rate(state + h * c, command)
        state = state + h / 6.0 * (a + 2.0 * b + 2.0 * c + d)
    return state


def random_polynomial(
    *, seed: int, size: int = 10, steps: int = 1000, terms: int = 3, noise: float = 0.1, actions: int = 0,
    forcing: float = 0.0, observation_noise: float = 0.0,
) -> System:  # fmt: skip
    """x_{t+1} = x_t + sparse polynomial of degree 2 + noise, each variable with about `terms` random terms and damping.

    `noise` is per sample; `forcing` scales the actions (random, held for a few samples), each driving two variables.
    Draws that do not stay bounded are drawn again.
    """
    rng = np.random.default_rng([seed, 2])
    for attempt in range(300):
        linear, product, graph = np.zeros((size, size)), np.zeros((size, size, size)), np.zeros((size, size + actions))
        np.fill_diagonal(linear, -rng.uniform(0.1, 0.4, size))
        for i in range(size):
            for _ in range(rng.integers(1, terms + 1)):
                j, k = rng.choice(size, 2, replace=False)
                # Strong forcing makes most draws explode: later ones are a little tamer.
                strength = rng.choice([-1.0, 1.0]) * rng.uniform(0.1, 0.3) * 0.99**attempt
                if rng.random() < 0.5:
                    linear[i, j] += strength if j != i else 0.0
                else:
                    product[i, j, k] += strength
        drive = np.zeros((size, actions))
        for a in range(actions):
            drive[rng.choice(size, 2, replace=False), a] = forcing * rng.uniform(0.5, 1.0, 2)
        commands = np.repeat(rng.standard_normal((steps // 4 + 1, max(actions, 1))), 4, axis=0)[:steps]
        x, out = 0.1 * rng.standard_normal(size), np.zeros((steps, size))
        for t in range(-100, steps):
            if t >= 0:
                out[t] = x
            command = commands[t, :actions] if t >= 0 else np.zeros(actions)
            change = linear @ x + np.einsum("ijk,j,k->i", product, x, x) + drive @ command
            x = x + change + noise * rng.standard_normal(size)
            if not np.abs(x).max() < 1e3:
                break
        if np.abs(x).max() < 1e3 and np.abs(out).max() < 50.0 * (1.0 + forcing):
            graph[:, :size] = (linear != 0) | (product != 0).any(axis=2) | (product != 0).any(axis=1)
            graph[:, size:] = drive != 0
            observed = out + observation_noise * rng.standard_normal(out.shape)
            return System(
                f"polynomial noise={noise:g}", observed, commands[:, :actions] if actions else None, graph > 0
            )
    raise ValueError(f"no bounded system found with seed {seed}, {size} variables and forcing {forcing}")


def sparse_law(*, seed: int, size: int = 6, steps: int = 1500, noise: float = 0.05) -> System:
    """A world whose law is truly sparse: two terms a variable, nothing else."""
    return _core_and_tail("sparse law", seed, size, steps, noise, tail=0.0)


def dense_tail(*, seed: int, size: int = 6, steps: int = 1500, noise: float = 0.05, tail: float = 0.06) -> System:
    """The same kind of sparse core plus many small effects: every variable on every other, smoothly."""
    return _core_and_tail("dense tail", seed, size, steps, noise, tail=tail)


def _core_and_tail(name: str, seed: int, size: int, steps: int, noise: float, *, tail: float) -> System:
    rng = np.random.default_rng([seed, 77])
    core = np.zeros((size, size))
    np.fill_diagonal(core, -0.3)
    for i in range(size):
        core[i, rng.choice(np.delete(np.arange(size), i))] = rng.choice([-1.0, 1.0]) * 0.3
    core *= min(1.0, 0.95 / np.abs(np.linalg.eigvals(np.eye(size) + core)).max())
    count = 12 * size
    # Wavelengths of about the spread of the states: effects that no few terms of a library imitate.
    frequency, phase = 6.0 * rng.standard_normal((count, size)), rng.uniform(0.0, 2.0 * np.pi, count)
    small = rng.standard_normal((size, count)) / np.sqrt(count)
    x, out = np.zeros(size), np.zeros((steps, size))
    shares = np.zeros((steps, 3))
    for t in range(-100, steps):
        if t >= 0:
            out[t] = x
        by_core = core @ x
        by_tail = tail * np.sqrt(2.0) * small @ np.cos(frequency @ x + phase)
        by_noise = noise * rng.standard_normal(size)
        if t >= 0:
            shares[t] = [np.square(part).mean() for part in (by_core, by_tail, by_noise)]
        x = x + by_core + by_tail + by_noise
    share = shares.mean(axis=0) / shares.mean(axis=0).sum()
    return System(
        name, out, None, core != 0, "edges: of the core",
        {"core": float(share[0]), "tail": float(share[1]), "noise": float(share[2])},
    )  # fmt: skip
