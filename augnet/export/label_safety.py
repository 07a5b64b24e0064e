"""Label safety: whether the trained classifier still sees, once an image is augmented, what it saw before.

Measured per class, since a policy that is harmless on average may turn one class into another: mirrored arrows, a 6
that stands on its head.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.augmenter import Augmenter

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# Halfway between no harm and a choice, at probability one half, that makes one class of another. On scikit-learn's
# digits the policy that was learned keeps 0.96 and more in every class (`augnet train --schedule.outer_every 4`);
# upside down half of the time, 2, 6, 7 and 9 keep 0.51 to 0.56.
THRESHOLD = 0.75
# Of fewer rightly classified images nothing is said of a class.
LEAST_IMAGES = 5
# Classes that a sentence names one by one.
NAMED = 5
DRAWS = 4
BATCH = 128


@dataclass(frozen=True, kw_only=True)
class ClassAgreement:
    """How many rightly classified images of a class still are, once augmented.

    Args:
        name: of the class.
        images: how many are classified rightly as they are.
        agreement: share of their augmented copies that still are; nan if there are no such images.
    """

    name: str
    images: int
    agreement: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the agreement, over images (Wilson 1927); wide even where few images all agree."""
        return wilson(self.agreement, self.images)

    @property
    def known(self) -> bool:
        """Whether there are images enough to say anything."""
        return self.images >= LEAST_IMAGES

    @property
    def unsafe(self) -> bool:
        """Whether the agreement is below the threshold by more than chance explains."""
        return self.known and self.interval[1] < THRESHOLD

    @property
    def safe(self) -> bool:
        """Whether the agreement is at the threshold or above by more than chance explains: of 12 images or more."""
        return self.known and self.interval[0] >= THRESHOLD

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.name!r} {self.agreement:.0%} ({low:.0%} to {high:.0%})"


@dataclass(frozen=True, kw_only=True)
class LabelSafety:
    """Agreement by strength and class.

    Args:
        classes: one entry per class, for each strength, ascending.
    """

    classes: dict[float, tuple[ClassAgreement, ...]]

    def overall(self, strength: float) -> ClassAgreement:
        """Give the agreement at a measured strength over the images of all classes."""
        some = [c for c in self.classes[strength] if c.images]
        count = sum(c.images for c in some)
        share = sum(c.images * c.agreement for c in some) / count if count else math.nan
        return ClassAgreement(name="all classes", images=count, agreement=share)

    def unsafe(self, strength: float) -> list[ClassAgreement]:
        """List the classes that are unsafe at the measured strength nearest above, the worst first."""
        above = min((s for s in self.classes if s >= strength), default=max(self.classes))
        return sorted((c for c in self.classes[above] if c.unsafe), key=lambda c: c.agreement)

    @property
    def untold(self) -> list[ClassAgreement]:
        """List the classes that have too few images to tell: at the smallest strength neither safe nor unsafe."""
        return [c for c in self.classes[min(self.classes)] if not c.safe and not c.unsafe]

    @property
    def largest_safe(self) -> float | None:
        """The largest measured strength up to which all classes are safe, by their intervals; None if there is none.

        Of classes that have too few images to tell, it is enough that none is unsafe.
        """
        untold = {c.name for c in self.untold}
        safe = None
        for strength, classes in self.classes.items():
            if len(untold) == len(classes) or any(c.unsafe if c.name in untold else not c.safe for c in classes):
                break
            safe = strength
        return safe

    @property
    def proposal(self) -> str:
        """Say up to which strength labels are safe, and of which classes there are too few images to tell."""
        safe, smallest = self.largest_safe, min(self.classes)
        if safe and self.untold:
            said = f"labels of all others are shown to be safe up to strength {safe:g}"
        elif safe:
            said = f"labels are shown to be safe up to strength {safe:g}"
        elif unsafe := self.unsafe(smallest):
            said = f"labels suffer at strength {smallest:g} already: {_listed(list(map(str, unsafe)))}"
        else:
            said = "no strength is shown to be safe"
        if not self.untold:
            return said
        return f"too few images to tell: {_listed([f'{c.name!r} ({c.images})' for c in self.untold])}; {said}"

    def warning(self, strength: float, advice: str | None = None) -> str | None:
        """Name the classes that are unsafe at a strength, and give advice, by default `proposal`; None if none is."""
        unsafe = self.unsafe(strength)
        if not unsafe:
            return None
        return (
            f"at strength {strength:g} the classifier no longer recognises augmented images of "
            f"{_listed(list(map(str, unsafe)))} (below {THRESHOLD:.0%}); {advice or self.proposal}"
        )

    def as_json(self) -> dict[str, Any]:
        """Give what a file's header keeps: by strength and class the agreement and its interval."""
        return {
            "threshold": THRESHOLD,
            "largest_safe_strength": self.largest_safe,
            "too_few_images_to_tell": [c.name for c in self.untold],
            "images": {c.name: c.images for c in next(iter(self.classes.values()))},
            "agreement": {
                f"{strength:g}": {c.name: [_finite(x) for x in (c.agreement, *c.interval)] for c in classes}
                for strength, classes in self.classes.items()
            },
        }


def measure(
    augmenter: Augmenter,
    classifier: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"],
    classes: Sequence[str],
    *,
    strengths: Sequence[float] = STRENGTHS,
    draws: int = DRAWS,
    seed: int = 0,
) -> LabelSafety:
    """Classify images as they are, and augmented several times at each strength, with the same noise at all.

    Args:
        augmenter: on the device of the classifier.
        classifier: maps images to logits; left in the mode that it is in.
        images: that it was not trained on, values in [0, 1].
        labels: class of each.
        classes: name of each label.
        strengths: of the augmenter.
        draws: of noise, per image.
        seed: of the noise.

    Raises:
        ValueError: if there are no images, strengths or draws.
    """
    if len(images) == 0 or not strengths or draws < 1:
        raise ValueError(
            f"label safety needs images, strengths and draws, found {len(images)}, {len(strengths)} and {draws}"
        )
    generator = torch.Generator().manual_seed(seed)

    def augmented(batch: Tensor) -> Iterator[tuple[float, Tensor]]:
        noises = [augmenter.draw_noise(len(batch), generator) for _ in range(draws)]
        for strength in strengths:
            for noise in noises:
                yield strength, augmenter(batch, noise, strength)

    return _measured(augmented, strengths, classifier, images, labels, classes, augmenter.like.device)


def measure_plain(
    change: Callable[[Float[Tensor, "c h w"]], Float[Tensor, "c h w"]],
    classifier: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"],
    classes: Sequence[str],
    *,
    strength: float = 1.0,
    draws: int = DRAWS,
) -> LabelSafety:
    """Classify images as they are, and changed image by image by a policy that draws for itself, on the CPU.

    Args:
        change: what the policy does to one image.
        classifier: maps images to logits; left in the mode that it is in.
        images: that it was not trained on, values in [0, 1].
        labels: class of each.
        classes: name of each label.
        strength: under which to list the result.
        draws: of the policy, per image.
    """

    def changed(batch: Tensor) -> Iterator[tuple[float, Tensor]]:
        for _ in range(draws):
            yield strength, torch.stack([change(image) for image in batch])

    return _measured(changed, [strength], classifier, images, labels, classes, torch.device("cpu"))


@torch.no_grad()
def _measured(
    versions: Callable[[Tensor], Iterator[tuple[float, Tensor]]],
    strengths: Sequence[float],
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    device: torch.device,
) -> LabelSafety:
    """Count, for the images that are seen rightly, how many of their versions at each strength still are."""
    training = classifier.training
    classifier.eval()
    # Per strength, a batch at a time, the share of each image's versions; only of images that are seen rightly.
    kept = {strength: [torch.zeros(0, dtype=torch.float64)] for strength in sorted(strengths)}
    targets = [labels[:0].cpu()]
    for batch, target in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        batch, target = batch.to(device), target.to(device)
        right = classifier(batch).argmax(dim=-1) == target
        batch, target = batch[right], target[right]
        if len(target) == 0:
            continue
        seen: dict[float, list[Tensor]] = {strength: [] for strength in kept}
        for strength, version in versions(batch):
            seen[strength].append(classifier(version).argmax(dim=-1) == target)
        for strength, found in seen.items():
            kept[strength].append(torch.stack(found).double().mean(0).cpu())
        targets.append(target.cpu())
    classifier.train(training)
    target = torch.cat(targets)
    by_strength = {strength: torch.cat(shares) for strength, shares in kept.items()}
    return LabelSafety(
        classes={
            strength: tuple(_summarise(name, found[target == label]) for label, name in enumerate(classes))
            for strength, found in by_strength.items()
        }
    )


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _summarise(name: str, found: Tensor) -> ClassAgreement:
    return ClassAgreement(name=name, images=len(found), agreement=float(found.mean()) if len(found) else math.nan)


def wilson(share: float, count: int) -> tuple[float, float]:
    """Give the 95 % interval of a share of `count` (Wilson 1927); nan if there are none."""
    if count == 0:
        return math.nan, math.nan
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return middle - half, middle + half


def _finite(value: float) -> float | None:
    # JSON has no nan.
    return round(value, 4) if math.isfinite(value) else None
