"""The U-Net: an encoder whose bottleneck decides and a decoder that paints.

The plain network of Ronneberger, Fischer and Brox (2015), in the size that Lorraine, Vicol and Duvenaud (2020)
used: at depth 2 and width 8, three channels and one noise channel, it has 6,659 weights.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from augnet.transforms.constants import constant


class _Block(nn.ModuleList):
    """Two convolutions, a ReLU behind each: bare, since the call of a module takes longer than a small image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # Numbered as they stand with their ReLUs, which is how files name their weights.
        self.add_module("0", nn.Conv2d(inputs, outputs, 3, padding=1))
        self.add_module("2", nn.Conv2d(outputs, outputs, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.children():
            x = convolution.forward(x).relu_()
        return x


class UNet(nn.Module):
    """Encoder and decoder with skips between levels of the same resolution.

    Args:
        inputs: channels that go in.
        outputs: channels that the decoder paints; 0 leaves the decoder out.
        depth: levels, the bottleneck included; each halves the resolution of the one above.
        width: channels of the first level, doubled from level to level.
    """

    def __init__(self, *, inputs: int, outputs: int, depth: int, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        self.features = widths[-1]
        self.down = nn.ModuleList(_Block(i, o) for i, o in zip([inputs, *widths], widths, strict=False))
        # from the bottleneck upwards
        steps = list(zip(widths[:0:-1], widths[-2::-1], strict=True)) if outputs else []
        self.up = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, stride=2) for low, high in steps)
        self.merge = nn.ModuleList(_Block(2 * high, high) for _, high in steps)
        self.paint = nn.Conv2d(width, outputs, 1) if outputs else None

    def encode(self, x: Float[Tensor, "b inputs h w"]) -> list[Tensor]:
        """Return the features of each level, full resolution first, bottleneck last."""
        levels = []
        for level, block in enumerate(self.down):
            # Rounding up keeps a single pixel a single pixel, so that any image size has any depth.
            x = block(x if level == 0 else F.avg_pool2d(x, 2, ceil_mode=True))
            levels.append(x)
        return levels

    def decode(self, levels: list[Tensor]) -> Float[Tensor, "b outputs h w"]:
        """Paint at full resolution from what `encode` returned.

        Raises:
            ValueError: if there is no decoder.
        """
        if self.paint is None:
            raise ValueError("this U-Net was made with 0 outputs, so it has no decoder; make it with 1 or more")
        *skips, x = levels
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            enlarged = up(x)
            surplus = (enlarged.shape[-2] - skip.shape[-2], enlarged.shape[-1] - skip.shape[-1])
            # Not a slice: whether one takes all or a part would tie an exported program to sizes.
            enlarged = F.pad(enlarged, (0, -surplus[1], 0, -surplus[0]))
            x = merge(torch.cat([enlarged, skip], dim=1))
        return self.paint(x)


def shrink(images: Float[Tensor, "b c h w"], largest: int) -> Float[Tensor, "b c h2 w2"]:
    """Bring each side to at most `largest` pixels, smoothed by a triangle as wide as the step; smaller sides stay.

    What `F.interpolate` gives with `antialias`, as products with two small matrices: these take half the time at 224
    pixels (0.57 ms against 1.0 for 8 images), and export to ONNX for every size.
    """
    height, width = images.shape[-2:]
    # An exported program is for all sizes, so it must not ask.
    if not torch.compiler.is_compiling() and max(height, width) <= largest:
        return images
    return (triangles(height, largest, like=images) @ images) @ triangles(width, largest, like=images).mT


@constant
def triangles(count: int, largest: int, *, like: Tensor) -> Float[Tensor, "m n"]:
    """Build the matrix that shrinks a row of `count` pixels; the identity where it is short enough."""
    size = min(count, largest)
    step = count / size
    middles = (torch.arange(size, dtype=like.dtype, device=like.device) + 0.5) * step
    pixels = torch.arange(count, dtype=like.dtype, device=like.device) + 0.5
    weights = (1 - (middles[:, None] - pixels).abs() / step).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
