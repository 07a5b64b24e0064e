"""Pixels: from files, PIL images and arrays to channel-first tensors, uint8 or float in [0, 1]."""

import struct
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps
from torch import Tensor

# What Pillow raises for a file that is no image, is cut short, is broken inside (a DDS of no known format is not
# implemented), or is absurdly large.
UNREADABLE = (
    OSError, SyntaxError, ValueError, EOFError, NotImplementedError, struct.error, zlib.error,
    Image.DecompressionBombError,
)  # fmt: skip
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")


def decode(path: Path, channels: int, size: int | None) -> UInt8[Tensor, "c h w"]:
    """Read an image file, turned as its EXIF orientation says.

    Raises:
        ValueError: if it is no image, is cut short, or holds floats; the message names the file.
    """
    try:
        with Image.open(path) as image:
            return from_pil(image, channels, size)
    except UNREADABLE as error:
        raise ValueError(f"cannot read {str(path)!r} as an image ({error})") from error


def from_pil(image: Image.Image, channels: int, size: int | None) -> UInt8[Tensor, "c h w"]:
    """Turn a PIL image of any mode into grey or RGB pixels.

    Transparent pixels are laid on white, 16-bit grey is divided by 257. With `size`, the largest centred square is cut
    out and resized bilinearly (averaging when it shrinks), so nothing is distorted.

    Raises:
        ValueError: if the image holds floats, whose full scale is unknown.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known full scale; convert the file to 8 or 16 bits")
    if image.mode.startswith("I"):
        grey = np.clip(np.asarray(image).astype(np.float64), 0, 65_535) / 257
        image = Image.fromarray(grey.round().astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != (size, size):
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def as_tensor(image: Image.Image | np.ndarray | Tensor, channels: int | None, size: int | None) -> Tensor:
    """Turn an item's image into a tensor (c, h, w): uint8, or float in [0, 1] where it was float.

    Arrays are (h, w) or (h, w, c), tensors (h, w) or (c, h, w), as torchvision has them.

    Raises:
        ValueError: if it is of another type or shape, or a float leaves [0, 1].
    """
    if isinstance(image, Image.Image):
        return from_pil(image, channels or (1 if image.mode in GREY_MODES else 3), size)
    if isinstance(image, np.ndarray):
        if image.dtype.kind not in "buif":
            raise ValueError(f"an image is an array of {image.dtype}; give uint8, or floats in [0, 1]")
        native = image.astype(image.dtype.newbyteorder("="))
        image = torch.from_numpy(native.transpose(2, 0, 1).copy() if native.ndim == 3 else native.copy())
    if not isinstance(image, Tensor):
        raise ValueError(f"an image is a {type(image).__name__}; give PIL images, arrays or tensors")
    image = image[None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(
            f"an image has shape {tuple(image.shape)}; tensors must be (1 or 3, h, w), arrays (h, w, 1 or 3)"
        )
    unit_range(image)
    return image if size is None else resize(image[None], size)[0]


def unit_range(images: Tensor) -> Float[Tensor, "..."]:
    """Give float32 in [0, 1]: uint8 is divided by 255, floats are checked.

    Raises:
        ValueError: if floats leave [0, 1] or are not finite, or the type is neither uint8 nor float.
    """
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise ValueError(f"images are {str(images.dtype).removeprefix('torch.')}; give uint8, or floats in [0, 1]")
    if images.numel():
        low, high = (float(bound) for bound in images.aminmax())
        if not (low >= 0 and high <= 1):  # also true of NaN
            raise ValueError(
                f"float images must lie in [0, 1], but reach from {low:.3g} to {high:.3g}; "
                "divide by the full scale, and leave normalisation to the classifier"
            )
    return images.float()


def resize(images: Tensor, size: int) -> Tensor:
    """Cut out the largest centred square and resize it bilinearly (averaging when it shrinks); keeps the type."""
    height, width = images.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    images = images[..., top : top + side, left : left + side]
    if side == size:
        return images.contiguous()
    # In pieces, so that a large uint8 set is never in memory as floats.
    return torch.cat([_interpolate(piece, size) for piece in images.split(1024)])


def _interpolate(images: Float[Tensor, "b c h w"] | UInt8[Tensor, "b c h w"], size: int) -> Tensor:
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return resized if images.is_floating_point() else resized.round().clamp(0, 255).byte()
