"""A walk through the noise: what the augmenter makes of one image as its noise changes smoothly."""

import io
import math

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.show.canvas import PIXELATED, Place, Tile, mosaic, picture

# Milliseconds that a frame of the animation stands.
STANDS = 120


def noise_walk(augmenter: Augmenter, frames: int, seed: int = 0) -> Float[Tensor, "f n"]:
    """Give a closed walk through the noise; at every place it is distributed as drawn noise is.

    With a and b standard normal, a cos t + b sin t is standard normal for every t, and its distribution function maps
    it to a uniform number.
    """
    a, b = torch.randn(2, 1, augmenter.noise_size, generator=torch.Generator().manual_seed(seed))
    t = torch.arange(frames)[:, None] * (2 * math.pi / frames)
    return torch.erf((a * t.cos() + b * t.sin()) / math.sqrt(2))


@torch.no_grad()
def walked(
    augmenter: Augmenter, images: Float[Tensor, "b c h w"], frames: int, seed: int = 0
) -> Float[Tensor, "b f c h w"]:
    """Augment each image along a walk of its own."""
    return torch.stack(
        [
            augmenter(image.expand(frames, -1, -1, -1), noise_walk(augmenter, frames, seed + number))
            for number, image in enumerate(images)
        ]
    )


def walk(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    *,
    frames: int = 10,
    seed: int = 0,
    on: Place | None = None,
) -> Figure:
    """Show images along a closed walk through the noise, one row per image.

    Args:
        augmenter: what to show.
        images: values in [0, 1]; all are shown.
        frames: places of the walk.
        seed: fixes the walk.
        on: see `place`.
    """
    rows = [[Tile(picture(frame)) for frame in row] for row in walked(augmenter, images, frames, seed)]
    return mosaic(on, rows, column_names=[f"{round(360 * f / frames)}°" for f in range(frames)]).figure


def animation(
    augmenter: Augmenter, images: Float[Tensor, "b c h w"], *, frames: int = 60, seed: int = 0, form: str = "WEBP"
) -> bytes:
    """Write the walk as an endless animation, the images side by side.

    Args:
        augmenter: what to show.
        images: values in [0, 1].
        frames: places of the walk.
        seed: fixes the walk.
        form: `WEBP` or `GIF`.
    """
    enlarged = max(1, 2 * PIXELATED // max(images.shape[-2:]))
    pages = []
    for frame in walked(augmenter, images, frames, seed).transpose(0, 1):
        row = np.concatenate([np.pad(picture(image), ((1, 1), (1, 1), (0, 0))) for image in frame], axis=1)
        pages.append(Image.fromarray(row.repeat(enlarged, axis=0).repeat(enlarged, axis=1)))
    written = io.BytesIO()
    pages[0].save(written, form, save_all=True, append_images=pages[1:], duration=STANDS, loop=0, quality=70)
    return written.getvalue()
