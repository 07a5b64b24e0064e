"""Hold every inverse-Hessian approximation against the exact answer, by the number of products it spends.

    python recipes/inverse_hessian.py [--products 1 2 5 10 20 50 100] [--out inverse_hessian.png]

Two classifiers of scikit-learn's tumours, trained to the minimum, with a weight decay for each weight (31 and 257). 10
seconds of one core. Relative error and cosine of the hypergradient, seed 0:

    products or steps      linear: 10      100             network: 10     100
    identity               0.99   0.17     the same        0.98   0.36     the same
    Neumann                0.88   0.48     0.09   1.00     0.92   0.55     0.65   0.80
    unrolled               0.88   0.48     0.09   1.00     0.92   0.55     0.65   0.80
    Nyström                2.2    0.03     0.72   0.74     2.0    0.46     0.68   0.74
    conjugate gradients    0.07   1.00     5e-15  1.00     0.48   0.88     2e-8   1.00
    time (ms), memory (kB) of 100: Neumann 50, 218; unrolled 106, 15,915 (network)

K Neumann terms are K unrolled steps, term by term, in half the time and in memory that does not grow. Conjugate
gradients are far ahead on small problems, where the Hessian is the same at every product.
"""

import argparse
import math
import time
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.autograd import grad
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import binary_cross_entropy_with_logits, cosine_similarity
from torch.optim import LBFGS
from tqdm import tqdm

from augnet import implicit
from augnet.implicit import Hypergradient, InverseHessian, flatten, hypergradient, unrolled_hypergradient

# Hidden units of each model.
MODELS = {"linear": [], "network": [8]}
# What spends K products, at a largest eigenvalue L.
METHODS: dict[str, Callable[[int, float], InverseHessian]] = {
    "identity": lambda K, L: implicit.Identity(),
    "Neumann": lambda K, L: implicit.Neumann(steps=K, step_size=1 / L),
    "conjugate gradients": lambda K, L: implicit.ConjugateGradient(steps=K),
    # Beyond the sketch, curvature is about that of the decays.
    "Nyström": lambda K, L: implicit.Nystrom(rank=K, rho=math.exp(-4)),
}
UNROLLED = "unrolled"


class Problem(NamedTuple):
    """A model at the minimum of its training loss, a log-decay per weight, and the Hessian's largest eigenvalue."""

    weights: list[Tensor]
    log_decays: list[Tensor]
    training_loss: Callable[[list[Tensor]], Tensor]
    validation_loss: Callable[[list[Tensor]], Tensor]
    largest: float

    def solve(self, inverse: InverseHessian) -> Hypergradient:
        losses = self.training_loss(self.weights), self.validation_loss(self.weights)
        return hypergradient(*losses, self.weights, self.log_decays, inverse)

    def answer(self, method: str, products: int) -> Tensor:
        """Compute the hypergradient, flat; unrolled steps have the step size of the Neumann series."""
        if method == UNROLLED:
            given = self.training_loss, self.validation_loss, self.weights, self.log_decays
            return flatten(unrolled_hypergradient(*given, steps=products, step_size=1 / self.largest).gradients)
        return flatten(self.solve(METHODS[method](products, self.largest)).gradients)


class Row(NamedTuple):
    """How far an approximation is from the exact answer, and what it cost.

    Args:
        products: Hessian-vector products, or unrolled steps.
        error, cosine: of the hypergradient; the error is relative.
        error_of_p: relative, of the inverse-Hessian-vector product; nan for unrolled steps, which have none.
        milliseconds: of one core, for the whole hypergradient.
        kilobytes: kept for backward passes.
    """

    products: int
    error: float
    cosine: float
    error_of_p: float
    milliseconds: float
    kilobytes: float


def problem(hidden: list[int], seed: int = 0) -> Problem:
    """Train a classifier of tumours in float64, with decays of about e⁻⁴ that differ from weight to weight."""
    table, malignant = load_breast_cancer(return_X_y=True)
    inputs, targets = torch.tensor(table), torch.tensor(malignant, dtype=torch.float64)
    inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    generator = torch.Generator().manual_seed(seed)
    train, held_out = torch.randperm(len(inputs), generator=generator).split([380, len(inputs) - 380])
    shapes = [shape for a, b in pairwise([inputs.shape[1], *hidden, 1]) for shape in ((a, b), (b,))]
    draws = [torch.randn(2, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    weights = [(draw[0] / len(draw[0]) ** 0.5).requires_grad_() for draw in draws]
    log_decays = [(draw[1] - 4).requires_grad_() for draw in draws]

    def validation_loss(weights: list[Tensor], rows: Tensor = held_out) -> Tensor:
        x = inputs[rows] @ weights[0] + weights[1]
        for matrix, bias in zip(weights[2::2], weights[3::2], strict=True):
            x = x.tanh() @ matrix + bias
        return binary_cross_entropy_with_logits(x[:, 0], targets[rows])

    def training_loss(weights: list[Tensor]) -> Tensor:
        return validation_loss(weights, train) + flatten(log_decays).exp() @ flatten(weights).square() / 2

    optimiser = LBFGS(weights, max_iter=2000, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = training_loss(weights)
        loss.backward(inputs=weights)
        return loss

    optimiser.step(closure)
    products = implicit.HessianProducts(grad(training_loss(weights), weights, create_graph=True), weights)
    largest, _ = implicit.largest_eigenvalue(products, flatten(weights).detach(), 100)
    return Problem(weights, log_decays, training_loss, validation_loss, largest)


def distance(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def kept(action: Callable[..., object], *arguments: object) -> float:
    """Count the kilobytes that autograd keeps for backward passes, every storage once."""
    storages = {}

    def pack(tensor: Tensor) -> Tensor:
        # The tensor itself is remembered, or its address could be given to another one.
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        action(*arguments)
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values()) / 1024


def compare(given: Problem, products: list[int]) -> dict[str, list[Row]]:
    """Measure every approximation, and unrolled steps, at each number of products."""
    best = given.solve(implicit.Exact())
    exact, p = flatten(best.gradients), best.solution.value
    found: dict[str, list[Row]] = {method: [] for method in (*METHODS, UNROLLED)}
    for method, number in tqdm([(method, number) for method in found for number in products]):
        began = time.process_time()
        answer = given.answer(method, number)
        spent = 1000 * (time.process_time() - began)
        error_of_p = math.nan
        if method != UNROLLED:
            error_of_p = distance(given.solve(METHODS[method](number, given.largest)).solution.value, p)
        cosine = float(cosine_similarity(answer, exact, 0))
        memory = kept(given.answer, method, number)
        found[method].append(Row(number, distance(answer, exact), cosine, error_of_p, spent, memory))
    return found


def draw(found: dict[str, dict[str, list[Row]]]) -> Figure:
    """Draw errors, cosine, time and memory of every approximation by the number of products."""
    figure = Figure(figsize=(14, 3 * len(found)), layout="constrained")
    fields = {"error": "relative error", "cosine": "cosine", "milliseconds": "time (ms)", "kilobytes": "memory (kB)"}
    for places, (model, methods) in zip(figure.subplots(len(found), 4, squeeze=False), found.items(), strict=True):
        for axes, (field, label) in zip(places, fields.items(), strict=True):
            for method, rows in methods.items():
                style = "k+" if method == UNROLLED else ".-"
                axes.plot([r.products for r in rows], [getattr(r, field) for r in rows], style, label=method)
            axes.set(xscale="log", xlabel="products or unrolled steps", ylabel=label, title=model)
            axes.set_yscale("linear" if field == "cosine" else "log")
        places[0].legend(frameon=False, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--products", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="inverse_hessian.png")
    options = parser.parse_args()
    found = {model: compare(problem(hidden, options.seed), options.products) for model, hidden in MODELS.items()}
    print(
        "| model | method | products | error of p | of the hypergradient | cosine | ms | kB kept |\n" + "|---" * 8 + "|"
    )
    for model, methods in found.items():
        for method, rows in methods.items():
            for r in rows:
                print(
                    f"| {model} | {method} | {r.products} | {r.error_of_p:.1e} | {r.error:.1e} | {r.cosine:.4f} | "
                    f"{r.milliseconds:.1f} | {r.kilobytes:.0f} |"
                )
    draw(found).savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
