"""Plant an augmentation in the validation images and see whether it is found.

    python recipes/planted_truth.py --plant rotation mirror brightness --seeds 0 1 2

Training digits are left as they are. Validation digits are the same digits, turned by up to ±30°, mirrored with
probability 0.5, or made brighter and darker by up to ±0.4 of full scale. So the augmentation that the validation loss
wants is known, and nothing else is worth much: there is nothing to generalise to. All other transforms of the default
augmenter are there too, and should end small. A transform of spread s that is applied with probability p has the
standard deviation of one of spread s √p that always is: that is compared with the truth. "Use" is the reach, as a share
of the limit, times how often; it starts at 0.18. Settings of the recipe may follow. About a minute per run on one core.
"""

import argparse
import dataclasses

import torch

from augnet import transforms as tf
from augnet.augmenter import Learned, default_transforms
from augnet.data import Digits, ImageSet, from_datasets
from augnet.recipe import Recipe
from augnet.training import IFTTrainer

# What is planted: a transform, its greatest amount, and the augmenter's member that can undo the difference. The
# member's limit is twice the truth, so that too much can be learned as well as too little.
PLANTS = {
    "rotation": (tf.Rotate(limit=60.0), 30.0),
    "mirror": (tf.MirrorLeftRight(), 0.5),
    "brightness": (tf.Brightness(limit=0.8), 0.4),
}

# Amounts are read off one run, so noise counts: four times as many augmenter updates as by default.
SETTINGS = ["--schedule.outer_every=2", "--augmenter.start_probability=0.3"]


def plant(name: str, images: ImageSet, seed: int) -> ImageSet:
    """Change every image by an amount of its own: uniform up to the truth, or done with that probability."""
    transform, truth = PLANTS[name]
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(len(images), generator=generator)
    amount = (uniform < truth).float() if transform.choice else truth * (2 * uniform - 1)
    changed = transform(images.images.float() / 255, amount)
    return ImageSet((changed * 255).round().to(torch.uint8), images.labels)


def learn(name: str, settings: Recipe) -> tuple[Learned, list[Learned]]:
    """Train on planted digits; return what was learned of the planted transform, and of the others."""
    seed = settings.seed
    splits = Digits().load(seed)
    transform, _ = PLANTS[name]
    members = [transform if type(t) is type(transform) else t for t in default_transforms()]
    recipe = dataclasses.replace(
        settings,
        data=from_datasets(splits.train, plant(name, splits.train, seed), plant(name, splits.test, seed + 1)),
        augmenter=dataclasses.replace(settings.augmenter, transforms=members),
    )
    trainer = IFTTrainer(recipe)
    trainer.fit()
    learned = trainer.learned()
    (found,) = [item for item in learned if item.transform == transform]
    return found, [item for item in learned if item.transform != transform]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plant", nargs="+", default=list(PLANTS), choices=list(PLANTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options, settings = parser.parse_known_args()
    torch.set_num_threads(options.threads)
    print("| plant | seed | truth | found | centre | mean use of the others | largest other |")
    print("|---|---|---|---|---|---|---|")
    for name in options.plant:
        for seed in options.seeds:
            found, others = learn(name, Recipe.parse([*SETTINGS, *settings, f"--seed={seed}"]))
            value = found.probability if found.transform.choice else found.spread * found.probability**0.5
            largest = max(others, key=lambda item: item.use)
            mean = sum(item.use for item in others) / len(others)
            print(
                f"| {name} | {seed} | {PLANTS[name][1]:g} | {value:.3g} | {found.centre:+.2g} | {mean:.2f} | "
                f"{largest.words} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
