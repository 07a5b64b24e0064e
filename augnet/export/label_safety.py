"""Label safety: whether the trained classifier still sees, once an image is augmented, what it saw before.

Measured per class, since a policy that is harmless on average may turn one class into another: mirrored arrows, a 6
that stands on its head.
"""

import math
from collections.abc import Sequence
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
    def largest_safe(self) -> float | None:
        """The largest measured strength up to which no class was found unsafe; None if there is none."""
        safe = None
        for strength, classes in self.classes.items():
            if any(c.unsafe for c in classes):
                break
            safe = strength
        return safe

    def warning(self, strength: float) -> str | None:
        """Name the classes that are unsafe at a strength, and say up to which none was found so; None if none is."""
        unsafe = self.unsafe(strength)
        if not unsafe:
            return None
        worst = ", ".join(map(str, unsafe[:5]))
        more = f" and {len(unsafe) - 5} more" if len(unsafe) > 5 else ""
        safe = self.largest_safe
        advice = (
            f"no harm was found up to strength {safe:g}"
            if safe
            else f"harm was found at every strength measured, from {min(self.classes):g} on"
        )
        return (
            f"at strength {strength:g} the classifier no longer recognises augmented images of {worst}{more} "
            f"(below {THRESHOLD:.0%}); {advice}"
        )

    def as_json(self) -> dict[str, Any]:
        """Give what a file's header keeps: by strength and class the agreement and its interval."""
        return {
            "threshold": THRESHOLD,
            "largest_safe_strength": self.largest_safe,
            "images": {c.name: c.images for c in next(iter(self.classes.values()))},
            "agreement": {
                f"{strength:g}": {c.name: [_finite(x) for x in (c.agreement, *c.interval)] for c in classes}
                for strength, classes in self.classes.items()
            },
        }


@torch.no_grad()
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
    training = classifier.training
    classifier.eval()
    device = next(augmenter.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    # Per image and strength, how often of `draws` it is still seen rightly; only images that are to begin with.
    kept: dict[float, list[Tensor]] = {
        strength: [torch.zeros(0, dtype=torch.float64, device=device)] for strength in sorted(strengths)
    }
    labels_kept = [labels[:0].to(device)]
    for batch, target in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        batch, target = batch.to(device), target.to(device)
        right = classifier(batch).argmax(dim=-1) == target
        batch, target = batch[right], target[right]
        if len(target) == 0:
            continue
        labels_kept.append(target)
        noises = [augmenter.draw_noise(len(batch), generator) for _ in range(draws)]
        for strength, found in kept.items():
            seen = [classifier(augmenter(batch, noise, strength)).argmax(dim=-1) == target for noise in noises]
            found.append(torch.stack(seen).double().mean(0))
    classifier.train(training)
    target = torch.cat(labels_kept).cpu()
    by_strength = {strength: torch.cat(found).cpu() for strength, found in kept.items()}
    return LabelSafety(
        classes={
            strength: tuple(_summarise(name, found[target == label]) for label, name in enumerate(classes))
            for strength, found in by_strength.items()
        }
    )


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
