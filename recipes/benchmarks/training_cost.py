"""What learning the augmentation costs, in units of a plain forward and backward pass of the classifier.

    python recipes/benchmarks/training_cost.py [--size 32] [--model small] [settings such as --schedule.outer_every 5]

Everything is measured side by side in one process and one thread, in turns, so that a noisy machine is equally noisy to
all; medians. The training ratio compares one whole period of the schedule (outer_every steps, one of them outer)
with as many steps under a fixed policy: TrivialAugmentWide image by image, as a loader would apply it, and no
augmentation at all. Peak memory is what the profiler saw allocated beyond the start of a step.
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torchvision.transforms import v2

from augnet.classifier import ClassifierConfig
from augnet.data import ImageSet, from_datasets
from augnet.recipe import Recipe
from augnet.training import IFTTrainer


def noise_images(count: int, size: int, seed: int) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    return ImageSet(pixels, torch.arange(count) % 10)


def peak_megabytes(step: Callable[[], object]) -> float:
    """Run a step under the profiler; return its peak of allocated memory above the start, MB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        step()
    now = peak = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--model", default="small")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options, settings = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    recipe = dataclasses.replace(
        Recipe.parse([*settings, "--device", "cpu"]),
        data=from_datasets(noise_images(512, options.size, 0), noise_images(512, options.size, 1)),
        classifier=ClassifierConfig(name=options.model),
    )
    trainer = IFTTrainer(recipe)
    (images, labels, _), (val_images, val_labels, _) = (next(stream) for stream in trainer._streams())
    batch, val_batch = (images, labels), (val_images, val_labels)
    learned, trivial = trainer.augmenter, v2.TrivialAugmentWide()

    class ImageByImage(nn.Module):
        def forward(self, x):
            return torch.stack([trivial(image) for image in (x * 255).to(torch.uint8)]).float() / 255

    def plain() -> None:
        x = images.contiguous(memory_format=torch.channels_last)
        torch.autograd.grad(F.cross_entropy(trainer.classifier(x), labels), trainer.inner.weights)

    def inner(augmenter: nn.Module) -> Callable[[], object]:
        def step() -> None:
            trainer.augmenter = augmenter
            trainer.inner_step(batch)

        return step

    def outer() -> None:
        trainer.augmenter = learned
        trainer.outer_step(batch, val_batch)

    steps = {
        "plain forward and backward": plain,
        "step without augmentation": inner(nn.Identity()),
        "step with TrivialAugmentWide": inner(ImageByImage()),
        "inner step": inner(learned),
        "outer step": outer,
    }
    trainer.classifier.train()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.repeats + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if repeat >= 2:
                times[name].append(time.perf_counter() - began)
    median = {name: statistics.median(found) for name, found in times.items()}
    memory = {name: peak_megabytes(step) for name, step in steps.items()}
    unit, space = median["plain forward and backward"], memory["plain forward and backward"]
    weights = sum(w.numel() for w in trainer.inner.weights)
    hyperparameters = sum(w.numel() for w in learned.parameters())
    print(
        f"{options.model}, {weights:,} weights, {hyperparameters:,} hyperparameters, batch {len(images)} of "
        f"{options.size}×{options.size}, validation batch {len(val_images)}\n"
    )
    print("| step | ms | units | peak MB | of plain |\n|---|---|---|---|---|")
    for name in steps:
        print(
            f"| {name} | {1e3 * median[name]:.1f} | {median[name] / unit:.2f} | {memory[name]:.0f} | "
            f"{memory[name] / space:.2f} |"
        )
    every = recipe.schedule.outer_every
    period = (every - 1) * median["inner step"] + median["outer step"]
    for name in ("step with TrivialAugmentWide", "step without augmentation"):
        print(f"\nwhole training, outer step every {every}: {period / every / median[name]:.2f} × the {name}")


if __name__ == "__main__":
    main()
