"""Optimisers and learning rates of both levels."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from augnet.recipe import InnerConfig, OuterConfig

# Peak learning rates from scratch: what timm's recipes and the ResNet literature use at batch 64 to 128.
FROM_SCRATCH = {"sgd": 0.1, "adamw": 1e-3}
FINETUNE_SHARE = 0.1
WEIGHT_DECAY = {"sgd": 5e-4, "adamw": 0.05}


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


def outer_optimiser(weights: Iterable[nn.Parameter], config: OuterConfig) -> torch.optim.Optimizer:
    """Make the augmenter's optimiser."""
    return torch.optim.Adam(weights, lr=config.learning_rate, betas=config.betas)


def cosine(step: int, steps: int, warmup: float) -> float:
    """Give the share of the peak learning rate at `step`: a linear rise, then a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
