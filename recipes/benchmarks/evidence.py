"""How clearly hypergradients say what they want: their t values along a training whose policy is held still.

    python recipes/benchmarks/evidence.py path/to/signs.npz --train 2000 --val 1000 --inner.precision bfloat16

One training, frozen at the start, and at every outer step several estimators side by side, on the same images and with
the same draws. The t value of an entry is the mean of all its hypergradients in their standard errors, as
`ShrinkingAdam` takes it of those so far; positive where the entry wants more. *Root mean square* is that of the t
values of all entries, which is about 1 where there is nothing but noise (what has no sign counts twice, by probability
and by spread); *cost* is processor time in units of an inner step, first products included. `--first` and `--every` say
when. Give it training images alone: half of them are set apart.
"""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from measuring import publish, seconds
from torch import Tensor

from augnet.data import source_from
from augnet.recipe import Recipe
from augnet.training import IFTTrainer
from augnet.training.outer import OuterLevel, TrainingGradient

Answer = TypeVar("Answer")
MANY, FOUR = "four validation batches", 4
# What each estimator has of its own: settings of the recipe.
ESTIMATORS: dict[str, list[str]] = {
    "default": [],
    MANY: [],
    "exact": ["--outer.second_derivative=exact"],
    "exact, not projected": ["--outer.second_derivative=exact", "--outer.project=false"],
    "identity, projected": ["--outer.second_derivative=exact", "--inverse_hessian=Identity"],
}


class Observed(IFTTrainer):
    """A trainer whose augmenter stays as it is, and whose outer steps ask every estimator.

    Attributes:
        levels: an outer level for each estimator.
        gradients: by the biases of the policy, one row per outer step; of every estimator.
        times: processor seconds of every estimator's outer steps, and of inner steps.
    """

    def __init__(self, recipe: Recipe, estimators: dict[str, Recipe]) -> None:
        super().__init__(recipe)
        self.levels = {
            name: OuterLevel(self.augmenter, each, self.inner, self.watch.sample) for name, each in estimators.items()
        }
        self.gradients: dict[str, list[Tensor]] = defaultdict(list)
        self.times: dict[str, list[float]] = defaultdict(list)

    def inner_step(self, batch: tuple[Tensor, Tensor]) -> float:
        return self._timed("inner step", partial(super().inner_step, batch))

    def outer_step(self, batch: tuple[Tensor, Tensor], val_batch: tuple[Tensor, Tensor]) -> tuple[float, float]:
        draws, buffers = torch.get_rng_state(), [buffer.clone() for buffer in self.classifier.buffers()]
        found: list[TrainingGradient] = []
        bias = self.augmenter.head.linear.bias if self.augmenter.head else None
        assert bias is not None
        for name, level in self.levels.items():
            torch.set_rng_state(draws)
            bias.grad = None
            for buffer, kept in zip(self.classifier.buffers(), buffers, strict=True):
                buffer.copy_(kept)
            share = tuple(each[: level.schedule.val_batch_size] for each in val_batch)
            found.append(self._timed(name, partial(level.step, self.step, batch, share, self.step)))
            if bias.grad is not None:
                self.gradients[name].append(bias.grad.clone())
        return self.inner.descend(self.step, found[0].gradients, found[0].loss), found[0].val_loss

    def _timed(self, name: str, call: Callable[[], Answer]) -> Answer:
        answers: list[Answer] = []
        self.times[name].append(seconds(lambda: answers.append(call())))
        return answers[0]


def t_values(gradients: Float[Tensor, "n e"]) -> Float[Tensor, "e"]:
    """Say how far the mean of each column is below 0, in standard errors; 0 where all are 0."""
    error = gradients.std(0) / len(gradients) ** 0.5
    return torch.where(error > 0, -gradients.mean(0) / error, 0)


def rows_of(trainer: Observed) -> list[dict[str, object]]:
    """Put what was seen into a table: a row for each entry of the policy, and some for all of them."""
    transforms = trainer.augmenter.transforms
    count = len(transforms)
    magnitudes = torch.tensor([not transform.choice for transform in transforms])
    rows: dict[str, dict[str, object]] = defaultdict(dict)
    plain = sum(trainer.times["inner step"]) / len(trainer.times["inner step"])
    for name, each in trainer.gradients.items():
        gradients = torch.stack(each)
        _, spread, probability = gradients.split(count, dim=1)
        sums = torch.stack([spread[:, magnitudes].sum(1), probability[:, magnitudes].sum(1)], 1)
        found = zip(["spread of all", "probability of all but choices"], t_values(sums).tolist(), strict=True)
        entries = [(f"{t.label}, probability", v) for t, v in zip(transforms, t_values(probability), strict=True)]
        entries += [
            (f"{t.label}, spread", v) for t, v, has in zip(transforms, t_values(spread), magnitudes, strict=True) if has
        ]
        values = torch.stack([value for _, value in entries])
        for label, value in [
            *found, *((label, float(value)) for label, value in entries),
            ("root mean square", float(values.square().mean().sqrt())),
            ("cost", sum(trainer.times[name]) / len(each) / plain),
        ]:  # fmt: skip
            rows[label][name] = value
    return [{"t value of": label, **row} for label, row in rows.items()]


def main(arguments: list[str] | None = None) -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--split", type=int, default=21)
    parser.add_argument("--first", type=int, default=100, help="classifier update at which to begin")
    parser.add_argument("--every", type=int, default=8, help="classifier updates from one to the next")
    parser.add_argument("--estimators", nargs="+", default=list(ESTIMATORS), choices=list(ESTIMATORS))
    parser.add_argument("--csv", type=Path, default=Path("evidence.csv"))
    options, settings = parser.parse_known_args(arguments)
    torch.set_num_threads(1)
    source = dataclasses.replace(
        source_from(options.data), test_size=0.5, train_size=options.train, val_size=options.val
    )
    common = [
        *settings, f"--seed={options.split}", "--device=cpu", "--outer.learning_rate=0", "--outer.use_price=0",
        f"--schedule.warmup={options.first}", f"--schedule.outer_every={options.every}",
    ]  # fmt: skip
    recipes = {name: Recipe.parse([*common, *ESTIMATORS[name]]) for name in options.estimators}
    recipe = Recipe.parse(common)
    if recipe.outer.label_safety:
        parser.error("nothing follows the classifier here, as label safety needs; leave outer.label_safety out")
    # Always drawn in fours, so that all have the same images whoever is asked.
    many = dataclasses.replace(recipe.schedule, val_batch_size=FOUR * recipe.schedule.val_batch_size)
    recipe = dataclasses.replace(recipe, schedule=many)
    if MANY in recipes:
        recipes[MANY] = recipe
    trainer = Observed(dataclasses.replace(recipe, data=source), recipes)
    trainer.fit()
    steps = len(next(iter(trainer.gradients.values())))
    publish(rows_of(trainer), options.csv, f"{Path(options.data).stem}, {steps} outer steps from {options.first} on")


if __name__ == "__main__":
    main()
