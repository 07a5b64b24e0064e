"""Test accuracy of joint training against fixed augmentation, at the same number of steps.

    python recipes/benchmarks/learned_against_fixed.py path/to/gtsrb32 --arm learned --seeds 0 1 2
    python recipes/benchmarks/learned_against_fixed.py path/to/gtsrb32 --arm none --seeds 0 1 2

All arms share the splits (2,000 training, 1,000 validation images), the classifier and its initial weights, batches,
optimiser and schedule; only what stands between the batch and the classifier differs. One thread. Appends a row per run
to --table. Settings of the recipe may follow, such as `--schedule.outer_every 8`.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import albumentations as A
import cv2
import torch
from measuring import append
from torch import Tensor, nn
from torchvision.transforms import v2

from augnet.data import source_from
from augnet.recipe import Recipe
from augnet.training import IFTTrainer
from augnet.training.evaluation import score


def arms(size: int) -> dict[str, nn.Module | None]:
    mirror_crop = [v2.RandomHorizontalFlip(), v2.RandomCrop(size, padding=size // 8)]
    chains = {
        "none": [],
        "mirror_crop": mirror_crop,
        "trivial": [v2.TrivialAugmentWide()],
        "mirror_crop_trivial": [*mirror_crop, v2.TrivialAugmentWide()],
    }
    usual = A.Compose(
        [
            A.HorizontalFlip(),
            A.Affine(scale=(0.9, 1.1), rotate=(-15, 15), translate_percent=0.1, border_mode=cv2.BORDER_REFLECT_101),
            A.ColorJitter(),
            A.CoarseDropout(hole_height_range=(0.1, 0.4), hole_width_range=(0.1, 0.4)),
        ]
    )
    chains["albumentations"] = [v2.Lambda(lambda image: _channels_last(usual, image))]
    return {"learned": None, **{name: v2.Compose(chain) if chain else v2.Identity() for name, chain in chains.items()}}


def _channels_last(pipeline: A.Compose, image: Tensor) -> Tensor:
    pixels = pipeline(image=image.permute(1, 2, 0).contiguous().numpy())["image"]
    return torch.from_numpy(pixels).permute(2, 0, 1)


class Fixed(nn.Module):
    """Apply a torchvision transform to each image of a batch by itself, as a data loader would."""

    def __init__(self, transform: nn.Module) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images * 255).round().to(torch.uint8)
        return torch.stack([self.transform(image) for image in pixels]).float() / 255


def fit(trainer: IFTTrainer, arm: str, verbose: bool) -> float:
    """Train one arm; return the seconds it took."""
    began = time.perf_counter()
    transform = arms(min(trainer.splits.size))[arm]
    if transform is None:
        lines = 0

        def report(progress) -> None:
            nonlocal lines
            lines += 1
            if verbose and lines % 5 == 0:
                words = "; ".join(item.words for item in progress.learned)
                print(
                    f"{progress.step} train {progress.training_loss:.3f} val {progress.validation_loss:.3f} "
                    f"noise {progress.hypergradient_noise:.2f} residual {progress.residual:.2f} | {words}",
                    *progress.warnings, sep="\n  ", flush=True,
                )  # fmt: skip

        trainer.fit(report)
    else:
        fixed = Fixed(transform)
        train, _ = trainer._streams()
        for step in range(trainer.recipe.schedule.inner_steps):
            trainer.step = step
            trainer._prepare_step()
            images, labels, _ = next(train)
            trainer.inner.step(step, fixed(images), labels)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--arm", default="learned", choices=list(arms(32)))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--table", type=Path, default=Path("learned_against_fixed.csv"))
    parser.add_argument("--note", default="")
    parser.add_argument("--verbose", action="store_true")
    options, settings = parser.parse_known_args()
    torch.set_num_threads(1)
    source = dataclasses.replace(source_from(options.data), train_size=options.train, val_size=options.val)
    for seed in options.seeds:
        recipe = dataclasses.replace(Recipe.parse([*settings, "--seed", str(seed), "--device", "cpu"]), data=source)
        trainer = IFTTrainer(recipe)
        seconds = fit(trainer, options.arm, options.verbose)
        test = score(trainer.classifier, trainer.splits.test, trainer.device)
        row = {
            "data": Path(options.data).name, "arm": options.arm, "seed": seed, "steps": recipe.schedule.inner_steps,
            "accuracy": round(100 * test.accuracy, 2), "loss": round(test.loss, 4), "seconds": round(seconds),
            "settings": " ".join(settings), "note": options.note,
            "learned": "; ".join(item.words for item in trainer.learned()) if options.arm == "learned" else "",
        }  # fmt: skip
        print({name: row[name] for name in list(row)[:7]}, flush=True)
        append(row, options.table)


if __name__ == "__main__":
    main()
