"""Pixels of every kind, as floats in [0, 1] and back."""

from typing import TypeVar

import PIL.Image
import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms.v2 import functional as v2f

Picture = TypeVar("Picture", Tensor, PIL.Image.Image)
# Integers that hold pixels, and what white is in them.
WHITE = {torch.uint8: 255, torch.uint16: 65535}
PIL_MODES = ("L", "RGB")
# What enlarging with overshoot may do to floats in [0, 1] at most; further out are other scales.
OVERSHOOT = 0.5


def to_floats(picture: Tensor | PIL.Image.Image) -> Float[Tensor, "*lead c h w"]:
    """Read a picture as floats in [0, 1], of single precision unless it is in double.

    Raises:
        ValueError: if it is of another kind, or its floats are on another scale.
    """
    if isinstance(picture, PIL.Image.Image):
        if picture.mode not in PIL_MODES:
            raise ValueError(
                f"images should be grey (L) or RGB, found a PIL image of mode {picture.mode}; "
                "convert it first: image.convert('RGB')"
            )
        pixels = v2f.pil_to_tensor(picture)
    else:
        # Of a tv_tensor, every operation would be wrapped again.
        pixels = picture.as_subclass(Tensor)
    if pixels.ndim < 3:
        raise ValueError(
            f"images should have shape (..., channels, height, width), found {tuple(pixels.shape)}; if that is not the "
            "image, wrap the image as tv_tensors.Image"
        )
    if pixels.dtype in WHITE:
        return pixels.float().div_(WHITE[pixels.dtype])
    if not pixels.is_floating_point():
        raise ValueError(f"images should be uint8, uint16 or floats in [0, 1], found {pixels.dtype}; convert them")
    lowest, highest = pixels.aminmax() if pixels.numel() else (0.0, 1.0)
    if lowest < -OVERSHOOT or highest > 1 + OVERSHOOT:
        raise ValueError(
            f"floats should lie in [0, 1], found {float(lowest):.3g} to {float(highest):.3g}; augment before "
            "normalising, and scale with v2.ToDtype(torch.float32, scale=True)"
        )
    return pixels if pixels.dtype == torch.float64 else pixels.float()


def from_floats(pixels: Float[Tensor, "*lead c h w"], like: Picture) -> Picture:
    """Write floats in [0, 1] as a picture of the kind of `like`, rounded to the nearest level where it has levels."""
    if isinstance(like, PIL.Image.Image):
        return v2f.to_pil_image(pixels.mul(255).round_().to(torch.uint8), like.mode)
    if like.dtype in WHITE:
        pixels = pixels.mul(WHITE[like.dtype]).round_()
    return pixels.to(like.dtype)
