"""How well does each method follow a problem that moves, for what it costs?

    python recipes/benchmarks/following.py [--steps 200] [--out plot.png]

Logistic regression on scikit-learn's digits with one log-decay per weight, in float64: 640 weights, 640
hyperparameters. The decays move along the exact hypergradient by Adam, and the weights follow by a few steps of
gradient descent with momentum per outer step, so that they are never trained out. The truth at each outer step is the
hypergradient of weights that are, by Newton's method and a dense solve. All methods see one and the same path, once
with whole batches and once with batches of 64. The row of the dense inverse has the error of the batches and of the
weights that lag behind. *Units* are passes forward and backward, counted: 2 for the gradients of the two losses, 2 for
a product or mixed derivative by double backward, 3 for one with the Gauss–Newton matrix, 1 for a forward difference.
*error² × units* is what counts where many estimates are averaged. About a minute on one idle core.
"""

import argparse
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import publish
from outer_methods import PRODUCTS, Implicit, Method, methods
from solver_error import digits, digits_problem
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from augnet.implicit import Neumann, Solution
from augnet.recipe import Recipe

TRAIN, VAL, CLASSES = slice(0, 1000), slice(1000, 1400), 10


class Moment:
    """One outer step of the path, as the methods of `outer_methods` see it.

    Args:
        images, labels: of the training batch, (b, 64) and (b,).
        val_images, val_labels: of the validation batch.
        weights: w, (640,).
        decays: λ, (640,), logarithms.
        truth: the exact hypergradient, (640,).
        step_size: α for fixed steps.
    """

    classifier: nn.Module

    def __init__(
        self, batch: tuple[Tensor, Tensor], val_batch: tuple[Tensor, Tensor], weights: Tensor, decays: Tensor,
        truth: Tensor, step_size: float,
    ) -> None:  # fmt: skip
        (self.images, self.labels), (self.val_images, self.val_labels) = batch, val_batch
        self.weights, self.decays = [weights.clone().requires_grad_()], decays.clone().requires_grad_()
        self.truth, self.step_size = truth, step_size

    def outputs_and_loss(self, hyper: Tensor, weights: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return logits and the training loss of the batch."""
        (w,) = weights or self.weights
        logits = self.images @ w.view(-1, CLASSES)
        return logits, cross_entropy(logits, self.labels) + (hyper.exp() * w * w).sum() / 2

    def val_loss(self, weights: list[Tensor] | None = None) -> Tensor:
        """Return the validation loss of the batch."""
        (w,) = weights or self.weights
        return cross_entropy(self.val_images @ w.view(-1, CLASSES), self.val_labels)


def hessian(images: Tensor, weights: Tensor, decays: Tensor) -> Tensor:
    """Return the Hessian of the training loss, (640, 640)."""
    p = (images @ weights.view(-1, CLASSES)).softmax(dim=-1)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    dense = torch.einsum("ni,ncd,nj->icjd", images, middle / len(images), images)
    return dense.reshape(len(weights), len(weights)) + torch.diag(decays.exp())


def slope(images: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy by the weights, (640,)."""
    p = (images @ weights.view(-1, CLASSES)).softmax(dim=-1)
    return (images.T @ (p - one_hot(labels, CLASSES)) / len(images)).reshape(-1)


def path(steps: int, batch: int | None, inner: int = 5, seed: int = 0) -> Iterator[Moment]:
    """Yield the outer steps of a run; `batch` None is the whole data."""
    images, labels = digits(torch.float64)
    problem = digits_problem()
    generator = torch.Generator().manual_seed(seed)
    best = weights = problem.weights.detach()
    largest = float(torch.linalg.eigvalsh(problem.hessian)[-1])
    momentum = torch.zeros_like(weights)
    decays = problem.decays.detach().clone().requires_grad_()
    adam = torch.optim.Adam([decays], lr=0.02)

    def drawn(part: slice) -> tuple[Tensor, Tensor]:
        x, y = images[part], labels[part]
        chosen = torch.arange(len(x)) if batch is None else torch.randperm(len(x), generator=generator)[:batch]
        return x[chosen], y[chosen]

    for _ in range(steps):
        now = decays.detach()
        for _ in range(2):
            dense = hessian(images[TRAIN], best, now)
            best = best - torch.linalg.solve(dense, slope(images[TRAIN], labels[TRAIN], best) + now.exp() * best)
        b = slope(images[VAL], labels[VAL], best)
        truth = -now.exp() * best * torch.linalg.solve(hessian(images[TRAIN], best, now), b)
        for _ in range(inner):
            x, y = drawn(TRAIN)
            momentum = 0.9 * momentum + slope(x, y, weights) + now.exp() * weights
            weights = weights - 0.1 / largest * momentum
        yield Moment(drawn(TRAIN), drawn(VAL), weights, now, truth, 0.7 / largest)
        decays.grad = truth.clone()
        adam.step()


def dense_inverse(moment: Moment, decays: Tensor, start: Solution | None) -> tuple[Tensor, None]:
    """Solve with the exact Hessian of the batch, at the weights as they are."""
    (w,) = moment.weights
    b = slope(moment.val_images, moment.val_labels, w.detach())
    return -decays.exp() * w * torch.linalg.solve(hessian(moment.images, w.detach(), decays.detach()), b), None


class Followed(NamedTuple):
    """How a method did.

    Args:
        errors: relative to the truth, step by step.
        cosines: with the truth, step by step.
        units: passes forward and backward per step, the mean.
    """

    errors: list[float]
    cosines: list[float]
    units: float


def follow(moments: list[Moment], method: Method) -> Followed:
    """Ask a method at every step, each time from where it left off."""
    start, errors, cosines, units = None, [], [], 0.0
    for moment in moments:
        hyper = moment.decays
        found, start = method.call(moment, hyper, start)
        found = found.detach()
        errors.append(float((found - moment.truth).norm() / moment.truth.norm()))
        cosines.append(float(torch.cosine_similarity(found, moment.truth, dim=0)))
        units += passes(method, 0 if start is None else start.products)
    return Followed(errors, cosines, units / len(moments))


def passes(method: Method, products: int) -> float:
    """Count the passes of one outer step; the mixed derivative comes with the last product of a Neumann series."""
    if method.call is dense_inverse:
        return math.nan
    if not isinstance(method.call, Implicit):
        # Unrolled: a gradient and a double backward pass for each step, and a validation gradient.
        return 1 + 3 * PRODUCTS
    inverse = method.call.inverse
    each = {"forward": 1, "central": 2, "exact": 2}[method.call.second]
    if inverse.curvature == "gauss_newton":
        return 2 + 3 * products + each
    return 2 + each * products + each * (not isinstance(inverse, Neumann))


def rows(name: str, moments: list[Moment]) -> Iterator[dict[str, Any]]:
    """Yield a row for every method."""
    known = {**methods(Recipe()), "dense inverse": Method(dense_inverse, dense_inverse)}
    # Written by others or by hand, the same series gives the same numbers.
    for method, how in ((method, how) for method, how in known.items() if not how.twin):
        found = follow(moments, how)
        mean = statistics.fmean(found.errors)
        yield {
            "batches": name, "method": method, "units": found.units, "error": mean,
            "error, last quarter": statistics.fmean(found.errors[-len(moments) // 4 :]),
            "cosine": statistics.fmean(found.cosines),
            "error² × units": statistics.fmean(e * e for e in found.errors) * found.units,
        }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--out", type=Path, help="picture to draw")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found = [row for name, batch in (("whole", None), ("64", 64)) for row in rows(name, list(path(asked.steps, batch)))]
    publish(found, asked.csv)
    if asked.out:
        draw(found, asked.out)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the error over the cost, whole batches and small ones side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    names = list(dict.fromkeys(row["batches"] for row in rows))
    for axes, name in zip(figure.subplots(1, len(names)), names, strict=True):
        for row in (row for row in rows if row["batches"] == name):
            axes.plot(row["units"], row["error"], "o", color="tab:blue")
            axes.annotate(row["method"], (row["units"], row["error"]), fontsize=6)
        axes.set(xlabel="passes per outer step", ylabel="relative error", title=f"batches: {name}", yscale="log")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
