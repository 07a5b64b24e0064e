"""Hypergradients by differentiating through training itself.

Exact for the steps taken, but its memory grows with their number: the measure that the implicit method is compared
with, not a way to train an augmenter.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from augnet.implicit.curvature import zeros_for_unused

Loss = Callable[[list[Tensor]], Tensor]


class Unrolled(NamedTuple):
    """The result of differentiating through gradient descent.

    Args:
        gradients: dL_val/dλ after the last step, one tensor per hyperparameter.
        weights: the weights after the last step, without a graph.
    """

    gradients: list[Tensor]
    weights: list[Tensor]


def unrolled_hypergradient(
    train_loss: Loss,
    val_loss: Loss,
    weights: Sequence[Tensor],
    hyperparameters: Sequence[Tensor],
    *,
    steps: int,
    step_size: float | Tensor,
) -> Unrolled:
    """Take steps of gradient descent and differentiate the validation loss behind them.

    Args:
        train_loss: the training loss as a function of the weights; it closes over the hyperparameters.
        val_loss: the validation loss as a function of the weights.
        weights: where training starts; not changed.
        hyperparameters: tensors that require gradients; `step_size` may be one of them.
        steps: steps of gradient descent, all of which stay in memory.
        step_size: learning rate.

    Raises:
        ValueError: if `steps` is below 1, or no hyperparameter has any influence.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps} and must be at least 1")
    current = [weight.detach().requires_grad_() for weight in weights]
    for _ in range(steps):
        gradient = zeros_for_unused(grad(train_loss(current), current, create_graph=True, allow_unused=True), current)
        current = [weight - step_size * slope for weight, slope in zip(current, gradient, strict=True)]
    found = grad(val_loss(current), list(hyperparameters), allow_unused=True)
    if all(part is None for part in found):
        raise ValueError(
            f"no gradient reaches any of the {len(found)} hyperparameters; was the training loss computed from them?"
        )
    gradients = [torch.zeros_like(t) if part is None else part for part, t in zip(found, hyperparameters, strict=True)]
    return Unrolled(gradients, [weight.detach() for weight in current])
