"""How good a classifier is on test images: accuracy, loss, calibration, class by class."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

# Of equal width, as in Guo et al. (2017).
BINS = 15


class Measures(NamedTuple):
    """What predicted probabilities are worth.

    Args:
        accuracy: share of images that the likeliest class is right for.
        loss: mean of −log of the probability of the right class, nats.
        calibration_error: mean distance between confidence and accuracy, 0 to 1, over bins of confidence.
        right: images that it gets right, per class.
    """

    accuracy: float
    loss: float
    calibration_error: float
    right: tuple[int, ...]


def measure(probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Measures:
    """Measure predictions.

    The expected calibration error (Guo et al. 2017) puts images into bins by confidence, the largest probability, and
    averages |accuracy − mean confidence| over the bins, each weighted by its images.
    """
    probabilities = probabilities.double()
    confidence, predicted = probabilities.max(dim=1)
    right = (predicted == labels).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    gaps = torch.zeros(BINS, dtype=torch.float64).index_add(0, bins, right - confidence)
    per_class = torch.bincount(labels[right.bool()], minlength=probabilities.shape[1])
    loss = F.nll_loss(probabilities.clamp(min=torch.finfo(torch.float64).tiny).log(), labels)
    return Measures(
        accuracy=float(right.mean()),
        loss=float(loss),
        calibration_error=float(gaps.abs().sum()) / len(labels),
        right=tuple(per_class.tolist()),
    )
