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

    def fit(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> float:
        """Fit the temperature to a whole batch, and return the loss at temperature 1, nats."""
        value = F.cross_entropy(logits, labels).item()
        if self.fitted and math.isfinite(value):
            found = fitted_log_temperature(logits, labels)
            last = found if self.log_temperature is None else self.log_temperature
            self.log_temperature = MEMORY * last + (1 - MEMORY) * found
        return value

    def __call__(self, logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> Float[Tensor, ""]:
        """Return the loss to differentiate, of a batch or a part of it, at the temperature as it was fitted."""
        return F.cross_entropy(logits / math.exp(self.log_temperature or 0.0), labels)
