"""A list of transforms as one program.

Applied one after another, every warp would interpolate again (and blur) and every colour change would pass over
all pixels again. Here all warps share one sampling grid and one interpolation, all linear colour changes share one
matrix, and only then come the others. So the order within each of the three groups is the list's, and warps come
before colours wherever they stand in the list.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.colour import LinearColour, average, compose, mean_colour, mix_channels
from augnet.transforms.transform import Amount, DifferentiableTransform, straight_through_clamp
from augnet.transforms.warp import Flow, Warp, before_horizon, combine, placed, resample

LARGE = 2**16
"""Values of an image beyond which one thread changes images one by one where some are passed over: gathering those that
are not takes longer than a call for each (one by one, 224×224 images take 0.83 of the time, 96×96 ones 1.2 times)."""


def apply(
    transforms: Sequence[DifferentiableTransform],
    images: Float[Tensor, "b c h w"],
    amounts: Float[Tensor, "b k"],
    noise: Float[Tensor, "b d"],
    *,
    skip: bool | None = None,
) -> Float[Tensor, "b c h w"]:
    """Apply every transform to every image.

    Args:
        transforms: k settings.
        images: values in [0, 1].
        amounts: one column per transform, in its own unit. A choice among the warps gets no gradient here.
        noise: `total_draws(transforms)` numbers in (−1, 1) per image, dealt out in list order.
        skip: pass over what has an amount of 0, which saves its time, but looks at the amounts and lets no gradient
            through; images with nothing to do come back bit for bit. Where left out, it is done under
            `torch.no_grad()` on a CPU, which has nothing to wait for.

    Returns:
        Images in [0, 1], of the type of the images that came in; computed in at least single precision.

    Raises:
        ValueError: if the columns of amounts or noise don't fit the list, or a transform needs RGB and there is none.
    """
    layout = _layout(tuple(map(type, transforms)))
    _check(transforms, layout, images, amounts, noise)
    kind = images.device.type
    if torch.is_autocast_enabled(kind):
        # Matrices and grids in half precision would move pixels and quantise colours.
        with torch.autocast(kind, enabled=False):
            return apply(transforms, images, amounts, noise, skip=skip)
    if images.dtype in (torch.float16, torch.bfloat16):
        return apply(transforms, images.float(), amounts, noise, skip=skip).to(images.dtype)
    if skip is None:
        skip = not torch.is_grad_enabled() and kind == "cpu" and not torch.compiler.is_compiling()
    if skip:
        if torch.is_grad_enabled():
            with torch.no_grad():
                return _skipping(transforms, layout, images, amounts, noise)
        return _skipping(transforms, layout, images, amounts, noise)
    amounts, noise = amounts.to(images), noise.to(images)
    for group in layout.groups:
        images = _together(images, [(transforms[k], amounts[:, k], noise[:, layout.columns[k]]) for k in group])
    return images


class _Layout(NamedTuple):
    """What a list of transforms asks for.

    Args:
        groups: members that share a pass, in order.
        columns: of the noise, each member's.
        draws: columns of the noise in all.
        needs_rgb: whether a member makes sense for three channels alone.
    """

    groups: list[list[int]]
    columns: list[slice]
    draws: int
    needs_rgb: bool


def _skipping(
    transforms: Sequence[DifferentiableTransform], layout: _Layout, images: Tensor, amounts: Tensor, noise: Tensor
) -> Tensor:
    count, given = len(images), images
    alone = torch.get_num_threads() == 1 and images.device.type == "cpu"
    if alone and count > 1 and images[0].numel() > LARGE:
        result = torch.empty_like(images)
        for i in range(count):
            row = slice(i, i + 1)
            result[row] = _skipping(transforms, layout, images[row], amounts[row], noise[row])
        return result
    active = amounts.tolist()
    # What is not finite has to come out as such: plain functions of numbers would raise.
    if count == 1 and images.device.type == "cpu" and all(map(math.isfinite, active[0])):
        return _one(transforms, layout, images, active[0], noise.to(images))
    used_at_all = [any(row[k] for row in active) for k in range(len(transforms))]
    amounts, noise = amounts.to(images), noise.to(images)
    for group in layout.groups:
        used = [k for k in group if used_at_all[k]]
        if not used:
            continue
        members: Members = [(transforms[k], amounts[:, k], noise[:, layout.columns[k]]) for k in used]
        rows = [i for i, row in enumerate(active) if any(row[k] for k in used)]
        if len(rows) == count:
            images = _together(images, members)
        else:
            index = torch.tensor(rows, device=images.device)
            chosen: Members = [(transforms[k], amounts[index, k], noise[index, layout.columns[k]]) for k in used]
            changed = _together(images[index], chosen)
            images = (images.clone() if images is given else images).index_copy_(0, index, changed)
    return images


def _one(
    transforms: Sequence[DifferentiableTransform],
    layout: _Layout,
    image: Float[Tensor, "1 c h w"],
    amounts: list[float],
    noise: Tensor,
) -> Tensor:
    """Do to one image what is not 0, with plain numbers for amounts."""
    for group in layout.groups:
        # Who needs no noise does not look at it: cutting it would take as long as a pass over a small image.
        members: Members = [
            (transforms[k], amounts[k], noise[:, layout.columns[k]] if transforms[k].draws else noise)
            for k in group
            if amounts[k]
        ]
        if members:
            image = _together(image, members)
    return image


Members = list[tuple[DifferentiableTransform, Amount, Tensor]]


@functools.cache
def _layout(kinds: tuple[type[DifferentiableTransform], ...]) -> _Layout:
    warps = [k for k, kind in enumerate(kinds) if issubclass(kind, Warp | Flow)]
    colours = [k for k, kind in enumerate(kinds) if issubclass(kind, LinearColour)]
    others = [[k] for k in range(len(kinds)) if k not in warps + colours]
    ends = list(itertools.accumulate(kind.draws for kind in kinds))
    return _Layout(
        groups=[group for group in (warps, colours, *others) if group],
        columns=[slice(end - kind.draws, end) for end, kind in zip(ends, kinds, strict=True)],
        draws=ends[-1] if ends else 0,
        needs_rgb=any(kind.needs_rgb for kind in kinds),
    )


def _together(images: Tensor, members: Members) -> Tensor:
    (first, amount, noise), *_ = members
    if isinstance(first, Warp | Flow):
        matrix, flow, projective = combine(members, images.shape[-2], images.shape[-1])
        return straight_through_clamp(resample(images, matrix, flow, projective=projective), fresh=True)
    if isinstance(first, LinearColour):
        return _recolour(images, members)
    return first(images, amount, noise)


def _recolour(images: Tensor, members: Members) -> Tensor:
    colours = [(transform, amount) for transform, amount, _ in members if isinstance(transform, LinearColour)]
    (first, amount), *others = colours
    channels = images.shape[1]
    mean = mean_colour(images, amount) if any(transform.looks_at_mean for transform, _ in colours) else None
    matrix = first.matrix(amount, channels, mean)
    for transform, amount in others:
        now = average(matrix, mean) if transform.looks_at_mean else None
        matrix = compose(transform.matrix(amount, channels, now), matrix)
    return straight_through_clamp(mix_channels(images, matrix), fresh=True)


def _check(
    transforms: Sequence[DifferentiableTransform], layout: _Layout, images: Tensor, amounts: Tensor, noise: Tensor
) -> None:
    for what, columns, needed in (("amounts", amounts, len(transforms)), ("noise", noise, layout.draws)):
        # Compared number by number: comparing whole shapes would tie an exported program to one batch size.
        if columns.ndim != 2 or columns.shape[0] != images.shape[0] or columns.shape[1] != needed:
            raise ValueError(
                f"{what} for these {len(transforms)} transforms must have shape {(images.shape[0], needed)}, "
                f"one row per image, but have {tuple(columns.shape)}"
            )
    if layout.needs_rgb and images.shape[1] != 3:
        _, unfit = usable(transforms, images.shape[1])
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
            matrix = matrix @ placed(transform.matrix(amount, height, width), like=amounts)
    matrix = before_horizon(matrix)
    # The inverse by cross products of the columns: `linalg.inv` has no ONNX counterpart.
    a, b, c = matrix.unbind(-1)
    rows = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), -2)
    return rows / (a * rows[:, 0]).sum(-1)[:, None, None]
