"""The minimum of a training loss, where the implicit function theorem holds exactly.

For problems so small that they can be trained out: to hold approximations against, or to judge what was learned.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import grad
from torch.optim import LBFGS

from augnet.implicit.curvature import zeros_for_unused


def minimise(loss: Callable[[], Tensor], weights: Sequence[Tensor], *, steps: int = 2000) -> float:
    """Bring weights to a minimum of a smooth loss without noise, by L-BFGS with a line search.

    Args:
        loss: a function of the weights; the same at every call.
        weights: tensors that require gradients, changed in place.
        steps: iterations at most; it stops where the loss or its gradient cannot be told from the last.

    Returns:
        The greatest absolute derivative of the loss that is left: how far from stationary the weights are.

    Raises:
        ValueError: if the loss is not finite in the end.
    """
    weights = list(weights)

    def derivatives() -> Tensor:
        found = loss()
        for weight, slope in zip(
            weights, zeros_for_unused(grad(found, weights, allow_unused=True), weights), strict=True
        ):
            weight.grad = slope
        return found

    optimiser = LBFGS(weights, max_iter=steps, tolerance_grad=1e-13, tolerance_change=0, line_search_fn="strong_wolfe")
    optimiser.step(derivatives)
    ended = loss()
    slopes = zeros_for_unused(grad(ended, weights, allow_unused=True), weights)
    for weight in weights:
        weight.grad = None
    left = float(torch.stack([slope.abs().max() for slope in slopes]).max())
    if not (ended.isfinite() and math.isfinite(left)):
        raise ValueError(f"the loss is {ended.item():g} after {steps} steps; does it have a minimum?")
    return left
