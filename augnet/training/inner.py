"""The inner level: the classifier, its optimiser and its schedule. It knows nothing of augmenters."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.implicit import gradient_of_sum, zeros_for_unused
from augnet.recipe import InnerConfig
from augnet.training.checkpointing import recompute_activations
from augnet.training.optimisers import cosine, inner_optimiser
from augnet.training.parallel import ALONE, Processes
from augnet.training.parts import Part, parts_of

# Non-finite steps in a row after which a training gives up.
PATIENCE = 5


class InnerLevel:
    """Train a classifier on batches of images, augmented or not.

    Args:
        classifier: from images in [0, 1] (b, c, h, w) to logits (b, classes); on its device already.
        config: optimiser and learning rate.
        steps: updates in all, for the cosine of the learning rate.
        pretrained: whether the classifier is finetuned rather than trained from scratch.
        device: where the classifier is.
        processes: among which every batch is shared.

    Attributes:
        weights: what is trained.

    Raises:
        ValueError: if the classifier has no weight to train, or cannot do what the settings ask.
    """

    def __init__(
        self,
        classifier: nn.Module,
        config: InnerConfig,
        steps: int,
        pretrained: bool,
        device: torch.device,
        processes: Processes = ALONE,
    ) -> None:
        # Convolutions on CPU are faster on channels-last images.
        self.classifier = classifier.to(device).to(memory_format=torch.channels_last)
        self.config, self.steps, self.device, self.processes = config, steps, device, processes
        if config.checkpoint_activations:
            recompute_activations(classifier, in_parts=config.micro_batch > 0 or processes.count > 1)
        self.weights = [w for w in classifier.parameters() if w.requires_grad]
        if not self.weights:
            raise ValueError("the classifier has no weight to train; set requires_grad on those that it should learn")
        self.optimiser = inner_optimiser(classifier, config, pretrained)

    def step(self, number: int, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"]) -> float:
        """Make update `number` (from 0) on this process's images.

        Returns:
            The training loss of the whole batch; nan if the update was left out for not being finite.
        """
        self.classifier.train()
        images = channels_last(images)
        half = self.config.precision == "bfloat16"
        values: list[Tensor] = []

        def passes() -> Iterator[Tensor]:
            for part in self.parts(len(images)):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=half), part.drawn(self.device):
                    loss = part.share * self.losses(self.classifier(part.of(images)), part.of(labels)).mean()
                values.append(loss.detach())
                yield loss

        gradient = zeros_for_unused(gradient_of_sum(passes(), self.weights), self.weights)
        return self.descend(number, self.processes.averages(gradient), self.whole_loss(values))

    def parts(self, count: int) -> list[Part]:
        """Cut this process's images into those that pass through the classifier together."""
        return parts_of(count, self.config.micro_batch, self.processes)

    def whole_loss(self, values: Sequence[Tensor]) -> float:
        """Add up what the parts have in the loss, over all processes."""
        return self.processes.mean(sum(value.item() for value in values))

    def losses(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Return the training loss of each image, nats."""
        logits = at_least_float32(logits)
        return F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.config.label_smoothing)

    def descend(self, number: int, gradients: Sequence[Tensor], loss: float) -> float:
        """Update the weights by gradients that all processes share, and return the loss.

        If loss or gradient is not finite, nothing is updated, and nan returned.
        """
        # A finite norm says that every entry is finite, in a tenth of the time of a look at each; it may overflow, too.
        norm = nn.utils.get_total_norm(gradients)
        if not (math.isfinite(norm) or all(bool(gradient.isfinite().all()) for gradient in gradients)):
            return math.nan
        if not math.isfinite(loss):
            return math.nan
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if self.config.gradient_clip:
            nn.utils.clip_grads_with_norm_(self.weights, self.config.gradient_clip, norm)
        share = cosine(number, self.steps, self.config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = share * group["initial_lr"]
        self.optimiser.step()
        self.optimiser.zero_grad()
        self._agree_on_statistics()
        return loss

    def _agree_on_statistics(self) -> None:
        running = [buffer for buffer in self.classifier.buffers() if buffer.is_floating_point()]
        if self.processes.count > 1 and running:
            for buffer, mean in zip(running, self.processes.averages(running), strict=True):
                buffer.copy_(mean)

    def state(self) -> dict[str, Any]:
        """Return weights, running statistics and the optimiser's state."""
        return {"classifier": self.classifier.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimiser.load_state_dict(state["optimiser"])


def at_least_float32(logits: Float[Tensor, "b classes"]) -> Float[Tensor, "b classes"]:
    """Bring logits of half precision to float32, in which losses are computed."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def channels_last(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Lay images out pixel by pixel, as the classifier's weights are."""
    return images.contiguous(memory_format=torch.channels_last)
