"""The motion of an image, and masks, boxes and key points that move with it.

Points are in the coordinates of `augnet.transforms.warp`: −1 and 1 at the image's edges. A mask takes the very pixels
that the image takes, the nearest ones, also where the image is filled by reflection. Boxes and key points follow the
warp itself, so what leaves the image leaves it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor
from torchvision.transforms.v2 import functional as v2f
from torchvision.tv_tensors import BoundingBoxes, BoundingBoxFormat, is_rotated_bounding_format, wrap

from augnet.transforms import DifferentiableTransform, Flow, Warp
from augnet.transforms.warp import HORIZON, before_horizon, combine, placed, resample

# Bending is undone by repetition, which shrinks the error each time as long as the image is not folded: 40 times bring
# it below a hundredth of a pixel for `Elastic` at its default limit (tests/export/test_motion.py).
REPETITIONS = 40


class Motion:
    """How the warps of a list move the points of each image.

    Args:
        transforms: k settings; those that move nothing are passed over.
        amounts: one column per transform.
        draws: what `fuse.apply` calls noise.
        size: height and width of the images.

    Attributes:
        still: whether nothing moves.
    """

    def __init__(
        self,
        transforms: Sequence[DifferentiableTransform],
        amounts: Float[Tensor, "b k"],
        draws: Float[Tensor, "b d"],
        size: tuple[int, int],
    ) -> None:
        used = amounts.any(0).tolist()
        columns = [k for k, t in enumerate(transforms) if used[k] and isinstance(t, Warp | Flow)]
        shares = draws.split([transform.draws for transform in transforms], dim=1)
        self.size, self.dtype, self.device = size, amounts.dtype, amounts.device
        self.still = not columns
        # From output to input, as in `augnet.transforms.warp`; None where left out.
        members = [(transforms[k], amounts[:, k], shares[k]) for k in columns]
        matrix, self.flow, self.projective = combine(members, *size)
        self.matrix = None if matrix is None else placed(matrix, like=amounts)
        if self.projective and self.matrix is not None:
            self.matrix = before_horizon(self.matrix)

    def points(self, points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2"]:
        """Say where points of the input come to lie in the output."""
        moved = self._ahead(points)
        if self.flow is not None:
            bend = self.flow.permute(0, 3, 1, 2)
            for _ in range(REPETITIONS):
                there = F.grid_sample(bend, moved[:, :, None], padding_mode="border", align_corners=False)
                moved = self._ahead(points - there.squeeze(-1).mT)
        return moved

    def fetch(self, images: Float[Tensor, "b c h w"], mode: str = "bilinear") -> Float[Tensor, "b c h w"]:
        """Give each pixel of the output its value in the input, mirrored where that would lie outside."""
        return resample(images, self.matrix, self.flow, projective=self.projective, mode=mode)

    def _ahead(self, points: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n 2"]:
        if self.matrix is None:
            return points
        ahead = torch.linalg.inv(self.matrix)
        x_y, depth = (points @ ahead[:, :, :2].mT + ahead[:, None, :, 2]).split((2, 1), dim=-1)
        # What would come to lie behind the viewer goes far out on its own side instead.
        return x_y / depth.clamp(min=HORIZON)


def move_mask(mask: Shaped[Tensor, "b n h w"], motion: Motion) -> Shaped[Tensor, "b n h w"]:
    """Take for every pixel the label of the pixel that its image took; labels of any type stay what they are."""
    height, width = motion.size
    numbers = torch.arange(height * width, dtype=motion.dtype, device=motion.device).view(1, 1, height, width)
    sources = motion.fetch(numbers.expand(len(mask), -1, -1, -1), mode="nearest")
    sources = sources.long().flatten(2).expand(-1, mask.shape[1], -1).to(mask.device)
    return mask.flatten(2).gather(2, sources).view_as(mask)


def move_points(points: Shaped[Tensor, "b n 2"], motion: Motion, *, edge: float = 0.5) -> Shaped[Tensor, "b n 2"]:
    """Move points given in pixels.

    Args:
        points: x and y; whole numbers are rounded.
        motion: of as many images.
        edge: how far the image's corner lies before the origin: half a pixel where (0, 0) is the centre of the first
            pixel, as for key points, nothing where it is its corner, as for boxes.
    """
    height, width = motion.size
    half = torch.tensor((width / 2, height / 2), dtype=motion.dtype, device=motion.device)
    moved = (motion.points((points.to(half) + edge) / half - 1) + 1) * half - edge
    return (moved if points.is_floating_point() else moved.round()).to(points)


def move_boxes(boxes: BoundingBoxes, motion: Motion) -> BoundingBoxes:
    """Put a box around where the corners of each box come to lie, and clamp it as its `clamping_mode` says.

    A rotated box keeps the direction of its moved upper edge.
    """
    rotated = is_rotated_bounding_format(boxes.format)
    kind = BoundingBoxFormat.XYXYXYXY if rotated else BoundingBoxFormat.XYXY
    plain = boxes.as_subclass(Tensor).double()
    corners = v2f.convert_bounding_box_format(plain, boxes.format, kind)
    corners = corners if rotated else corners[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    moved = move_points(corners.reshape(1, -1, 2), motion, edge=0.0).view(-1, 4, 2)
    around = _turned_around(moved) if rotated else torch.cat((moved.amin(1), moved.amax(1)), -1)
    box = wrap(around, like=boxes, format=kind)
    box = v2f.convert_bounding_box_format(v2f.clamp_bounding_boxes(box), new_format=boxes.format)
    whole = not boxes.is_floating_point()
    return wrap((box.round() if whole else box).as_subclass(Tensor).to(boxes.dtype), like=boxes)


def _turned_around(corners: Float[Tensor, "n 4 2"]) -> Float[Tensor, "n 8"]:
    """Put around four corners, in order, the smallest rectangle along the edge between the first two."""
    diagonals = corners[:, 2:] - corners[:, :2]
    mirrored = torch.linalg.det(diagonals) < 0
    corners = torch.where(mirrored[:, None, None], corners[:, [1, 0, 3, 2]], corners)
    along = F.normalize(corners[:, 1] - corners[:, 0], dim=-1)
    axes = torch.stack((along, torch.stack((-along[:, 1], along[:, 0]), -1)), 1)
    turned = corners @ axes.mT
    (left, top), (right, bottom) = turned.amin(1).unbind(-1), turned.amax(1).unbind(-1)
    rectangle = torch.stack((left, top, right, top, right, bottom, left, bottom), -1).view(-1, 4, 2)
    return (rectangle @ axes).flatten(1)
