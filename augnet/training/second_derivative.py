"""Whether a classifier can be differentiated twice, asked before training starts."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.implicit import twice_differentiable


def why_not_twice(classifier: nn.Module, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"]) -> str | None:
    """Say why double backward fails for a classifier; None if it does not.

    Done in float64 on a copy: there a second derivative that is silently incomplete can be told from rounding.
    """
    model = copy.deepcopy(classifier).double().train()
    cut = images.double().requires_grad_()

    def loss() -> Tensor:
        # The same dropout every time.
        torch.manual_seed(0)
        return F.cross_entropy(model(cut), labels)

    return twice_differentiable(loss, [w for w in model.parameters() if w.requires_grad], [cut])
