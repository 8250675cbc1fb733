"""What holds for scores whatever the numbers are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crl_node.metrics import auroc, calibration_error, match, r2, structural_hamming_distance

labelled = st.lists(
    st.tuples(st.booleans(), st.floats(0, 1, allow_nan=False, width=32)), min_size=2, max_size=40
).filter(lambda pairs: 0 < sum(label for label, _ in pairs) < len(pairs))


@given(labelled)
def test_auroc_of_the_opposite_score_is_the_complement(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*pairs, strict=True)
    area = auroc(labels, scores)
    opposite = auroc(labels, [-s for s in scores])
    assert area is not None and opposite is not None
    assert 0 <= area <= 1
    assert area + opposite == pytest.approx(1.0)


@given(labelled)
def test_calibration_error_is_a_probability(pairs: list[tuple[bool, float]]) -> None:
    labels, scores = zip(*pairs, strict=True)
    error = calibration_error(labels, scores)
    assert error is not None and 0 <= error <= 1


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6))
def test_a_matching_uses_each_row_and_each_column_once(seed: int, rows: int, columns: int) -> None:
    cost = np.random.default_rng(seed).random((rows, columns))
    pairs = match(cost)
    assert len(pairs) == min(rows, columns)
    assert len(set(pairs.values())) == len(pairs)


@given(st.integers(0, 2**32 - 1))
def test_r2_never_exceeds_one_and_is_one_for_the_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, estimate = rng.random((5, 2)), rng.random((5, 2))
    score = r2(truth, estimate)
    assert score is not None and score <= 1
    assert r2(truth, truth) == pytest.approx(1.0)


@given(st.integers(0, 2**32 - 1), st.integers(2, 6))
def test_structural_hamming_distance_is_symmetric(seed: int, nodes: int) -> None:
    a, b = np.random.default_rng(seed).random((2, nodes, nodes)) < 0.4
    assert structural_hamming_distance(a, b) == structural_hamming_distance(b, a)
