"""What a learned augmentation costs beside policies made by hand: the transform alone, per image.

    python recipes/benchmarks/export_speed.py [--file FILE] [--csv FILE]

Processor time of one thread, in turns within one run, so that a busy machine is equally busy to all; means, since what
a policy draws decides what it costs. *One* is a single uint8 image, as in a worker of a data loader; *batch* is a batch
of floats for augnet and kornia, of bytes for the others; torchvision's policies, made for images, are also shown image
by image. `x` is the ratio to `LearnedAugment`. Without --file the augmenter is an unlearned one whose transforms are
applied with --probability each, which for 23 transforms and 0.09 is as many at a time as policies made by hand apply.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import albumentations as A
import torch
from kornia.augmentation.auto import RandAugment
from torchvision.transforms import v2

from augnet import Augmenter, AugmenterConfig, LearnedAugment

OURS = "LearnedAugment"
MADE_BY_HAND = A.Compose(
    [
        A.HorizontalFlip(p=0.12),
        A.Affine(scale=(0.8, 1.25), translate_percent=(-0.2, 0.2), rotate=(-20, 20), shear=(-15, 15), p=0.6),
        A.ColorJitter(p=0.4),
        A.RandomGamma(p=0.12),
        A.Sharpen(p=0.12),
        A.GaussianBlur(p=0.12),
        A.GaussNoise(p=0.12),
        A.CoarseDropout(p=0.12),
    ]
)


def microseconds(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Run calls in turns for so many seconds; return the mean processor time of each."""
    spent, rounds, end = dict.fromkeys(calls, 0.0), -2, time.monotonic() + seconds
    while rounds < 3 or time.monotonic() < end:
        for name, call in calls.items():
            began = time.process_time()
            call()
            spent[name] += (time.process_time() - began) * (rounds >= 0)
        rounds += 1
    return {name: 1e6 * total / rounds for name, total in spent.items()}


def one_image(learned: LearnedAugment, size: int) -> dict[str, Callable[[], object]]:
    levels = torch.randint(256, (3, size, size), dtype=torch.uint8)
    pil, array = v2.functional.to_pil_image(levels), levels.permute(1, 2, 0).contiguous().numpy()
    trivial, rand = v2.TrivialAugmentWide(), v2.RandAugment()
    batch_of_one, kornia = levels[None] / 255, RandAugment(n=2, m=10)
    return {
        OURS: lambda: learned(levels),
        f"{OURS}, PIL": lambda: learned(pil),
        "torchvision TrivialAugmentWide": lambda: trivial(levels),
        "torchvision TrivialAugmentWide, PIL": lambda: trivial(pil),
        "torchvision RandAugment": lambda: rand(levels),
        "torchvision RandAugment, PIL": lambda: rand(pil),
        "kornia RandAugment": lambda: kornia(batch_of_one),
        "albumentations": lambda: MADE_BY_HAND(image=array),
    }


def batch(learned: LearnedAugment, size: int, count: int) -> dict[str, Callable[[], object]]:
    levels = torch.randint(256, (count, 3, size, size), dtype=torch.uint8)
    images, arrays = levels / 255, levels.permute(0, 2, 3, 1).contiguous().numpy()
    trivial, rand, kornia = v2.TrivialAugmentWide(), v2.RandAugment(), RandAugment(n=2, m=10)
    return {
        OURS: lambda: learned(images),
        f"{OURS}, uint8": lambda: learned(levels),
        "augnet.Augmenter, without a gradient": torch.no_grad()(lambda: learned.augmenter(images)),
        "torchvision TrivialAugmentWide, one draw for all": lambda: trivial(levels),
        "torchvision TrivialAugmentWide, one by one": lambda: [trivial(image) for image in levels],
        "torchvision RandAugment, one draw for all": lambda: rand(levels),
        "torchvision RandAugment, one by one": lambda: [rand(image) for image in levels],
        "kornia RandAugment": lambda: kornia(images),
        "albumentations, one by one": lambda: [MADE_BY_HAND(image=array) for array in arrays],
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, help="an augmenter or a run folder to measure instead")
    parser.add_argument("--probability", type=float, default=0.09)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=15, help="for each size, for one image and for a batch")
    parser.add_argument("--csv", type=Path, help="write the table there too")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    unlearned = Augmenter(AugmenterConfig(start_probability=asked.probability), channels=3)
    learned = LearnedAugment.load(asked.file) if asked.file else LearnedAugment(unlearned)
    print(f"{learned}\nbatch of {asked.batch}, one thread, microseconds of processor time per image")
    rows = []
    for size in asked.sizes:
        for what, calls, count in (
            ("one", one_image(learned, size), 1),
            ("batch", batch(learned, size, asked.batch), asked.batch),
        ):
            print(f"\n| {what}, {size} px | µs | x |\n|---|---|---|")
            found = microseconds(calls, asked.seconds)
            for name, spent in found.items():
                rows.append((what, size, name, f"{spent / count:.1f}", f"{spent / found[OURS]:.3f}"))
                print(f"| {name} | {spent / count:.0f} | {spent / found[OURS]:.2f} |", flush=True)
    if asked.csv:
        with asked.csv.open("w", newline="") as file:
            csv.writer(file).writerows([("what", "size", "transform", "microseconds", "ratio"), *rows])


if __name__ == "__main__":
    main()
