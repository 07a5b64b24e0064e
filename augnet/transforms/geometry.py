"""The members of the family that move pixels.

Each gives, in the coordinates of warp.py, the matrix or the displacements from a point of the output to where it comes
from in the input: to enlarge, it looks closer to the centre.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from augnet.transforms.transform import Amount, cos_sin, per_image, straight_through_choice
from augnet.transforms.warp import Entries, Flow, Warp


def _tangent(degrees: Amount) -> Amount:
    cos, sin = cos_sin(degrees * (math.pi / 180))
    return sin / cos


def _done(amount: Amount) -> Amount:
    """Give 1 where a choice is done and 0 where it is not."""
    return straight_through_choice(amount.detach() if isinstance(amount, Tensor) else amount)


def _flipped(amount: Amount) -> Amount:
    """Give −1 where a choice is done and 1 where it is not."""
    return 1 - 2 * _done(amount)


@dataclass(frozen=True, kw_only=True)
class Rotate(Warp):
    """Turn about the centre, counter-clockwise where positive.

    Args:
        limit: largest angle, in degrees.
    """

    limit: float = 30.0

    unit: ClassVar[str] = "degrees"
    label: ClassVar[str] = "rotation"
    maximum: ClassVar[float] = 180.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        cos, sin = cos_sin(amount * (math.pi / 180))
        return (cos, -sin * (height / width), 0, sin * (width / height), cos, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TranslateX(Warp):
    """Shift to the right where positive.

    Args:
        limit: largest shift, as a share of the image's width.
    """

    limit: float = 0.3

    unit: ClassVar[str] = "of image width"
    label: ClassVar[str] = "shift left-right"
    customary: ClassVar[float] = 0.4
    maximum: ClassVar[float] = 1.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        return (1, 0, -2 * amount, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TranslateY(Warp):
    """Shift down where positive.

    Args:
        limit: largest shift, as a share of the image's height.
    """

    limit: float = 0.3

    unit: ClassVar[str] = "of image height"
    label: ClassVar[str] = "shift up-down"
    customary: ClassVar[float] = 0.4
    maximum: ClassVar[float] = 1.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        return (1, 0, 0, 0, 1, -2 * amount, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class ShearX(Warp):
    """Lean upright lines, to the right where positive.

    Args:
        limit: largest angle of an upright line, in degrees.
    """

    limit: float = 25.0

    unit: ClassVar[str] = "degrees"
    label: ClassVar[str] = "slant left-right"
    maximum: ClassVar[float] = 60.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        lean = _tangent(amount)
        return (1, lean * (height / width), 0, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class ShearY(Warp):
    """Lean level lines, up on the right where positive.

    Args:
        limit: largest angle of a level line, in degrees.
    """

    limit: float = 25.0

    unit: ClassVar[str] = "degrees"
    label: ClassVar[str] = "slant up-down"
    maximum: ClassVar[float] = 60.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        lean = _tangent(amount)
        return (1, 0, 0, lean * (width / height), 1, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Scale(Warp):
    """Enlarge about the centre where positive, shrink where negative.

    Args:
        limit: largest change of size in octaves: 1 doubles or halves.
    """

    limit: float = 0.5

    unit: ClassVar[str] = "octaves"
    label: ClassVar[str] = "size"
    maximum: ClassVar[float] = 3.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        reach = 2**-amount
        return (reach, 0, 0, 0, reach, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Aspect(Warp):
    """Stretch in width and squeeze in height where positive, keeping the area.

    Args:
        limit: largest change of width over height in octaves: 1 doubles or halves it.
    """

    limit: float = 0.5

    unit: ClassVar[str] = "octaves"
    label: ClassVar[str] = "width to height"
    maximum: ClassVar[float] = 3.0

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        reach = 2 ** (amount / 2)
        return (1 / reach, 0, 0, 0, reach, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TiltX(Warp):
    """Turn the picture plane about its upright axis: where positive the right side comes nearer.

    Args:
        limit: largest change of depth at the edge, as a share of the viewing distance.
    """

    limit: float = 0.2

    unit: ClassVar[str] = "of viewing distance"
    label: ClassVar[str] = "tilt left-right"
    maximum: ClassVar[float] = 0.9
    projective: ClassVar[bool] = True

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        return (1, 0, 0, 0, 1, 0, amount, 0, 1)


@dataclass(frozen=True, kw_only=True)
class TiltY(Warp):
    """Turn the picture plane about its level axis: where positive the bottom comes nearer.

    Args:
        limit: largest change of depth at the edge, as a share of the viewing distance.
    """

    limit: float = 0.2

    unit: ClassVar[str] = "of viewing distance"
    label: ClassVar[str] = "tilt up-down"
    maximum: ClassVar[float] = 0.9
    projective: ClassVar[bool] = True

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        return (1, 0, 0, 0, 1, 0, 0, amount, 1)


@dataclass(frozen=True, kw_only=True)
class MirrorLeftRight(Warp):
    """Swap left and right, or don't.

    Called alone, the gradient to the amount is that of a blend of the two images (straight-through);
    inside a fused chain the amount has no gradient.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "done or not"
    label: ClassVar[str] = "mirror left-right"
    customary: ClassVar[float] = 0.3
    choice: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    relaxed: ClassVar[bool] = True

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        return (_flipped(amount), 0, 0, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class MirrorUpDown(Warp):
    """Swap top and bottom, or don't.

    Called alone, the gradient to the amount is that of a blend of the two images (straight-through);
    inside a fused chain the amount has no gradient.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "done or not"
    label: ClassVar[str] = "mirror up-down"
    choice: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    relaxed: ClassVar[bool] = True

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        return (1, 0, 0, 0, _flipped(amount), 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class QuarterTurn(Warp):
    """Turn by 90° counter-clockwise, or don't; with both mirrors it makes all eight ways to lay down a square.

    Called alone, the gradient to the amount is that of a blend of the two images (straight-through);
    inside a fused chain the amount has no gradient.
    """

    limit: float = 1.0

    unit: ClassVar[str] = "done or not"
    label: ClassVar[str] = "quarter turn"
    choice: ClassVar[bool] = True
    signed: ClassVar[bool] = False
    relaxed: ClassVar[bool] = True

    def entries(self, amount: Amount, height: int, width: int) -> Entries:
        sin = _done(amount)
        return (1 - sin, -sin * (height / width), 0, sin * (width / height), 1 - sin, 0, 0, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Elastic(Flow):
    """Bend the image like a rubber sheet: 4×4 random pushes, smooth between them (cubic).

    kornia's `elastic_transform2d` gives the first two amounts of a batch to all its images, so it isn't used.

    Args:
        limit: largest push at one of the 16 places, as a share of the image's width; between them the cubic goes up to
            1.9 times as far.
    """

    limit: float = 0.1

    unit: ClassVar[str] = "of image width"
    label: ClassVar[str] = "elastic bending"
    maximum: ClassVar[float] = 0.5
    signed: ClassVar[bool] = False
    draws: ClassVar[int] = 2 * 4 * 4

    def flow(self, amount: Amount, noise: Float[Tensor, "b d"], height: int, width: int) -> Float[Tensor, "b h w 2"]:
        pushes = 2 * per_image(amount) * noise.unflatten(-1, (2, 4, 4))
        x, y = F.interpolate(pushes, size=(height, width), mode="bicubic", align_corners=True).unbind(1)
        return torch.stack((x, y * (width / height)), -1)
