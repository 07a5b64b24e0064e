"""The family of differentiable image transforms: what a member promises.

A member is a frozen set of settings. It holds no state and draws no random numbers: everything that
varies comes in as one `amount` per image and, for members that need a place or a pattern, as a few
numbers of `noise` per image. That makes a transform a plain function, so the gradient to the amount
means what it says and the same call can be exported.

Members are declared in geometry.py (warps), colour.py (linear colour), tone.py (tone curves),
filters.py (neighbourhoods) and corruption.py (what cameras and files do); fuse.py applies a list of them.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, overload

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.family import members
from augnet.nearest import nearest

Amount: TypeAlias = Float[Tensor, "b"] | float
"""How much: a number for each image, or a plain one for all of them, which has no gradient. Plain numbers are for one
small image, where arithmetic with tensors of a single number costs as much as passes over its pixels."""


@dataclass(frozen=True, kw_only=True)
class DifferentiableTransform(ABC):
    """A change of images whose strength has a gradient.

    Laws, tested over every member: amount 0 leaves the images unchanged; the result has the same shape
    and type and stays in [0, 1]; the gradient to the amount is finite, not all zero and right in sign.

    Args:
        limit: the amount that magnitude 1 stands for, in `unit`.

    Attributes:
        unit: what an amount counts, for plots.
        label: the transform in words, for people.
        maximum: the largest `limit` that makes sense.
        choice: done (1) or not done (0); amounts between mean nothing, but their gradient is that of a blend.
        signed: amounts lie in [-limit, limit]; otherwise in [0, limit].
        draws: numbers uniform in (-1, 1) that an image needs besides its amount.
        needs_rgb: only makes sense for three channels: red, green, blue.
        relaxed: the gradient is that of a smooth stand-in, right on average rather than to the digit.
        customary: how often it is applied before anything is known of the images, a probability.
        kind: transforms of one kind also learn together (`SharingAdam`); the others have nothing in common.
    """

    limit: float

    unit: ClassVar[str]
    label: ClassVar[str]
    maximum: ClassVar[float] = math.inf
    choice: ClassVar[bool] = False
    signed: ClassVar[bool] = True
    draws: ClassVar[int] = 0
    needs_rgb: ClassVar[bool] = False
    relaxed: ClassVar[bool] = False
    customary: ClassVar[float] = 0.1
    kind: ClassVar[Literal["geometry", "colour"] | None] = None

    def __post_init__(self) -> None:
        name = type(self).__name__
        if not (math.isfinite(self.limit) and self.limit > 0):
            raise ValueError(f"limit of {name} must be positive and finite, but is {self.limit}; leave it out instead")
        if self.choice and self.limit != 1:
            raise ValueError(f"{name} is done or not done, so its limit is 1, but {self.limit} was given; remove it")
        if self.limit > self.maximum:
            raise ValueError(
                f"limit of {name} is {self.limit} {self.unit}, but at most {self.maximum:g} makes sense; lower it"
            )

    def __call__(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Float[Tensor, "b d"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Transform each image by its own amount.

        Args:
            images: values in [0, 1].
            amount: in `unit`, one per image or one for all; 0 leaves the image unchanged.
            noise: `draws` numbers in (-1, 1) per image; not needed where `draws` is 0.

        Returns:
            Images in [0, 1]. Saturated pixels pass their gradient on (`straight_through_clamp`).

        Raises:
            ValueError: if noise is missing or of the wrong width, or if the member needs RGB and gets something else.
        """
        if self.needs_rgb and images.shape[1] != 3:
            raise ValueError(
                f"{type(self).__name__} needs red, green and blue, but the images have {images.shape[1]} channels; "
                "leave it out (`usable` does)"
            )
        noise = images.new_zeros(images.shape[0], 0) if noise is None else noise
        if self.draws and noise.shape[1] != self.draws:
            raise ValueError(
                f"{type(self).__name__} needs {self.draws} noise numbers per image, but got {noise.shape[1]}; "
                "draw them uniformly from (-1, 1)"
            )
        kind = images.device.type
        if torch.is_autocast_enabled(kind):
            # Matrices and grids in half precision would move pixels and quantise colours.
            with torch.autocast(kind, enabled=False):
                return self(images, amount, noise)
        if images.dtype in (torch.float16, torch.bfloat16):
            return self(images.float(), amount, noise).to(images.dtype)
        amount = amount.to(images.dtype) if isinstance(amount, Tensor) else amount
        return straight_through_clamp(self.transform(images, amount, noise.to(images.dtype)))

    @property
    def turned(self) -> bool:
        """Whether its probability learns from images with it and without (`Augmenter.augment_both_ways`), and from no
        gradient: so it is with choices whose blends are no images that one would see.
        """
        return False

    @abstractmethod
    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c h w"]:
        """Do what `__call__` promises, except that values may leave [0, 1]."""


class _StraightThroughClamp(torch.autograd.Function):
    @staticmethod
    def forward(values: Tensor) -> Tensor:
        return values.clamp(0, 1)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient


def straight_through_clamp(values: Float[Tensor, "*any"], *, fresh: bool = False) -> Float[Tensor, "*any"]:
    """Clamp to [0, 1] in the forward pass and let the gradient through unchanged.

    A hard clamp cuts the gradient of every saturated pixel, so an image that was made too bright could
    never say so (Bengio, Léonard and Courville 2013 give the idea of the straight-through gradient).

    Args:
        values: what to clamp.
        fresh: nobody else has them, so where no gradient is needed they may be overwritten.
    """
    if values.requires_grad and torch.is_grad_enabled():
        return _StraightThroughClamp.apply(values)
    # An autograd function takes ten times as long for an image of 32×32, gradient or not.
    return values.clamp_(0, 1) if fresh else values.clamp(0, 1)


def straight_through_choice(amount: Amount) -> Amount:
    """Round an amount to 0 or 1 in the forward pass and let the gradient through unchanged."""
    if not isinstance(amount, Tensor):
        return float(amount >= 0.5)
    chosen = (amount >= 0.5).to(amount.dtype)
    return chosen + (amount - amount.detach())


@overload
def per_image(amount: Tensor) -> Float[Tensor, "b 1 1 1"]: ...
@overload
def per_image(amount: Amount) -> Float[Tensor, "b 1 1 1"] | float: ...
def per_image(amount: Amount) -> Float[Tensor, "b 1 1 1"] | float:
    """Shape one number per image so that it multiplies images."""
    return amount[:, None, None, None] if isinstance(amount, Tensor) else amount


def as_tensor(amount: Amount, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b"]:
    """Make tensors of plain numbers, for members that would gain nothing from them."""
    return amount if isinstance(amount, Tensor) else images.new_full((len(images),), amount)


def dealt(noise: Float[Tensor, "b d"], amount: Amount) -> list[Amount]:
    """Deal out the columns of noise: as plain numbers where the amount is one and there is a single image."""
    return list(noise.unbind(1)) if isinstance(amount, Tensor) or len(noise) != 1 else noise[0].tolist()


def cos_sin(angle: Amount) -> tuple[Amount, Amount]:
    """Take cosine and sine of an angle."""
    return (angle.cos(), angle.sin()) if isinstance(angle, Tensor) else (math.cos(angle), math.sin(angle))


def all_transforms() -> list[type[DifferentiableTransform]]:
    """List every concrete member of the family, in the order in which they were imported."""
    return members(DifferentiableTransform)


def named(name: str) -> type[DifferentiableTransform]:
    """Find a member of the family by its class name.

    Raises:
        ValueError: if there is none of that name; the message suggests the nearest.
    """
    known = {member.__name__: member for member in all_transforms()}
    if name not in known:
        raise ValueError(f"there is no transform named {name!r}{nearest(name, known)}")
    return known[name]
