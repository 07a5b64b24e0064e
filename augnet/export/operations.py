"""The transforms as torchvision says them: an image and an amount each, in the units and with the signs of augnet.

A `policy.py` is made of the source of what it uses from here, so nothing here may need more than torch and torchvision.
Images are floats in [0, 1] of shape (..., c, h, w).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

BILINEAR = v2.InterpolationMode.BILINEAR


class Sometimes(v2.Transform):
    """With probability `p` apply `function(image, amount)`, the amount drawn evenly between `low` and `high`."""

    def __init__(self, function: Callable[[Tensor, float], Tensor], p: float, low: float, high: float) -> None:
        super().__init__()
        self.function, self.p, self.low, self.high = function, p, low, high

    def extra_repr(self) -> str:
        return f"{self.function.__name__}, p={self.p:g}, low={self.low:g}, high={self.high:g}"

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        if any(isinstance(x, tv_tensors.BoundingBoxes | tv_tensors.Mask | tv_tensors.KeyPoints) for x in flat_inputs):
            raise TypeError("this policy moves images alone: boxes, masks and key points would stay behind")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        chance, place = torch.rand(2).tolist()
        return {"chosen": chance < self.p, "amount": self.low + (self.high - self.low) * place}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not params["chosen"]:
            return inpt
        return tv_tensors.Image(self.function(inpt.as_subclass(Tensor), params["amount"]).clamp(0, 1))


def reflected(image: Tensor, move: Callable[[Tensor], Tensor]) -> Tensor:
    """Move pixels; what comes in from outside is a reflection of the image, as far as half of its size."""
    height, width = F.get_size(image)
    padded = F.pad(image, [width // 2, height // 2], padding_mode="symmetric")
    return F.center_crop(move(padded), [height, width])


def affine(
    image: Tensor, turn: float = 0, right: float = 0, down: float = 0, scale: float = 1, lean: tuple = (0, 0)
) -> Tensor:
    height, width = F.get_size(image)
    shift = [right * width, down * height]
    return reflected(image, lambda padded: F.affine(padded, -turn, shift, scale, list(lean), BILINEAR))


def project(image: Tensor, origin: Callable[[float, float], tuple[float, float]]) -> Tensor:
    """Fetch the corner (x, y) from `origin(x, y)`, both from −1 to 1, and all else by the same perspective."""
    height, width = F.get_size(image)
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)]

    def move(padded: Tensor) -> Tensor:
        tall, wide = F.get_size(padded)
        start, end = (
            [[(wide + x * width) / 2, (tall + y * height) / 2] for x, y in points]
            for points in ([origin(x, y) for x, y in corners], corners)
        )
        return F.perspective(padded, start, end, BILINEAR)

    return reflected(image, move)


def rotate(image: Tensor, degrees: float) -> Tensor:
    return affine(image, turn=degrees)


def turn_a_quarter(image: Tensor, quarters: float) -> Tensor:
    return rotate(image, 90 * quarters)


def shift_right(image: Tensor, share: float) -> Tensor:
    return affine(image, right=share)


def shift_down(image: Tensor, share: float) -> Tensor:
    return affine(image, down=share)


def slant_right(image: Tensor, degrees: float) -> Tensor:
    return affine(image, lean=(degrees, 0))


def slant_up(image: Tensor, degrees: float) -> Tensor:
    return affine(image, lean=(0, degrees))


def enlarge(image: Tensor, octaves: float) -> Tensor:
    return affine(image, scale=2**octaves)


def widen(image: Tensor, octaves: float) -> Tensor:
    reach = 2 ** (octaves / 2)
    return project(image, lambda x, y: (x / reach, y * reach))


def tilt_right(image: Tensor, share: float) -> Tensor:
    return project(image, lambda x, y: (x / (1 + share * x), y / (1 + share * x)))


def tilt_down(image: Tensor, share: float) -> Tensor:
    return project(image, lambda x, y: (x / (1 + share * y), y / (1 + share * y)))


def bend(image: Tensor, share: float) -> Tensor:
    height, width = F.get_size(image)
    pushes = share * (2 * torch.rand(1, 2, 4, 4) - 1) * torch.tensor([1, width / height]).view(1, 2, 1, 1)
    field = torch.nn.functional.interpolate(pushes, (height, width), mode="bicubic", align_corners=True)
    margins = [width // 2, width // 2, height // 2, height // 2]

    def move(padded: Tensor) -> Tensor:
        tall, wide = F.get_size(padded)
        # Twice, since coordinates go from −1 to 1.
        inner = 2 * field * torch.tensor([width / wide, height / tall]).view(1, 2, 1, 1)
        outer = torch.nn.functional.pad(inner, margins, mode="replicate")
        return F.elastic(padded, outer.permute(0, 2, 3, 1), BILINEAR)

    return reflected(image, move)


def brighten(image: Tensor, amount: float) -> Tensor:
    return image + amount


def contrast(image: Tensor, change: float) -> Tensor:
    return F.adjust_contrast(image, 1 + change)


def saturate(image: Tensor, change: float) -> Tensor:
    return F.adjust_saturation(image, 1 + change)


def turn_hue(image: Tensor, degrees: float) -> Tensor:
    """Turn the colour axes of YUV, which leaves brightness alone, unlike the hue of HSV."""
    if image.shape[-3] == 1:
        return image
    to_yuv = torch.tensor([[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.100]])
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return torch.einsum("ij,...jhw->...ihw", to_yuv.inverse() @ turn @ to_yuv, image)


def warm(image: Tensor, octaves: float) -> Tensor:
    if image.shape[-3] == 1:
        return image
    return image * torch.tensor([2 ** (octaves / 2), 1, 2 ** (-octaves / 2)]).view(3, 1, 1)


def gamma(image: Tensor, octaves: float) -> Tensor:
    return F.adjust_gamma(image, 2**octaves)


def solarize(image: Tensor, share: float) -> Tensor:
    # augnet inverts gradually, over a tenth of full scale from 1 − share on; this is the middle of it.
    return F.solarize(image, min(1.0, 1.05 - share))


def posterize(image: Tensor, bits: float) -> Tensor:
    step = max((2**bits - 1) / 255, 1e-6)
    return (image / step).round() * step


def equalize(image: Tensor, share: float) -> Tensor:
    return torch.lerp(image, F.equalize(image), share)


def stretch_contrast(image: Tensor, share: float) -> Tensor:
    return torch.lerp(image, F.autocontrast(image), share)


def sharpen(image: Tensor, change: float) -> Tensor:
    padded = F.pad(image, [1, 1], padding_mode="symmetric")
    return torch.lerp(image, torch.nn.functional.avg_pool2d(padded, 3, 1), -change)


def dilate(image: Tensor, share: float) -> Tensor:
    """Go towards the lightest of nine neighbours, or towards the darkest."""
    signed = math.copysign(1, share) * image
    return image + share * (torch.nn.functional.max_pool2d(signed, 3, 1, 1) - signed)


def blur(image: Tensor, share: float) -> Tensor:
    height, width = F.get_size(image)
    deviation = max(share * width, 1e-3)
    radius = min(math.ceil(3 * deviation), height - 1, width - 1)
    return F.gaussian_blur(image, [2 * radius + 1] * 2, [deviation] * 2)


def smear(image: Tensor, share: float) -> Tensor:
    """Average copies that are shifted along a line of random direction, a pixel or less apart."""
    height, width = F.get_size(image)
    direction = math.pi * (float(torch.rand(())) - 0.5)
    x, y = math.cos(direction), math.sin(direction) * width / height
    copies = 2 + math.ceil(share * width)
    places = [(copy + 0.5) / copies - 0.5 for copy in range(copies)]
    return sum(affine(image, right=share * x * t, down=share * y * t) for t in places) / copies


def add_noise(image: Tensor, deviation: float) -> Tensor:
    return F.gaussian_noise(image, sigma=deviation)


def jpeg(image: Tensor, loss: float) -> Tensor:
    compressed = F.jpeg(F.to_dtype(image, torch.uint8, scale=True), max(1, round(100 * (1 - loss))))
    return F.to_dtype(compressed, torch.float32, scale=True)


def erase(image: Tensor, side: float) -> Tensor:
    """Hide a rectangle, up to twice as wide as high or the other way round, behind the mean colour."""
    height, width = F.get_size(image)
    x, y, shape = torch.rand(3).tolist()
    stretch = 2 ** (shape - 0.5)
    left, right = (round(width * min(max(x + end * side * stretch / 2, 0), 1)) for end in (-1, 1))
    top, bottom = (round(height * min(max(y + end * side / stretch / 2, 0), 1)) for end in (-1, 1))
    return F.erase(image, top, left, bottom - top, right - left, image.mean((-2, -1), keepdim=True))
