"""What was drawn for some images, and doing it.

The U-Net decides on a small copy; what it decided is done at full size, and only on the images that it changes. Images
are of any of the types that `to_floats` takes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Shaped
from kornia.color import rgb_to_grayscale
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.augmenter.unet import shrink
from augnet.export import quick
from augnet.export.pixels import WHITE, from_floats, to_floats
from augnet.transforms import fuse


class Drawn(NamedTuple):
    """One row for each image."""

    noise: Float[Tensor, "b n"]
    amounts: Float[Tensor, "b k"]
    chosen: Bool[Tensor, "b"]  # whether the image is to be augmented at all

    def rows(self, piece: slice) -> "Drawn":
        """Take the rows of some images."""
        return Drawn(*(column[piece] for column in self))

    def repeated(self, times: int) -> "Drawn":
        """Give every image's row to so many frames."""
        return self if times == 1 else Drawn(*(column.repeat_interleave(times, 0) for column in self))


def draw(
    augmenter: Augmenter,
    images: Shaped[Tensor, "b c h w"],
    *,
    strength: float = 1.0,
    p: float = 1.0,
    noise: Float[Tensor, "b n"] | None = None,
) -> Drawn:
    """Decide what to do with each image.

    Args:
        augmenter: decides, on its own device.
        images: levels, or floats in [0, 1].
        strength: 0 changes nothing, 1 is as learned.
        p: probability that an image is augmented at all.
        noise: of `Augmenter.draw_noise`; drawn from torch's global generator if left out.

    Raises:
        ValueError: if the images have other channels than the augmenter and neither are grey.
    """
    count = len(images)
    noise = augmenter.draw_noise(count) if noise is None else noise
    amounts = noise.new_zeros(count, 0) if augmenter.head is None else _decide(augmenter, images, noise, strength)
    if p == 1:
        return Drawn(noise, amounts, noise.new_ones(count, dtype=torch.bool))
    chosen = torch.rand(count, device=noise.device) < p
    return Drawn(noise, amounts * chosen[:, None], chosen)


def _decide(augmenter: Augmenter, images: Tensor, noise: Tensor, strength: float) -> Tensor:
    quickly = quick.decision(augmenter) if len(images) == 1 else None
    if quickly is not None:
        here = images.device.type == "cpu"
        fits = here and images.dtype in WHITE and images.shape[1] == augmenter.channels
        return quickly(images if fits else _seen(augmenter, to_floats(images), noise), noise, strength)
    small = [shrink(to_floats(images[piece]), augmenter.config.working_size) for piece in _pieces(images)]
    seen = _seen(augmenter, small[0] if len(small) == 1 else torch.cat(small), noise)
    # A file's weights may be finite and still overflow on some image: that image is left as it is.
    return augmenter.amounts(seen, noise, strength).nan_to_num(0.0, 0.0, 0.0)


def augment(
    augmenter: Augmenter, images: Shaped[Tensor, "b c h w"], drawn: Drawn, *, strength: float = 1.0
) -> Shaped[Tensor, "b c h w"]:
    """Do what was drawn; images to which nothing is done come back bit for bit, and if it is all as the same tensor."""
    pieces = _pieces(images)
    if len(pieces) == 1:
        floats = to_floats(images)
        augmented = _augmented(augmenter, floats, drawn, strength)
        return images if augmented is floats else from_floats(augmented, images)
    result = torch.empty_like(images)
    for piece in pieces:
        result[piece] = augment(augmenter, images[piece], drawn.rows(piece), strength=strength)
    return result


def _pieces(images: Tensor) -> list[slice]:
    """Cut a batch that one thread turns into floats into its images, where these are large.

    Their floats and what is made of them stay in its cache: 32 images of 224×224 of uint8 take 0.7 of the time (1.41 ms
    each against 2.03), but of 96×96 1.2 times as long.
    """
    alone = images.device.type == "cpu" and torch.get_num_threads() == 1
    floats = images.dtype in (torch.float32, torch.float64)
    if floats or not alone or len(images) < 2 or images[0].numel() <= fuse.LARGE:
        return [slice(len(images))]
    return [slice(i, i + 1) for i in range(len(images))]


def _augmented(augmenter: Augmenter, images: Tensor, drawn: Drawn, strength: float) -> Tensor:
    residual = None
    if augmenter.config.residual_limit > 0 and strength > 0:
        residual = augmenter.residual(_seen(augmenter, images, drawn.noise), drawn.noise, strength).nan_to_num(0.0)
        residual = (residual * drawn.chosen[:, None, None, None]).to(images)
    augmented = _transformed(augmenter, images, drawn)
    if residual is None:
        return augmented
    # Painted for other channels: grey is the mean of colours, and the same in all of them.
    residual = residual.mean(1, keepdim=True) if images.shape[1] == 1 else residual
    changed = drawn.chosen.to(images.device)[:, None, None, None]
    return torch.where(changed, (augmented + residual).clamp(0, 1), augmented)


def _seen(augmenter: Augmenter, images: Tensor, noise: Tensor) -> Tensor:
    """Give the U-Net as many channels as it was trained with, on its device."""
    images = images.to(noise)
    if images.shape[1] == augmenter.channels:
        return images
    if (images.shape[1], augmenter.channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    if (images.shape[1], augmenter.channels) == (3, 1):
        return rgb_to_grayscale(images)
    raise ValueError(
        f"this augmenter was learned on images of {augmenter.channels} channel(s), found images of {images.shape[1]}; "
        "only grey (1) and RGB (3) stand in for one another"
    )


def _transformed(augmenter: Augmenter, images: Tensor, drawn: Drawn) -> Tensor:
    transforms, amounts, draws = augmenter.transforms, drawn.amounts, augmenter.draws(drawn.noise)
    if images.shape[1] != augmenter.channels:
        # What only changes colours does nothing to grey.
        kept = {id(transform) for transform in fuse.usable(transforms, images.shape[1])[0]}
        shares = draws.split([transform.draws for transform in transforms], dim=1)
        columns = [k for k, transform in enumerate(transforms) if id(transform) in kept]
        draws = torch.cat([draws[:, :0], *(shares[k] for k in columns)], dim=1)
        transforms, amounts = [transforms[k] for k in columns], amounts[:, columns]
    return fuse.apply(transforms, images, amounts, draws, skip=True)
