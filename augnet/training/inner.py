"""The inner level: the classifier, its optimiser and its schedule. It knows nothing of augmenters."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.implicit import zeros_for_unused
from augnet.recipe import InnerConfig
from augnet.training.optimisers import cosine, inner_optimiser


class InnerLevel:
    """Train a classifier on batches of images, augmented or not.

    Args:
        classifier: from images in [0, 1] (b, c, h, w) to logits (b, classes); on its device already.
        config: optimiser and learning rate.
        steps: updates in all, for the cosine of the learning rate.
        pretrained: whether the classifier is finetuned rather than trained from scratch.
        device: where the classifier is.

    Attributes:
        weights: what is trained.

    Raises:
        ValueError: if the classifier has no weight to train.
    """

    def __init__(
        self, classifier: nn.Module, config: InnerConfig, steps: int, pretrained: bool, device: torch.device
    ) -> None:
        # Convolutions on CPU are faster on channels-last images.
        self.classifier = classifier.to(device).to(memory_format=torch.channels_last)
        self.config, self.steps, self.device = config, steps, device
        self.weights = [w for w in classifier.parameters() if w.requires_grad]
        if not self.weights:
            raise ValueError("the classifier has no weight to train; set requires_grad on those that it should learn")
        self.optimiser = inner_optimiser(classifier, config, pretrained)

    def step(self, number: int, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"]) -> float:
        """Make update `number` (from 0); return the training loss, nan if it was left out for not being finite."""
        self.classifier.train()
        half = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss = self.losses(self.classifier(channels_last(images)), labels).mean()
        gradient = torch.autograd.grad(loss, self.weights, allow_unused=True)
        return self.descend(number, zeros_for_unused(gradient, self.weights), loss.item())

    def losses(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return the training loss of each image, nats."""
        return F.cross_entropy(logits.float(), labels, reduction="none", label_smoothing=self.config.label_smoothing)

    def descend(self, number: int, gradients: Sequence[Tensor], loss: float) -> float:
        """Update the weights and return the loss; if loss or gradient is not finite, do not, and return nan."""
        if not math.isfinite(loss) or not all(bool(gradient.isfinite().all()) for gradient in gradients):
            return math.nan
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if self.config.gradient_clip:
            nn.utils.clip_grad_norm_(self.weights, self.config.gradient_clip)
        share = cosine(number, self.steps, self.config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["initial_lr"]
        self.optimiser.step()
        self.optimiser.zero_grad()
        return loss

    def state(self) -> dict[str, Any]:
        """Return weights, running statistics and the optimiser's state."""
        return {"classifier": self.classifier.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimiser.load_state_dict(state["optimiser"])


def channels_last(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Lay images out pixel by pixel, as the classifier's weights are."""
    return images.contiguous(memory_format=torch.channels_last)
