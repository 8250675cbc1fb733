"""Other planners for `crl bench planner`: mbrl-lib's iCEM over a PETS-like ensemble; it and pytorch_mppi on our model.

Nothing here is needed to run the project; what is not installed is left out by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Actions = NDArray[np.float32]  # [N, H, 2] m/s
#: Gives N action sequences their scores [N] nats.
Score = Callable[[Actions], NDArray[np.float32]]
#: Networks of the ensemble, layers and width of each: PETS (Chua et al. 2018) as mbrl-lib configures it.
NETWORKS, LAYERS, WIDTH = 5, 4, 200


def missing() -> list[str]:
    """Packages that are not installed."""
    return [name for name in ("mbrl", "pytorch_mppi") if importlib.util.find_spec(name) is None]


def _icem(candidates: int, horizon: int, iterations: int, elites: int, speed: float) -> Any:
    import torch
    from mbrl.planning.trajectory_opt import ICEMOptimizer

    bound = np.full((horizon, 2), speed)
    # As in mbrl-lib's configuration, but without its decay: N candidates in each iteration, as ours.
    return ICEMOptimizer(
        num_iterations=iterations, elite_ratio=elites / candidates, population_size=candidates,
        population_decay_factor=1.0, colored_noise_exponent=2.0, lower_bound=(-bound).tolist(),
        upper_bound=bound.tolist(), keep_elite_frac=0.3, alpha=0.1, device=torch.device("cpu"),
    )  # fmt: skip


def ensemble_icem(
    *, slots: int, candidates: int, horizon: int, iterations: int, elites: int, speed: float, particles: int
) -> Callable[[], None]:
    """One plan of mbrl-lib: iCEM over an ensemble of 5 probabilistic networks, `particles` roll-outs a candidate.

    mbrl-lib's own configuration has 20 particles; 5 is each network once, the least that uses them all.
    Observation: position and velocity of every slot. The reward is a mere sum: the networks take the time.
    """
    import gymnasium
    import mbrl.models
    import torch

    size = 4 * slots
    ensemble = mbrl.models.GaussianMLP(
        size + 2, size, torch.device("cpu"), num_layers=LAYERS, ensemble_size=NETWORKS, hid_size=WIDTH,
        deterministic=False, propagation_method="fixed_model",
    )  # fmt: skip
    model = mbrl.models.OneDTransitionRewardModel(ensemble, target_is_delta=True, learned_rewards=False)
    space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    env = SimpleNamespace(observation_space=space, action_space=gymnasium.spaces.Box(-1, 1, (2,), np.float32))
    plan = mbrl.models.ModelEnv(
        env, model, lambda _, o: torch.zeros(len(o), 1, dtype=torch.bool), lambda _, o: o.sum(1, keepdim=True),
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    optimiser = _icem(candidates, horizon, iterations, elites, speed)
    start, mean = np.zeros(size, np.float32), torch.zeros(horizon, 2)

    def call() -> None:
        with torch.no_grad():
            optimiser.optimize(lambda a: plan.evaluate_action_sequences(a, start, particles), x0=mean)

    return call


def icem_on(score: Score, *, candidates: int, horizon: int, iterations: int, elites: int, speed: float) -> Actions:
    """The best sequence [H, 2] that mbrl-lib's iCEM finds with our model as its objective, from nothing."""
    import torch

    optimiser = _icem(candidates, horizon, iterations, elites, speed)
    best = optimiser.optimize(lambda a: torch.from_numpy(score(a.numpy())), x0=torch.zeros(horizon, 2))
    return np.asarray(best.numpy(), np.float32)


def mppi_on(score: Score, *, candidates: int, horizon: int, iterations: int, speed: float, warmth: float) -> Actions:
    """The sequence [H, 2] of pytorch_mppi after `iterations` updates, with our model as its cost. `warmth` nats."""
    import torch
    from pytorch_mppi import MPPI

    def cost(_: Any, actions: Any) -> Any:  # the whole sequences at once
        return -torch.from_numpy(score(np.ascontiguousarray(actions[0].numpy(), np.float32)))

    limit = torch.full((2,), speed)
    planner = MPPI(
        lambda state, _: state, lambda state, _: torch.zeros(len(state)), 1, torch.eye(2) * (0.5 * speed) ** 2,
        num_samples=candidates, horizon=horizon, lambda_=warmth, u_min=-limit, u_max=limit, terminal_state_cost=cost,
        U_init=torch.zeros(horizon, 2),
    )  # fmt: skip
    for _ in range(iterations):
        planner.command(torch.zeros(1), shift_nominal_trajectory=False)
    return np.asarray(planner.U.numpy(), np.float32)
