"""Pixels of every kind, as floats in [0, 1] and back."""

import PIL.Image
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchvision.transforms.v2 import functional as v2f

# Integers that hold pixels, and what white is in them.
WHITE = {torch.uint8: 255, torch.uint16: 65535}
PIL_MODES = ("L", "RGB")
# What enlarging with overshoot may do to floats in [0, 1] at most; further out are other scales.
OVERSHOOT = 0.5
# Pixels a side that are looked at to tell the scale: to look at all takes longer than to change their brightness.
LOOKED_AT = 32


def to_plain(picture: Tensor | PIL.Image.Image) -> Shaped[Tensor, "*lead c h w"]:
    """Read a picture as a plain tensor of its own type.

    Raises:
        ValueError: if it is of another kind, or its floats are on another scale, as some hundred pixels of it tell.
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
    if pixels.dtype not in WHITE:
        _check_scale(pixels)
    return pixels


def _check_scale(pixels: Tensor) -> None:
    if not pixels.is_floating_point():
        raise ValueError(f"images should be uint8, uint16 or floats in [0, 1], found {pixels.dtype}; convert them")
    rows, columns = (max(1, side // LOOKED_AT) for side in pixels.shape[-2:])
    some = pixels[..., ::rows, ::columns]
    lowest, highest = (float(end) for end in some.aminmax()) if some.numel() else (0.0, 1.0)
    if lowest < -OVERSHOOT or highest > 1 + OVERSHOOT:
        raise ValueError(
            f"floats should lie in [0, 1], found {lowest:.3g} to {highest:.3g}; augment before normalising, and scale "
            "with v2.ToDtype(torch.float32, scale=True)"
        )


def to_floats(pixels: Shaped[Tensor, "*lead c h w"]) -> Float[Tensor, "*lead c h w"]:
    """Scale what `to_plain` read to floats in [0, 1], of single precision unless it is in double."""
    if pixels.dtype in WHITE:
        return pixels.float().div_(WHITE[pixels.dtype])
    return pixels if pixels.dtype == torch.float64 else pixels.float()


def from_floats(
    pixels: Float[Tensor, "*lead c h w"], like: Shaped[Tensor, "*lead c h w"]
) -> Shaped[Tensor, "*lead c h w"]:
    """Turn what `to_floats` made of a picture back into its type, rounded to the nearest level where it has levels."""
    if like.dtype in WHITE:
        # Nobody else has them: `to_floats` made them from levels.
        # By way of whole numbers, which takes a third of the time at 224×224 (28 µs against 88).
        pixels = pixels.mul_(WHITE[like.dtype]).round_().int()
    return pixels.to(like.dtype)
