"""The classifier: a timm model, or any module of the user's, that takes [0, 1] images and normalises them itself.

Nothing here knows about augmentation or training. What a model needs so that the training loss can be
differentiated twice is prepared here too, because it is a property of the model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from augnet.nearest import nearest

SMALL = "small"
# One basic block per stage and a deep stem of 8 channels: 310 k weights, the size at which two CPU cores
# train thousands of steps in minutes. Blocks that start as the identity (timm's default) cost a net this shallow its
# first epochs: on 2,000 traffic signs, 500 steps gave 67 % test accuracy with them and 84 % without.
SMALL_OPTIONS = {
    "layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8,
    "zero_init_last": False,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Which classifier to train.

    Args:
        name: any timm model name, or `small`: timm's ResNet with one basic block per stage and 16 to 128 channels.
        pretrained: start from timm's published weights (downloaded on first use) and finetune.
        options: further keyword arguments of `timm.create_model`, such as `{drop_rate: 0.1}`.
    """

    name: str = SMALL
    pretrained: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name == SMALL:
            if self.pretrained:
                raise ValueError("classifier 'small' has no pretrained weights; name a timm model, such as 'resnet18'")
        elif not timm.is_model(self.name):
            advice = nearest(self.name, [SMALL, *timm.list_models()], "`timm.list_models()` lists the names")
            raise ValueError(f"timm has no model {self.name!r}{advice}")


class Classifier(nn.Module):
    """A model with its normalisation inside.

    Args:
        model: maps normalised images (b, c, h, w) to logits (b, classes).
        mean: per channel, subtracted from images in [0, 1].
        std: per channel, divides after that.
        notes: what was adapted to the data, one sentence each.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float], notes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.model = model
        self.notes = notes
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        return self.model((images - self.mean) / self.std)

    @classmethod
    def build(cls, config: ClassifierConfig, classes: int, channels: int, size: tuple[int, int]) -> "Classifier":
        """Make the configured timm model fit images of `channels` and `size` (height, width).

        Under 64 pixels a stem made for 224 would throw most of the image away, so its first stride is set to 1, where
        it is 2, and under 41 pixels its pooling goes too, where it is called `maxpool`; `notes` says so.

        Raises:
            ValueError: if timm cannot make the model with these options, or the model cannot take such images.
        """
        notes: list[str] = []
        options = dict(SMALL_OPTIONS, **config.options) if config.name == SMALL else dict(config.options)
        name = "resnet18" if config.name == SMALL else config.name
        if _takes_image_size(name):
            options.setdefault("img_size", size)
        try:
            model = timm.create_model(
                name, pretrained=config.pretrained, num_classes=classes, in_chans=channels, **options
            )
        # Options reach into the code of any model, and weights come over the network: either may raise anything.
        except Exception as error:
            start = "its pretrained weights" if config.pretrained else "fresh weights"
            raise ValueError(f"timm cannot make {name!r} with {start} and the options {options}: {error}") from error
        if min(size) < 64:
            notes += _small_image_stem(model, min(size))
        cfg = getattr(model, "pretrained_cfg", {}) if config.pretrained else {}
        # Without published statistics to match, half the range is centre and a quarter is the usual spread.
        mean = _per_channel(cfg.get("mean", (0.5,)), channels)
        std = _per_channel(cfg.get("std", (0.25,)), channels)
        classifier = cls(model, mean, std, tuple(notes))
        classifier._look_once(config.name, classes, channels, size)
        return classifier

    def _look_once(self, name: str, classes: int, channels: int, size: tuple[int, int]) -> None:
        """Give the model one image, rather than fail after the data were read and a run was begun."""
        images = f"{channels}-channel images of {size[1]}×{size[0]} pixels"
        try:
            with torch.no_grad():
                logits = self.eval()(torch.zeros(1, channels, *size))
        # Too small an image meets whatever the model's code does with it: a convolution, an assertion, an index.
        except Exception as error:
            raise ValueError(f"{name!r} cannot take {images}: {error}; set data.size or name another model") from error
        if not isinstance(logits, Tensor) or logits.shape != (1, classes):
            found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise ValueError(
                f"{name!r} should give {classes} logits per image, but gives {found}; mend classifier.options"
            )
        self.train()


def _per_channel(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def _takes_image_size(name: str) -> bool:
    """Whether the architecture has a fixed grid of patches, which must be told the image's size."""
    return bool(getattr(timm.get_pretrained_cfg(name, allow_unregistered=True), "fixed_input_size", False))


def _small_image_stem(model: nn.Module, size: int) -> list[str]:
    notes = []
    first = getattr(model, "pretrained_cfg", {}).get("first_conv")
    names = [first] if isinstance(first, str) else list(first or [])
    # A deep stem's first convolution is the first of a sequence that keeps the plain stem's name.
    convolutions = [m for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and n.startswith(tuple(names))]
    if names and convolutions and convolutions[0].kernel_size[0] <= 7 and convolutions[0].stride[0] == 2:
        convolutions[0].stride = (1, 1)
        notes.append(f"first convolution at stride 1 instead of 2, since images have a side of {size} pixels")
    pooling = getattr(model, "maxpool", None)
    if size <= 40 and isinstance(pooling, nn.Module) and not isinstance(pooling, nn.Identity):
        model.maxpool = nn.Identity()
        notes.append("the stem's max pooling left out, for the same reason")
    return notes


class TwiceHardsigmoid(nn.Module):
    """`nn.Hardsigmoid` written so that autograd has its second derivative: the same values and gradients."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


def make_twice_differentiable(model: nn.Module) -> list[str]:
    """Replace what autograd cannot differentiate twice by an equal form that it can.

    Fused attention is switched off and hard sigmoids are rewritten; both keep values and first derivatives.

    Returns:
        What was changed, one sentence each.
    """
    notes = []
    attention: list[Any] = [m for m in model.modules() if getattr(m, "fused_attn", False)]
    for module in attention:
        module.fused_attn = False
    if attention:
        notes.append(f"fused attention switched off in {len(attention)} layers: it has no second derivative")
    replaced = 0
    for parent in list(model.modules()):
        # Not `named_children`, which gives a module that stands in several places once.
        for name, child in list(parent._modules.items()):
            if isinstance(child, nn.Hardsigmoid):
                setattr(parent, name, TwiceHardsigmoid())
                replaced += 1
    if replaced:
        notes.append(f"{replaced} hard sigmoids rewritten so that they have a second derivative")
    return notes


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Let batch norm use the batch's statistics without moving its running ones."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
