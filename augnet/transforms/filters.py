"""Filters: transforms that look at a pixel's neighbours.

Images continue beyond their border as in a mirror. Seen that way, a row of n pixels is a sum of cosine waves of
frequency ω = πk/n, and a blur is a factor for each wave: no kernel, no kernel size, no padding.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.constants import constant
from augnet.transforms.transform import Amount, DifferentiableTransform, as_tensor, per_image


@dataclass(frozen=True, kw_only=True)
class Sharpness(DifferentiableTransform):
    """Strengthen what differs from the 3×3 neighbourhood where positive, soften it where negative.

    Args:
        limit: largest change of that difference, as a share; −1 leaves the neighbourhood's mean.
    """

    limit: float = 0.9

    unit: ClassVar[str] = "of fine detail"
    label: ClassVar[str] = "sharpness"
    maximum: ClassVar[float] = 1.0

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        # `kornia.filters.box_blur` gives the same and takes 5 times as long; `kornia.enhance.sharpness` takes 3 times
        # as long, skips the border and cuts the gradient of saturated pixels.
        # An autograd function takes as long as the mean of a small image.
        mean = _MeanOfNine.apply(images) if images.requires_grad else _MeanOfNine.forward(images)
        return torch.lerp(images, mean, per_image(-amount))


class _MeanOfNine(torch.autograd.Function):
    """Average each pixel with its eight neighbours, and the gradient too: two pixels count alike for each other."""

    @staticmethod
    def forward(images: Tensor) -> Tensor:
        wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
        rows = (wide[..., :-2] + wide[..., 1:-1]).add_(wide[..., 2:])
        return (rows[..., :-2, :] + rows[..., 1:-1, :]).add_(rows[..., 2:, :]).div_(9)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _MeanOfNine.forward(gradient)


@dataclass(frozen=True, kw_only=True)
class Dilation(DifferentiableTransform):
    """Let light spread to its eight neighbours where positive, and darkness where negative (greyscale erosion).

    It makes strokes, edges and spots thicker or thinner: by a pixel at an amount of 1, and blended below.
    `kornia.morphology.dilation` takes a kernel, has no amount, and takes 3 times as long, 7 times with its gradient.

    Args:
        limit: largest share of the way to the lightest, or darkest, of the 3×3 neighbourhood.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "of the way"
    label: ClassVar[str] = "dilation"
    maximum: ClassVar[float] = 1.0

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        # The darkest is the lightest of the negative.
        amount = per_image(as_tensor(amount, images))
        signed = torch.where(amount < 0, -1, 1).to(images) * images
        lightest = _LightestOfThree.apply if images.requires_grad else _lightest_of_three
        return torch.addcmul(images, amount, lightest(lightest(signed, 3), 2) - signed)


def _lightest_of_three(images: Float[Tensor, "b c h w"], dim: int) -> Float[Tensor, "b c h w"]:
    """Take the largest of each pixel and its two neighbours along a side of the image."""
    count = images.shape[dim]
    lightest = images.clone()
    for here, there in ((1, 0), (0, 1)):
        part = lightest.narrow(dim, here, count - 1)
        torch.maximum(part, images.narrow(dim, there, count - 1), out=part)
    return lightest


class _LightestOfThree(torch.autograd.Function):
    """The same with a gradient, which goes to the pixel that was taken.

    Twice this is `F.max_pool2d(images, 3, 1, 1)`, which takes 20 times as long on a CPU and 3 times with its gradient.
    """

    @staticmethod
    def forward(images: Tensor, dim: int) -> Tensor:
        return _lightest_of_three(images, dim)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        images, ctx.dim = inputs
        ctx.save_for_backward(images, output)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        images, lightest = ctx.saved_tensors
        dim, count = ctx.dim, images.shape[ctx.dim] - 1

        def first(x: Tensor) -> Tensor:
            return x.narrow(dim, 0, count)

        def last(x: Tensor) -> Tensor:
            return x.narrow(dim, 1, count)

        own = gradient * (images == lightest)
        others = gradient - own
        before = last(others) * (first(images) == last(lightest))
        last(others).sub_(before)
        first(own).add_(before)
        last(own).add_(first(others))
        return own, None


@dataclass(frozen=True, kw_only=True)
class GaussianBlur(DifferentiableTransform):
    """Blur by a Gaussian of standard deviation `amount`.

    This is the discrete Gaussian (Lindeberg 1990): heat that spreads from pixel to pixel for a time σ²/2 and
    does not leave the image. The wave of frequency ω shrinks by exp(σ² (cos ω − 1)). Unlike a sampled Gaussian it has
    variance σ² and a useful gradient below half a pixel too.

    `kornia.filters.gaussian_blur2d` is a sampled one (at σ = 0.3 variance 0.008 instead of 0.09, at σ = 0.1 no
    gradient), refuses σ = 0, waits for the device to check that, and takes 4 times as long (1.9 ms against 0.5 for 64
    32×32 images); its discrete kernel alone takes 3.1 ms.

    Args:
        limit: largest standard deviation, as a share of the image's width.
    """

    limit: float = 0.05

    unit: ClassVar[str] = "of image width"
    label: ClassVar[str] = "blur"
    maximum: ClassVar[float] = 0.5
    signed: ClassVar[bool] = False

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        height, width = images.shape[-2:]
        variance = (amount * width) ** 2
        if not isinstance(variance, Tensor):
            columns = _near(variance, width, like=images)
            rows = columns if height == width else _near(variance, height, like=images)
            images = torch.cat([images[..., near] @ block.mT for near, block in columns], -1)
            return torch.cat([block @ images[..., near, :] for near, block in rows], -2)
        with torch.no_grad():
            along_x = _spread(variance, width)
            # An exported program is for all sizes, so it must not ask whether images are square.
            square = not torch.compiler.is_exporting() and height == width
            along_y = along_x if square else _spread(variance, height)
        across = (images.flatten(1, 2) @ along_x).view_as(images)
        blurred = along_y[:, None] @ across
        if variance.requires_grad:
            # Heat: an image changes with the variance as each pixel differs from its neighbours. The gradient of the
            # matrices, which would say the same, takes as long as all the rest.
            blurred = blurred + per_image(variance - variance.detach()) * _flow_of_heat(blurred.detach())
        return blurred


def _flow_of_heat(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Give half the sum of the differences of each pixel's four neighbours to itself."""
    wide = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows, columns = wide[..., 1:-1], wide[..., 1:-1, :]
    neighbours = (rows[..., :-2, :] + rows[..., 2:, :]).add_(columns[..., :-2]).add_(columns[..., 2:])
    return neighbours.div_(2).sub_(images, alpha=2)


BLOCK = 32
"""Pixels that are blurred at a time: fewer are small products, more have pixels that are too far away from most."""


def _near(variance: float, count: int, *, like: Tensor) -> list[tuple[slice, Float[Tensor, "m n"]]]:
    """Build the rows of `_spread`, some at a time, where they are not 0 to the last digit, and say where that is.

    At 224 pixels and a deviation of 3 products with these take half of the time (0.31 to 0.36 ms against 0.68).
    """
    digits = -math.log(torch.finfo(like.dtype).eps)
    # Heat that goes from pixel to pixel gets further than this with a probability of at most eps (Bernstein).
    reach = math.ceil(digits / 3 + math.sqrt((digits / 3) ** 2 + 2 * variance * digits))
    cosine, _ = waves(count, like=like)
    decayed = cosine.mT * (variance * _cooling(count, like=like)).exp_()
    places = [slice(max(0, start - reach), start + BLOCK + reach) for start in range(0, count, BLOCK)]
    return [(near, decayed[BLOCK * i :][:BLOCK] @ cosine[:, near]) for i, near in enumerate(places)]


def _spread(variance: Float[Tensor, "b"], count: int) -> Float[Tensor, "b n n"]:
    """Build the symmetric matrix that blurs a row of `count` pixels by a variance in pixels²."""
    cosine, _ = waves(count, like=variance)
    decay = torch.exp(variance[:, None] * _cooling(count, like=variance))
    return (cosine.T * decay[:, None]) @ cosine


@constant
def waves(count: int, *, like: Tensor) -> Float[Tensor, "2 n n"]:
    """Sample the cosine and the sine waves of a row of pixels: one wave per row, the cosines orthonormal (DCT-II)."""
    pixels = torch.arange(count, dtype=like.dtype, device=like.device) + 0.5
    phase = frequencies(count, like=like)[:, None] * pixels
    # The constant wave has twice the energy of the others.
    scale = torch.cat((torch.full_like(phase[:1], count**-0.5), torch.full_like(phase[1:], (2 / count) ** 0.5)))
    return torch.stack((scale * phase.cos(), scale * phase.sin()))


@constant
def _cooling(count: int, *, like: Tensor) -> Float[Tensor, "n"]:
    """Say how fast the waves of a row of pixels shrink: for a variance of v by exp(v (cos ω − 1))."""
    return frequencies(count, like=like).cos() - 1


@constant
def frequencies(count: int, *, like: Tensor) -> Float[Tensor, "n"]:
    """List the frequencies of the waves of a row of pixels, in radians per pixel."""
    return torch.arange(count, dtype=like.dtype, device=like.device) * (math.pi / count)


@dataclass(frozen=True, kw_only=True)
class MotionBlur(DifferentiableTransform):
    """Smear along a straight line, as a moving camera does.

    The noise gives the line's direction. Moving a wave by d turns cos ωx into cos ωd cos ωx + sin ωd sin ωx; averaged
    over a line of length L and slope θ, the products of an x and a y wave keep two factors, with
    s± = sinc(L (ωx cos θ ± ωy sin θ) / 2): (s− + s+) / 2 for cos·cos and (s− − s+) / 2 for sin·sin.
    Since no wave is finer than two pixels, a single bright pixel rings by a few hundredths. For
    `kornia.filters.motion_blur` the length is a whole number without a gradient, the same for all images.

    Args:
        limit: largest length, as a share of the image's width.
    """

    limit: float = 0.15

    unit: ClassVar[str] = "of image width"
    label: ClassVar[str] = "motion blur"
    maximum: ClassVar[float] = 0.5
    signed: ClassVar[bool] = False
    draws: ClassVar[int] = 1

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c h w"]:
        height, width = images.shape[-2:]
        angle = noise[:, 0] * (math.pi / 2)
        # torch.sinc(x) is sin(πx) / (πx).
        length = as_tensor(amount, images) * (width / (2 * math.pi))
        turn_x = (length * angle.cos())[:, None, None] * frequencies(width, like=images)
        turn_y = (length * angle.sin())[:, None, None] * frequencies(height, like=images)[:, None]
        plus, minus = torch.sinc(turn_x + turn_y)[:, None], torch.sinc(turn_x - turn_y)[:, None]
        cos_x, sin_x = waves(width, like=images)
        cos_y, sin_y = waves(height, like=images)
        spectrum = cos_y @ (images @ cos_x.T)
        even = cos_y.T @ ((spectrum * ((minus + plus) / 2)) @ cos_x)
        odd = sin_y.T @ ((spectrum * ((minus - plus) / 2)) @ sin_x)
        return even + odd
