"""The augmenter's decision about one image, in numpy.

For one small image torch takes longer to find each of its operations than to do it, numpy less so: of 32×32 pixels the
decision takes 0.6 of the time (162 µs against 278). Batches are torch's, and so is what is on another device.
"""

import functools
import weakref

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.augmenter.policy import CENTRE_SHARE, GAIN, LEAST_PROBABILITY, PolicyHead
from augnet.augmenter.unet import shrink

Array = np.ndarray


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
        self.levels = []
        for block in augmenter.unet.down:
            weights = [(w.flatten(1) if w.ndim > 1 else w[:, None]).detach().numpy().copy() for w in block.parameters()]
            self.levels.append([(weights[0], weights[1]), (weights[2], weights[3])])
        self.weight, self.bias = (entry.detach().numpy().copy() for entry in head.linear.parameters())
        buffers = (head.limit, head.signed, head.gated, head.choice)
        self.limit, self.signed, self.gated, self.choice = (buffer.numpy().copy() for buffer in buffers)

    def __call__(
        self, images: Float[Tensor, "1 c h w"], noise: Float[Tensor, "1 n"], strength: float = 1.0
    ) -> Float[Tensor, "1 k"]:
        """Decide how far each transform goes."""
        small, numbers = shrink(images, self.working_size)[0].numpy(), noise[0].numpy()
        channels, *size = small.shape
        x = np.empty((channels + self.noise_channels, *size), numbers.dtype)
        x[:channels], x[channels:] = small, numbers[: self.noise_channels, None, None]
        # Damaged weights may overflow; whoever asked looks at what comes of it.
        with np.errstate(all="ignore"):
            for level, block in enumerate(self.levels):
                x = x if level == 0 else _halve(x)
                for weight, bias in block:
                    x = _convolve(x, weight, bias)
            amounts = self._amounts(x.mean((1, 2)), numbers[self.noise_channels :], strength)
        return torch.from_numpy(amounts)[None]

    def stale(self, augmenter: Augmenter) -> bool:
        """Say whether weights were written to, or replaced, since."""
        return (augmenter.unet, augmenter.head) != self.modules or self.state != self._state()

    def _state(self) -> list[tuple[int, int]]:
        """Tell weights apart by where they are, and torch's count of writes."""
        # Tensors made in inference mode are not counted; they cannot be written to outside of it, either.
        weights = [parameters[name] for parameters, name in self.places]
        return [(w.data_ptr(), 0 if w.is_inference() else w._version) for w in weights]

    def _amounts(self, features: Array, numbers: Array, strength: float) -> Array:
        """Do what `PolicyHead.amounts` does."""
        k = len(self.limit)
        noise, dice = numbers[:k], numbers[k : 2 * k]
        normal = features - features.mean()
        normal /= np.sqrt(np.square(normal).mean() + 1e-5)
        raw = GAIN * (self.weight @ normal / len(features) + self.bias)
        centre = np.tanh(CENTRE_SHARE * raw[:k])
        # The logistic function, which would overflow if written with exp.
        spread, probability = 0.5 + 0.5 * np.tanh(0.5 * raw[k:].reshape(2, k))
        probability = LEAST_PROBABILITY + (1 - 2 * LEAST_PROBABILITY) * probability
        if strength != 1:
            centre, spread = strength * centre, strength * spread
            probability = np.where(self.choice, strength * probability, probability)
        magnitude = np.clip(centre + spread * noise, -1, 1)
        magnitude = np.where(self.signed, magnitude, np.abs(magnitude))
        reach = np.where(self.choice, self.limit, self.limit * magnitude)
        return np.where(self.gated & (dice + 1 >= 2 * probability), 0, reach)


_made: "weakref.WeakKeyDictionary[Augmenter, Decision]" = weakref.WeakKeyDictionary()


def decision(augmenter: Augmenter) -> Decision | None:
    """Make the decision of an augmenter, anew when its weights have changed; None if it has to be torch's."""
    like, head = augmenter.like, augmenter.head
    if head is None or like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return None
    made = _made.get(augmenter)
    if made is None or made.stale(augmenter):
        made = _made[augmenter] = Decision(augmenter, head)
    return made


def _convolve(x: Float[Array, "c h w"], weight: Float[Array, "o d"], bias: Float[Array, "o 1"]) -> Array:
    """Convolve by 3×3 weights, d = 9c, as one product; then a ReLU."""
    channels, height, width = x.shape
    wide = np.zeros((channels, height + 2, width + 2), x.dtype)
    wide[:, 1:-1, 1:-1] = x
    plane, row, pixel = wide.strides
    around = np.ndarray((channels, 3, 3, height, width), x.dtype, wide, 0, (plane, row, pixel, row, pixel))
    y = weight @ around.reshape(9 * channels, height * width)
    y += bias
    return np.maximum(y, 0, out=y).reshape(-1, height, width)


def _halve(x: Float[Array, "c h w"]) -> Float[Array, "c h2 w2"]:
    channels, height, width = x.shape
    halved = x.reshape(channels, -1) @ _averages(height, width, x.dtype)
    return halved.reshape(channels, (height + 1) // 2, (width + 1) // 2)


@functools.lru_cache(maxsize=64)
def _averages(height: int, width: int, dtype: np.dtype) -> Float[Array, "m n"]:
    """Build the matrix that averages squares of four pixels, or what there is of them at an odd border."""
    each = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return F.avg_pool2d(each, 2, ceil_mode=True).flatten(1).numpy().astype(dtype)
