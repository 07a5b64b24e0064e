"""Optimisers and learning rates of both levels."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from augnet.augmenter import Augmenter
from augnet.recipe import InnerConfig, OuterConfig

# Peak learning rates from scratch: what timm's recipes and the ResNet literature use at batch 64 to 128.
FROM_SCRATCH = {"sgd": 0.1, "adamw": 1e-3}
FINETUNE_SHARE = 0.1
WEIGHT_DECAY = {"sgd": 5e-4, "adamw": 0.05}
# A choice moves so much further than other entries, beside its own step. With kinds leading by 3 as well, shifts on
# CIFAR-10 sank from 0.5 to 0.16, and with them the accuracy (recipes/benchmarks/tried.md).
LEAD = 3.0


def inner_optimiser(model: nn.Module, config: InnerConfig, pretrained: bool) -> torch.optim.Optimizer:
    """Make the classifier's optimiser; biases and norms are not decayed."""
    peak = config.learning_rate or FROM_SCRATCH[config.optimiser] * (FINETUNE_SHARE if pretrained else 1)
    decay = WEIGHT_DECAY[config.optimiser] if config.weight_decay is None else config.weight_decay
    weights = [w for w in model.parameters() if w.requires_grad]
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    for group in groups:
        group["initial_lr"] = peak
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=peak, momentum=config.momentum, nesterov=config.momentum > 0)
    return torch.optim.AdamW(groups, lr=peak)


def outer_optimiser(augmenter: Augmenter, config: OuterConfig) -> torch.optim.Optimizer:
    """Make the augmenter's optimiser, which moves faster what shows more clearly.

    That is what transforms of one kind have in common in their spreads, and in their probabilities; and the probability
    of a choice, which learns from an image with the choice and without.
    """
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas}
    transforms = augmenter.transforms
    kinds = sorted({t.kind for t in transforms if t.kind})
    alike = [[float(t.kind == kind and not t.choice) for t in transforms] for kind in kinds]
    choices = [[LEAD * (t is choice) for t in transforms] for choice in transforms if choice.choice]
    none = [0.0] * len(transforms)
    groups = [[*none, *row, *none] for row in alike] + [[*none, *none, *row] for row in alike + choices]
    if augmenter.head is None or not groups:
        return torch.optim.Adam(augmenter.parameters(), **settings)
    return SharingAdam(augmenter.parameters(), augmenter.head.linear.bias, torch.tensor(groups), **settings)


class SharingAdam(torch.optim.Adam):
    """Adam that also moves some entries of one parameter together.

    Each of these entries is the sum of a value of its own and one that its group has in common, both of which Adam
    moves. What the gradients of one entry hardly show above their noise, those of the whole group may show clearly;
    so a group moves several times as fast as its entries would where these agree, and no faster where they do not.

    Args:
        weights: all parameters.
        shared: one of them.
        groups: one row for each group: how far each entry moves with the common value, 0 if it is none of the group.
        settings: those of Adam.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], shared: nn.Parameter, groups: Float[Tensor, "g n"], **settings: Any
    ) -> None:
        self.shared, self.groups = shared, groups.to(shared)
        # Always 0 between steps: what it becomes goes into the entries at once.
        self.common = nn.Parameter(self.groups.new_zeros(len(groups)))
        super().__init__([*weights, self.common], **settings)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter; a closure computes the gradients first, and its result is returned."""
        with torch.enable_grad():
            result = None if closure is None else closure()
        # The parameter may have moved to another type or device since.
        self.groups, self.common.data = self.groups.to(self.shared), self.common.data.to(self.shared)
        self.common.grad = None if self.shared.grad is None else self.groups @ self.shared.grad
        super().step()
        self.shared.add_(self.common @ self.groups)
        self.common.zero_()
        return result


def cosine(step: int, steps: int, warmup: float) -> float:
    """Give the share of the peak learning rate at `step`: a linear rise, then a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
