"""Label safety: whether the classifier still sees the true class once an image is augmented, by strength and class."""

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor, nn

from augnet.augmenter import Augmenter
from augnet.export import LabelSafety
from augnet.export.label_safety import LEAST_IMAGES
from augnet.show.canvas import COLOURS, FAINT, INK, Place, place, plain, shorten
from augnet.show.decisions import apply, fixed_noise, predicted

NAMED = 5
# A class is changed by a choice if so few of its images are still read rightly, of as many as a class must have.
CHANGED = 0.5


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
    """Say of each choice, such as a mirror, which classes are read otherwise in most images when it alone is made.

    Of classes with fewer than `LEAST_IMAGES` read rightly nothing is said, and of no choice where all are such.
    """
    images, labels = read_rightly(images, labels, classifier)
    if int(labels.bincount().max()) < LEAST_IMAGES:
        return {}
    noise = fixed_noise(augmenter, len(images))
    found = {}
    for k, transform in enumerate(augmenter.transforms):
        if not transform.choice:
            continue
        amounts = torch.zeros(len(images), len(augmenter.transforms))
        amounts[:, k] = 1
        right = predicted(classifier, apply(augmenter, images, noise, amounts)).argmax(dim=-1) == labels
        found[transform.label] = [
            label
            for label, count in enumerate(labels.bincount().tolist())
            if count >= LEAST_IMAGES and right[labels == label].float().mean() < CHANGED
        ]
    return found


def safety(found: LabelSafety, *, on: Place | None = None) -> Figure:
    """Show agreement against strength: over all images, and for every class; the five that suffer most are named.

    Args:
        found: of `augnet.export.measure`.
        on: see `place`.
    """
    sheet = place(on, 7.5, 3.8)
    axes = plain(sheet.subplots())
    # At strength 0 an image stays as it is.
    strengths = [0.0, *found.classes]
    by_class = list(zip(*found.classes.values(), strict=True))
    curves = [(one[0], [1.0, *(c.agreement for c in one)]) for one in by_class if one[0].known]
    curves.sort(key=lambda curve: sum(curve[1]))
    for _, curve in curves[NAMED:]:
        axes.plot(strengths, curve, color=FAINT, linewidth=0.6, alpha=0.7)
    for (one, curve), colour, style in zip(curves[:NAMED], COLOURS, ("--", "-.", ":", "--", "-."), strict=False):
        label = f"{shorten(one.name)} ({one.images} images)".replace("$", r"\$")
        axes.plot(strengths, curve, style, color=colour, linewidth=1.5, label=label)
    whole = [found.overall(strength) for strength in found.classes]
    low, high = zip((1.0, 1.0), *(one.interval for one in whole), strict=True)
    axes.fill_between(strengths, low, high, color=INK, alpha=0.2, linewidth=0)
    everything = f"all classes ({whole[0].images:,} images)"
    axes.plot(strengths, [1.0, *(one.agreement for one in whole)], color=INK, linewidth=2.5, label=everything)
    axes.axvline(1, color=FAINT, linestyle=":", linewidth=1)
    axes.set(ylim=(-0.02, 1.02), xlim=(0, max(strengths)))
    axes.set_xlabel("strength (0: images as they are, 1: as learned)", fontsize=8)
    axes.set_ylabel("still classified rightly, share", fontsize=8)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return sheet.figure
