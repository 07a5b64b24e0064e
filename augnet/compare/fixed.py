"""Fixed arms: what people use today, none of which is learned."""

from dataclasses import dataclass
from typing import ClassVar

from torchvision.transforms import v2

from augnet.compare.arm import MIRROR_CROP, Arm, Augment, mirror_crop, of_arrays, one_by_one
from augnet.compare.bench import Bench

# Up to this size AutoAugment takes the policy that was found on CIFAR-10, above it that of ImageNet.
SMALL = 64


@dataclass(frozen=True, kw_only=True)
class NoAugmentation(Arm):
    """Images as they are."""

    short: ClassVar[str] = "none"

    def build(self, bench: Bench, seed: int) -> Augment:
        return lambda images: images


@dataclass(frozen=True, kw_only=True)
class MirrorCrop(Arm):
    """Mirror and crop, and nothing else."""

    short: ClassVar[str] = MIRROR_CROP

    def build(self, bench: Bench, seed: int) -> Augment:
        return mirror_crop(bench)


@dataclass(frozen=True, kw_only=True)
class TrivialAugmentWide(Arm):
    """One operation at random, of random strength (Müller and Hutter 2021), as torchvision has it."""

    short: ClassVar[str] = "TrivialAugmentWide"

    def build(self, bench: Bench, seed: int) -> Augment:
        return one_by_one(v2.TrivialAugmentWide())


@dataclass(frozen=True, kw_only=True)
class RandAugment(Arm):
    """Two operations at random, of one strength (Cubuk et al. 2020), as torchvision has it."""

    short: ClassVar[str] = "RandAugment"

    def build(self, bench: Bench, seed: int) -> Augment:
        return one_by_one(v2.RandAugment())


@dataclass(frozen=True, kw_only=True)
class AutoAugment(Arm):
    """The policy found by Cubuk et al. (2019) on CIFAR-10, for images above 64 pixels that on ImageNet."""

    short: ClassVar[str] = "AutoAugment"

    def build(self, bench: Bench, seed: int) -> Augment:
        small = max(bench.train.shape[1:]) <= SMALL
        return one_by_one(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10 if small else v2.AutoAugmentPolicy.IMAGENET))


@dataclass(frozen=True, kw_only=True)
class AugMix(Arm):
    """Mixtures of chains of operations (Hendrycks et al. 2020), as torchvision has it."""

    short: ClassVar[str] = "AugMix"

    def build(self, bench: Bench, seed: int) -> Augment:
        return one_by_one(v2.AugMix())


@dataclass(frozen=True, kw_only=True)
class Albumentations(Arm):
    """A usual albumentations pipeline: mirror, small affine changes, colour jitter, a hole."""

    short: ClassVar[str] = "albumentations"

    def build(self, bench: Bench, seed: int) -> Augment:
        try:
            # Here, since importing albumentations takes a second.
            import albumentations as A
            import cv2
        except ImportError as error:
            raise ValueError("albumentations is not installed; run: pip install 'albumentations>=2.0.8,<3'") from error
        affine = {"scale": (0.9, 1.1), "rotate": (-15, 15), "translate_percent": 0.1}
        hole = {"hole_height_range": (0.1, 0.4), "hole_width_range": (0.1, 0.4)}
        steps = [
            A.HorizontalFlip(),
            A.Affine(**affine, border_mode=cv2.BORDER_REFLECT_101),
            A.ColorJitter(),
            A.CoarseDropout(**hole),
        ]
        return one_by_one(of_arrays(A.Compose(steps, seed=seed), bench.train.shape[0]))
