"""Hash and shape checks of a `Posterior`: what the learner stamps, the planner checks."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace

import numpy as np

from crl_node.data import MAX_SLOTS, Posterior

#: Terms and particles in a planner posterior; the ONNX graphs in `models/` have these shapes.
PLANNER_TERMS = 96
PARTICLES = 16


class PosteriorError(ValueError):
    """A posterior that must not be used; the text says what is wrong with it."""


def posterior_hash(posterior: Posterior) -> str:
    """sha256 hex over the name, dtype, shape and bytes of every field but `hash` itself."""
    digest = hashlib.sha256()
    for field in fields(posterior):
        if field.name == "hash":
            continue
        array = np.ascontiguousarray(getattr(posterior, field.name))
        digest.update(f"{field.name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def sealed(posterior: Posterior) -> Posterior:
    """The same posterior with its `hash` filled in."""
    return replace(posterior, hash=posterior_hash(posterior))


def check(posterior: Posterior, *, terms: int = PLANNER_TERMS, particles: int = PARTICLES) -> None:
    """Raise `PosteriorError` unless shapes, ranges, finiteness and hash are right."""
    s, p, k = MAX_SLOTS, terms, particles
    shapes = {
        "slot_ids": (s,), "slot_extent": (s,), "term_kind": (p,), "term_target": (p,),
        "term_parent": (p,), "term_length": (p,), "term_probability": (p,), "weight_mean": (p,),
        "weight_variance": (p,),
        "weight_set_mean": (k, p), "weight_sample": (k, p), "particle_log_weight": (k,),
        "noise_std": (s, 2, 2), "wall": (4,),
    }  # fmt: skip
    for name, shape in shapes.items():
        array = np.asarray(getattr(posterior, name))
        if array.shape != shape:
            raise PosteriorError(
                f"posterior version {posterior.version}: '{name}' has shape {array.shape}, "
                f"expected {shape}; keeping the previous model"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise PosteriorError(
                f"posterior version {posterior.version}: '{name}' holds "
                f"{int((~np.isfinite(array)).sum())} non-finite values; keeping the previous model"
            )
    for name, low in (("term_target", 0), ("term_parent", -2)):
        array = getattr(posterior, name)
        if array.min(initial=0) < low or array.max(initial=0) >= s:
            raise PosteriorError(
                f"posterior version {posterior.version}: '{name}' names slot indices outside "
                f"[{low}, {s}); keeping the previous model"
            )
    if not np.isfinite(posterior.dt) or posterior.dt <= 0:
        raise PosteriorError(f"posterior version {posterior.version}: dt is {posterior.dt} s, must be > 0")
    if (posterior.weight_variance < 0).any():
        raise PosteriorError(f"posterior version {posterior.version}: 'weight_variance' must be >= 0")
    if (posterior.noise_std <= 0).any():
        raise PosteriorError(f"posterior version {posterior.version}: 'noise_std' must be > 0")
    actual = posterior_hash(posterior)
    if posterior.hash != actual:
        raise PosteriorError(
            f"posterior version {posterior.version}: hash is {posterior.hash[:12]}…, the tensors hash to "
            f"{actual[:12]}…; keeping the previous model"
        )
