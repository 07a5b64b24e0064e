"""Test accuracy of classifiers retrained with a policy that was set by hand: what a start is worth.

    python recipes/benchmarks/set_by_hand.py path/to/signs.npz --set MirrorLeftRight=0.01 TranslateX=0.3 --seeds 0 1 2
    python recipes/benchmarks/set_by_hand.py path/to/signs.npz --arm RandAugment --seeds 0 1 2

The policy is the default start without the transforms that `--without` names, and with the probabilities that `--set`
names; what `--set` names and is not among the default transforms is added. Nothing is learned. Give it training images
alone: it sets half of them apart to test on (of grouped images, other groups), and retrains on 2,000 and 1,000 of the
rest, so defaults can be chosen by it and no test image takes part. `--split` cuts anew. One thread. Appends a row per
training to --table. Settings of the recipe may follow, such as `--inner.precision bfloat16
--schedule.inner_steps 1500`.
"""

import argparse
import dataclasses
import re
import tempfile
from pathlib import Path

import torch
from measuring import append

from augnet.augmenter import Augmenter, AugmenterConfig, default_transforms
from augnet.augmenter.policy import GAIN, LEAST_PROBABILITY
from augnet.compare.bench import Bench
from augnet.compare.learned import Learned
from augnet.compare.naming import arm_named
from augnet.compare.retraining import Training, key_of, retrain
from augnet.data import source_from
from augnet.recipe import Recipe
from augnet.training import IFTTrainer
from augnet.transforms import named


def by_hand(probabilities: dict[str, float], without: list[str], channels: int) -> Augmenter:
    """Make the augmenter of the default start, but for some probabilities.

    Raises:
        ValueError: if one that is to be left out is not a default transform, or there is none of that name.
    """
    names = [type(t).__name__ for t in default_transforms()]
    if strange := [name for name in without if name not in names]:
        raise ValueError(f"{strange[0]} is none of the default transforms, which are {', '.join(names)}")
    members = [t for t in default_transforms() if type(t).__name__ not in without]
    members += [named(name)() for name in probabilities if name not in names]
    augmenter = Augmenter(AugmenterConfig(transforms=members), channels)
    for k, transform in enumerate(augmenter.transforms):
        asked = probabilities.get(type(transform).__name__)
        if asked is not None:
            share = torch.tensor((asked - LEAST_PROBABILITY) / (1 - 2 * LEAST_PROBABILITY))
            row = 2 * len(augmenter.transforms) + k
            augmenter.head.linear.bias.data[row] = torch.logit(share, eps=1e-4) / GAIN
    return augmenter


def bench_of(recipe: Recipe) -> Bench:
    """Make what trainings share, from a run of one step."""
    short = dataclasses.replace(recipe.schedule, inner_steps=1, warmup=0)
    with tempfile.TemporaryDirectory() as folder:
        run = IFTTrainer(dataclasses.replace(recipe, schedule=short), out=Path(folder) / "run").fit()
        return Bench.of_run(run)


def main(arguments: list[str] | None = None) -> None:
    """Retrain, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=P")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--arm", help="of augnet compare, in place of a policy set by hand")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--split", type=int, default=11)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--table", type=Path, default=Path("set_by_hand.csv"))
    options, settings = parser.parse_known_args(arguments)
    if options.arm and (options.set or options.without):
        parser.error("--arm is in place of a policy set by hand; leave out --set and --without, or --arm")
    if strange := [each for each in options.set if not re.fullmatch(r"\w+=(0|1|0?\.\d+|1\.0*)", each)]:
        parser.error(f"--set takes NAME=P with P from 0 to 1, such as MirrorLeftRight=0.5, found {strange[0]!r}")
    if both := {each.split("=")[0] for each in options.set} & set(options.without):
        parser.error(f"{min(both)} is named by --set and by --without; leave it out of one of them")
    torch.set_num_threads(1)
    source = source_from(options.data)
    source = dataclasses.replace(source, test_size=0.5, train_size=options.train, val_size=options.val)
    recipe = Recipe.parse([*settings, "--seed", str(options.split), "--device", "cpu"])
    recipe = dataclasses.replace(recipe, data=source)
    bench = bench_of(recipe)
    arm = Learned() if options.arm is None else arm_named(options.arm)
    words = ["start", *options.set, *(f"no {name}" for name in options.without)]
    policy = ", ".join(words) if options.arm is None else arm.name
    if options.arm is None:
        probabilities = {name: float(p) for name, p in (each.split("=") for each in options.set)}
        augmenter = by_hand(probabilities, options.without, bench.augmenter.channels)
        bench = dataclasses.replace(bench, augmenter=augmenter)
    for seed in options.seeds:
        (found,) = retrain(bench, Training(arm, recipe.schedule.inner_steps, seed, 1, key_of(bench, arm)))
        row = {
            "data": Path(options.data).stem, "policy": policy, "seed": seed, "steps": found.steps,
            "accuracy": round(100 * found.measures.accuracy, 2), "loss": round(found.measures.loss, 4),
        }  # fmt: skip
        print(row, flush=True)
        append(row, options.table)


if __name__ == "__main__":
    main()
