"""Scores that evaluation and benchmarks report; each is pinned by a case computed by hand in the tests.

docs/metrics.md says what each is, where it comes from and where it is used.
"""

from crl_node.metrics.classification import auprc, auroc, brier, calibration_error, reliability
from crl_node.metrics.graphs import structural_hamming_distance
from crl_node.metrics.matching import match
from crl_node.metrics.posteriors import inclusion_divergence, jensen_shannon, total_variation
from crl_node.metrics.regression import pooled_variance, r2, r2_given_variance
from crl_node.metrics.representation import (
    Dci,
    DiagSep,
    dci,
    dci_of_importance,
    mean_correlation_coefficient,
    r2_diag_sep,
    r2_matrix,
    spearman,
)

__all__ = [
    "Dci",
    "DiagSep",
    "auprc",
    "auroc",
    "brier",
    "calibration_error",
    "dci",
    "dci_of_importance",
    "inclusion_divergence",
    "jensen_shannon",
    "match",
    "mean_correlation_coefficient",
    "pooled_variance",
    "r2",
    "r2_diag_sep",
    "r2_given_variance",
    "r2_matrix",
    "reliability",
    "spearman",
    "structural_hamming_distance",
    "total_variation",
]
