"""What learning the augmentation costs beside training with a fixed one.

    python recipes/benchmarks/training_cost.py [--size 32] [--model small] [settings such as --inner.optimiser adamw]

Two tables. The first is of single steps, in units of a plain forward and backward pass of the classifier. The second is
of whole trainings of `--steps` steps, learned by `IFTTrainer.fit` with its reports and an outer step every 1, 2, 5, 8,
10 or 20, against as many steps under a fixed policy, which nobody watches: TrivialAugmentWide image by image, as a
loader would apply it, and no augmentation at all. Each training is a process of its own, in turns; ratios are taken
within a round. Medians, and half the range over rounds. About three minutes on one idle core.
"""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from learned_against_fixed import Fixed
from measuring import Cost, cost, fresh, median_and_spread, publish, seconds
from torch import nn
from torchvision.transforms import v2

from augnet.classifier import ClassifierConfig
from augnet.data import ImageSet, from_datasets
from augnet.recipe import Recipe
from augnet.training import IFTTrainer

PLAIN, NONE, TRIVIAL = "plain forward and backward", "no augmentation", "TrivialAugmentWide"
OUTER = "outer step, the inner step included"
EVERY = (1, 2, 5, 8, 10, 20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What is trained, on noise.

    Args:
        size: of the images, pixels a side.
        model: of the classifier.
        recipe: further settings, as on the command line.
    """

    size: int = 32
    model: str = "small"
    recipe: tuple[str, ...] = ()

    def trainer(self, every: int = 1) -> IFTTrainer:
        """Make a trainer with outer steps from the first step on."""
        arguments = ["--device=cpu", "--schedule.warmup=0", f"--schedule.outer_every={every}", *self.recipe]
        recipe = dataclasses.replace(
            Recipe.parse(arguments),
            data=from_datasets(noise_images(512, self.size, 0), noise_images(512, self.size, 1)),
            classifier=ClassifierConfig(name=self.model),
        )
        return IFTTrainer(recipe)


def noise_images(count: int, size: int, seed: int) -> ImageSet:
    """Draw images of uniform noise, with labels in turns."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(count) % 10)


def policies() -> dict[str, nn.Module]:
    """Make the policies that learning is compared with."""
    return {NONE: nn.Identity(), TRIVIAL: Fixed(v2.TrivialAugmentWide())}


def step_cost(settings: Settings, name: str, repeats: int) -> Cost:
    """Measure one kind of step."""
    trainer, policy = settings.trainer(), policies().get(name)
    (images, labels, _), (val_images, val_labels, _) = (next(stream) for stream in trainer._streams())
    trainer.classifier.train()

    def plain() -> None:
        x = images.contiguous(memory_format=torch.channels_last)
        torch.autograd.grad(F.cross_entropy(trainer.classifier(x), labels), trainer.inner.weights)

    def inner() -> None:
        if policy is None:
            trainer.inner_step((images, labels))
        else:
            trainer.inner.step(0, policy(images), labels)

    outer = partial(trainer.outer_step, (images, labels), (val_images, val_labels))
    calls: dict[str, Callable[[], object]] = {PLAIN: plain, OUTER: outer}
    if name == OUTER:
        # The first one finds λ_max, which the others do not.
        outer()
    return cost(calls.get(name, inner), repeats=repeats)


class Training(NamedTuple):
    """What a training cost.

    Args:
        seconds: per step.
        reports: share of that for looking at the state, 30 times in a whole training.
    """

    seconds: float
    reports: float


def training(settings: Settings, policy: str | int, steps: int) -> Training:
    """Train for so many steps with a fixed policy, or learning at every so-and-so-many-th step."""
    if isinstance(policy, int):
        trainer = settings.trainer(every=policy)
        # A training stops at a report, so it may make a few steps more.
        spent = seconds(lambda: trainer.fit(lambda progress: trainer.stop() if progress.step >= steps else None))
        return Training(spent / trainer.step, trainer.seconds["reports"] / sum(trainer.seconds.values()))
    trainer, fixed = settings.trainer(), policies()[policy]

    def fit() -> None:
        stream = trainer._streams()[0]
        for step in range(steps):
            images, labels, _ = next(stream)
            trainer.inner.step(step, fixed(images), labels)

    return Training(seconds(fit) / steps, 0.0)


def step_rows(settings: Settings, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each kind of step."""
    names = [PLAIN, NONE, TRIVIAL, "inner step", OUTER]
    found = {name: fresh(step_cost, settings, name, repeats) for name in names}
    plain = found[PLAIN]
    return [
        {
            "step": name, "ms": 1e3 * spent.seconds, "units": spent.seconds / plain.seconds, "MB": spent.megabytes,
            "memory": spent.megabytes / plain.megabytes, "counted": spent.flops / plain.flops,
        }
        for name, spent in found.items()
    ]  # fmt: skip


def training_rows(settings: Settings, steps: int, rounds: int, every: Sequence[int] = EVERY) -> list[dict[str, Any]]:
    """Return a row for each distance between outer steps."""
    kinds: list[str | int] = [NONE, TRIVIAL, *every]
    found: dict[str | int, list[Training]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind in kinds:
            found[kind].append(fresh(training, settings, kind, steps))
    rows = []
    for kind in every:
        learned = found[kind]
        row: dict[str, Any] = {"outer step every": kind}
        row["ms per step"] = 1e3 * median_and_spread(each.seconds for each in learned)[0]
        row["reports, share"] = median_and_spread(each.reports for each in learned)[0]
        for fixed in (NONE, TRIVIAL):
            ratios = [ours.seconds / plain.seconds for ours, plain in zip(learned, found[fixed], strict=True)]
            row[f"× {fixed}"], row[f"± {fixed}"] = median_and_spread(ratios)
        rows.append(row)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print both tables, and write them into one file each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=Settings.size)
    parser.add_argument("--model", default=Settings.model)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, nargs="+", default=EVERY)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    asked, recipe = parser.parse_known_args(arguments)
    settings = Settings(size=asked.size, model=asked.model, recipe=tuple(recipe))
    trainer = settings.trainer()
    weights, hyperparameters = (
        sum(w.numel() for w in part) for part in (trainer.inner.weights, trainer.augmenter.parameters())
    )
    schedule = trainer.recipe.schedule
    note = (
        f"{asked.model}, {weights:,} weights, {hyperparameters:,} hyperparameters, batch {schedule.batch_size} of "
        f"{asked.size}×{asked.size}, validation batch {schedule.val_batch_size}"
    )
    publish(step_rows(settings, asked.repeats), asked.csv.with_stem(f"{asked.csv.stem}_steps"), note)
    publish(training_rows(settings, asked.steps, asked.rounds, asked.every), asked.csv)


if __name__ == "__main__":
    main()
