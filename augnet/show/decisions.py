"""What an augmenter decides, as numbers: over fixed noise, at a training step, and what a classifier makes of it."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.augmenter import Augmenter, Policy
from augnet.augmenter.policy import CENTRE_SHARE, GAIN, LEAST_PROBABILITY
from augnet.transforms import fuse

# Shares stay this far from 0 and 1, where the inverses of a policy's last functions are infinite.
EDGE = 1e-4
BATCH = 128


def fixed_noise(augmenter: Augmenter, count: int, seed: int = 0) -> Float[Tensor, "b n"]:
    """Draw noise that is the same at every call."""
    return augmenter.draw_noise(count, torch.Generator().manual_seed(seed))


@torch.no_grad()
def decide(augmenter: Augmenter, images: Float[Tensor, "b c h w"], draws: int, seed: int = 0) -> list[Policy]:
    """Decide `draws` times for each image, with fixed noise; one policy over all images per draw."""
    return [augmenter.policy(images, fixed_noise(augmenter, len(images), seed + draw)) for draw in range(draws)]


@torch.no_grad()
def apply(
    augmenter: Augmenter, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"], amounts: Float[Tensor, "b k"]
) -> Float[Tensor, "b c h w"]:
    """Apply an augmenter's transforms by given amounts, without its pixel residual."""
    return fuse.apply(augmenter.transforms, images, amounts, augmenter.draws(noise))


def at_step(augmenter: Augmenter, row: Mapping[str, float]) -> Augmenter:
    """Build an augmenter that does to every image what was done on average at a training step, without a residual.

    Args:
        augmenter: the last one of the run; its transforms are taken.
        row: of metrics.csv.

    Raises:
        ValueError: if the augmenter has no transforms.
    """
    if augmenter.head is None:
        raise ValueError("this augmenter has no transforms, so metrics.csv does not say what it did at a step")
    raw = []
    for transform in augmenter.transforms:
        name = type(transform).__name__
        centre = row.get(f"{name}.centre", 0.0) / transform.limit
        spread = row.get(f"{name}.spread", 0.0) / transform.limit
        often = (row[f"{name}.probability"] - LEAST_PROBABILITY) / (1 - 2 * LEAST_PROBABILITY)
        raw.append([math.atanh(min(1 - EDGE, max(EDGE - 1, centre))) / CENTRE_SHARE, _logit(spread), _logit(often)])
    earlier = copy.deepcopy(augmenter)
    earlier.config = replace(augmenter.config, residual_limit=0.0)
    state = earlier.state_dict()
    state["head.linear.weight"].zero_()
    state["head.linear.bias"].copy_(torch.tensor(raw).T.flatten() / GAIN)
    return earlier


def _logit(share: float) -> float:
    share = min(1 - EDGE, max(EDGE, share))
    return math.log(share / (1 - share))


@torch.no_grad()
def predicted(classifier: nn.Module, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
    """Give the classifier's probabilities."""
    return torch.cat([classifier(part) for part in images.split(BATCH)]).float().softmax(dim=-1)


def confidence(
    classifier: nn.Module, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"]
) -> Float[Tensor, "b"]:
    """Give the classifier's probability of each true label."""
    return predicted(classifier, images).gather(1, labels[:, None])[:, 0]
