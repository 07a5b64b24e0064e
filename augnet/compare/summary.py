"""What results come to: per arm over seeds, and arm against arm, seed by seed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from augnet.compare.intervals import Interval, interval
from augnet.compare.retraining import Result

Role = Literal["learned", "fixed", "longer"]


@dataclass(frozen=True, kw_only=True)
class ArmSummary:
    """An arm's results with some steps, over seeds.

    Args:
        name: of the arm.
        role: `learned`, `fixed`, or `longer`: a fixed one that was trained for as long as learning took, too.
        results: one per seed, in their order.
        images: that each was tested on; accuracy moves in steps of one of them.
    """

    name: str
    role: Role
    results: tuple[Result, ...]
    images: int

    @property
    def label(self) -> str:
        """The name in tables."""
        return f"{self.name} for longer ({self.steps:,} steps)" if self.role == "longer" else self.name

    @property
    def steps(self) -> int:
        """Classifier updates of each training."""
        return self.results[0].steps

    @property
    def accuracy(self) -> Interval:
        """Test accuracy, 0 to 1, where the interval's ends stay, too."""
        found = interval([result.measures.accuracy for result in self.results], 1 / self.images)
        return found._replace(low=max(0.0, found.low), high=min(1.0, found.high)) if found.values > 1 else found

    def mean(self, name: Literal["loss", "calibration_error"]) -> float:
        """Average a measure over seeds."""
        return float(np.mean([getattr(result.measures, name) for result in self.results]))

    @property
    def seconds(self) -> float:
        """Mean time of a training."""
        return float(np.mean([result.seconds for result in self.results]))

    def class_accuracy(self, images: Sequence[int]) -> Float[np.ndarray, "classes"]:
        """Give the mean accuracy of each class; nan where there is no test image of it.

        Args:
            images: test images of each class.
        """
        right = np.mean([result.measures.right for result in self.results], axis=0)
        counts = np.asarray(images, dtype=np.float64)
        return np.divide(right, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    def above(self, other: "ArmSummary", among: int = 1) -> Interval:
        """Give by how much accuracy exceeds another arm's, paired over the seeds that both have.

        Args:
            other: arm.
            among: arms of which it is picked by these results.

        Raises:
            ValueError: if they have no seed in common.
        """
        mine, theirs = ({r.seed: r.measures.accuracy for r in arm.results} for arm in (self, other))
        return interval([mine[seed] - theirs[seed] for seed in mine if seed in theirs], 1 / self.images, among)

    def above_by_class(self, other: "ArmSummary", images: Sequence[int], among: int) -> list[Interval]:
        """Give the same for each class that has test images, so that all hold at once.

        Args:
            other: arm.
            images: test images of each class.
            among: classes.
        """
        mine, theirs = ({r.seed: np.asarray(r.measures.right) for r in arm.results} for arm in (self, other))
        each = np.array([mine[seed] - theirs[seed] for seed in mine if seed in theirs]).T
        # Few seeds often agree by chance in a class of few images: their deviation is taken for one image at least.
        return [
            interval(difference / count, math.sqrt(12) / count, among)
            for difference, count in zip(each, images, strict=True)
            if count
        ]


@dataclass(frozen=True, kw_only=True)
class Section:
    """All arms at one budget and number of views.

    Args:
        budget: steps, in multiples of the run's.
        copies: views of each test image whose predictions were averaged.
        arms: the best first.
        judged: name of the learned arm that the verdict is on; None where there is none.
    """

    budget: float
    copies: int
    arms: tuple[ArmSummary, ...]
    judged: str | None

    @property
    def steps(self) -> int:
        """Classifier updates of each training, but for arms that were trained for longer."""
        return next(arm.steps for arm in self.arms if arm.role != "longer")

    @property
    def learned(self) -> ArmSummary | None:
        """The learned arm that is judged."""
        return next((arm for arm in self.arms if arm.name == self.judged), None)

    @property
    def others(self) -> tuple[ArmSummary, ...]:
        """What one could have without learning, the best first."""
        return tuple(arm for arm in self.arms if arm.role != "learned")


def judged_of(names: Sequence[str]) -> str | None:
    """Choose which of the learned arms is judged: `learned`, or else the first one named.

    The best one on test images would be the luckiest, too.
    """
    return "learned" if "learned" in names else next(iter(names), None)


def ranked(arms: Sequence[ArmSummary]) -> tuple[ArmSummary, ...]:
    """Put arms in order of accuracy; of equal ones, by loss."""
    return tuple(sorted(arms, key=lambda arm: (-arm.accuracy.mean, arm.mean("loss"))))
