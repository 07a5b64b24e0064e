"""A sample of labelled images in which no class is forgotten."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from augnet.data import LabelledImages


def fairly(
    images: Float[Tensor, "n c h w"] | LabelledImages, labels: Int64[Tensor, "n"] | None, count: int, seed: int = 0
) -> list[int]:
    """Choose positions by a seed: one image of every class, then a second one of every class, and so on.

    Args:
        images: to choose from.
        labels: class of each image; None takes them all for one class.
        count: positions wanted.
        seed: fixes the order of classes, and of images within them.
    """
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    turn = torch.randperm(int(labels.max()) + 1, generator=generator).tolist()
    seen: dict[int, int] = {}
    keyed = []
    for index, label in zip(order.tolist(), labels[order].tolist(), strict=True):
        seen[label] = seen.get(label, -1) + 1
        keyed.append((seen[label], turn[label], index))
    return [index for *_, index in sorted(keyed)[:count]]
