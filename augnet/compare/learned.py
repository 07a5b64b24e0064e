"""The learned arms, and that which they began as."""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

import torch

from augnet.augmenter import Augmenter
from augnet.augmenter.file import to_bytes
from augnet.compare.arm import Arm, Augment, one_by_one
from augnet.compare.bench import Bench, digest
from augnet.export.learned_augment import LearnedAugment
from augnet.export.plain import PlainPolicy
from augnet.recipe import as_plain
from augnet.training.device import device_named

# Images that a plain policy is fitted to.
FITTED = 512


@dataclass(frozen=True, kw_only=True)
class Uniform(Arm):
    """The run's own transforms, in the ranges that they had before anything was learned."""

    short: ClassVar[str] = "uniform"

    def build(self, bench: Bench, seed: int) -> Augment:
        with torch.random.fork_rng(devices=[]):
            # The same U-Net for every seed; its policy starts the same whatever its weights.
            torch.manual_seed(0)
            unlearned = Augmenter(bench.recipe.augmenter, bench.augmenter.channels)
        return _whole_batches(unlearned, bench, 1.0)

    def identity(self, bench: Bench) -> str:
        return digest(as_plain(bench.recipe.augmenter))


@dataclass(frozen=True, kw_only=True)
class Learned(Arm):
    """What the run learned, frozen: `augnet.LearnedAugment`, as anyone would apply it.

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


def _whole_batches(augmenter: Augmenter, bench: Bench, strength: float) -> Augment:
    device = device_named(bench.recipe.device)
    transform = LearnedAugment(augmenter, strength=strength).to(device)
    return lambda images: transform(images.to(device))


def _digest_of(augmenter: Augmenter) -> str:
    return hashlib.sha256(to_bytes(augmenter, {})).hexdigest()[:16]
