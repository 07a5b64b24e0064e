"""The methods that are compared: augnet's, those of other libraries, and one written with autograd alone.

A method takes a problem, its hyperparameters and a start, and returns the hypergradient and where to start next time.
Other libraries are imported when they are called, since augnet does not need them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import grad

from augnet.implicit import (
    ConjugateGradient,
    Identity,
    InverseHessian,
    Neumann,
    Nystrom,
    Solution,
    hypergradient,
    hypergradient_by_differences,
    unrolled_hypergradient,
)
from augnet.recipe import Recipe

# Products that the peers spend, as in the paper.
PRODUCTS = 5
Slope = tuple[Tensor, Solution | None]


class AnyProblem(Protocol):
    """What a method may ask of a problem.

    Args:
        classifier: the network; only `higher` asks for it.
        weights: w, leaves that require gradients.
        step_size: α of a Neumann series with fixed steps, and of unrolled gradient descent.
    """

    classifier: nn.Module
    weights: list[Tensor]
    step_size: float

    def outputs_and_loss(self, hyper: Tensor, weights: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return the network's outputs and the training loss, at other weights if they are given."""

    def val_loss(self, weights: list[Tensor] | None = None) -> Tensor:
        """Return the validation loss, at other weights if they are given."""


def train_loss(problem: AnyProblem, hyper: Tensor, weights: list[Tensor] | None = None) -> Tensor:
    """Return the training loss alone."""
    return problem.outputs_and_loss(hyper, weights)[1]


@dataclass(frozen=True, kw_only=True)
class Implicit:
    """augnet's hypergradient.

    Args:
        inverse: the solver; a cold Neumann series takes the problem's step size.
        second: exact double backward passes, or forward or central differences of gradients.
        warm: start from the last solution.
        project: take out the response along the training gradient.
        epsilon: length of a difference, relative to the norm of the weights.
    """

    inverse: InverseHessian
    second: Literal["exact", "forward", "central"] = "exact"
    warm: bool = False
    project: bool = False
    epsilon: float = 0.01

    def __call__(self, problem: AnyProblem, hyper: Tensor, start: Solution | None) -> Slope:
        inverse = self.inverse
        if isinstance(inverse, Neumann) and not self.warm:
            inverse = replace(inverse, step_size=problem.step_size)
        settings: dict[str, Any] = {"start": start if self.warm else None, "project": self.project}
        if self.second == "exact":
            outputs, loss = problem.outputs_and_loss(hyper)
            found = hypergradient(
                loss, problem.val_loss(), problem.weights, [hyper], inverse, outputs=outputs, **settings
            )
        else:
            found = hypergradient_by_differences(
                partial(train_loss, problem, hyper), problem.val_loss(), problem.weights, [hyper], inverse,
                epsilon=self.epsilon, central=self.second == "central", **settings,
            )  # fmt: skip
        return found.gradients[0], found.solution


def unrolled(problem: AnyProblem, hyper: Tensor, start: Solution | None) -> Slope:
    """Differentiate through steps of gradient descent, all of them on this batch."""
    found = unrolled_hypergradient(
        partial(train_loss, problem, hyper), problem.val_loss, problem.weights, [hyper],
        steps=PRODUCTS, step_size=problem.step_size,
    )  # fmt: skip
    return found.gradients[0], None


def plain_neumann(problem: AnyProblem, hyper: Tensor, start: Solution | None) -> Slope:
    """Add five Neumann terms with nothing but autograd, as most implementations do."""
    weights, step_size = problem.weights, problem.step_size
    b = grad(problem.val_loss(), weights)
    g = grad(train_loss(problem, hyper), weights, create_graph=True)
    term = [part.detach() for part in b]
    total = term
    for _ in range(PRODUCTS):
        product = grad(g, weights, term, retain_graph=True)
        term = [t - step_size * h for t, h in zip(term, product, strict=True)]
        total = [s + t for s, t in zip(total, term, strict=True)]
    (mixed,) = grad(g, [hyper], [step_size * s for s in total])
    return -mixed, None


def by_torchopt(problem: AnyProblem, hyper: Tensor, start: Solution | None) -> Slope:
    """Let TorchOpt differentiate the root of the training gradient, by its own Neumann series."""
    from torchopt.diff.implicit import custom_root
    from torchopt.linear_solve import solve_inv

    def loss(weights: tuple[Tensor, ...], x: Tensor) -> Tensor:
        return train_loss(problem, x, list(weights))

    solve = solve_inv(ns=True, maxiter=PRODUCTS, alpha=problem.step_size)

    @custom_root(torch.func.grad(loss), argnums=1, solve=solve)
    def trained(weights: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, ...]:
        return weights

    found = trained(tuple(weight.detach() for weight in problem.weights), hyper)
    return grad(problem.val_loss(list(found)), [hyper])[0], None


def by_higher(problem: AnyProblem, hyper: Tensor, start: Solution | None) -> Slope:
    """Let higher differentiate through steps of SGD."""
    import higher

    optimiser = torch.optim.SGD(problem.weights, lr=problem.step_size)
    with higher.innerloop_ctx(problem.classifier, optimiser) as (model, descent):
        for _ in range(PRODUCTS):
            descent.step(train_loss(problem, hyper, list(model.parameters())))
        return grad(problem.val_loss(list(model.parameters())), [hyper])[0], None


class Method(NamedTuple):
    """What is compared.

    Args:
        call: of a problem, its hyperparameters and a start.
        formula: an exact method of augnet that answers the same question, for the reference in float64.
        needs: the library that it is, if it is not augnet.
        twin: the method of augnet that answers the same, where this is not one of them.
    """

    call: Callable[[AnyProblem, Tensor, Solution | None], Slope]
    formula: Callable[[AnyProblem, Tensor, Solution | None], Slope]
    needs: str = "augnet"
    twin: str = ""

    @property
    def warm(self) -> bool:
        """Whether it goes on from its last solution."""
        return isinstance(self.call, Implicit) and self.call.warm

    @property
    def installed(self) -> bool:
        """Whether the library that it needs is there."""
        return find_spec(self.needs) is not None


def methods(recipe: Recipe) -> dict[str, Method]:
    """Name every method; the first is the default of the recipe."""
    outer, single = recipe.outer, recipe.inverse_hessian
    default = Implicit(
        inverse=single, second="exact" if outer.second_derivative == "exact" else "forward", warm=True,
        project=outer.project, epsilon=outer.difference_step,
    )  # fmt: skip
    six = Neumann(steps=PRODUCTS + 1, step_size=1.0)  # its last product brings the mixed derivative with it
    ours = {
        "augnet's default": default,
        "the same, central differences": replace(default, second="central"),
        "the same, exact": replace(default, second="exact"),
        "the same, exact, not projected": replace(default, second="exact", project=False),
        "identity": Implicit(inverse=Identity()),
        "identity, projected": Implicit(inverse=Identity(), project=True),
        "Neumann, 5 products, cold": Implicit(inverse=six),
        "Neumann, 3 products, warm, projected": Implicit(inverse=Neumann(steps=3, alarm=3.0), warm=True, project=True),
        "Neumann on Gauss–Newton, 1, warm, projected": Implicit(
            inverse=Neumann(steps=1, curvature="gauss_newton"), warm=True, project=True
        ),
        "conjugate gradients, 5": Implicit(inverse=ConjugateGradient(steps=5)),
        "conjugate gradients on Gauss–Newton, 5": Implicit(
            inverse=ConjugateGradient(steps=5, curvature="gauss_newton")
        ),
        "Nyström, rank 5": Implicit(inverse=Nystrom(rank=5, rho=1.0)),
    }
    cold, steps = "Neumann, 5 products, cold", "unrolled, 5 steps"
    return {
        **{name: Method(method, replace(method, second="exact")) for name, method in ours.items()},
        steps: Method(unrolled, unrolled),
        "plain autograd, 5 Neumann products": Method(plain_neumann, ours[cold], twin=cold),
        "TorchOpt, 5 Neumann products": Method(by_torchopt, ours[cold], "torchopt", cold),
        "higher, 5 unrolled steps": Method(by_higher, unrolled, "higher", steps),
    }
