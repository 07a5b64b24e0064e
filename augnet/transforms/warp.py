"""How warps, transforms that move pixels, are applied.

A `Warp` is a 3×3 matrix and a `Flow` a field of displacements. Any number of them make one sampling grid
and one bilinear interpolation, because a chain of interpolations blurs. What a warp would pull in from
outside is filled by reflection, so no black wedge gives the amount away to the classifier. The points are moved and
the images fetched by kornia.

Coordinates: x to the right, y down, both from −1 at one edge of the image to 1 at the other, as in `grid_sample`
with `align_corners=False`. Matrices say where in the *input* a point of the *output* comes from, and take height
and width so that a turn of a non-square image is a turn and not a shear.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from kornia.geometry import create_meshgrid, normalize_homography, transform_points
from kornia.geometry.transform import remap
from torch import Tensor

from augnet.transforms.transform import DifferentiableTransform, per_image, straight_through_choice

HORIZON = 0.05
"""Smallest depth of a tilted corner over that of the centre: nearer the horizon, coordinates grow without bound."""


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
    batch, _, height, width = images.shape
    grid = create_meshgrid(height, width, align_corners=False, device=images.device, dtype=images.dtype)
    grid = grid.expand(batch, -1, -1, -1)
    if matrix is not None:
        matrix = before_horizon(matrix) if projective else matrix
        # `warp_grid` and `homography_warp` repeat the matrix for every row of pixels, which takes nearly twice as long.
        grid = transform_points(matrix, grid.flatten(1, 2)).unflatten(1, (height, width))
    if flow is not None:
        grid = grid + flow
    x, y = grid.unbind(-1)
    return remap(images, x, y, padding_mode="reflection", align_corners=False, normalized_coordinates=True)


def before_horizon(matrix: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """Lessen the tilt of a matrix as far as needed to keep the whole image in front of the viewer.

    Points behind the viewer would come out upside down, and near the horizon gradients have no bound.
    """
    tilt, depth = matrix[:, 2:, :2], matrix[:, 2:, 2:].clamp(min=HORIZON)
    steepest = tilt.abs().sum(-1, keepdim=True).clamp(min=HORIZON)
    tilt = tilt * ((1 - HORIZON) * depth / steepest).clamp(max=1)
    return torch.cat((matrix[:, :2], torch.cat((tilt, depth), -1)), 1)


def centre(height: int, width: int, like: Float[Tensor, "b"]) -> Float[Tensor, "b 2"]:
    """Give the middle (x, y) of an image in pixels, as kornia counts them: 0 at the centre of the first."""
    return torch.stack((torch.full_like(like, (width - 1) / 2), torch.full_like(like, (height - 1) / 2)), -1)


def from_pixels(matrix: Float[Tensor, "b 3 3"], height: int, width: int) -> Float[Tensor, "b 3 3"]:
    """Turn a matrix between pixel coordinates into one between normalised coordinates."""
    return normalize_homography(matrix, (height, width), (height, width), align_corners=False)


def matrix_of(*entries: Tensor | int) -> Float[Tensor, "b 3 3"]:
    """Build one 3×3 matrix per image from nine entries, row by row: one number per image, or 0 or 1 for all.

    For matrices with one or two entries of their own: kornia's builders of scalings and perspectives take 8 and 16
    times as long (0.12 and 0.18 ms against 0.014 and 0.011 for 64 images) and say less.
    """
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
