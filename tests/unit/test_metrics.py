"""Every score against a case computed by hand."""

import numpy as np
import pytest

from crl_node.metrics import (
    auprc,
    auroc,
    brier,
    calibration_error,
    match,
    pooled_variance,
    r2,
    r2_given_variance,
    structural_hamming_distance,
)


def test_auroc_counts_pairs_in_the_right_order() -> None:
    # Positives .9 .4, negatives .6 .1: of 4 pairs, 3 are in order.
    assert auroc([1, 0, 1, 0], [0.9, 0.6, 0.4, 0.1]) == pytest.approx(3 / 4)


def test_auroc_counts_a_tie_as_half() -> None:
    # Positives .5 .8, negatives .5 .2: three pairs in order and one tie.
    assert auroc([1, 1, 0, 0], [0.5, 0.8, 0.5, 0.2]) == pytest.approx(3.5 / 4)


def test_auroc_of_one_class_is_not_defined() -> None:
    assert auroc([1, 1], [0.1, 0.2]) is None
    assert auroc([], []) is None


def test_auprc_is_the_precision_at_each_recall_gained() -> None:
    # In order of score: hit, miss, hit. Recall goes up by 1/2 at precision 1 and by 1/2 at precision 2/3.
    assert auprc([1, 0, 1], [0.9, 0.8, 0.7]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_auprc_takes_tied_scores_as_one_threshold() -> None:
    # All tied: one threshold with precision 1/4 and recall 1.
    assert auprc([1, 0, 0, 0], [0.3, 0.3, 0.3, 0.3]) == pytest.approx(0.25)
    assert auprc([0, 0], [0.3, 0.3]) is None


def test_brier_is_the_mean_squared_error_of_probabilities() -> None:
    assert brier([1, 0], [0.8, 0.4]) == pytest.approx((0.04 + 0.16) / 2)


def test_calibration_error_weights_bins_by_their_entries() -> None:
    # Bin [.2, .3): mean .25, 0 of 1 right: .25. Bin [.8, .9): mean .85, 1 of 3 right: .85 - 1/3. Weights 1/4, 3/4.
    error = calibration_error([0, 1, 0, 0], [0.25, 0.84, 0.85, 0.86])
    assert error == pytest.approx(0.25 * 0.25 + 0.75 * (0.85 - 1 / 3))


def test_calibration_error_of_certainty_is_in_the_last_bin() -> None:
    assert calibration_error([1, 1], [1.0, 1.0]) == pytest.approx(0.0)


def test_scores_that_are_not_finite_are_refused_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="score holds 1 non-finite entries"):
        auroc([1, 0], [np.nan, 0.2])
    with pytest.raises(ValueError, match="truth has 1 entries, score has 2"):
        brier([1], [0.1, 0.2])


def test_r2_of_points_pools_their_axes() -> None:
    truth = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]  # variance 1 + 1
    estimate = [[0.1, 0.0], [2.0, 0.1], [0.0, 2.0], [2.0, 2.0]]  # mean squared error .02 / 4
    assert pooled_variance(truth) == pytest.approx(2.0)
    assert r2(truth, estimate) == pytest.approx(1 - 0.005 / 2)
    assert r2_given_variance(truth, estimate, 0.5) == pytest.approx(1 - 0.005 / 0.5)


def test_r2_is_zero_for_the_mean_and_undefined_without_variance() -> None:
    assert r2([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == pytest.approx(0.0)
    assert r2([1.0, 1.0], [1.0, 1.0]) is None
    assert r2(np.zeros((0, 2)), np.zeros((0, 2))) is None


def test_structural_hamming_distance_counts_a_turned_edge_once() -> None:
    truth = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]])  # 0 -> 1 -> 2
    turned = np.array([[0, 0, 0], [1, 0, 1], [0, 0, 0]])  # 1 -> 0, 1 -> 2
    both_ways = np.array([[0, 1, 0], [1, 0, 1], [0, 0, 0]])
    assert structural_hamming_distance(truth, truth) == 0
    assert structural_hamming_distance(truth, turned) == 1
    assert structural_hamming_distance(truth, both_ways) == 1
    assert structural_hamming_distance(truth, np.zeros((3, 3))) == 2
    assert structural_hamming_distance(truth, np.eye(3) + truth) == 0


def test_matching_takes_the_least_total_cost_and_not_the_nearest_first() -> None:
    # Nearest first would take (0, 0) for 1 and pay 10 for the rest; the least total is 2 + 3.
    assert match([[1.0, 2.0], [3.0, 10.0]]) == {0: 1, 1: 0}


def test_matching_leaves_hopeless_pairs_apart() -> None:
    assert match([[0.1, np.inf], [0.2, np.inf]]) == {0: 0}
    assert match([[0.1, 5.0], [5.0, 5.0]], limit=1.0) == {0: 0}
    assert match(np.zeros((0, 3))) == {}
