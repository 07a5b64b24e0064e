"""What depends on nothing but a size, built once: waves, pixel positions, averages of neighbours.

Built anew for every call they would cost as much as the images of a small batch, and on a GPU their copy from the host
would make it wait.
"""

import functools
from collections.abc import Callable, Hashable

import torch
from jaxtyping import Float
from torch import Tensor

Build = Callable[..., Tensor]


def constant(build: Build) -> Build:
    """Keep the tensors that a function of sizes builds, for the latest few sizes, types and devices.

    The function takes sizes, and `like`, a tensor whose type and device the result has. Nobody may write to the result.
    """

    @functools.lru_cache(maxsize=16)
    def kept(*sizes: Hashable, dtype: torch.dtype, device: torch.device) -> Tensor:
        # A tensor born in inference mode could never be part of a training step.
        with torch.inference_mode(False), torch.no_grad():
            return build(*sizes, like=torch.empty(0, dtype=dtype, device=device))

    @functools.wraps(build)
    def call(*sizes: Hashable, like: Tensor) -> Tensor:
        # In a traced program sizes are symbols and tensors have no values.
        if torch.compiler.is_compiling():
            return build(*sizes, like=like)
        return kept(*sizes, dtype=like.dtype, device=like.device)

    return call


@constant
def middles(count: int, *, like: Tensor) -> Float[Tensor, "n"]:
    """Place the middles of a row of pixels between −1 and 1, its two ends."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


@constant
def identity(count: int, *, like: Tensor) -> Float[Tensor, "n n"]:
    """Build the identity matrix."""
    return torch.eye(count, dtype=like.dtype, device=like.device)
