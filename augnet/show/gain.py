"""Which transforms the gain comes from: classifiers are trained from scratch with each of them left out.

To go on with the run's own classifier would be cheaper and wrong: in a few steps without any augmentation it fits
images as they are, and its validation loss falls (on traffic signs, after 40 steps, by 0.19 ± 0.03 nats), though
augmentation is what made it good.
"""

import copy
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor, nn

from augnet.augmenter import Augmenter
from augnet.data import LabelledImages, batches
from augnet.export.sample import fairly
from augnet.recipe import Recipe
from augnet.show.canvas import BLUE, FAINT, INK, Place, place, plain
from augnet.show.decisions import BATCH, apply
from augnet.training.device import device_named
from augnet.training.inner import InnerLevel

# Validation images that losses are measured on.
MEASURED = 1024
# Chance that any of the effects is said to be one where there is none.
RISK = 0.05


class Effect(NamedTuple):
    """What leaving transforms out does to the validation loss.

    Args:
        name: of what was left out.
        difference: loss without less loss with it, nats; above 0 where it helps.
        error: standard error of the difference, over seeds and validation images.
        reach: half the length of its interval; all intervals hold the truth at once with 95 % confidence.
    """

    name: str
    difference: float
    error: float
    reach: float

    @property
    def sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return abs(self.difference) > self.reach


def leave_one_out(
    augmenter: Augmenter,
    build: Callable[[], nn.Module],
    train: LabelledImages,
    val: LabelledImages,
    recipe: Recipe,
    *,
    seeds: int,
    steps: int | None = None,
    report: Callable[[float], None] | None = None,
) -> list[Effect]:
    """Train classifiers with all transforms, without each, and without any; compare validation losses.

    The policy is frozen. Of each seed, all start from the same weights and see the same batches and the same noise, so
    that they differ in one transform alone.

    Args:
        augmenter: of the run.
        build: makes the classifier to train.
        train: images to train on.
        val: images to measure the loss on.
        recipe: gives batch size, optimiser and device.
        seeds: trainings of each kind, at least 2, so that it is known how much they differ by chance.
        steps: classifier updates of a training; those of the recipe by default.
        report: called once, after the first few steps, with the seconds that all will take.

    Returns:
        One effect per transform in the augmenter's order, and that of all of them at the end.

    Raises:
        ValueError: if the augmenter has no transforms, there is nothing to do, or fewer than two seeds.
    """
    k, steps = len(augmenter.transforms), recipe.schedule.inner_steps if steps is None else steps
    if k == 0 or steps < 1 or seeds < 2:
        raise ValueError(
            f"leaving out needs transforms, steps and at least 2 seeds, found {k}, {steps} and {seeds}; of one seed it "
            "is not known how much trainings differ by chance"
        )
    device = device_named(recipe.device)
    augmenter = copy.deepcopy(augmenter).to(device)
    images, labels = (part.to(device) for part in val.batch(fairly(val, val.labels, MEASURED)))
    clock = _Clock(steps * seeds * (k + 2), report)

    def losses(mask: Float[Tensor, "k"], seed: int) -> Float[Tensor, "b"]:
        # Dropout and fresh weights must be the same with and without a transform.
        torch.manual_seed(seed)
        inner = InnerLevel(build(), recipe.inner, steps, recipe.classifier.pretrained, device)
        stream = batches(train, recipe.schedule.batch_size, seed)
        for step, (batch, truth, _) in zip(range(steps), stream, strict=False):
            noise = augmenter.draw_noise(len(batch), torch.Generator().manual_seed(seed * steps + step))
            inner.step(step, _masked(augmenter, batch.to(device), noise, mask.to(device)), truth.to(device))
            clock.count()
        inner.classifier.eval()
        with torch.no_grad():
            logits = torch.cat([inner.classifier(part) for part in images.split(BATCH)])
        return F.cross_entropy(logits, labels, reduction="none").double().cpu()

    masks = [torch.ones(k), *(1 - torch.eye(k)), torch.zeros(k)]
    with torch.random.fork_rng(devices=[]):
        found = torch.stack([torch.stack([losses(mask, seed) for mask in masks]) for seed in range(seeds)])
    differences = found[:, 1:] - found[:, :1]  # (seeds, transforms, images)
    # Seeds and images are both drawn: what each adds to the variance of the mean.
    over_images = differences.mean(dim=0).var(dim=1) / len(labels)
    # Of all transforms together, since a few seeds tell little of the variance of one; without any it may be more.
    each = differences.mean(dim=2).var(dim=0)
    over_seeds = torch.cat([each[:-1].mean().expand(k), each[-1:].max(each[:-1].mean())]) / seeds
    names = [*(transform.label for transform in augmenter.transforms), "any of them"]
    means, errors = differences.mean(dim=(0, 2)), (over_images + over_seeds).sqrt()
    return [
        Effect(n, float(m), float(e), quantile(k, seeds) * float(e))
        for n, m, e in zip(names, means, errors, strict=True)
    ]


def quantile(transforms: int, seeds: int) -> float:
    """Give the standard errors to either side with which the intervals of all transforms, and of all together, hold.

    Their variance is pooled. As each is the difference from the same trainings, their deviations correlate by 1/2, and
    the pooled variance is known as if from (S − 1) / (1/k + (1 − 1/k) / 4) others, with k transforms and S seeds.
    """
    known = (seeds - 1) / (1 / transforms + (1 - 1 / transforms) / 4)
    return float(stats.t.ppf(1 - RISK / 2 / (transforms + 1), known))


@torch.no_grad()
def _masked(augmenter: Augmenter, images: Tensor, noise: Tensor, mask: Float[Tensor, "k"]) -> Tensor:
    """Augment with some of the transforms; without any, nothing is painted either."""
    augmented = apply(augmenter, images, noise, mask * augmenter.policy(images, noise).amounts)
    if augmenter.config.residual_limit and bool(mask.any()):
        augmented = (augmented + augmenter.residual(images, noise)).clamp(0, 1)
    return augmented


class _Clock:
    """Say once how long all steps will take, after a few of them."""

    def __init__(self, steps: int, report: Callable[[float], None] | None) -> None:
        self.steps, self.report, self.made, self.began = steps, report, 0, time.perf_counter()

    def count(self) -> None:
        self.made += 1
        if self.report is not None and self.made == min(10, self.steps):
            self.report((time.perf_counter() - self.began) / self.made * self.steps)


def gain(effects: list[Effect], *, on: Place | None = None) -> Figure:
    """Show the effect on the validation loss of leaving each transform out, with its interval (`Effect.reach`).

    Args:
        effects: of `leave_one_out`.
        on: see `place`.
    """
    ordered = sorted(effects[:-1], key=lambda effect: -effect.difference) + effects[-1:]
    sheet = place(on, 7.5, 1.0 + 0.26 * len(ordered))
    axes = plain(sheet.subplots())
    for line, effect in enumerate(ordered):
        sure = effect.sure
        axes.errorbar(
            effect.difference, line, xerr=effect.reach, fmt="o" if sure else "s", color=BLUE if sure else FAINT,
            markerfacecolor=BLUE if sure else "none", capsize=3,
        )  # fmt: skip
    axes.axvline(0, color=INK, linewidth=1)
    if len(ordered) > 1:
        axes.axhline(len(ordered) - 1.5, color=FAINT, linewidth=0.6)
    axes.set_yticks(range(len(ordered)), [f"without {effect.name}" for effect in ordered], fontsize=8)
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlabel("validation loss without it, less that with it, nats; right of 0: it helps", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    return sheet.figure
