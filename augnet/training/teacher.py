"""Label safety: a running average of the classifier that says when augmentation changes what an image shows."""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from augnet.training.inner import at_least_float32

# Over about 100 steps.
MEMORY = 0.99


class Teacher:
    """An exponential moving average of a classifier (after TeachAugment, Suzuki 2022).

    Args:
        classifier: what to average, weights and running statistics.
    """

    def __init__(self, classifier: nn.Module) -> None:
        self.model = copy.deepcopy(classifier).eval().requires_grad_(False)

    @torch.no_grad()
    def follow(self, classifier: nn.Module) -> None:
        """Move a step towards the classifier."""
        for mean, value in zip(self.model.state_dict().values(), classifier.state_dict().values(), strict=True):
            # Counters of batches are whole numbers: they are copied.
            _ = mean.lerp_(value, 1 - MEMORY) if mean.is_floating_point() else mean.copy_(value)

    def disagreement(
        self, images: Float[Tensor, "b c h w"], augmented: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """Say how far the view of each image moves by augmentation.

        Returns:
            The slope of the cost by the augmented images, and the cost: the Kullback–Leibler divergence from the view
            of the image as it was, nats.
        """
        augmented = augmented.detach().requires_grad_()
        with torch.no_grad():
            before = at_least_float32(self.model(images)).log_softmax(dim=-1)
        after = at_least_float32(self.model(augmented)).log_softmax(dim=-1)
        cost = F.kl_div(after, before, reduction="none", log_target=True).sum(dim=-1)
        (slope,) = torch.autograd.grad(cost.sum(), augmented)
        return slope, cost.detach()
