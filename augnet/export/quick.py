"""The augmenter's decision about one image, in NumPy.

For one small image torch takes longer to find each of its operations than to do it, NumPy less so and plain Python
least. So convolutions are NumPy's, in memory that is laid out once, and the few numbers of the policy are Python's.
Batches are torch's, and so is what is on another device.
"""

import functools
import math
import threading
import weakref
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.augmenter.policy import CENTRE_SHARE, GAIN, LEAST_PROBABILITY, PolicyHead
from augnet.augmenter.unet import triangles
from augnet.export.pixels import WHITE

Array = np.ndarray

# Largest side of what a U-Net sees here: beyond, torch is as fast, and `_pooling` would grow without need.
LARGEST = 32
# Sizes for which a thread keeps memory.
ROOMS = 8


class Decision:
    """What `Augmenter.amounts` says of one image, but for the last digits of its numbers.

    It holds a copy of the weights, since memory that torch shares with other processes moves. `decision` sees when they
    change.

    Args:
        augmenter: on the CPU, in single or double precision.
        head: of the augmenter.
    """

    def __init__(self, augmenter: Augmenter, head: PolicyHead) -> None:
        # Where to find the weights, so that looking at them takes no walk through the modules.
        self.modules = augmenter.unet, head
        parts = [part for module in self.modules for part in module.modules()]
        self.places = [(part._parameters, name) for part in parts for name in part._parameters]
        self.state = self._state()
        self.working_size, self.noise_channels = augmenter.config.working_size, augmenter.config.noise_channels
        self.kernels = []
        for block in augmenter.unet.down:
            first, first_bias, second, second_bias = (w.detach() for w in block.parameters())
            layers = ((first, first_bias), (second, second_bias))
            # A bias is the weight of a constant 1.
            self.kernels.append([torch.cat((w.flatten(1), bias[:, None]), 1).numpy() for w, bias in layers])
        members = (head.limit, head.signed, head.gated, head.choice)
        self.members = list(zip(*(column.tolist() for column in members), strict=True))
        # The logistic function of x is the hyperbolic tangent of x / 2, but for where it starts and ends.
        slopes = augmenter.like.new_tensor([CENTRE_SHARE, 0.5, 0.5]).repeat_interleave(len(self.members))
        weight, bias = (entry.detach() for entry in head.linear.parameters())
        self.weight = (GAIN / weight.shape[1] * slopes[:, None] * weight).numpy()
        self.bias = (GAIN * slopes * bias).numpy()
        self.here = threading.local()

    def __call__(
        self, images: Shaped[Tensor, "1 c h w"], noise: Float[Tensor, "1 n"], strength: float = 1.0
    ) -> Float[Tensor, "1 k"]:
        """Decide how far each transform goes, in an image of levels or of floats."""
        numbers = noise[0].numpy()
        # Damaged weights may overflow; what comes of it is no decision.
        with np.errstate(all="ignore"):
            features = self._features(images[0].numpy(), WHITE.get(images.dtype, 1), numbers)
            features -= np.add.reduce(features) / len(features)
            variance = float(features @ features) / len(features)
            features /= math.sqrt(variance + 1e-5) if math.isfinite(variance) else math.nan
            decided = np.tanh(self.weight @ features + self.bias).tolist()
        k, noise_and_dice = len(self.members), numbers[self.noise_channels :].tolist()
        draws = zip(decided[:k], decided[k:-k], decided[-k:], noise_and_dice[:k], noise_and_dice[k:], strict=False)
        amounts = [_amount(member, draw, strength) for member, draw in zip(self.members, draws, strict=True)]
        return torch.from_numpy(np.array([amounts], numbers.dtype))

    def stale(self, augmenter: Augmenter) -> bool:
        """Say whether weights were written to, or replaced, since."""
        return (augmenter.unet, augmenter.head) != self.modules or self.state != self._state()

    def _state(self) -> list[tuple[int, int]]:
        """Tell weights apart by where they are, and torch's count of writes."""
        # Tensors made in inference mode are not counted; they cannot be written to outside of it, either.
        weights: list[Any] = [parameters[name] for parameters, name in self.places]
        return [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]

    def _features(self, pixels: Shaped[Array, "c h w"], white: int, numbers: Float[Array, "n"]) -> Float[Array, "f"]:
        """Scale, shrink, and do what `UNet.encode` does."""
        channels, height, width = pixels.shape
        down, across = _shrinking(height, width, self.working_size, white, numbers.dtype)
        room = self._room((len(down) - 2, across.shape[1] - 2), numbers.dtype)
        rows = pixels.astype(numbers.dtype, copy=False).reshape(-1, width) @ across
        np.matmul(down, rows.reshape(channels, height, -1), out=room.image[:channels])
        room.noise[:] = numbers[: self.noise_channels, None, None]
        return room.features()

    def _room(self, size: tuple[int, int], dtype: np.dtype) -> "_Room":
        # Each thread has memory of its own.
        rooms: dict[Any, _Room] = self.here.__dict__
        if size not in rooms:
            if len(rooms) >= ROOMS:
                rooms.clear()
            rooms[size] = _Room(self.kernels, self.noise_channels, *size, dtype)
        return rooms[size]


class _Room:
    """Memory for the way of an image through the encoder.

    Args:
        kernels: two of each level, (o, 9c + 1) with the bias last.
        noise_channels: of the first plane.
        height: of what the U-Net sees.
        width: of the same.
        dtype: of all numbers.

    Attributes:
        image: where the shrunken image goes, between zeros.
        noise: where the noise goes.
    """

    def __init__(
        self, kernels: list[list[Array]], noise_channels: int, height: int, width: int, dtype: np.dtype
    ) -> None:
        plane = np.zeros((kernels[0][0].shape[1] // 9, height + 2, width + 2), dtype)
        self.image, self.noise = plane, plane[len(plane) - noise_channels :, 1:-1, 1:-1]
        self.levels = []
        for first, second in kernels:
            between = np.zeros((len(first), height + 2, width + 2), dtype)
            convolutions = _Convolution(plane, first, between), _Convolution(between, second)
            # A plane's lines without what lies between them, averaged: over squares, and in the bottleneck over all.
            pooling, lines = _pooling(height, width, dtype), np.zeros((height, width + 2), dtype)
            lines[:, :width] = 1 / (height * width)
            height, width = (height + 1) // 2, (width + 1) // 2
            plane = np.zeros((len(second), height + 2, width + 2), dtype)
            self.levels.append((*convolutions, pooling, plane.reshape(len(plane), -1)))
        self.mean = lines.ravel()[:-2]

    def features(self) -> Float[Array, "f"]:
        """Average the bottleneck's channels over the image."""
        *upper, (first, second, _, _) = self.levels
        for into, out_of, pooling, pooled in upper:
            into()
            np.dot(out_of(), pooling, out=pooled)
        first()
        return second() @ self.mean


class _Convolution:
    """Memory for a convolution of 3×3 of a plane, and a ReLU.

    The plane lies in one row, with zeros around each line: the neighbours of a pixel are then so many places before and
    behind it, and what the nine of a kernel see are nine stretches of that row. The two places between two lines come
    out as numbers that mean nothing.

    Args:
        plane: with zeros around it.
        kernel: d = 9c + 1, the last of them the bias.
        into: a plane to fill, if any, that has zeros around it.
    """

    def __init__(
        self, plane: Float[Array, "c h w"], kernel: Float[Array, "o d"], into: Float[Array, "o h w"] | None = None
    ) -> None:
        (channels, height, width), item = plane.shape, plane.itemsize
        stretch = (height - 2) * width - 2
        self.kernel, self.into = kernel, into
        self.around = np.ndarray((channels, 3, 3, stretch), plane.dtype, plane, 0, (*plane.strides[:2], item, item))
        self.columns = np.ones((9 * channels + 1, stretch), plane.dtype)
        self.seen = self.columns[:-1].reshape(self.around.shape)
        self.result = self.rectified = np.empty((len(kernel), stretch), plane.dtype)
        if into is not None:
            self.rectified = into.reshape(len(into), -1)[:, width + 1 :][:, :stretch]
            # The last place of each line and the first of the next.
            shape, first = (len(into), height - 3, 2), (2 * width - 1) * item
            self.between = np.ndarray(shape, into.dtype, into, first, into.strides)

    def __call__(self) -> Float[Array, "o s"]:
        np.copyto(self.seen, self.around)
        np.dot(self.kernel, self.columns, out=self.result)
        np.maximum(self.result, 0, out=self.rectified)
        if self.into is not None:
            self.between.fill(0)
        return self.rectified


@functools.lru_cache(maxsize=16)
def _shrinking(height: int, width: int, largest: int, white: int, dtype: np.dtype) -> tuple[Array, Array]:
    """Give the matrices of `shrink`, which also bring white to 1, with zeros around what they make."""
    like = torch.zeros(0, dtype=torch.float64)
    down = F.pad(triangles(height, largest, like=like) / white, (0, 0, 1, 1))
    across = F.pad(triangles(width, largest, like=like), (0, 0, 1, 1)).mT
    return down.numpy().astype(dtype), across.contiguous().numpy().astype(dtype)


@functools.lru_cache(maxsize=64)
def _pooling(height: int, width: int, dtype: np.dtype) -> Float[Array, "m n"]:
    """Build the matrix that averages squares of four pixels, or what there is of them at an odd border.

    It takes what `_Convolution` gives, and leaves zeros around each line of what it makes.
    """
    each = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    halved = F.pad(F.avg_pool2d(each, 2, ceil_mode=True), (1, 1, 1, 1)).view(height, width, -1)
    return F.pad(halved, (0, 0, 0, 2)).flatten(0, 1)[:-2].numpy().astype(dtype)


def _amount(
    member: tuple[float, bool, bool, bool], draw: tuple[float, float, float, float, float], strength: float
) -> float:
    """Do what `PolicyHead.amounts` does, where spread and probability run from −1 to 1."""
    (limit, signed, gated, choice), (centre, spread, probability, noise, dice) = member, draw
    chance = (strength if choice else 1.0) * (LEAST_PROBABILITY + (1 - 2 * LEAST_PROBABILITY) * (1 + probability) / 2)
    if gated and not dice + 1 < 2 * chance:
        return 0.0
    if choice:
        return limit
    magnitude = min(max(strength * (centre + (1 + spread) / 2 * noise), -1.0), 1.0)
    return 0.0 if math.isnan(magnitude) else limit * (magnitude if signed else abs(magnitude))


_made: "weakref.WeakKeyDictionary[Augmenter, Decision]" = weakref.WeakKeyDictionary()


def decision(augmenter: Augmenter) -> Decision | None:
    """Make the decision of an augmenter, anew when its weights have changed; None if it has to be torch's."""
    like, head = augmenter.like, augmenter.head
    if head is None or like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return None
    if augmenter.config.working_size > LARGEST:
        return None
    made = _made.get(augmenter)
    if made is None or made.stale(augmenter):
        made = _made[augmenter] = Decision(augmenter, head)
    return made
