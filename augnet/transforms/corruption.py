"""Corruption: what sensors, files and obstacles do to an image."""

from dataclasses import dataclass
from math import pi
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.color import rgb_to_ycbcr
from torch import Tensor

from augnet.transforms.colour import conversion_matrix
from augnet.transforms.constants import constant, middles
from augnet.transforms.filters import waves
from augnet.transforms.transform import Amount, DifferentiableTransform, as_tensor, dealt, per_image


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(DifferentiableTransform):
    """Add independent normal noise to every value.

    The pattern is a hash of the pixel's number and the image's two draws, so that a few numbers stand for a
    pattern of any size, and the same draws give the same pattern on every device.

    Args:
        limit: largest standard deviation, as a share of full scale.
    """

    limit: float = 0.2

    unit: ClassVar[str] = "of full scale"
    label: ClassVar[str] = "noise"
    maximum: ClassVar[float] = 1.0
    signed: ClassVar[bool] = False
    draws: ClassVar[int] = 2

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c h w"]:
        with torch.no_grad():
            channels, height, width = images.shape[1:]
            pattern = normal_pattern(noise, channels * height * width).to(images.dtype)
        return torch.addcmul(images, per_image(as_tensor(amount, images)), pattern.view_as(images))


def normal_pattern(keys: Float[Tensor, "b 2"], count: int) -> Float[Tensor, "b n"]:
    """Make `count` standard normal numbers per image from its two keys in (−1, 1).

    32 hashed bits make two 16-bit uniform numbers, and these make two normal ones (Box and Muller 1958), none
    further out than 4.9.
    """
    half = (count + 1) // 2
    seeds = (keys.float() * 2**23).int()
    places = torch.arange(half, dtype=torch.int32, device=keys.device)
    if keys.device.type == "cpu" and not torch.compiler.is_compiling():
        # NumPy takes a fifth to half of the time for whole numbers.
        bits = torch.from_numpy(_hashed(seeds.numpy(), places.numpy()))
    else:
        bits = _hashed(seeds, places)
    # In place, here and below: fresh memory for every step would take half as long again.
    radius = ((bits >> 16) & 0xFFFF).float().add_(0.5).div_(2**16).log_().mul_(-2).sqrt_()
    angle = bits.bitwise_and_(0xFFFF).float().mul_(2 * pi / 2**16)
    pairs = torch.cat((angle.cos().mul_(radius), angle.sin().mul_(radius)), 1)
    # Not a slice: whether one takes all or a part would tie an exported program to sizes.
    return F.pad(pairs, (0, count - 2 * half))


Bits = TypeVar("Bits", Tensor, np.ndarray)


def _hashed(seeds: Bits, places: Bits) -> Bits:
    """Hash every place with each pair of seeds, in torch or in NumPy."""
    seeds = _scramble(seeds)
    bits = _scramble(places + seeds[:, :1])
    bits ^= seeds[:, 1:]
    return _scramble(bits)


def _scramble(bits: Bits) -> Bits:
    """Hash 32-bit numbers one to one, in place (`lowbias32` of Wellons' hash prospector); products wrap around."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - 2**32), (16, 1)):
        # A shift of a signed number drags its sign along, hence the mask; 2^32 is taken off to fit 32 signed bits.
        shifted = bits >> shift
        shifted &= (1 << 32 - shift) - 1
        bits ^= shifted
        if factor != 1:
            bits *= factor
    return bits


@dataclass(frozen=True, kw_only=True)
class JPEG(DifferentiableTransform):
    """Compress as a JPEG file of quality 100 · (1 − amount), without thinning out the colour channels (4:4:4).

    Each 8×8 block is written as waves, and each wave's strength is rounded to a step from the standard's table. The
    forward pass rounds as a file does; the gradient is that of `Posterize`. In one thing it differs from a file: steps
    need not be whole numbers and may be below 1, so that amount 0 changes nothing. Images without three channels
    are compressed channel by channel, as brightness.

    kornia's differentiable codec is not used: its soft rounding ends further from a file than no compression at all
    (smooth 48×48 images at quality 50, mean difference in 255ths: 4.4 against 2.6, and 0.7 here), and it waits for
    the device to check its input.

    Args:
        limit: largest loss of quality, as a share of the scale.
    """

    limit: float = 0.8

    unit: ClassVar[str] = "of the quality scale"
    label: ClassVar[str] = "JPEG artefacts"
    maximum: ClassVar[float] = 0.99
    signed: ClassVar[bool] = False
    relaxed: ClassVar[bool] = True

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        height, width = images.shape[-2:]
        rgb = images.shape[1] == 3
        tables = _tables(like=images) if rgb else _tables(like=images)[:1]
        quality = 100 * (1 - as_tensor(amount, images))
        share = torch.where(quality < 50, 50 / quality.clamp(min=1), 2 - quality / 50)
        steps = share[:, None, None, None, None, None] * tables.view(-1, 1, 1, 8, 8)

        # Middle grey is 0, in 255ths, as in the standard.
        planes = images * 255 - 128
        if rgb:
            planes = _mixed(planes, _conversions(like=images)[0])
        below, right = _missing(height), _missing(width)
        planes = F.pad(planes, (0, right, 0, below), mode="replicate")
        blocks = planes.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
        cosine, _ = waves(8, like=images)
        strengths = cosine @ blocks @ cosine.T
        with torch.no_grad():
            levels = strengths / steps.clamp(min=1e-6)
            error = levels.round() - levels
        blocks = cosine.T @ (strengths + steps * error) @ cosine
        # Not a slice, as in `normal_pattern`.
        planes = F.pad(blocks.transpose(3, 4).flatten(4, 5).flatten(2, 3), (0, -right, 0, -below))
        if rgb:
            planes = _mixed(planes, _conversions(like=images)[1])
        return (planes + 128) / 255


def _missing(count: int) -> int:
    """Count what `count` pixels lack of whole blocks of 8, of two at least: one would tie an exported program to it."""
    blocks: Any = torch.sym_max(2, (count + 7) // 8)
    return 8 * blocks - count


def _mixed(planes: Float[Tensor, "b 3 h w"], matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "b 3 h w"]:
    return (matrix @ planes.flatten(2)).view_as(planes)


YCBCR = conversion_matrix(rgb_to_ycbcr)
"""From RGB to brightness and two differences of colour, all around 0."""

RGB = torch.linalg.inv(YCBCR)
"""Its inverse; `kornia.color.ycbcr_to_rgb` clamps, which cuts the gradient of saturated pixels."""


@constant
def _conversions(*, like: Tensor) -> Float[Tensor, "2 3 3"]:
    return torch.stack((YCBCR, RGB)).to(like.device, like.dtype)


@constant
def _tables(*, like: Tensor) -> Float[Tensor, "3 8 8"]:
    steps = (BRIGHTNESS_STEPS, COLOUR_STEPS, COLOUR_STEPS)
    return torch.tensor(steps, dtype=like.dtype, device=like.device)


BRIGHTNESS_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Steps at quality 50, in 255ths (ITU-T T.81, table K.1)."""

COLOUR_STEPS = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Steps at quality 50, in 255ths (ITU-T T.81, table K.2)."""


@dataclass(frozen=True, kw_only=True)
class Erase(DifferentiableTransform):
    """Hide a rectangle behind the image's mean colour (DeVries and Taylor 2017; Zhong et al. 2020).

    The noise gives its centre, anywhere in the image, and its shape, up to twice as wide as high (as shares of the
    image) or the other way round. Pixels that it half covers are half hidden, so its size has a gradient.

    Args:
        limit: largest side of the rectangle (of the square of equal area), as a share of the image's side.
    """

    limit: float = 0.5

    unit: ClassVar[str] = "of image side"
    label: ClassVar[str] = "erased rectangle"
    maximum: ClassVar[float] = 1.0
    signed: ClassVar[bool] = False
    draws: ClassVar[int] = 3

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c h w"]:
        height, width = images.shape[-2:]
        x, y, shape = dealt(noise, amount)
        stretch = 2 ** (shape / 2)
        # A share of the image is half as long as the same number in coordinates from −1 to 1.
        across = _covered(x, amount * stretch, middles(width, like=images))
        down = _covered(y, amount / stretch, middles(height, like=images))
        hidden = down.unsqueeze(-1) * across.unsqueeze(-2)
        return torch.lerp(images, images.mean((2, 3), keepdim=True), hidden.unsqueeze(-3))


def _covered(centre: Amount, half: Amount, places: Float[Tensor, "n"]) -> Float[Tensor, "*b n"]:
    """Say which share of each pixel of a row an interval covers, given its centre in (−1, 1) and half its length."""
    # Not its length, which would tie an exported program to it.
    count = places.shape[0]
    if isinstance(half, Tensor) and isinstance(centre, Tensor):
        centre, half = centre[:, None], half[:, None]
    # What an interval and a pixel share shrinks with their distance, and is no longer than either of them.
    shared = (half - (places - centre).abs()) * (count / 2) + 0.5
    return shared.clamp(0, 1).clamp(max=half * count)
