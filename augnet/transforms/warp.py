"""How warps, transforms that move pixels, are applied.

A `Warp` is a 3×3 matrix and a `Flow` a field of displacements. Any number of them make one sampling grid
and one bilinear interpolation, because a chain of interpolations blurs. What a warp would pull in from
outside is filled by reflection, so no black wedge gives the amount away to the classifier.

Coordinates: x to the right, y down, both from −1 at one edge of the image to 1 at the other, as in `grid_sample`
with `align_corners=False`. Matrices say where in the *input* a point of the *output* comes from, and take height
and width so that a turn of a non-square image is a turn and not a shear.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.transform import DifferentiableTransform, per_image, straight_through_choice

HORIZON = 0.05
"""Smallest depth of a tilted point: nearer the horizon, coordinates would grow without bound."""


def resample(
    images: Float[Tensor, "b c h w"],
    matrix: Float[Tensor, "b 3 3"] | None = None,
    flow: Float[Tensor, "b h w 2"] | None = None,
    projective: bool = False,
) -> Float[Tensor, "b c h w"]:
    """Fetch each output pixel from matrix · (x, y, 1) + flow(x, y) of the input.

    Args:
        images: values in [0, 1].
        matrix: from output to input coordinates; the identity where left out.
        flow: displacement in the same coordinates; none where left out.
        projective: whether the last row of the matrix may differ from (0, 0, 1).
    """
    height, width = images.shape[-2:]
    x, y = _centres(width, images)[None, None, :], _centres(height, images)[None, :, None]
    if matrix is None:
        grid = torch.stack(torch.broadcast_tensors(x, y), -1).expand(images.shape[0], height, width, 2)
    else:
        m = [[matrix[:, row, column, None, None] for column in range(3)] for row in range(3)]
        to_x = m[0][0] * x + (m[0][1] * y + m[0][2])
        to_y = m[1][0] * x + (m[1][1] * y + m[1][2])
        if projective:
            depth = (m[2][0] * x + (m[2][1] * y + m[2][2])).clamp(min=HORIZON)
            to_x, to_y = to_x / depth, to_y / depth
        grid = torch.stack((to_x, to_y), -1)
    if flow is not None:
        grid = grid + flow
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _centres(count: int, like: Tensor) -> Float[Tensor, "n"]:
    """Coordinates of the pixel centres along one axis."""
    return (2 * torch.arange(count, dtype=like.dtype, device=like.device) + 1) / count - 1


def matrix_of(*entries: Tensor | int) -> Float[Tensor, "b 3 3"]:
    """Build one 3×3 matrix per image from nine entries, row by row: one number per image, or 0 or 1 for all."""
    like = next(entry for entry in entries if isinstance(entry, Tensor))
    one, zero = torch.ones_like(like), torch.zeros_like(like)
    constants = (zero, one)
    columns = [entry if isinstance(entry, Tensor) else constants[entry] for entry in entries]
    return torch.stack(columns, -1).unflatten(-1, (3, 3))


@dataclass(frozen=True, kw_only=True)
class Warp(DifferentiableTransform):
    """A transform that is a 3×3 matrix.

    Attributes:
        projective: whether the last row of the matrix may differ from (0, 0, 1).
    """

    projective: ClassVar[bool] = False

    @abstractmethod
    def matrix(self, amount: Float[Tensor, "b"], height: int, width: int) -> Float[Tensor, "b 3 3"]:
        """Map output coordinates to input coordinates, for images of `height` by `width` pixels.

        A choice rounds its amount and gives it no gradient here: between an image and its mirror image lies
        no useful warp.
        """

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Float[Tensor, "b"], noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        height, width = images.shape[-2:]
        if not self.choice:
            return resample(images, self.matrix(amount, height, width), projective=self.projective)
        # Straight-through: forward one of the two images, backward the gradient of their blend.
        changed = resample(images, self.matrix(torch.ones_like(amount), height, width))
        return torch.lerp(images, changed, per_image(straight_through_choice(amount)))


@dataclass(frozen=True, kw_only=True)
class Flow(DifferentiableTransform):
    """A transform that is a field of displacements."""

    @abstractmethod
    def flow(
        self, amount: Float[Tensor, "b"], noise: Float[Tensor, "b d"], height: int, width: int
    ) -> Float[Tensor, "b h w 2"]:
        """Say how far from each output pixel its input lies, in normalised coordinates (x, y)."""

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Float[Tensor, "b"], noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c h w"]:
        return resample(images, flow=self.flow(amount, noise, *images.shape[-2:]))
