"""The learned arms, and that which they began as."""

import copy
import hashlib
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.file import to_bytes
from augnet.compare.arm import Arm, Augment, one_by_one
from augnet.compare.bench import Bench, digest
from augnet.export.drawn import augment, draw
from augnet.export.pixels import from_floats, to_floats
from augnet.export.plain import PlainPolicy
from augnet.recipe import as_plain
from augnet.training.device import device_named

# Images that a plain policy is fitted to.
FITTED = 512


@dataclass(frozen=True, kw_only=True)
class Uniform(Arm):
    """The run's own transforms, in the ranges that they had before anything was learned; nothing is painted."""

    short: ClassVar[str] = "uniform"

    def build(self, bench: Bench, seed: int) -> Augment:
        if not bench.augmenter.transforms:
            raise ValueError(
                "the run has no transforms, and what an untrained decoder paints is no augmentation; leave it out"
            )
        with torch.random.fork_rng(devices=[]):
            # The same U-Net for every seed; its policy starts the same whatever its weights.
            torch.manual_seed(0)
            unlearned = Augmenter(_unpainted(bench), bench.augmenter.channels)
        return _whole_batches(unlearned, bench, 1.0)

    def identity(self, bench: Bench) -> str:
        return digest(as_plain(_unpainted(bench)))


@dataclass(frozen=True, kw_only=True)
class Learned(Arm):
    """What the run learned, frozen, as `augnet.LearnedAugment` does it in the workers of a loader.

    It is done to whole batches at once, with draws that are independent, as they are for images one by one.

    Args:
        strength: 1 is as learned.
    """

    strength: float = 1.0

    short: ClassVar[str] = "learned"
    learned: ClassVar[bool] = True

    def build(self, bench: Bench, seed: int) -> Augment:
        return _whole_batches(bench.augmenter, bench, self.strength)

    def identity(self, bench: Bench) -> str:
        return _digest_of(bench.augmenter)


@dataclass(frozen=True, kw_only=True)
class LearnedPlain(Arm):
    """The plain policy nearest to what the run learned, which knows nothing of the image (`augnet export`).

    Args:
        strength: 1 is as learned.
    """

    strength: float = 1.0

    short: ClassVar[str] = "learned_plain"
    learned: ClassVar[bool] = True

    def build(self, bench: Bench, seed: int) -> Augment:
        chosen = torch.linspace(0, len(bench.train) - 1, min(FITTED, len(bench.train))).long()
        images, _ = bench.train.batch(chosen)
        return one_by_one(PlainPolicy.fit(bench.augmenter, images, strength=self.strength).transform())

    def identity(self, bench: Bench) -> str:
        return _digest_of(bench.augmenter)


def _unpainted(bench: Bench) -> AugmenterConfig:
    return replace(bench.recipe.augmenter, residual_limit=0.0)


def _whole_batches(augmenter: Augmenter, bench: Bench, strength: float) -> Augment:
    device = device_named(bench.recipe.device)
    frozen = copy.deepcopy(augmenter).eval().to(device)

    @torch.no_grad()
    def whole(images: UInt8[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
        pixels = to_floats(images.to(device))
        # Draws are antithetic in halves, and the first half of them is independent.
        noise = frozen.draw_noise(2 * len(images))[: len(images)]
        drawn = draw(frozen, pixels, strength=strength, noise=noise)
        return from_floats(augment(frozen, pixels, drawn, strength=strength), images)

    return whole


def _digest_of(augmenter: Augmenter) -> str:
    return hashlib.sha256(to_bytes(augmenter, {})).hexdigest()[:16]
