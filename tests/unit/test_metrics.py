"""Every score against a case computed by hand."""

import numpy as np
import pytest

from crl_node.metrics import (
    auprc,
    auroc,
    brier,
    calibration_error,
    dci,
    dci_of_importance,
    inclusion_divergence,
    jensen_shannon,
    match,
    mean_correlation_coefficient,
    pooled_variance,
    r2,
    r2_diag_sep,
    r2_given_variance,
    r2_matrix,
    reliability,
    spearman,
    structural_hamming_distance,
    total_variation,
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


class Named:
    """A posterior by name."""

    def __init__(self, sets: list[list[int]], probability: list[float]) -> None:
        self.sets = np.array(sets, bool)
        self.log_probability = np.log(probability)


def test_jensen_shannon_divergence_of_posteriors_over_sets_is_in_nats() -> None:
    one = Named([[0, 0], [0, 1]], [0.5, 0.5])
    other = Named([[1, 1], [0, 1]], [0.5, 0.5])  # half of the mass in common
    # m = (1/4, 1/2, 1/4): each KL is 1/2 log(1/2 / 1/4) + 1/2 log 1.
    assert jensen_shannon(one, other) == pytest.approx(0.5 * np.log(2))
    assert total_variation(one, other) == pytest.approx(0.5)
    assert jensen_shannon(one, one) == pytest.approx(0.0)


def test_posteriors_without_a_common_set_are_log_two_apart() -> None:
    one, other = Named([[0, 0]], [1.0]), Named([[0, 1], [1, 0]], [0.3, 0.7])
    assert jensen_shannon(one, other) == pytest.approx(np.log(2))
    assert total_variation(one, other) == pytest.approx(1.0)


def test_the_order_in_which_sets_are_named_does_not_matter() -> None:
    one = Named([[0, 0], [0, 1], [1, 1]], [0.2, 0.3, 0.5])
    other = Named([[1, 1], [0, 0], [0, 1]], [0.5, 0.2, 0.3])
    assert total_variation(one, other) == pytest.approx(0.0)


def test_posteriors_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="the second posterior sums to 0.5"):
        jensen_shannon(Named([[0]], [1.0]), Named([[0]], [0.5]))
    with pytest.raises(ValueError, match="over 1 and 2 columns"):
        total_variation(Named([[0]], [1.0]), Named([[0, 1]], [1.0]))


def test_inclusion_divergence_is_the_mean_over_columns() -> None:
    # Certain against even odds: m = (3/4, 1/4); 1/2 log(4/3) + 1/2 (1/2 log(2/3) + 1/2 log 2). The other: 0.
    expected = 0.5 * np.log(4 / 3) + 0.25 * np.log(2 / 3) + 0.25 * np.log(2)
    assert inclusion_divergence([1.0, 0.2], [0.5, 0.2]) == pytest.approx(expected / 2)
    assert inclusion_divergence([1.0], [0.0]) == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        inclusion_divergence([1.2], [0.0])


def test_a_reliability_diagram_shows_stated_and_true_shares() -> None:
    bins = reliability([0, 1, 1], [0.1, 0.7, 0.9], bins=2)
    np.testing.assert_allclose(bins.stated, [0.1, 0.8])
    np.testing.assert_allclose(bins.true, [0.0, 1.0])
    np.testing.assert_array_equal(bins.count, [1, 2])


def test_r2_diag_and_sep_match_latents_to_variables_first() -> None:
    # Latent 0 stands for variable 1 and latent 1 for variable 0; what is left over is .2 and .4.
    found = r2_diag_sep([[0.2, 0.9], [0.8, 0.4]])
    assert found.pairs == {0: 1, 1: 0}
    assert found.diag == pytest.approx((0.9 + 0.8) / 2)
    assert found.sep == pytest.approx((0.2 + 0.4) / 2)


def test_r2_diag_leaves_spare_latents_out() -> None:
    found = r2_diag_sep([[0.1, 0.1], [0.0, 0.9], [0.8, 0.3]])
    assert found.pairs == {1: 1, 2: 0}
    assert (found.diag, found.sep) == (pytest.approx(0.85), pytest.approx(0.15))


def test_the_r2_matrix_is_the_squared_correlation_and_boosting_sees_through_a_square() -> None:
    # Deviations (-1, 0, 1) against (-1, 2, -1) are uncorrelated, against (0, -1, 1): r = 1 / 2.
    matrix = r2_matrix([-1.0, 0.0, 1.0], np.array([[-1.0, 2.0, -1.0], [0.0, -1.0, 1.0]]).T)
    np.testing.assert_allclose(matrix, [[0.0, 0.25]], atol=1e-12)
    x = np.random.default_rng(0).uniform(-1, 1, 600)
    assert r2_matrix(x, x**2)[0, 0] < 0.05
    assert r2_matrix(x, x**2, regressor="boosting")[0, 0] > 0.95


def test_mcc_is_blind_to_order_sign_and_scale() -> None:
    truth = np.array([[-1.0, 0.0, 1.0], [1.0, -2.0, 1.0]]).T
    latent = np.stack([5.0 - 3.0 * truth[:, 1], truth[:, 0]], axis=1)
    assert mean_correlation_coefficient(latent, truth) == pytest.approx(1.0)
    # (-1, 0, 1) with (0, -1, 1) is 1/2; the other pair is exact.
    latent[:, 1] = [0.0, -1.0, 1.0]
    assert mean_correlation_coefficient(latent, truth) == pytest.approx(0.75)
    assert mean_correlation_coefficient(np.exp(truth[:, :1]), truth[:, :1], kind="spearman") == pytest.approx(1.0)


def test_rank_correlation_takes_ties_at_their_mean() -> None:
    # Ranks (1, 2, 3) and (1.5, 1.5, 3): deviations (-1, 0, 1) and (-.5, -.5, 1), r = 1.5 / sqrt(2 x 1.5).
    assert spearman([1.0, 2.0, 9.0], [4.0, 4.0, 5.0]) == pytest.approx(1.5 / np.sqrt(3.0))
    assert spearman([1.0, 2.0], [3.0, 3.0]) is None


def test_dci_of_an_importance_matrix() -> None:
    # Latent 0 serves one variable only (D 1, weight 1); latent 1 serves both alike (D 0, weight 1).
    disentanglement, completeness = dci_of_importance([[1.0, 0.0], [0.5, 0.5]])
    assert disentanglement == pytest.approx(0.5)
    # Variable 0 comes from latents 2:1 (weight 1.5), variable 1 from one latent only (weight .5).
    entropy = -(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(2)
    assert completeness == pytest.approx((1.5 * (1 - entropy) + 0.5) / 2)
    with pytest.raises(ValueError, match="must be >= 0"):
        dci_of_importance([[-1.0, 1.0]])


def test_dci_is_high_for_a_permutation_and_low_for_a_rotation() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, (500, 2))
    swapped = dci(truth[:, ::-1], truth)
    mixed = dci(truth @ np.array([[1.0, 1.0], [1.0, -1.0]]), truth)
    assert min(swapped.disentanglement, swapped.completeness, swapped.informativeness) > 0.9
    assert mixed.disentanglement < 0.3 and mixed.completeness < 0.3
    assert mixed.informativeness > 0.8
