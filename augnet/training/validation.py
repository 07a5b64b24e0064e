"""The validation loss that the augmenter is trained on."""

import math

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from augnet.training.evaluation import fitted_log_temperature

# Of the running average of the log temperature: over about 10 augmenter updates.
MEMORY = 0.9


class ValidationLoss:
    """Cross-entropy at a fitted softmax temperature.

    Augmentation also cures overconfidence, which lowers the cross-entropy and leaves the accuracy as it was. At the
    temperature that fits best there is none to cure, and augmentation is not rewarded for it.

    Args:
        fitted: whether to fit the temperature; otherwise it is 1.
    """

    def __init__(self, fitted: bool) -> None:
        self.fitted = fitted
        self.log_temperature: float | None = None

    def __call__(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> tuple[Tensor, float]:
        """Return the loss to differentiate, and the loss at temperature 1 as a number, nats."""
        plain = F.cross_entropy(logits, labels)
        value = plain.item()
        if not self.fitted or not math.isfinite(value):
            return plain, value
        found = fitted_log_temperature(logits, labels)
        last = found if self.log_temperature is None else self.log_temperature
        self.log_temperature = MEMORY * last + (1 - MEMORY) * found
        return F.cross_entropy(logits / math.exp(self.log_temperature), labels), value
