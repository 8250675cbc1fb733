"""One-step prediction by the world model, with what the particles disagree about and the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from crl_node.data import BODY, MAX_SLOTS, Array, Belief
from crl_node.mechanisms import terms
from crl_node.mechanisms.statistics import CONTACT, FREE
from crl_node.structure.variables import BRIGHTNESS_NOISE, MOTION_NOISE

if TYPE_CHECKING:
    from crl_node.world_model import WorldModel


def predict(model: WorldModel, belief: Belief, action: Array) -> tuple[Array, Array]:
    """`WorldModel.predict`: mean and std [S, 3] (m, m, 1 per step) of the slots of `belief`; `action` [2] m/s."""
    rows = model.registry.rows(belief)
    here = rows >= 0
    state, scene = model._state(belief, rows), model._scene(here)
    body_step = model.body_step(state, action, scene)
    phi_motion, phi_light = model._phi(state, action, body_step, scene)
    mean = np.zeros((MAX_SLOTS, 3))
    mean[:, :2] = np.einsum("sf,sfc->sc", model.motion.mean, phi_motion)
    mean[BODY, :2] = body_step
    mean[:, 2] = np.einsum("sf,sf->s", model.brightness.mean, phi_light)
    draws = np.concatenate(
        [
            np.einsum("skf,sfc->skc", model.motion.draw, phi_motion),
            np.einsum("skf,sf->sk", model.brightness.draw, phi_light)[..., None],
        ],
        axis=-1,
    )
    regime, light_regime = regimes(model, state, body_step, scene, phi_motion, phi_light)
    every = np.arange(MAX_SLOTS)
    noise = np.stack(
        [model.motion.noise[every, regime]] * 2 + [model.brightness.noise[every, light_regime]], axis=-1
    )
    std = np.sqrt(draws.var(axis=1) + np.square(noise))
    out_mean = np.zeros((len(belief.ids), 3))
    out_std = np.tile([MOTION_NOISE.std[FREE], MOTION_NOISE.std[FREE], BRIGHTNESS_NOISE.std[FREE]], (len(rows), 1))
    out_std = out_std[: len(belief.ids)] if len(belief.ids) <= len(rows) else np.resize(out_std, out_mean.shape)
    out_mean[rows[here]], out_std[rows[here]] = mean[here], std[here]
    return out_mean, out_std


def regimes(
    model: WorldModel, state: Array, body_step: Array, scene: terms.Scene, phi_motion: Array, phi_light: Array
) -> tuple[np.ndarray, np.ndarray]:
    """[S] noise regimes of motion and of brightness: contact for what is touched, changes or is expected to.

    `state` [S, 5], `body_step` [2] m, features [S, F, 2] and [S, F']. Expected to: the far ends of springs and
    wires. What acts from afar is known no more exactly than what pushes.
    """
    set_going = np.linalg.norm(np.einsum("sf,sfr->sr", model.motion.mean, phi_motion), axis=1) > terms.MOVING_STEP
    set_going[BODY] = False  # it is set going in every step, by the command
    switched = np.abs(np.einsum("sf,sf->s", model.brightness.mean, phi_light)) > terms.SWITCHING_STEP
    return (
        np.where(terms.disturbed(state, body_step, scene) | set_going, CONTACT, FREE),
        np.where(terms.in_contact(state, scene) | switched, CONTACT, FREE),
    )
