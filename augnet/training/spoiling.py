"""Transforms that spoil labels: seen by what the classifier that is trained with them makes of them, and used no more.

The hypergradient need not show them. Where the label is how colourful an image is, say, the network tells an image
without any colour from all others and learns that it may be anything; then such images harm no others, and no step
would do better without them (`recipes/benchmarks/tried.md`, Where a transform spoils the label).
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.augmenter import Augmenter, Learned
from augnet.data import LabelledImages, all_batches
from augnet.transforms import fuse

# Standard errors below the least skill from which a transform spoils labels, and above it from which it is looked at no
# further.
SURE = 2.0
# Images that are looked at: so many at a time, and no more than that in all.
BATCH = 128
MOST = 1024
# Of fewer images, or groups of them, nothing is said.
FEWEST = 8


@torch.no_grad()
def spoiling(
    augmenter: Augmenter,
    classifier: nn.Module,
    images: LabelledImages,
    *,
    least_skill: float,
    ripe: float,
    seed: int,
    workers: int,
) -> Float[Tensor, "k"]:
    """Find transforms under which, applied alone and always and as far as now, a classifier keeps too little of its
    skill, by more than chance explains. Skill is accuracy above that of guessing the most frequent class.

    Mirrors and quarter turns are not looked at: their probabilities learn from images with them and without, which
    shows what they do. Nor is what is silent already.

    Args:
        augmenter: on the classifier's device.
        classifier: trained with the augmenter, so that it knows what each transform leaves.
        images: validation images.
        least_skill: share of the skill that must be kept; 0 finds nothing.
        ripe: share of all skill there could be that the classifier must have itself, or nothing is said.
        seed: decides which images are looked at, and what is drawn for them.
        workers: processes that decode images that do not fit into memory.

    Returns:
        Of each transform that is found the share that is kept, of all others nan.
    """
    found = torch.full((len(augmenter.transforms),), math.nan, device=augmenter.like.device)
    if augmenter.head is None or not least_skill:
        return found
    silent = augmenter.head.silenced
    doubtful = [k for k, t in enumerate(augmenter.transforms) if not t.turned and t not in silent]
    if not doubtful:
        return found
    generator = torch.Generator().manual_seed(seed)
    images = images.take(torch.randperm(len(images), generator=generator)[:MOST])
    groups = torch.arange(len(images)) if images.groups is None else images.groups.unique(return_inverse=True)[1]
    if int(groups.max()) + 1 < FEWEST:
        return found
    guess = float(images.labels.bincount().max()) / len(images)
    training = classifier.training
    classifier.eval()
    before: list[Tensor] = []
    after: dict[int, list[Tensor]] = {k: [] for k in doubtful}
    for unplaced, unplaced_labels, _ in all_batches(images, BATCH, workers):
        batch = unplaced.to(found.device, memory_format=torch.channels_last)
        labels = unplaced_labels.to(found.device)
        before.append(_right(classifier(batch), labels))
        noise = augmenter.draw_noise(len(batch), generator)
        first = augmenter.config.noise_channels + len(found)
        # Dice of -1 apply all that is ever applied.
        noise[:, first : first + len(found)] = -1
        amounts = augmenter.policy(batch, noise).amounts
        for k in doubtful:
            alone = torch.zeros_like(amounts)
            alone[:, k] = amounts[:, k]
            augmented = fuse.apply(augmenter.transforms, batch, alone, augmenter.draws(noise))
            after[k].append(_right(classifier(augmented), labels))
        right = torch.cat(before)
        errors = {
            k: _errors(torch.cat(after[k]) - guess - least_skill * (right - guess), groups[: len(right)])
            for k in doubtful
        }
        doubtful = [k for k, error in errors.items() if error < SURE]
        if not doubtful:
            break
    classifier.train(training)
    if _errors(right - guess - ripe * (1 - guess), groups[: len(right)]) > SURE:
        for k in doubtful:
            if errors[k] < -SURE:
                found[k] = (torch.cat(after[k]).mean() - guess) / (right.mean() - guess)
    return found


def silence(
    augmenter: Augmenter, learned: Sequence[Learned], kept: Float[Tensor, "k"], least_skill: float
) -> list[str]:
    """Apply no more what `spoiling` found, and say so in a sentence, if there is anything.

    Args:
        augmenter: whose transforms they are.
        learned: its policy, averaged over images.
        kept: as `spoiling` returns it.
        least_skill: as it was asked for.
    """
    spoilt = [(item, share) for item, share in zip(learned, kept.tolist(), strict=True) if not math.isnan(share)]
    if augmenter.head is None or not spoilt:
        return []
    augmenter.head.silence([item.transform for item, _ in spoilt])
    return [
        "labels suffer, so left out from here on: "
        + ", ".join(f"{item.words} (keeps {max(0, share):.0%})" for item, share in spoilt)
        + f"; of its accuracy above guessing the classifier must keep {least_skill:.0%} under each transform alone, or "
        "less by no more than two standard errors (outer.least_skill; 0 leaves all in)"
    ]


def _right(logits: Float[Tensor, "b classes"], labels: Int64[Tensor, "b"]) -> Tensor:
    # Not every device knows float64.
    return (logits.argmax(dim=-1) == labels).cpu().double()


def _errors(values: Tensor, groups: Int64[Tensor, "b"]) -> float:
    """Give a mean over images in its standard errors, which are of groups: near-copies say the same."""
    mean = values.mean()
    sums = torch.zeros(int(groups.max()) + 1, dtype=values.dtype).index_add(0, groups, values - mean)
    error = float(sums.square().sum().sqrt()) / len(values)
    return float(mean) / error if error > 0 else math.copysign(math.inf, float(mean))
