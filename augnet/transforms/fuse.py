"""A list of transforms as one program.

Applied one after another, every warp would interpolate again (and blur) and every colour change would pass over
all pixels again. Here all warps share one sampling grid and one interpolation, all linear colour changes share one
matrix, and only then come the others. So the order within each of the three groups is the list's, and warps come
before colours wherever they stand in the list.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.colour import LinearColour, average, compose, mix_channels
from augnet.transforms.transform import DifferentiableTransform, straight_through_clamp
from augnet.transforms.warp import Flow, Warp, before_horizon, resample


def apply(
    transforms: Sequence[DifferentiableTransform],
    images: Float[Tensor, "b c h w"],
    amounts: Float[Tensor, "b k"],
    noise: Float[Tensor, "b d"],
) -> Float[Tensor, "b c h w"]:
    """Apply every transform to every image.

    Args:
        transforms: k settings.
        images: values in [0, 1].
        amounts: one column per transform, in its own unit. A choice among the warps gets no gradient here.
        noise: `total_draws(transforms)` numbers in (−1, 1) per image, dealt out in list order.

    Returns:
        Images in [0, 1], of the type of the images that came in; computed in at least single precision.

    Raises:
        ValueError: if the columns of amounts or noise don't fit the list, or a transform needs RGB and there is none.
    """
    _check(transforms, images, amounts, noise)
    kind = images.device.type
    if torch.is_autocast_enabled(kind):
        # Matrices and grids in half precision would move pixels and quantise colours.
        with torch.autocast(kind, enabled=False):
            return apply(transforms, images, amounts, noise)
    if images.dtype in (torch.float16, torch.bfloat16):
        return apply(transforms, images.float(), amounts, noise).to(images.dtype)
    amounts, noise = amounts.to(images.dtype), noise.to(images.dtype)

    shares = noise.split([transform.draws for transform in transforms], dim=1) if transforms else ()
    members = list(zip(transforms, amounts.unbind(1), shares, strict=True))
    images = _warp(images, members)
    images = _recolour(images, members)
    for transform, amount, share in members:
        if not isinstance(transform, Warp | Flow | LinearColour):
            images = transform(images, amount, share)
    return images


Members = list[tuple[DifferentiableTransform, Tensor, Tensor]]


def _warp(images: Tensor, members: Members) -> Tensor:
    height, width = images.shape[-2:]
    matrix, flow = None, None
    for transform, amount, share in members:
        if isinstance(transform, Warp):
            step = transform.matrix(amount, height, width)
            matrix = step if matrix is None else matrix @ step
        elif isinstance(transform, Flow):
            step = transform.flow(amount, share, height, width)
            flow = step if flow is None else flow + step
    if matrix is None and flow is None:
        return images
    projective = any(isinstance(transform, Warp) and transform.projective for transform, *_ in members)
    return straight_through_clamp(resample(images, matrix, flow, projective))


def _recolour(images: Tensor, members: Members) -> Tensor:
    colours = [(transform, amount) for transform, amount, _ in members if isinstance(transform, LinearColour)]
    if not colours:
        return images
    mean = images.mean((2, 3))
    (first, amount), *others = colours
    matrix = first.matrix(amount, mean)
    for transform, amount in others:
        matrix = compose(transform.matrix(amount, average(matrix, mean)), matrix)
    return straight_through_clamp(mix_channels(images, matrix))


def _check(transforms: Sequence[DifferentiableTransform], images: Tensor, amounts: Tensor, noise: Tensor) -> None:
    for what, columns, needed in (
        ("amounts", amounts, len(transforms)),
        ("noise", noise, total_draws(transforms)),
    ):
        # Compared number by number: comparing whole shapes would tie an exported program to one batch size.
        if columns.ndim != 2 or columns.shape[0] != images.shape[0] or columns.shape[1] != needed:
            raise ValueError(
                f"{what} for these {len(transforms)} transforms must have shape {(images.shape[0], needed)}, "
                f"one row per image, but have {tuple(columns.shape)}"
            )
    _, unfit = usable(transforms, images.shape[1])
    if unfit:
        names = ", ".join(type(transform).__name__ for transform in unfit)
        raise ValueError(
            f"{names} need red, green and blue, but the images have {images.shape[1]} channels; "
            "pick the others with `usable`"
        )


def total_draws(transforms: Sequence[DifferentiableTransform]) -> int:
    """Count the columns of noise that a list of transforms needs."""
    return sum(transform.draws for transform in transforms)


def usable(
    transforms: Sequence[DifferentiableTransform], channels: int
) -> tuple[list[DifferentiableTransform], list[DifferentiableTransform]]:
    """Split a list into what images of so many channels can use and what is left out, both in list order."""
    kept = [transform for transform in transforms if channels == 3 or not transform.needs_rgb]
    left_out = [transform for transform in transforms if channels != 3 and transform.needs_rgb]
    return kept, left_out


def warp_matrix(
    transforms: Sequence[DifferentiableTransform], amounts: Float[Tensor, "b k"], height: int, width: int
) -> Float[Tensor, "b 3 3"]:
    """Say where the warps of a list move the points of an image, so that boxes and key points can follow.

    Returns:
        From input to output coordinates, x right and y down, −1 and 1 at the image's edges; homogeneous, so divide by
        the third component. Elastic bending is not a matrix and is left out.
    """
    matrix = torch.eye(3, dtype=amounts.dtype, device=amounts.device).expand(amounts.shape[0], 3, 3)
    for transform, amount in zip(transforms, amounts.unbind(1), strict=True):
        if isinstance(transform, Warp):
            matrix = matrix @ transform.matrix(amount, height, width)
    matrix = before_horizon(matrix)
    # The inverse by cross products of the columns: `linalg.inv` has no ONNX counterpart.
    a, b, c = matrix.unbind(-1)
    rows = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), -2)
    return rows / (a * rows[:, 0]).sum(-1)[:, None, None]
