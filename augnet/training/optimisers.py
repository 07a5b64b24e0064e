"""Optimisers and learning rates of both levels."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from augnet.augmenter import Augmenter
from augnet.recipe import InnerConfig, OuterConfig

# Peak learning rates from scratch: what timm's recipes and the ResNet literature use at batch 64 to 128.
FROM_SCRATCH = {"sgd": 0.1, "adamw": 1e-3}
FINETUNE_SHARE = 0.1
WEIGHT_DECAY = {"sgd": 5e-4, "adamw": 0.05}
# A choice that is turned moves so much further than other entries, beside its own step. With kinds leading by 3 as
# well, shifts on CIFAR-10 sank from 0.5 to 0.16, and with them the accuracy (recipes/benchmarks/tried.md).
LEAD = 3.0
# Gradients from which on their spread is believed.
LEAST = 10


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
    """Make the augmenter's optimiser, which moves what shows above the noise, and faster what shows more clearly.

    That is what transforms of one kind have in common in their spreads, and in their probabilities; and the probability
    of a choice that is turned, which learns from an image with the choice and without, and moves from the start.
    """
    settings: dict[str, Any] = {"lr": config.learning_rate, "betas": config.betas}
    transforms = augmenter.transforms
    kinds = sorted({t.kind for t in transforms if t.kind})
    alike = [[float(t.kind == kind and not t.turned) for t in transforms] for kind in kinds]
    spreading = [[share * (not t.choice) for share, t in zip(row, transforms, strict=True)] for row in alike]
    choices = [[LEAD * (t is choice) for t in transforms] for choice in transforms if choice.turned]
    none = [0.0] * len(transforms)
    groups = [[*none, *row, *none] for row in spreading] + [[*none, *none, *row] for row in alike + choices]
    if augmenter.head is None or not groups:
        return ShrinkingAdam(augmenter.parameters(), config.significance, **settings)
    trusted = torch.tensor([False] * 2 * len(transforms) + [t.turned for t in transforms])
    settings.update(shared=augmenter.head.linear.bias, groups=torch.tensor(groups), trusted=trusted)
    return SharingAdam(augmenter.parameters(), config.significance, **settings)


class ShrinkingAdam(torch.optim.Adam):
    """Adam that lets an entry leave where it started once its gradients have shown that it should.

    Steps of Adam are as long where gradients are noise as where they agree, so noise carries an entry about. Here each
    step is multiplied by 1 − z² / t², and by 0 where that is negative; t is the mean of all gradients of the entry so
    far, in its standard errors. Of the first gradients no spread is known, and nothing moves. As early gradients are
    not forgotten, what has been shown once goes on as Adam would, and what turns round rests meanwhile.

    Args:
        weights: all parameters.
        significance: z; at 0 it is Adam.
        settings: those of Adam.
    """

    def __init__(self, weights: Iterable[nn.Parameter], significance: float, **settings: Any) -> None:
        super().__init__(weights, **settings)
        self.significance = significance

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Move every parameter; a closure computes the gradients first, and its result is returned."""
        with torch.enable_grad():
            result = None if closure is None else closure()
        self._descend()
        return result

    def _descend(self) -> None:
        moving = [w for group in self.param_groups for w in group["params"] if w.grad is not None]
        before = [weight.clone() for weight in moving]
        super().step()
        if self.significance:
            for weight, start in zip(moving, before, strict=True):
                weight.copy_(torch.lerp(start, weight, self._shown(weight)))

    def _shown(self, weight: nn.Parameter) -> Tensor:
        """Give the share of its step that each entry takes."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        for name, value in (("sum", gradient), ("squares", gradient.square())):
            state[name] = state[name] + value if name in state else value.clone()
        count = float(state["step"])
        if count < LEAST:
            return torch.zeros_like(weight)
        mean = state["sum"] / count
        error = (state["squares"] / count - mean.square()).clamp(min=0) / (count - 1)
        # An entry without a gradient has neither, and stays where it is.
        tiny = torch.finfo(weight.dtype).tiny
        return (1 - self.significance**2 * error / mean.square().clamp(min=tiny)).clamp(min=0)


class SharingAdam(ShrinkingAdam):
    """The same, moving some entries of one parameter together as well.

    Each of these entries is the sum of a value of its own and one that its group has in common, both of which Adam
    moves. What the gradients of one entry hardly show above their noise, those of the whole group may show clearly;
    so a group moves several times as fast as its entries would where these agree, and no faster where they do not.

    Args:
        weights: all parameters.
        significance: as for `ShrinkingAdam`.
        shared: one of the parameters.
        groups: one row for each group: how far each entry moves with the common value, 0 if it is none of the group.
        trusted: entries whose steps are never shortened, nor those of groups that have no others.
        settings: those of Adam.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter],
        significance: float,
        *,
        shared: nn.Parameter,
        groups: Float[Tensor, "g n"],
        trusted: Bool[Tensor, "n"] | None = None,
        **settings: Any,
    ) -> None:
        self.shared, self.groups = shared, groups.to(shared)
        self.trusted = torch.zeros_like(shared, dtype=torch.bool) if trusted is None else trusted.to(shared.device)
        # Always 0 between steps: what it becomes goes into the entries at once.
        self.common = nn.Parameter(self.groups.new_zeros(len(groups)))
        super().__init__([*weights, self.common], significance, **settings)

    def _descend(self) -> None:
        # The parameter may have moved to another type or device since.
        self.groups, self.common.data = self.groups.to(self.shared), self.common.data.to(self.shared)
        self.trusted = self.trusted.to(self.shared.device)
        self.common.grad = None if self.shared.grad is None else self.groups @ self.shared.grad
        super()._descend()
        self.shared.add_(self.common @ self.groups)
        self.common.zero_()

    def _shown(self, weight: nn.Parameter) -> Tensor:
        share = super()._shown(weight)
        if weight is self.shared:
            return torch.where(self.trusted, 1.0, share)
        if weight is self.common:
            return torch.where((self.groups[:, ~self.trusted] == 0).all(1), 1.0, share)
        return share


def cosine(step: int, steps: int, warmup: float) -> float:
    """Give the share of the peak learning rate at `step`: a linear rise, then a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
