"""How wrong is each inverse-Hessian approximation, by the number of products it spends?

    python recipes/benchmarks/solver_error.py [--minibatch]

The first table: scikit-learn's digits, logistic regression, one log-decay per weight, trained to the minimum by Newton
steps, so the exact hypergradient is one dense solve away. The warm rows start from the exact solution for decays that
differ by 2 %, the last of a run's previous outer step. The second (`--minibatch`, a minute): a small network followed
over 1,000 warm solves with a new batch each, and the cosine with the exact hypergradient of all example weights.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.autograd import grad
from torch.func import grad as gradient_of
from torch.func import hessian, vmap
from torch.nn.functional import cross_entropy

from augnet.implicit import (
    ConjugateGradient,
    HessianProducts,
    Identity,
    InverseHessian,
    Neumann,
    Nystrom,
    Solution,
    hypergradient,
    jacobi_diagonal,
)
from augnet.implicit import inverse as inverse_module

PRODUCTS = (1, 5, 20, 100)


class Problem(NamedTuple):
    """A trained model and its exact answers.

    Args:
        images, labels: first 1,000 train, the next 400 validate.
        weights: at the minimum of the training loss, (640,).
        decays: logarithm of each weight's decay, (640,).
        hessian: dense, (640, 640).
        exact: the exact hypergradient, (640,).
    """

    images: Tensor
    labels: Tensor
    weights: Tensor
    decays: Tensor
    hessian: Tensor
    exact: Tensor

    def train_loss(self, weights: Tensor) -> Tensor:
        return train_loss_of(self.images, self.labels, self.decays, weights)

    def val_loss(self, weights: Tensor) -> Tensor:
        return cross_entropy(self.images[1000:1400] @ weights.view(64, 10), self.labels[1000:1400])

    def error(self, inverse: InverseHessian, start: Solution | None = None, diagonal: Tensor | None = None) -> float:
        """Return the relative error of the hypergradient."""
        loss, val_loss = self.train_loss(self.weights), self.val_loss(self.weights)
        found = hypergradient(loss, val_loss, [self.weights], [self.decays], inverse, start=start, diagonal=diagonal)
        return float((found.gradients[0] - self.exact).norm() / self.exact.norm())


def digits(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Load the digits in a fixed order: pixels in [0, 1], (1797, 64), and labels."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return (torch.tensor(images, dtype=dtype) / 16)[order], torch.tensor(labels)[order]


def train_loss_of(images: Tensor, labels: Tensor, decays: Tensor, weights: Tensor) -> Tensor:
    """Return the training loss of logistic regression with one log-decay per weight, on the first 1,000 images."""
    fit = cross_entropy(images[:1000] @ weights.view(64, 10), labels[:1000])
    return fit + (decays.exp() * weights * weights).sum() / 2


def digits_problem() -> Problem:
    """Train logistic regression on digits to its minimum, in float64; its Hessian has condition 735."""
    images, labels = digits(torch.float64)
    spread = torch.randn(640, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    decays = (math.log(0.03) + spread).requires_grad_()

    def loss(weights: Tensor) -> Tensor:
        return train_loss_of(images, labels, decays.detach(), weights)

    weights = torch.zeros(640, dtype=torch.float64)
    for _ in range(7):
        dense = hessian(loss)(weights)
        weights = weights - torch.linalg.solve(dense, gradient_of(loss)(weights))
    problem = Problem(images, labels, weights.requires_grad_(), decays, dense, weights.detach())
    (b,) = grad(problem.val_loss(weights), weights)
    # ∂²L/∂w∂λ is diagonal: exp(λ) w.
    exact = -(decays.exp() * weights).detach() * torch.linalg.solve(dense, b)
    return problem._replace(exact=exact)


def warm_start(problem: Problem) -> Solution:
    """Solve exactly for a Hessian and a right side that are a little off, as the last outer step's were."""
    generator = torch.Generator().manual_seed(1)
    drift = 1 + 0.02 * torch.randn(640, generator=generator, dtype=torch.float64)
    dense = problem.hessian + torch.diag(problem.decays.detach().exp() * (drift - 1))
    (b,) = grad(problem.val_loss(problem.weights), problem.weights)
    p = torch.linalg.solve(dense, b)
    return Solution(p, p, torch.tensor(0.0), products=0)


def rows(problem: Problem) -> Iterator[tuple[str, list[float]]]:
    """Yield the name and the errors at 1, 5, 20 and 100 products of every method."""
    largest = float(torch.linalg.eigvalsh(problem.hessian)[-1])
    start = warm_start(problem)
    long, short = Neumann(step_size=1.9 / largest), Neumann(step_size=1 / largest)
    gradients = ConjugateGradient()
    yield "identity, any", [problem.error(Identity())] * len(PRODUCTS)
    yield "Neumann, 1/L", [problem.error(replace(short, steps=k)) for k in PRODUCTS]
    yield "Neumann, 1.9/L", [problem.error(replace(long, steps=k)) for k in PRODUCTS]
    yield "Neumann, automatic (5 probes besides)", [problem.error(Neumann(steps=k)) for k in PRODUCTS]
    yield "conjugate gradients", [problem.error(replace(gradients, steps=k)) for k in PRODUCTS]
    exact = problem.hessian.diagonal()
    yield "conjugate gradients, Jacobi", [problem.error(replace(gradients, steps=k), None, exact) for k in PRODUCTS]
    for probes in (10, 100, 1000):
        generator = torch.Generator().manual_seed(0)
        rough = jacobi_diagonal(lambda v: problem.hessian @ v, problem.exact, probes, generator)
        errors = [problem.error(replace(gradients, steps=k), None, rough) for k in PRODUCTS]
        yield f"the same, diagonal from {probes} probes besides", errors
    yield (
        "Nyström, best ρ",
        [min(problem.error(Nystrom(rank=k, rho=10.0**e)) for e in (-3.0, -2.5, -2.0, -1.5, -1.0)) for k in PRODUCTS],
    )
    yield "Neumann, 1.9/L, warm", [problem.error(replace(long, steps=k), start) for k in PRODUCTS]
    # A warm start spends its first product on the residual.
    yield "conjugate gradients, warm", [problem.error(replace(gradients, steps=max(k - 1, 1)), start) for k in PRODUCTS]


def minibatch_rows(seed: int = 0, solves: int = 1000) -> Iterator[tuple[str, list[float]]]:
    """Yield the mean and the worst cosine, and the share of diverged solves, of every method on one training path."""
    images, labels = digits(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    shapes = [(64, 16), (16,), (16, 10), (10,)]
    sizes = [math.prod(shape) for shape in shapes]

    def loss(weights: Tensor, x: Tensor, y: Tensor, decay: float = 0.0) -> Tensor:
        a, b, c, d = (part.view(shape) for part, shape in zip(weights.split(sizes), shapes, strict=True))
        return cross_entropy(torch.tanh(x @ a + b) @ c + d, y) + decay / 2 * weights @ weights

    weights = torch.cat([torch.randn(size, generator=generator) / math.sqrt(64) for size in sizes])
    momentum = torch.zeros_like(weights)
    path, exact = [], {}
    for step in range(2 * solves):
        batch, held_out = (torch.randint(*r, (64,), generator=generator) for r in ((0, 1000), (1000, 1400)))
        x = images[batch] + 0.3 * torch.randn(64, 64, generator=generator)
        if step % 2 == 0:
            path.append((weights, x, labels[batch], images[held_out], labels[held_out]))
        if step % 250 == 248:
            # Noise drawn four times per image stands for its expectation; |λ| + 10⁻³ keeps the exact answer finite.
            noisy = images[:1000].repeat(4, 1) + 0.3 * torch.randn(4000, 64, generator=generator)
            dense = hessian(loss)(weights, noisy, labels[:1000].repeat(4), 1e-3).double()
            values, vectors = torch.linalg.eigh(dense)
            b = gradient_of(loss)(weights, images[1000:1400], labels[1000:1400])
            p = (vectors @ ((vectors.T @ b.double()) / (values.abs() + 1e-3))).float()
            per_example = vmap(gradient_of(loss), (None, 0, 0))(weights, images[:1000, None], labels[:1000, None])
            exact[step // 2] = (per_example, per_example @ p)
        momentum = 0.9 * momentum + gradient_of(loss)(weights, x, labels[batch], 1e-3)
        weights = weights - 0.1 * momentum

    def follow(inverse: InverseHessian, cold: bool = False) -> list[float]:
        solution, cosines, diverged = None, [], 0
        for number, (w, x, y, val_x, val_y) in enumerate(path):
            w = w.clone().requires_grad_()
            (g,) = grad(loss(w, x, y, 1e-3), w, create_graph=True)
            (b,) = grad(loss(w, val_x, val_y), w)
            solution = inverse.solve(HessianProducts([g], [w]), b, None if cold else solution)
            diverged += solution.diverged
            if number in exact:
                per_example, answer = exact[number]
                cosines.append(float(torch.cosine_similarity(per_example @ solution.value, answer, 0)))
        return [sum(cosines) / len(cosines), min(cosines), diverged / len(path)]

    yield "identity", follow(Identity())
    yield "Neumann, 5 products, cold, α = 0.2", follow(Neumann(steps=5, step_size=0.2), cold=True)
    usual = inverse_module.SAFETY
    for share in (0.5, usual, 1.0, 1.5):
        inverse_module.SAFETY = share
        yield f"Neumann, 1 product, warm, α = {share} / λ_max", follow(Neumann(steps=1))
    inverse_module.SAFETY = usual
    for damping in (0.01, 0.1):
        yield f"the same, α = {usual} / λ_max, damping {damping}", follow(Neumann(steps=1, damping=damping))
    yield "Neumann, 3 products, warm", follow(Neumann(steps=3))
    yield "conjugate gradients, 3 steps, warm", follow(ConjugateGradient(steps=3))


def main() -> None:
    """Print the tables, and write them."""
    # Here, so that a test can run this file by its path alone.
    from measuring import publish

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minibatch", action="store_true", help="the second table too; takes a minute or two")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    tables = {"whole batch, relative error by products": (map(str, PRODUCTS), rows(digits_problem()))}
    if options.minibatch:
        tables["minibatches, cosine with the exact answer"] = (("mean", "worst", "diverged"), minibatch_rows())
    found = [
        {"problem": problem, "method": name, **dict(zip(columns, values, strict=True))}
        for problem, (titles, lines) in tables.items()
        for columns in [list(titles)]
        for name, values in lines
    ]
    publish(found, options.csv)


if __name__ == "__main__":
    main()
