"""How close differences of gradients come to double backward passes, by length of the step.

    python recipes/benchmarks/difference_step.py [path/to/gtsrb32] [--steps 200]

Trains jointly for some steps, then compares, at fixed weights, batch and noise, the Hessian product, the slope by
the augmented images and the gradient of the policy's biases with those of a double backward pass: cosines, for central
(two passes) and forward differences (one). The vector is the warm-started solution of the run. One thread.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import publish
from torch import Tensor

from augnet.data import source_from
from augnet.implicit import DifferenceProducts, HessianProducts, flatten
from augnet.recipe import Recipe
from augnet.training import IFTTrainer

EPSILONS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def rows(trainer: IFTTrainer) -> Iterator[dict[str, Any]]:
    """Compare every step, central and forward, at the trainer's state."""
    vector, weights = trainer.outer.solution.next, trainer.inner.weights
    images, labels, _ = next(trainer._streams()[0])
    torch.manual_seed(0)
    augmented, _ = trainer.augmenter.augment(images)
    cut = augmented.detach().requires_grad_()
    bias = trainer.augmenter.head.linear.bias
    trainer.classifier.train()

    def loss() -> Tensor:
        return F.cross_entropy(trainer.classifier(cut), labels)

    def policy(slope: Tensor) -> Tensor:
        return torch.autograd.grad(augmented, bias, slope, retain_graph=True)[0]

    g = torch.autograd.grad(loss(), weights, create_graph=True)
    exact = HessianProducts(g, weights, [cut], joint=1)
    product, (slope,) = exact(vector), exact.mixed(vector)
    here = [part.detach() for part in torch.autograd.grad(loss(), [*weights, cut])]
    for epsilon in EPSILONS:
        for name, known in (("central", None), ("forward", here)):
            found = DifferenceProducts(loss, weights, [cut], 1, epsilon, known)
            pairs = [(found(vector), product), (found.mixed(vector)[0], slope)]
            pairs.append((policy(pairs[1][0]), policy(slope)))
            cosines = [float(F.cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs]
            yield {
                "step / weights": epsilon, "differences": name, "Hessian product": cosines[0], "by images": cosines[1],
                "policy": cosines[2], "length, policy": float(pairs[2][0].norm() / pairs[2][1].norm()),
            }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Train, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default="digits")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    asked, settings = parser.parse_known_args(arguments)
    torch.set_num_threads(1)
    recipe = dataclasses.replace(Recipe.parse([*settings, "--device", "cpu"]), data=source_from(asked.data))
    trainer = IFTTrainer(recipe)
    trainer.fit(lambda progress: trainer.stop() if progress.step >= asked.steps else None)
    length, solution = flatten(trainer.inner.weights).detach().norm(), trainer.outer.solution.next.norm()
    note = f"{Path(asked.data).name}, step {trainer.step}, |w| {float(length):.1f}, |p| {float(solution):.2g}"
    publish(list(rows(trainer)), asked.csv, note)


if __name__ == "__main__":
    main()
