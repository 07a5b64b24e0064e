"""How warps, transforms that move pixels, are applied.

A `Warp` is a 3×3 matrix and a `Flow` a field of displacements. Any number of them make one sampling grid
and one bilinear interpolation, because a chain of interpolations blurs. What a warp would pull in from
outside is filled by reflection, so no black wedge gives the amount away to the classifier.

Coordinates: x to the right, y down, both from −1 at one edge of the image to 1 at the other, as in `grid_sample`
with `align_corners=False`. Matrices say where in the *input* a point of the *output* comes from, and take height
and width so that a turn of a non-square image is a turn and not a shear.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.constants import middles
from augnet.transforms.transform import Amount, DifferentiableTransform, per_image, straight_through_choice

Entries: TypeAlias = tuple[Amount | int, ...]
"""Nine entries of a 3×3 matrix, row by row."""

HORIZON = 0.05
"""Smallest depth of a tilted corner over that of the centre: nearer the horizon, coordinates grow without bound."""


def resample(
    images: Float[Tensor, "b c h w"],
    matrix: Float[Tensor, "b 3 3"] | Entries | None = None,
    flow: Float[Tensor, "b h w 2"] | None = None,
    *,
    projective: bool = False,
    mode: str = "bilinear",
) -> Float[Tensor, "b c h w"]:
    """Fetch each output pixel from matrix · (x, y, 1) + flow(x, y) of the input.

    Args:
        images: values in [0, 1].
        matrix: from output to input coordinates, of each image or of all; the identity where left out.
        flow: displacement in the same coordinates; none where left out.
        projective: whether the last row of the matrix may differ from (0, 0, 1).
        mode: `bilinear`, or `nearest` to fetch whole pixels.
    """
    height, width = images.shape[-2:]
    matrix = (1, 0, 0, 0, 1, 0, 0, 0, 1) if matrix is None else matrix
    # What x adds is the same in every row and what y adds in every column, so the grid is one sum. All x of it come
    # before all y, which `grid_sample` reads as fast as pairs. Of 16 images of 224×224 that takes a tenth of the time
    # of `F.affine_grid` (0.29 ms against 2.8) and a hundredth of that of kornia's `transform_points`.
    # NumPy has no bfloat16, and is slow in half precision.
    elsewhere = images.device.type != "cpu" or images.dtype.itemsize < 4 or torch.compiler.is_compiling()
    if isinstance(matrix, Tensor) or projective or elsewhere:
        across, down = _lines(placed(matrix, like=images), height, width, projective)
    else:
        across, down = _plain_lines(matrix, images)
    grid = across + down
    if projective:
        grid = grid[:, :2] / grid[:, 2:]
    grid = grid.permute(0, 2, 3, 1)
    grid = grid if flow is None else grid + flow
    return F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)


Lines: TypeAlias = tuple[Float[Tensor, "b n 1 w"], Float[Tensor, "b n h 1"]]
"""What x and what y adds to each coordinate."""


def placed(matrix: Float[Tensor, "b 3 3"] | Entries, *, like: Float[Tensor, "b *any"]) -> Float[Tensor, "b 3 3"]:
    """Make one matrix per row of `like` of plain numbers."""
    if isinstance(matrix, Tensor):
        return matrix
    return torch.tensor(matrix, dtype=like.dtype, device=like.device).view(1, 3, 3).expand(len(like), 3, 3)


def _lines(matrix: Float[Tensor, "b 3 3"], height: int, width: int, projective: bool) -> Lines:
    x, y = middles(width, like=matrix), middles(height, like=matrix)
    matrix = before_horizon(matrix) if projective else matrix[:, :2]
    by_x, by_y, shift = matrix[..., None].unbind(2)
    return (by_x * x)[:, :, None], torch.addcmul(shift, by_y, y)[..., None]


def _plain_lines(entries: Entries, images: Float[Tensor, "b c h w"]) -> Lines:
    """Do the same in NumPy, which has less to do before each of its operations."""
    x, y = middles(images.shape[3], like=images).numpy(), middles(images.shape[2], like=images).numpy()
    by_x, by_y, shift = np.array(entries[:6], x.dtype).reshape(1, 2, 3, 1).transpose(2, 0, 1, 3)
    across, down = torch.from_numpy((by_x * x)[:, :, None]), torch.from_numpy((by_y * y + shift)[..., None])
    return (across, down) if len(images) == 1 else (across.expand(len(images), -1, -1, -1), down)


def before_horizon(matrix: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """Lessen the tilt of a matrix as far as needed to keep the whole image in front of the viewer.

    Points behind the viewer would come out upside down, and near the horizon gradients have no bound.
    """
    tilt, depth = matrix[:, 2:, :2], matrix[:, 2:, 2:].clamp(min=HORIZON)
    steepest = tilt.abs().sum(-1, keepdim=True).clamp(min=HORIZON)
    tilt = tilt * ((1 - HORIZON) * depth / steepest).clamp(max=1)
    return torch.cat((matrix[:, :2], torch.cat((tilt, depth), -1)), 1)


def matrix_of(entries: Entries) -> Float[Tensor, "b 3 3"] | Entries:
    """Build one 3×3 matrix per image from entries of one number per image, or one for all; plain numbers stay.

    kornia's builders of rotations, scalings and perspectives take 8 to 18 times as long (0.25, 0.12 and 0.18 ms against
    0.014 for 64 images).
    """
    like = next((entry for entry in entries if isinstance(entry, Tensor)), None)
    if like is None:
        return entries
    constants: dict[float, Tensor] = {0: torch.zeros_like(like), 1: torch.ones_like(like)}
    columns = [
        entry if isinstance(entry, Tensor) else constants[entry] if entry in constants else torch.full_like(like, entry)
        for entry in entries
    ]
    return torch.stack(columns, -1).view(like.shape[0], 3, 3)


@dataclass(frozen=True, kw_only=True)
class Warp(DifferentiableTransform):
    """A transform that is a 3×3 matrix.

    Attributes:
        projective: whether the last row of the matrix may differ from (0, 0, 1).
    """

    kind: ClassVar = "geometry"
    projective: ClassVar[bool] = False

    @property
    def turned(self) -> bool:
        """Whether it is a choice: of a mirror image there is no half."""
        return self.choice

    @abstractmethod
    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        """Give the entries of `matrix`."""

    def matrix(self, amount: Amount, height: int, width: int) -> Float[Tensor, "b 3 3"] | Entries:
        """Map output coordinates to input coordinates, for images of `height` by `width` pixels.

        A choice rounds its amount and gives it no gradient here: between an image and its mirror image lies
        no useful warp, and those between an image and its quarter turn are `Rotate`'s.
        """
        return matrix_of(self.entries(amount, height, width))

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Tensor | None = None
    ) -> Float[Tensor, "b c h w"]:
        height, width = images.shape[-2:]
        if not self.choice:
            return resample(images, self.matrix(amount, height, width), projective=self.projective)
        # Straight-through: forward one of the two images, backward the gradient of their blend.
        changed = resample(images, self.matrix(1.0, height, width))
        return torch.lerp(images, changed, per_image(straight_through_choice(amount)))


@dataclass(frozen=True, kw_only=True)
class Flow(DifferentiableTransform):
    """A transform that is a field of displacements."""

    kind: ClassVar = "geometry"

    @abstractmethod
    def flow(self, amount: Amount, noise: Float[Tensor, "b d"], height: int, width: int) -> Float[Tensor, "b h w 2"]:
        """Say how far from each output pixel its input lies, in normalised coordinates (x, y)."""

    def transform(
        self, images: Float[Tensor, "b c h w"], amount: Amount, noise: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b c h w"]:
        return resample(images, flow=self.flow(amount, noise, *images.shape[-2:]))


class Combined(NamedTuple):
    """All warps and flows of a list as one matrix and one field of displacements, None where there are none."""

    matrix: Float[Tensor, "b 3 3"] | Entries | None
    flow: Float[Tensor, "b h w 2"] | None
    projective: bool


def combine(members: Iterable[tuple[DifferentiableTransform, Amount, Tensor]], height: int, width: int) -> Combined:
    """Multiply the matrices and add the displacements of a list's members, each with its amounts and its noise."""
    matrix, flow, projective = None, None, False
    for transform, amount, noise in members:
        if isinstance(transform, Warp):
            step = transform.matrix(amount, height, width)
            matrix = step if matrix is None else _product(matrix, step)
            projective |= transform.projective
        elif isinstance(transform, Flow):
            step = transform.flow(amount, noise, height, width)
            flow = step if flow is None else flow + step
    return Combined(matrix, flow, projective)


def _product(later, earlier):
    if isinstance(later, Tensor):
        return later @ earlier
    return tuple(
        later[row] * earlier[column] + later[row + 1] * earlier[column + 3] + later[row + 2] * earlier[column + 6]
        for row in (0, 3, 6)
        for column in (0, 1, 2)
    )
