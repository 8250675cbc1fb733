"""Scores that the evaluation reports; each is pinned by a case computed by hand in the tests."""

from crl_node.metrics.classification import auprc, auroc, brier, calibration_error
from crl_node.metrics.graphs import structural_hamming_distance
from crl_node.metrics.matching import match
from crl_node.metrics.regression import pooled_variance, r2, r2_given_variance

__all__ = [
    "auprc",
    "auroc",
    "brier",
    "calibration_error",
    "match",
    "pooled_variance",
    "r2",
    "r2_given_variance",
    "structural_hamming_distance",
]
