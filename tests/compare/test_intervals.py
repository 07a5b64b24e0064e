import math

import numpy as np
import pytest

from augnet.compare.intervals import interval


def test_students_interval_is_the_textbooks():
    """Of 1, 2, 3: mean 2, deviation 1, and t(2) = 4.3027 at 97.5 %, so 2 ± 4.3027 / √3."""
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == 2
    expected = (2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3))
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-4)


@pytest.mark.parametrize(("seeds", "bootstrapped"), [(5, 0.84), (10, 0.90), (20, 0.92)])
def test_student_keeps_its_word_and_the_bootstrap_does_not(seeds, bootstrapped):
    """The share of intervals that hold the true mean, 0: of Student's .95, of the bootstrap's percentiles fewer."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(4000, seeds))
    by_student = np.mean([found.low <= 0 <= found.high for found in map(interval, samples)])
    drawn = (np.take_along_axis(samples, rng.integers(0, seeds, samples.shape), 1).mean(axis=1) for _ in range(400))
    low, high = np.quantile(list(drawn), [0.025, 0.975], axis=0)
    assert by_student == pytest.approx(0.95, abs=0.01)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(bootstrapped, abs=0.015)


def test_several_intervals_hold_all_at_once():
    rng = np.random.default_rng(0)
    held = [
        all(found.low <= 0 <= found.high for found in (interval(values, among=8) for values in rng.normal(size=(8, 5))))
        for _ in range(1500)
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_values_that_agree_are_known_to_within_their_rounding():
    """Three accuracies of 100 images, all .8: deviation .01 / √12, and t(2) = 4.3027, so .8 ± .00717."""
    found = interval([0.8] * 3, 1 / 100)
    np.testing.assert_allclose((found.low, found.high), (0.8 - 0.00717, 0.8 + 0.00717), atol=1e-5)
    assert interval([0.0, 0.1, 0.2], 1 / 100) == interval([0.0, 0.1, 0.2])


def test_a_single_value_has_no_interval_and_none_no_mean():
    found = interval([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    with pytest.raises(ValueError, match="no values"):
        interval([])
