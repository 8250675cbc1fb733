"""The dense tail: many small smooth effects of the local state that no term of the library names.

Random Fourier features (Rahimi & Recht 2007, Random Features for Large-Scale Kernel Machines) of one slot's local
state with a tight weight prior. The tail never competes with the core for the evidence of a term: it is fitted to
what the core leaves, and the share of variance it explains answers "sparse core or dense tail?" for that world.
"""

from __future__ import annotations

import numpy as np

from crl_node.data import BODY, Array

#: Features per axis of motion.
TAIL_FEATURES = 16
#: m per step, prior standard deviation of the whole tail function on one axis.
TAIL_STD = 0.001
#: Length scales of the local state: position 0.2 m, offset from the body 0.1 m, velocity 0.1 m/s.
_SCALES = np.array([0.2, 0.2, 0.1, 0.1, 0.1, 0.1])

_rng = np.random.default_rng(20240607)
_FREQUENCY = _rng.normal(size=(TAIL_FEATURES, len(_SCALES))) / _SCALES  # [T, 6] rad per unit
_PHASE = _rng.uniform(0.0, 2.0 * np.pi, TAIL_FEATURES)  # [T] rad


def tail_features(state: Array, body_step: Array) -> Array:
    """psi [..., S, 2, 2 T] m per step: block-diagonal over the axes, unit weight prior. `state` [..., S, 5]."""
    offset = np.clip(state[..., :2] - (state[..., BODY, :2] + body_step)[..., None, :], -0.2, 0.2)
    local = np.concatenate([state[..., :2], offset, state[..., 2:4]], axis=-1)
    wave = TAIL_STD * np.sqrt(2.0 / TAIL_FEATURES) * np.cos(local @ _FREQUENCY.T + _PHASE)  # [S, T]
    out = np.zeros((*state.shape[:-1], 2, 2 * TAIL_FEATURES))
    out[..., 0, :TAIL_FEATURES] = wave
    out[..., 1, TAIL_FEATURES:] = wave
    return out
