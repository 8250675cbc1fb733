"""How well estimated latents stand for the true variables, one for one: R² diag/sep, MCC, DCI, Spearman."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from crl_node.metrics.matching import match


@dataclass(frozen=True)
class DiagSep:
    """R² of the matched pairs and of the strongest unmatched ones."""

    diag: float  # 1 best: each latent determines its variable
    sep: float  # 0 best: each latent determines nothing else
    pairs: dict[int, int]  # latent: true variable


@dataclass(frozen=True)
class Dci:
    """Disentanglement, completeness, informativeness; 1 best."""

    disentanglement: float
    completeness: float
    informativeness: float


def _table(values: ArrayLike, name: str) -> np.ndarray:
    table = np.asarray(values, float)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{name} has shape {table.shape}, it must be [rows, variables]")
    if not np.isfinite(table).all():
        raise ValueError(f"{name} holds {int((~np.isfinite(table)).sum())} non-finite entries")
    return table


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson correlations [L, D] of columns; 0 with a constant column."""
    a, b = one - one.mean(axis=0), other - other.mean(axis=0)
    scale = np.sqrt(np.square(a).sum(axis=0))[:, None] * np.sqrt(np.square(b).sum(axis=0))
    return np.asarray(np.divide(a.T @ b, scale, out=np.zeros_like(scale), where=scale > 0.0))


def r2_matrix(
    latent: ArrayLike, truth: ArrayLike, *, regressor: Literal["linear", "boosting"] = "linear", seed: int = 0
) -> np.ndarray:
    """[L, D] R² with which each latent [T, L] alone predicts each true variable [T, D].

    linear: squared Pearson correlation, in sample. boosting: scikit-learn's histogram gradient boosting, trained on a
    random half and scored on the other (negative values are set to 0), for latents that are nonlinear functions of the
    truth. ValueError when rows differ or entries are not finite.
    """
    z, x = _table(latent, "latent"), _table(truth, "truth")
    if len(z) != len(x):
        raise ValueError(f"latent has {len(z)} rows, truth has {len(x)}; they must be as many")
    if regressor == "linear":
        return np.asarray(np.square(_correlation(z, x)))
    from sklearn.ensemble import HistGradientBoostingRegressor

    order = np.random.default_rng(seed).permutation(len(z))
    train, test = order[: len(z) // 2], order[len(z) // 2 :]
    out = np.zeros((z.shape[1], x.shape[1]))
    for i in range(z.shape[1]):
        for j in range(x.shape[1]):
            model = HistGradientBoostingRegressor(random_state=seed).fit(z[train, i : i + 1], x[train, j])
            out[i, j] = max(0.0, float(model.score(z[test, i : i + 1], x[test, j])))
    return out


def r2_diag_sep(matrix: ArrayLike) -> DiagSep:
    """R² diag and R² sep of an R² matrix [latents L, true variables D].

    Latents are matched to variables one to one for the largest total R² (Hungarian). diag: mean R² of the matched
    pairs. sep: mean over matched latents of their largest R² with a variable that is not theirs (0 when there is no
    other). As in the benchmarks of CITRIS and BISCUIT (Lippe et al. 2022, 2023), where the matching comes from the
    intervention targets instead.
    """
    r2 = _table(matrix, "the R² matrix")
    pairs = match(1.0 - r2 + max(0.0, float(r2.max()) - 1.0))
    diag = float(np.mean([r2[i, j] for i, j in pairs.items()]))
    others = [np.delete(r2[i], j).max(initial=0.0) for i, j in pairs.items()]
    return DiagSep(diag, float(np.mean(others)), pairs)


def mean_correlation_coefficient(
    latent: ArrayLike, truth: ArrayLike, *, kind: Literal["pearson", "spearman"] = "pearson"
) -> float:
    """MCC: mean |correlation| of latents [T, L] and true variables [T, D] matched one to one for the largest sum.

    Hyvarinen & Morioka 2016; blind to order, sign and scale, with `spearman` to any monotone change of a latent.
    """
    z, x = _table(latent, "latent"), _table(truth, "truth")
    if len(z) != len(x):
        raise ValueError(f"latent has {len(z)} rows, truth has {len(x)}; they must be as many")
    if kind == "spearman":
        z, x = rankdata(z, axis=0), rankdata(x, axis=0)
    strength = np.abs(_correlation(z, x))
    pairs = match(1.0 - np.minimum(strength, 1.0))
    return float(np.mean([strength[i, j] for i, j in pairs.items()]))


def spearman(one: ArrayLike, other: ArrayLike) -> float | None:
    """Rank correlation of two series [T], ties at their mean rank. None when one of them does not vary."""
    a, b = _table(one, "the first series"), _table(other, "the second series")
    if a.shape != b.shape or a.shape[1] != 1:
        raise ValueError(f"rank correlation takes two series of equal length, got {a.shape} and {b.shape}")
    if np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return None
    return float(_correlation(rankdata(a, axis=0), rankdata(b, axis=0))[0, 0])


def dci_of_importance(importance: ArrayLike) -> tuple[float, float]:
    """Disentanglement and completeness of an importance matrix R >= 0 [latents L, true variables D].

    D_i = 1 - H(R_i. / sum_j R_ij) / log D, averaged with weights sum_j R_ij; C_j = 1 - H(R_.j / sum_i R_ij) / log L,
    averaged with weights sum_i R_ij (Eastwood & Williams 2018, section 2; the weights of C as in disentanglement_lib).
    With a single variable (latent) D (C) is 1. ValueError for negative entries or a matrix of zeros.
    """
    r = _table(importance, "the importance matrix")
    if (r < 0.0).any() or r.sum() == 0.0:
        raise ValueError(f"importances must be >= 0 and not all 0; the least is {r.min()}, the sum {r.sum()}")

    def score(rows: np.ndarray) -> float:
        total = rows.sum(axis=1)
        share = np.divide(rows, total[:, None], out=np.zeros_like(rows), where=total[:, None] > 0.0)
        entropy = -(share * np.log(np.where(share > 0.0, share, 1.0))).sum(axis=1)
        ceiling = np.log(rows.shape[1]) if rows.shape[1] > 1 else 1.0
        return float(((1.0 - entropy / ceiling) * total).sum() / total.sum())

    return score(r), score(r.T)


def dci(latent: ArrayLike, truth: ArrayLike, *, seed: int = 0) -> Dci:
    """DCI of latents [T, L] against true variables [T, D] (Eastwood & Williams 2018).

    Each variable is predicted from all latents by scikit-learn's gradient boosted trees on a random half of the rows;
    importances are the trees', informativeness is the mean R² on the other half (below 0 counts as 0).
    """
    from sklearn.ensemble import GradientBoostingRegressor

    z, x = _table(latent, "latent"), _table(truth, "truth")
    if len(z) != len(x):
        raise ValueError(f"latent has {len(z)} rows, truth has {len(x)}; they must be as many")
    order = np.random.default_rng(seed).permutation(len(z))
    train, test = order[: len(z) // 2], order[len(z) // 2 :]
    importance, explained = [], []
    for j in range(x.shape[1]):
        model = GradientBoostingRegressor(random_state=seed).fit(z[train], x[train, j])
        importance.append(model.feature_importances_)
        explained.append(max(0.0, float(model.score(z[test], x[test, j]))))
    disentanglement, completeness = dci_of_importance(np.stack(importance, axis=1))
    return Dci(disentanglement, completeness, float(np.mean(explained)))
