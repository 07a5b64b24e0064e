"""The arms of a comparison: what may stand between a batch of training images and the classifier.

An arm is a frozen set of settings with one method, `build`. It gets batches of uint8 images, as loaders hand them out,
and knows nothing of classifiers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms import v2

from augnet.compare.bench import Bench
from augnet.data.pixels import as_tensor, unit_range

# From uint8 images (b, c, h, w) to as many of the same size, uint8 or floats in [0, 1].
Augment = Callable[[Tensor], Tensor]
MIRROR_CROP = "mirror_crop"


@dataclass(frozen=True, kw_only=True)
class Arm(ABC):
    """A way to augment training images.

    Args:
        mirror_crop: mirror and crop first, as is usual.

    Attributes:
        short: its name, without settings.
        learned: whether it is what the run learned, and not what one could have had without.
    """

    mirror_crop: bool = False

    short: ClassVar[str]
    learned: ClassVar[bool] = False

    @abstractmethod
    def build(self, bench: Bench, seed: int) -> Augment:
        """Make what augments a batch; randomness is torch's, or follows from `seed`.

        Raises:
            ValueError: if it cannot take such images.
        """

    def identity(self, bench: Bench) -> str:
        """Tell apart arms of one name in different runs."""
        return ""

    @property
    def own_name(self) -> str:
        """The name without what comes first: the short one, and settings that are not the default."""
        settings = [f for f in fields(self) if f.name != "mirror_crop"]
        if all(getattr(self, f.name) == f.default for f in settings):
            return self.short
        return f"{self.short}@{','.join(str(getattr(self, f.name)) for f in settings)}"

    @property
    def name(self) -> str:
        """What stands in tables and on the command line."""
        return f"{MIRROR_CROP}+{self.own_name}" if self.mirror_crop else self.own_name

    def augmentation(self, bench: Bench, seed: int) -> Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b c h w"]]:
        """Make what augments a batch of images in [0, 1], which are rounded to 8 bits first for every arm.

        Raises:
            ValueError: if the arm cannot take such images; later, if it changes their number or size, or leaves [0, 1].
        """
        own = self.build(bench, seed)
        first = mirror_crop(bench) if self.mirror_crop else None

        def augment(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
            pixels = (images * 255).round().to(torch.uint8)
            augmented = own(pixels if first is None else first(pixels))
            if augmented.shape != images.shape:
                raise ValueError(
                    f"{self.name} made images of shape {tuple(augmented.shape)} from {tuple(images.shape)}; let it "
                    "keep the size"
                )
            return unit_range(augmented)

        return augment


def one_by_one(transform: Callable[[UInt8[Tensor, "c h w"]], Tensor]) -> Augment:
    """Apply a transform to each image of a batch by itself, as the workers of a loader do."""
    return lambda images: torch.stack([transform(image) for image in images])


def mirror_crop(bench: Bench) -> Augment:
    """Mirror every other image, and crop it from a copy padded with black by an eighth of its side."""
    _, height, width = bench.train.shape
    padding = [max(1, width // 8), max(1, height // 8)]
    return one_by_one(v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop((height, width), padding=padding)]))


def of_arrays(pipeline: Any, channels: int) -> Callable[[UInt8[Tensor, "c h w"]], Tensor]:
    """Let an albumentations pipeline, which takes arrays (h, w, c), take a tensor."""
    return lambda image: as_tensor(pipeline(image=image.permute(1, 2, 0).contiguous().numpy())["image"], channels, None)
