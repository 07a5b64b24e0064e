"""What of an augmenter is kept at the end of a training."""

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.augmenter import Augmenter, AugmenterConfig, Learned
from augnet.augmenter.policy import first_probability
from augnet.transforms import DifferentiableTransform

# Share of its first use below which a mirror or a quarter turn is left out. Mirrors begin at 0.3; where they help they
# ended at 0.23 at least, and where they harm at 0.17 at most (recipes/benchmarks/tried.md).
UNWANTED = 2 / 3
# The same of any other transform. Their use moves only where the gradients agree that it should, and those of one kind
# move together, so half of the use may be lost to company. Of data whose label is the contrast or the place, what fell
# further did harm; on no data of the README's table did anything (tried.md, Where a transform spoils the label).
FADED = 1 / 3


def settled(augmenter: Augmenter, images: Float[Tensor, "b c h w"]) -> tuple[Augmenter, list[Learned]]:
    """Leave out what is silent, and what was learned down: mirrors and quarter turns to less than two thirds of the use
    that they began with, all else to less than a third.

    What falls is not wanted, and would go to 0 if there were time: the nearer it is, the less
    there is to learn from. The little that is left does harm where classes are rare: with one traffic sign in 20
    mirrored, for every three true *keep left* there is a false one (`recipes/benchmarks/tried.md`).

    Args:
        augmenter: as it was learned; it stays as it is.
        images: values in [0, 1], over which the policy is averaged.

    Returns:
        The augmenter without them, and what they had come to. It is the one that came in where it would have nothing
        left to do.
    """
    config, learned = augmenter.config, augmenter.summary(images)
    silent = [] if augmenter.head is None else augmenter.head.silenced
    unwanted = [
        item
        for item, use in zip(learned, _uses(augmenter, images), strict=True)
        if item.transform in silent
        or use < (UNWANTED if item.transform.turned else FADED) * _first_use(item.transform, config)
    ]
    if len(unwanted) == len(augmenter.transforms) and not config.residual_limit:
        unwanted = [item for item in unwanted if item.transform in silent]
    if len(unwanted) == len(augmenter.transforms) and not config.residual_limit:
        return augmenter, []
    return augmenter.without([item.transform for item in unwanted]) if unwanted else augmenter, unwanted


@torch.no_grad()
def _uses(augmenter: Augmenter, images: Float[Tensor, "b c h w"]) -> list[float]:
    """Average the use of each transform over images; of averaged centres it would be too little where they differ."""
    if augmenter.head is None:
        return []
    noise = augmenter.draw_noise(len(images), torch.Generator().manual_seed(0))
    return augmenter.policy(images, noise).use.mean(dim=0).tolist()


def _first_use(transform: DifferentiableTransform, config: AugmenterConfig) -> float:
    """Say what the use begins with."""
    gated = transform.choice or config.gates == "all"
    often = first_probability(transform, config.start_probability) if gated else 1.0
    return often * (1.0 if transform.choice else config.start_spread)
