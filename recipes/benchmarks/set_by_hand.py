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
from typing import Any

import torch
from measuring import append

from augnet.augmenter import Augmenter, AugmenterConfig, default_transforms
from augnet.augmenter.policy import GAIN, LEAST_PROBABILITY
from augnet.compare.arm import Arm
from augnet.compare.bench import Bench
from augnet.compare.learned import Learned
from augnet.compare.naming import arm_named
from augnet.compare.retraining import Result, Training, key_of, retrain
from augnet.data import source_from
from augnet.recipe import Recipe
from augnet.training import IFTTrainer
from augnet.transforms import named


def by_hand(
    probabilities: dict[str, float], without: list[str], channels: int, spread: float | None = None
) -> Augmenter:
    """Make the augmenter of the default start, but for some probabilities, and perhaps the spread of all transforms.

    Raises:
        ValueError: if one that is to be left out is not a default transform, or there is none of that name.
    """
    names = [type(t).__name__ for t in default_transforms()]
    if strange := [name for name in without if name not in names]:
        raise ValueError(f"{strange[0]} is none of the default transforms, which are {', '.join(names)}")
    members = [t for t in default_transforms() if type(t).__name__ not in without]
    members += [named(name)() for name in probabilities if name not in names]
    config = AugmenterConfig(transforms=members)
    augmenter = Augmenter(config if spread is None else dataclasses.replace(config, start_spread=spread), channels)
    for k, transform in enumerate(augmenter.transforms):
        asked = probabilities.get(type(transform).__name__)
        if asked is not None:
            share = torch.tensor((asked - LEAST_PROBABILITY) / (1 - 2 * LEAST_PROBABILITY))
            row = 2 * len(augmenter.transforms) + k
            augmenter.head.linear.bias.data[row] = torch.logit(share, eps=1e-4) / GAIN
    return augmenter


def bench_of(options: argparse.Namespace, settings: list[str]) -> tuple[Bench, dict[str, float]]:
    """Make what trainings share, from a run of one step; and read the probabilities that --set names."""
    source = source_from(options.data)
    source = dataclasses.replace(source, test_size=0.5, train_size=options.train, val_size=options.val)
    recipe = Recipe.parse([*settings, "--seed", str(options.split), "--device", "cpu"])
    short = dataclasses.replace(recipe.schedule, inner_steps=1, warmup=0)
    with tempfile.TemporaryDirectory() as folder:
        run = IFTTrainer(dataclasses.replace(recipe, data=source, schedule=short), out=Path(folder) / "run").fit()
        bench = dataclasses.replace(Bench.of_run(run), recipe=dataclasses.replace(recipe, data=source))
    return bench, {name: float(p) for name, p in (each.split("=") for each in options.set)}


def retrained(bench: Bench, arm: Arm, seed: int, augmenter: Augmenter | None = None) -> Result:
    """Retrain with an arm; the learned one is what `augmenter` does."""
    bench = bench if augmenter is None else dataclasses.replace(bench, augmenter=augmenter)
    (found,) = retrain(bench, Training(arm, bench.recipe.schedule.inner_steps, seed, 1, key_of(bench, arm)))
    return found


def given_data(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """Add the options that say what is trained on."""
    parser.add_argument("data", **settings)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=P")
    parser.add_argument("--without", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--split", type=int, default=11)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=1000)


def parsed(parser: argparse.ArgumentParser, arguments: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read options, and settings of the recipe behind them."""
    options, settings = parser.parse_known_args(arguments)
    if strange := [each for each in options.set if not re.fullmatch(r"\w+=(0|1|0?\.\d+|1\.0*)", each)]:
        parser.error(f"--set takes NAME=P with P from 0 to 1, such as MirrorLeftRight=0.5, found {strange[0]!r}")
    if both := {each.split("=")[0] for each in options.set} & set(options.without):
        parser.error(f"{min(both)} is named by --set and by --without; leave it out of one of them")
    return options, settings


def main(arguments: list[str] | None = None) -> None:
    """Retrain, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given_data(parser)
    parser.add_argument("--arm", help="of augnet compare, in place of a policy set by hand")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", type=Path, default=Path("set_by_hand.csv"))
    options, settings = parsed(parser, arguments)
    if options.arm and (options.set or options.without):
        parser.error("--arm is in place of a policy set by hand; leave out --set and --without, or --arm")
    torch.set_num_threads(1)
    bench, probabilities = bench_of(options, settings)
    arm = Learned() if options.arm is None else arm_named(options.arm)
    words = ["start", *options.set, *(f"no {name}" for name in options.without)]
    policy = ", ".join(words) if options.arm is None else arm.name
    augmenter = by_hand(probabilities, options.without, bench.augmenter.channels) if options.arm is None else None
    for seed in options.seeds:
        found = retrained(bench, arm, seed, augmenter)
        row = {
            "data": Path(options.data).stem, "policy": policy, "seed": seed, "steps": found.steps,
            "accuracy": round(100 * found.measures.accuracy, 2), "loss": round(found.measures.loss, 4),
        }  # fmt: skip
        print(row, flush=True)
        append(row, options.table)


if __name__ == "__main__":
    main()
