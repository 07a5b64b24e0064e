"""Diagonals to precondition products with the curvature."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from augnet.implicit.curvature import Operator, flatten


def jacobi_diagonal(
    hessian: Operator, like: Float[Tensor, "p"], probes: int = 100, generator: torch.Generator | None = None
) -> Float[Tensor, "p"]:
    """Estimate the diagonal of H as the mean of z ⊙ Hz over random signs z (Hutchinson).

    Ten probes are worse than no preconditioner, a hundred as good as the true diagonal (digits, 640 weights:
    recipes/benchmarks/solver_error.py), so it pays where H stays the same for many solves.

    Args:
        hessian: products with H.
        like: any vector of the size, number type and device of the weights.
        probes: products spent.
        generator: source of the signs; on the device of `like`.

    Returns:
        A positive diagonal: absolute values, none below a hundredth of their mean, as a preconditioner must be.
    """
    total = torch.zeros_like(like)
    for _ in range(probes):
        z = torch.randint(0, 2, like.shape, generator=generator, device=like.device).to(like.dtype) * 2 - 1
        total += z * hessian(z)
    size = (total / probes).abs()
    floor = (size.mean() / 100).clamp_min(torch.finfo(like.dtype).tiny)
    return size.clamp_min(floor)


def optimiser_diagonal(optimizer: Optimizer, weights: Sequence[Tensor]) -> Float[Tensor, "p"]:
    """Read the root of the second moment that Adam, AdamW or RMSprop keeps, plus its ε (as SAMA, Choe et al. 2023).

    The inner optimiser divides its steps by this diagonal, so it is the curvature that the weights really feel.

    Raises:
        ValueError: if the optimiser keeps no second moment, or has not made a step yet.
    """
    settings = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    pieces = []
    for number, weight in enumerate(weights):
        state, group = optimizer.state.get(weight, {}), settings.get(id(weight))
        moment = state.get("exp_avg_sq", state.get("square_avg"))
        if group is None or moment is None:
            raise ValueError(
                f"{type(optimizer).__name__} holds no second moment for weight {number}; take Adam, AdamW or RMSprop "
                "and make a step first, or precondition with jacobi_diagonal or not at all"
            )
        if "betas" in group:
            moment = moment / (1 - group["betas"][1] ** float(state["step"]))
        pieces.append(moment.sqrt() + group["eps"])
    return flatten(pieces)
