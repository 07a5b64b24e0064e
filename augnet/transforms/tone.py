"""Tone: transforms that send each value to another by a curve.

The curves with steps (posterize, equalize) have no useful derivative of their own. They are written as
image + amount × (what the step adds), and what the step adds is held constant in the backward pass.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.transform import Amount, DifferentiableTransform, as_tensor, per_image

# Values up to this are black to `Gamma`.
BLACK = 1e-6


@dataclass(frozen=True, kw_only=True)
class Gamma(DifferentiableTransform):
    """Raise values to the power 2^amount: darker middle tones where positive, lighter where negative.

    Args:
        limit: largest exponent in octaves: 1 squares values or takes their root.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "octaves of exponent"
    label: ClassVar[str] = "gamma"
    kind: ClassVar = "colour"
    customary: ClassVar[float] = 0.25
    maximum: ClassVar[float] = 3.0

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        # The derivative of a power below 1 is infinite at a black pixel. `Tensor.pow`, and so kornia's `adjust_gamma`,
        # takes twice to three times as long as this.
        powers = (images.clamp(min=BLACK).log() * per_image(2**amount)).exp_()
        # Black stays black, whatever the power.
        return torch.where(images > BLACK, powers, images)


@dataclass(frozen=True, kw_only=True)
class Solarize(DifferentiableTransform):
    """Invert what is brighter than 1 − amount, as over-exposed film does.

    The inversion sets in over a tenth of full scale above the threshold instead of all at once, which gives
    the threshold a gradient. `kornia.enhance.solarize` gives it none and turns white black at amount 0 already.

    Args:
        limit: largest part of the scale that is inverted.
    """

    limit: float = 0.8

    unit: ClassVar[str] = "of full scale"
    label: ClassVar[str] = "solarize"
    kind: ClassVar = "colour"
    customary: ClassVar[float] = 0.25
    maximum: ClassVar[float] = 1.0
    signed: ClassVar[bool] = False

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        inverted = ((images - (1 - per_image(amount))) * 10).clamp(0, 1)
        return images + inverted * (1 - 2 * images)


@dataclass(frozen=True, kw_only=True)
class Posterize(DifferentiableTransform):
    """Round values to fewer levels.

    Rounding to steps of δ adds δ·e(x/δ) with an error e that looks uniform, so the change grows with δ: that is
    the gradient given here, as in learned step size quantisation (Esser et al. 2020). `kornia.enhance.posterize`
    rounds down, which darkens (by 16 of 255 levels at 5 bits), and its gradient has the wrong sign.

    Args:
        limit: most bits taken from 8-bit values; δ = (2^bits − 1) / 255.
    """

    limit: float = 5.0

    unit: ClassVar[str] = "bits removed"
    label: ClassVar[str] = "fewer levels"
    kind: ClassVar = "colour"
    customary: ClassVar[float] = 0.25
    maximum: ClassVar[float] = 7.0
    signed: ClassVar[bool] = False
    relaxed: ClassVar[bool] = True

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        step = per_image((torch.exp2(as_tensor(amount, images)) - 1) / 255)
        with torch.no_grad():
            levels = images / step.clamp(min=1e-6)
            error = levels.round() - levels
        return torch.addcmul(images, step, error)


@dataclass(frozen=True, kw_only=True)
class Equalize(DifferentiableTransform):
    """Blend towards the image whose values, channel by channel, are spread evenly over 256 levels.

    `kornia.enhance.equalize` divides whole numbers as Pillow does, so of 1024 pixels up to a quarter turn white (a
    tenth on average for uniform values, where one in 256 should) and fewer than 256 don't change.

    Args:
        limit: largest share of the equalized image.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "of the way"
    label: ClassVar[str] = "equalize"
    kind: ClassVar = "colour"
    customary: ClassVar[float] = 0.14
    maximum: ClassVar[float] = 1.0
    signed: ClassVar[bool] = False

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        with torch.no_grad():
            change = _equalized(images) - images
        return torch.addcmul(images, per_image(as_tensor(amount, images)), change)


def _equalized(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Send each level to the share of the other pixels that are not brighter; flat channels stay."""
    # What is not finite is no level, and stays so.
    pixels = images.flatten(2).nan_to_num(0)
    levels = (pixels * 255).round().clamp(0, 255).long()
    counts = torch.zeros(*images.shape[:2], 256, dtype=images.dtype, device=images.device)
    counts = counts.scatter_add(2, levels, torch.ones_like(pixels))
    cumulative = counts.cumsum(2)
    # The least of whole numbers takes twenty times as long to find as that of floats.
    lowest = counts.gather(2, (pixels.amin(2, keepdim=True) * 255).round().clamp(0, 255).long())
    others = levels.shape[2] - lowest
    share = (cumulative.gather(2, levels) - lowest) / others.clamp(min=1)
    return torch.where(others > 0, share, images.flatten(2)).view_as(images)


@dataclass(frozen=True, kw_only=True)
class AutoContrast(DifferentiableTransform):
    """Blend towards the image whose channels are stretched from black to white.

    Args:
        limit: largest share of the stretched image.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "of the way"
    label: ClassVar[str] = "automatic contrast"
    kind: ClassVar = "colour"
    customary: ClassVar[float] = 0.14
    maximum: ClassVar[float] = 1.0
    signed: ClassVar[bool] = False

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        # A channel of fewer than two 8-bit levels is flat: stretching it would only show rounding noise.
        amount = torch.where(high - low < 1 / 255, 0, per_image(as_tensor(amount, images)))
        # (x − low) / (high − low), blended in, is linear in x: one pass, where kornia's `normalize_min_max` and a blend
        # of two images take several, and three times as long.
        share = amount / (high - low).clamp(min=1 / 255)
        return torch.addcmul(-share * low, images, 1 - amount + share)
