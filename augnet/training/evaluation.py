"""What is measured beside training: losses, accuracy, agreement, temperature, and the noise of the hypergradient."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.data import LabelledImages, all_batches

BATCH = 256


class Score(NamedTuple):
    """How a classifier does on a set of images.

    Args:
        accuracy: share of images that it gets right.
        loss: mean cross-entropy, nats.
        standard_error: of the loss.
        images: how many.
    """

    accuracy: float
    loss: float
    standard_error: float
    images: int


@torch.no_grad()
def score(classifier: nn.Module, images: LabelledImages, device: torch.device, workers: int = 0) -> Score:
    """Score a classifier, in evaluation mode, on images as they are."""
    training = classifier.training
    classifier.eval()
    losses, right = [], 0
    for batch, labels, _ in all_batches(images, BATCH, workers):
        logits = classifier(batch.to(device, memory_format=torch.channels_last))
        labels = labels.to(device)
        losses.append(F.cross_entropy(logits, labels, reduction="none"))
        right += int((logits.argmax(dim=-1) == labels).sum())
    classifier.train(training)
    loss = torch.cat(losses).double()
    spread = float(loss.std() / math.sqrt(len(loss))) if len(loss) > 1 else math.nan
    return Score(right / len(loss), float(loss.mean()), spread, len(loss))


@torch.no_grad()
def agreement(
    classifier: nn.Module,
    clean: Float[Tensor, "b c h w"],
    augmented: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"],
) -> float:
    """Give the share, among images that are classified rightly, of those that still are once augmented; nan if none."""
    training = classifier.training
    classifier.eval()
    before = classifier(clean).argmax(dim=-1) == labels
    after = classifier(augmented).argmax(dim=-1) == labels
    classifier.train(training)
    return float((before & after).sum() / before.sum()) if bool(before.any()) else math.nan


def fitted_log_temperature(logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> float:
    """Give the log of the temperature at which the logits' cross-entropy is least, within (1/2, 20).

    One dimension, convex in the inverse temperature β (Guo et al. 2017): bisection on the sign of the slope, which is
    the mean of E_softmax(βz)[z] − z_label. The lower limit is for logits that separate their classes: the best
    temperature would be 0, and the loss with all its gradients would vanish.
    """
    z = logits.detach().double()
    target = z.gather(1, labels[:, None]).mean()
    low, high = -math.log(20.0), math.log(2.0)
    for _ in range(20):
        middle = (low + high) / 2
        slope = ((z * math.exp(middle)).softmax(dim=-1) * z).sum(dim=-1).mean() - target
        low, high = (low, middle) if float(slope) > 0 else (middle, high)
    return -(low + high) / 2


@dataclass
class NoiseMeter:
    """How much of a sequence of gradients is noise.

    With m the average of n gradients of one entry and s that of their squares, pure noise gives m² = s / n and a steady
    gradient m² = s. The ratio is averaged over entries, so that none counts for more because its gradients are larger.

    Args:
        mean: average of the gradients.
        square: average of their squares, entry by entry.
        count: n.
        last: norm of the last gradient.
    """

    mean: Tensor | None = None
    square: Tensor | None = None
    count: int = 0
    last: float | None = None

    def add(self, gradient: Float[Tensor, "n"]) -> None:
        """Take a gradient into the averages."""
        self.count += 1
        if self.mean is None or self.square is None:
            self.mean, self.square = torch.zeros_like(gradient), torch.zeros_like(gradient)
        self.mean = self.mean.lerp(gradient, 1 / self.count)
        self.square = self.square.lerp(gradient.square(), 1 / self.count)
        self.last = float(gradient.norm())

    @property
    def share(self) -> float:
        """Share of noise in the mean square, 0 to 1; nan before the second gradient."""
        if self.mean is None or self.square is None or self.count < 2:
            return math.nan
        # Entries that get no gradient, such as the spread of a choice, say nothing.
        reached = self.square > 0
        if not bool(reached.any()):
            return math.nan
        kept = float((self.mean.square()[reached] / self.square[reached]).mean())
        floor = 1 / self.count
        return min(1.0, max(0.0, (1 - kept) / (1 - floor)))
