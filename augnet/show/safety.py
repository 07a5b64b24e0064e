"""Label safety: whether the classifier still sees the true class once an image is augmented, by strength and class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.figure import Figure
from torch import Tensor, nn

from augnet.augmenter import Augmenter
from augnet.show.canvas import COLOURS, FAINT, INK, Place, place, plain, shorten
from augnet.show.decisions import apply, fixed_noise, predicted
from augnet.show.subject import name_of

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
NAMED = 5
# Classes of fewer rightly classified images than this say little on their own.
LEAST_IMAGES = 5
# A class is changed by a choice if so few of its images are still read rightly.
CHANGED = 0.5


class Safety(NamedTuple):
    """Agreement after augmentation, among images that are classified rightly as they are.

    Args:
        strengths: at which it was measured.
        right: whether each image is still classified rightly at each strength.
        labels: class of each image.
    """

    strengths: tuple[float, ...]
    right: Bool[Tensor, "s b"]
    labels: Int64[Tensor, "b"]

    def at(self, strength: float) -> float:
        """Give the share that is still classified rightly."""
        return float(self.right[self.strengths.index(strength)].float().mean())


@torch.no_grad()
def label_safety(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"],
    classifier: nn.Module,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> Safety:
    """Classify images augmented at several strengths, with the same noise at all of them.

    Only images that are classified rightly as they are count. A strength scales amounts and the probability of choices;
    1 is as learned.

    Raises:
        ValueError: if no image is classified rightly as it is.
    """
    images, labels = read_rightly(images, labels, classifier)
    noise = fixed_noise(augmenter, len(images), seed)
    right = [
        predicted(classifier, augmenter(images, noise, strength)).argmax(dim=-1) == labels for strength in strengths
    ]
    return Safety(tuple(strengths), torch.stack(right), labels)


def read_rightly(
    images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"], classifier: nn.Module
) -> tuple[Float[Tensor, "n c h w"], Int64[Tensor, "n"]]:
    """Keep the images that a classifier reads rightly, with their labels.

    Raises:
        ValueError: if there is none.
    """
    right = predicted(classifier, images).argmax(dim=-1) == labels
    if not bool(right.any()):
        raise ValueError(f"the classifier reads none of these {len(images)} images rightly, so nothing can be lost")
    return images[right], labels[right]


@torch.no_grad()
def changed_by_choices(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"],
    classifier: nn.Module,
) -> dict[str, list[int]]:
    """Say of each choice, such as a mirror, which classes are read otherwise in most images when it alone is made."""
    images, labels = read_rightly(images, labels, classifier)
    noise = fixed_noise(augmenter, len(images))
    found = {}
    for k, transform in enumerate(augmenter.transforms):
        if not transform.choice:
            continue
        amounts = torch.zeros(len(images), len(augmenter.transforms))
        amounts[:, k] = 1
        right = predicted(classifier, apply(augmenter, images, noise, amounts)).argmax(dim=-1) == labels
        found[transform.label] = [
            int(label) for label in labels.unique() if right[labels == label].float().mean() < CHANGED
        ]
    return found


def safety(found: Safety, classes: Sequence[str] = (), *, on: Place | None = None) -> Figure:
    """Show agreement against strength: over all images, and for every class; the five that suffer most are named.

    Args:
        found: of `label_safety`.
        classes: name of each label.
        on: see `place`.
    """
    sheet = place(on, 7.5, 3.8)
    axes = plain(sheet.subplots())
    sizes = found.labels.bincount()
    present = [label for label in found.labels.unique().tolist() if sizes[label] >= min(LEAST_IMAGES, int(sizes.max()))]
    curves = {label: found.right[:, found.labels == label].float().mean(dim=1) for label in present}
    worst = sorted(present, key=lambda label: float(curves[label].mean()))[:NAMED]
    for label in present:
        if label not in worst:
            axes.plot(found.strengths, curves[label].numpy(), color=FAINT, linewidth=0.6, alpha=0.7)
    for label, colour, style in zip(worst, COLOURS, ("--", "-.", ":", "--", "-."), strict=False):
        label_of = f"{shorten(name_of(classes, label))} ({int(sizes[label])} images)".replace("$", r"\$")
        axes.plot(
            found.strengths,
            curves[label].numpy(),
            style,
            color=colour,
            linewidth=1.5,
            label=label_of,
        )
    mean = found.right.float().mean(dim=1)
    low, high = wilson(mean, len(found.labels))
    everything = f"all classes ({len(found.labels):,} images)"
    axes.fill_between(found.strengths, low.numpy(), high.numpy(), color=INK, alpha=0.2, linewidth=0)
    axes.plot(found.strengths, mean.numpy(), color=INK, linewidth=2.5, label=everything)
    axes.axvline(1, color=FAINT, linestyle=":", linewidth=1)
    axes.set(ylim=(-0.02, 1.02), xlim=(min(found.strengths), max(found.strengths)))
    axes.set_xlabel("strength (0: images as they are, 1: as learned)", fontsize=8)
    axes.set_ylabel("still classified rightly, share", fontsize=8)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return sheet.figure


def wilson(share: Float[Tensor, "s"], count: int) -> tuple[Float[Tensor, "s"], Float[Tensor, "s"]]:
    """Give the 95 % interval of a share of `count` (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count * count)).sqrt()
    return middle - half, middle + half
