"""Whether a classifier can be differentiated twice, asked before training starts."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.implicit import twice_differentiable

# Standard deviation of what the weights are moved by. Any size above rounding moves a weight of exactly 0, such as the
# last scale of a block; 0.01 is below what initial weights are, so the network stays one that could be trained.
MOVE = 0.01


def why_not_twice(classifier: nn.Module, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"]) -> str | None:
    """Say why double backward fails for a classifier; None if it does not.

    Done in float64 on a copy: there a second derivative that is silently incomplete can be told from rounding. The
    copy's weights are moved a little. A residual network whose blocks start as the identity has half of its ReLUs
    exactly at their kinks, where differences say nothing; what is asked is whether the code can be differentiated. Of a
    classifier that is made for one precision, only what autograd itself says is heard.
    """
    reason = _reason(classifier, images, labels, torch.float64)
    if reason is not None and not _runs(classifier, images, torch.float64):
        return _reason(classifier, images, labels, torch.float32)
    return reason


def _reason(classifier: nn.Module, images: Tensor, labels: Tensor, dtype: torch.dtype) -> str | None:
    model = copy.deepcopy(classifier).to(dtype).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in filter(Tensor.is_floating_point, model.parameters()):
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            weight.add_(noise.to(weight.device), alpha=MOVE)
    cut = images.to(dtype).requires_grad_()

    def loss() -> Tensor:
        # The same dropout every time.
        torch.manual_seed(0)
        return F.cross_entropy(model(cut), labels)

    return twice_differentiable(loss, [w for w in model.parameters() if w.requires_grad], [cut])


@torch.no_grad()
def _runs(classifier: nn.Module, images: Tensor, dtype: torch.dtype) -> bool:
    try:
        copy.deepcopy(classifier).to(dtype).train()(images.to(dtype))
    except RuntimeError:
        return False
    return True
