import math

import numpy as np
import pytest
from scipy import stats

from augnet.compare.intervals import QUANTILES, bootstrap, interval, student


def test_students_interval_is_the_textbooks():
    """Of 1, 2, 3: mean 2, deviation 1, and t(2) = 4.3027 at 97.5 %, so 2 ± 4.3027 / √3."""
    found = interval([1.0, 2.0, 3.0])
    assert found.method == "Student's t"
    assert found.mean == 2
    np.testing.assert_allclose((found.low, found.high), (2 - 4.3027 / math.sqrt(3), 2 + 4.3027 / math.sqrt(3)))


def test_quantiles_are_those_of_student():
    np.testing.assert_allclose(QUANTILES, stats.t.ppf(0.975, np.arange(1, 9)), atol=5e-5)


def test_the_bootstraps_interval_of_many_values_is_that_of_the_normal_limit():
    """Means of n draws from x are nearly normal, with deviation √(Σ(x − mean)²/n) / √n."""
    x = np.random.default_rng(1).normal(3, 2, 400)
    reach = stats.norm.ppf(0.975) * x.std() / math.sqrt(len(x))
    found = interval(x.tolist())
    assert found.method == "bootstrap"
    np.testing.assert_allclose((found.low, found.high), (x.mean() - reach, x.mean() + reach), atol=0.05 * reach)


def test_with_five_seeds_student_keeps_its_word_and_the_bootstrap_does_not():
    """The share of intervals that hold the true mean, 0: of Student's .95, of the bootstrap's clearly fewer."""
    samples = np.random.default_rng(0).normal(size=(20_000, 5))
    by_student = np.mean([low <= 0 <= high for low, high in map(student, samples)])
    by_bootstrap = np.mean([low <= 0 <= high for low, high in (bootstrap(x, 200) for x in samples[:4000])])
    assert by_student == pytest.approx(0.95, abs=0.01)
    assert by_bootstrap == pytest.approx(0.83, abs=0.02)


def test_a_single_value_has_no_interval_and_none_no_mean():
    found = interval([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.low)
    assert found.method == "none"
    with pytest.raises(ValueError, match="no values"):
        interval([])
