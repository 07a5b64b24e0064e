"""How far off a mean over seeds may be.

Intervals are Student's t, and not the bootstrap's, which is too sure of itself when seeds are few: the samples that it
draws vary by (n − 1)/n of the variance that it should see, and their percentiles know nothing of the t distribution's
tails. Of 4,000 normal samples of 5, 10 and 20 numbers, its 95 % interval held the true mean in 84, 90 and 92 %, that of
Student's t in 95 % of each (tests/compare/test_intervals.py counts them again).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean, and where the true one lies with 95 % confidence.

    Args:
        mean: of the values.
        low: lower end; nan where there is one value only.
        high: upper end.
        values: how many.
    """

    mean: float
    low: float
    high: float
    values: int

    def scaled(self, factor: float) -> "Interval":
        """Give the interval in another unit."""
        return Interval(factor * self.mean, factor * self.low, factor * self.high, self.values)


def interval(values: Sequence[float], step: float = 0.0, among: int = 1) -> Interval:
    """Give the mean and Student's 95 % interval.

    Args:
        values: one per seed.
        step: between values that can be told apart. Values that agree are still unknown by the deviation of rounding,
            step / √12, below which theirs is not taken.
        among: so many intervals shall hold the truth all at once with 95 % confidence (Bonferroni).

    Raises:
        ValueError: if there are no values.
    """
    x = np.asarray(values, dtype=np.float64)
    if not len(x):
        raise ValueError("there are no values to take the mean of; train with at least one seed")
    mean = float(x.mean())
    if len(x) == 1:
        return Interval(mean, math.nan, math.nan, 1)
    deviation = max(float(x.std(ddof=1)), step / math.sqrt(12))
    reach = float(stats.t.ppf(1 - (1 - CONFIDENCE) / 2 / among, len(x) - 1)) * deviation / math.sqrt(len(x))
    return Interval(mean, mean - reach, mean + reach, len(x))
