"""Weights and hyperparameters trained side by side, in one pass.

The loop around `hypergradient` for problems that fit in two functions and two optimisers. Nothing here knows about
data: the losses draw their own batches.

Symbols: those of hypergradient.py.
"""

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.autograd import grad
from torch.optim import Optimizer

from augnet.implicit.curvature import zeros_for_unused
from augnet.implicit.hypergradient import hypergradient
from augnet.implicit.inverse import InverseHessian, Solution, require

Report = Callable[[int, float, float], object]


class Descent(NamedTuple):
    """How a joint descent went.

    Args:
        training: training loss at every step, before it.
        validation: validation loss at every outer step, before it.
        solution: of the last inverse-Hessian-vector product; None if there was no outer step.
        products: Hessian-vector products spent in all.
        resets: outer steps whose product blew up and was started anew; more than a few call for a smaller inner
            learning rate or for `damping`.
    """

    training: list[float]
    validation: list[float]
    solution: Solution | None
    products: int
    resets: int


def joint_descent(
    training_loss: Callable[[], Tensor],
    validation_loss: Callable[[], Tensor],
    inner: Optimizer,
    outer: Optimizer,
    inverse: InverseHessian,
    *,
    steps: int | Collection[int],
    outer_every: int = 1,
    warmup: int = 0,
    project: bool = False,
    report: Report | None = None,
) -> Descent:
    """Train weights on one loss and, as they train, their hyperparameters on another, by implicit differentiation.

    An outer step computes the training gradient on its way, and that is the gradient of the inner step beside it. Each
    solve starts from the last solution, so one product per outer step is enough (Dagréou et al. 2022).

    All that shapes the weights must be in `training_loss`: the hypergradient does not see an optimiser's own weight
    decay.

    Args:
        training_loss: a function of the weights and the hyperparameters; called once per step.
        validation_loss: a function of the weights, perhaps of the hyperparameters too; called once per outer step.
        inner: trains the weights, which are the tensors of its groups.
        outer: trains the hyperparameters, which are the tensors of its groups.
        inverse: how to approximate H⁻¹b.
        steps: updates of the weights; or something of that length to go through, such as the progress bar
            `tqdm.trange(2000)`.
        outer_every: updates of the weights per update of the hyperparameters.
        warmup: updates of the weights before the first of the hyperparameters; as many as `steps` leave those alone.
        project: leave out responses along the training gradient; see `hypergradient`.
        report: told the number of each step from 0, its training loss and its validation loss (nan between outer
            steps), all before the update; the place for a record or a schedule of learning rates.

    Raises:
        ValueError: if a number is out of range, an optimiser has nothing to train or both have the same tensor, the
            solver wants outputs, or a loss or hypergradient is not finite.
    """
    weights, hyperparameters = _tensors("inner", inner), _tensors("outer", outer)
    if {id(weight) for weight in weights} & {id(tensor) for tensor in hyperparameters}:
        raise ValueError(
            "a tensor is in both optimisers; give weights to the inner and hyperparameters to the outer one"
        )
    moments = range(steps) if isinstance(steps, int) else steps
    require(len(moments) >= 1, "steps", len(moments), "at least 1")
    require(outer_every >= 1, "outer_every", outer_every, "at least 1")
    require(0 <= warmup <= len(moments), "warmup", warmup, f"from 0 to steps, {len(moments)}")
    require(inverse.curvature == "hessian", "curvature", inverse.curvature, "'hessian': the losses give no outputs")
    went = Descent([], [], None, 0, 0)
    for step, _ in enumerate(moments):
        loss, validation, due = training_loss(), math.nan, step >= warmup and (step - warmup) % outer_every == 0
        if due:
            val_loss = validation_loss()
            found = hypergradient(
                loss, val_loss, weights, hyperparameters, inverse, start=went.solution, project=project
            )
            solution, validation, gradient = found.solution, val_loss.item(), found.train_gradient
            went.validation.append(validation)
            went = went._replace(
                solution=solution,
                products=went.products + solution.products,
                resets=went.resets + solution.diverged,
            )
            _finite("validation loss", step, [val_loss])
            _finite("hypergradient", step, found.gradients)
            _assign(hyperparameters, found.gradients)
        else:
            gradient = zeros_for_unused(grad(loss, weights, allow_unused=True), weights)
        _finite("training loss", step, [loss])
        _assign(weights, gradient)
        went.training.append(loss.item())
        if report is not None:
            report(step, went.training[-1], validation)
        inner.step()
        if due:
            outer.step()
    return went


def _tensors(level: str, optimiser: Optimizer) -> list[Tensor]:
    found = [tensor for group in optimiser.param_groups for tensor in group["params"] if tensor.requires_grad]
    if not found:
        raise ValueError(f"no tensor of the {level} optimiser requires gradients, so there is nothing to train")
    return found


def _assign(tensors: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = gradient


def _finite(what: str, step: int, tensors: Sequence[Tensor]) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError(f"the {what} is not finite at step {step}; lower a learning rate, or raise `damping`")
