"""One training from scratch with one arm, as everything in a comparison is measured.

Initial weights, batches and dropout are functions of the seed and of nothing else, so that arms differ in the images
alone and differences between them can be taken seed by seed. Test images are looked at once, at the end. A classifier
begins with the weights with which that of a run of the same seed began.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from augnet.compare.arm import Arm
from augnet.compare.bench import Bench, digest
from augnet.compare.measures import Measures, measure
from augnet.data import all_batches, batches

# A user's transform may draw from any generator.
from augnet.data.batches import randomness_of
from augnet.training.device import device_named
from augnet.training.inner import PATIENCE, InnerLevel, channels_last

# Steps that are made to see how long one takes, and those before them, in which memory is laid out.
TIMED, UNTIMED = 6, 2
TEST_BATCH = 256


class Training(NamedTuple):
    """What to train, for how long, and from where.

    Args:
        arm: how images are augmented.
        steps: classifier updates.
        seed: decides weights, batches and draws.
        copies: views of each test image whose predictions are averaged too.
        key: of the arm (`key_of`), taken before anything was trained.
    """

    arm: Arm
    steps: int
    seed: int
    copies: int
    key: str


class Result(NamedTuple):
    """What a training came to.

    Args:
        arm: name of the arm.
        steps: classifier updates.
        seed: of the training.
        copies: views of each test image whose predictions were averaged: itself, and augmented ones beside it.
        measures: on the test images.
        seconds: of the training, in one thread, beside others.
        key: digest of all else that decides the result.
    """

    arm: str
    steps: int
    seed: int
    copies: int
    measures: Measures
    seconds: float
    key: str


class Interrupted(RuntimeError):
    """A training was told to stop."""


class Retraining:
    """A classifier in training with an arm.

    Args:
        bench: what all arms share.
        training: what to train.
    """

    def __init__(self, bench: Bench, training: Training) -> None:
        self.bench, self.training = bench, training
        self.device = device_named(bench.recipe.device)
        torch.manual_seed(self._number("weights"))
        self.inner = InnerLevel(bench.classifier(), bench.recipe.inner, training.steps, bench.pretrained, self.device)
        self.augment = training.arm.augmentation(bench, self._number("arm"))
        self.batches = batches(bench.train, bench.recipe.schedule.batch_size, self._number("batches"))
        self.made = self.bad = 0

    def step(self) -> None:
        """Make one update; one whose loss is not finite is left out.

        Raises:
            ValueError: if that is so several times in a row.
        """
        images, labels, _ = next(self.batches)
        torch.manual_seed(self._number("draws", self.made))
        augmented = self.augment(images).to(self.device)
        # Anew, since arms draw more or less than each other: dropout should not differ by that.
        torch.manual_seed(self._number("dropout", self.made))
        loss = self.inner.step(self.made, augmented, labels.to(self.device))
        self.bad = 0 if math.isfinite(loss) else self.bad + 1
        if self.bad == PATIENCE:
            raise ValueError(
                f"the loss was not finite in {PATIENCE} steps in a row, at step {self.made:,}; train a run with "
                "a lower inner.learning_rate"
            )
        self.made += 1

    @torch.no_grad()
    def test(self, copies: int) -> dict[int, Measures]:
        """Measure on the test images: as they are, and with predictions averaged over `copies` views if above 1.

        Of so many views the first is the image as it is, the others are augmented.
        """
        self.inner.classifier.eval()
        torch.manual_seed(self._number("views"))
        clean, averaged = [], []
        for images, _, _ in all_batches(self.bench.test, TEST_BATCH):
            views = [self._predict(images), *(self._predict(self.augment(images)) for _ in range(copies - 1))]
            clean.append(views[0])
            averaged.append(torch.stack(views).mean(dim=0))
        found = {1: clean, copies: averaged}
        return {number: measure(torch.cat(parts), self.bench.test.labels) for number, parts in found.items()}

    def _predict(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        logits = self.inner.classifier(channels_last(images.to(self.device)))
        return logits.double().softmax(dim=-1).cpu()

    def _number(self, purpose: str, step: int = 0) -> int:
        key = [self.training.seed, *purpose.encode(), step]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])


def retrain(bench: Bench, training: Training, stopped: Callable[[], bool] = lambda: False) -> list[Result]:
    """Train a classifier from scratch and test it; on a CPU the same training gives the same result, bit for bit.

    Returns:
        The result on test images as they are and, if `copies` is above 1, that on averaged predictions.

    Raises:
        Interrupted: if `stopped` says so.
        ValueError: if the arm cannot take such images, or is another than when its key was taken, or if the loss stays
            non-finite.
    """
    began = time.perf_counter()
    with randomness_of(torch.tensor([training.seed])):
        retraining = Retraining(bench, training)
        if key_of(bench, training.arm) != training.key:
            raise ValueError("its code was edited since the comparison began; run it again")
        for _ in range(training.steps):
            if stopped():
                raise Interrupted(f"{training.arm.name} was stopped at step {retraining.made:,}")
            retraining.step()
        found = retraining.test(training.copies)
    seconds = time.perf_counter() - began
    arm, steps, seed, _, key = training
    return [Result(arm.name, steps, seed, copies, measures, seconds, key) for copies, measures in found.items()]


def seconds_per_step(bench: Bench, training: Training, stopped: Callable[[], bool] = lambda: False) -> float:
    """Measure what a step of a training takes, over a few of them."""
    with randomness_of(torch.tensor([training.seed])):
        retraining = Retraining(bench, training)
        for _ in range(UNTIMED):
            retraining.step()
        began = time.perf_counter()
        for _ in range(TIMED):
            retraining.step()
    return (time.perf_counter() - began) / TIMED


def key_of(bench: Bench, arm: Arm) -> str:
    """Give the digest of all that decides an arm's results beside steps, seed and views."""
    return digest([bench.identity, arm.name, arm.identity(bench)])
