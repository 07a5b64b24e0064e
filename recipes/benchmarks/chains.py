"""One chain of 17 transforms, as augnet fuses it, one after another, and as other libraries have it.

Each does what `CHAIN` says to every image, over the same ranges. Hue and saturation of others are those of HSV, their
erased rectangles have no gradient, and their warps interpolate one by one. What augnet and kornia's functions do is
differentiable in the amounts; kornia's modules, torchvision and albumentations draw amounts of their own, which no
gradient reaches. torchvision's transforms draw once for a batch, so images go one by one, as in a data loader, and so
they do for albumentations, which takes arrays of uint8.
"""

import math
import random
from collections.abc import Callable

import albumentations as A
import cv2
import kornia
import kornia.augmentation as K
import torch
from kornia.geometry import bbox_generator, bbox_to_mask
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from augnet import transforms as T

CHAIN = [
    T.Rotate(),
    T.TranslateX(),
    T.TranslateY(),
    T.ShearX(),
    T.ShearY(),
    T.Scale(),
    T.Aspect(),
    T.MirrorLeftRight(),
    T.Brightness(),
    T.Contrast(),
    T.Saturation(),
    T.Hue(),
    T.Gamma(),
    T.Sharpness(),
    T.GaussianBlur(),
    T.Erase(),
    T.GaussianNoise(),
]


def draw(transforms: list[T.DifferentiableTransform], batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Draw amounts over the whole range of each transform, and noise."""
    columns = []
    for transform in transforms:
        uniform = torch.rand(batch, device=device)
        if transform.choice:
            columns.append(uniform.round())
        else:
            columns.append(transform.limit * (2 * uniform - 1 if transform.signed else uniform))
    return torch.stack(columns, 1), 2 * torch.rand(batch, T.total_draws(transforms), device=device) - 1


def one_after_another(transforms: list[T.DifferentiableTransform], images: Tensor, amounts: Tensor, noise: Tensor):
    """Call each member alone."""
    shares = noise.split([transform.draws for transform in transforms], dim=1)
    for transform, amount, share in zip(transforms, amounts.unbind(1), shares, strict=True):
        images = transform(images, amount, share)
    return images


def by_kornia(transforms: list[T.DifferentiableTransform], images: Tensor, amounts: Tensor, noise: Tensor) -> Tensor:
    """Do what `CHAIN` says with kornia's functions."""
    height, width = images.shape[-2:]
    amount = {type(transform): column for transform, column in zip(transforms, amounts.unbind(1), strict=True)}
    erase, pattern = noise[:, :3], torch.randn_like(images)
    zero = torch.zeros_like(amounts[:, 0])
    mirrored = {"padding_mode": "reflection", "align_corners": False}
    geometry, enhance = kornia.geometry.transform, kornia.enhance

    x = geometry.rotate(images, amount[T.Rotate], **mirrored)
    x = geometry.translate(x, torch.stack((amount[T.TranslateX] * width, zero), 1), **mirrored)
    x = geometry.translate(x, torch.stack((zero, amount[T.TranslateY] * height), 1), **mirrored)
    x = geometry.shear(x, torch.stack(((amount[T.ShearX] * math.pi / 180).tan(), zero), 1), **mirrored)
    x = geometry.shear(x, torch.stack((zero, (amount[T.ShearY] * math.pi / 180).tan()), 1), **mirrored)
    x = geometry.scale(x, torch.exp2(amount[T.Scale])[:, None].expand(-1, 2), **mirrored)
    stretch = torch.exp2(amount[T.Aspect] / 2)
    x = geometry.scale(x, torch.stack((stretch, 1 / stretch), 1), **mirrored)
    x = torch.where(amount[T.MirrorLeftRight][:, None, None, None] > 0.5, geometry.hflip(x), x)
    x = enhance.adjust_brightness(x, amount[T.Brightness])
    x = enhance.adjust_contrast(x, 1 + amount[T.Contrast])
    x = enhance.adjust_saturation(x, 1 + amount[T.Saturation])
    x = enhance.adjust_hue(x, amount[T.Hue] * math.pi / 180)
    x = enhance.adjust_gamma(x.clamp(min=1e-6), torch.exp2(amount[T.Gamma]))
    x = enhance.sharpness(x, 1 + amount[T.Sharpness])
    sigma = (amount[T.GaussianBlur] * width).clamp(min=1e-3)
    # Two deviations to either side, at the limit: less would be no Gaussian.
    taps = 2 * math.ceil(2 * T.GaussianBlur().limit * width) + 1
    x = kornia.filters.gaussian_blur2d(x, (taps, taps), sigma[:, None].expand(-1, 2))
    side = (amount[T.Erase].detach() * width).clamp(min=2).floor()
    left, top = ((erase[:, :2] + 1) / 2 * width - side[:, None] / 2).clamp(0, width - 2).floor().unbind(1)
    side = torch.minimum(side, width - torch.maximum(left, top))
    hidden = bbox_to_mask(bbox_generator(left, top, side, side), width, height)[:, None]
    x = torch.where(hidden > 0, x.mean((2, 3), keepdim=True), x)
    return (x + amount[T.GaussianNoise][:, None, None, None] * pattern).clamp(0, 1)


def kornia_modules(size: int) -> nn.Sequential:
    """Do what `CHAIN` says with kornia's modules, which draw for themselves."""
    limit = {type(transform): transform.limit for transform in CHAIN}
    zoom, stretch = 2 ** limit[T.Scale], 2 ** (limit[T.Aspect] / 2)
    mirrored = {"padding_mode": "reflection", "p": 1.0}
    taps = 2 * math.ceil(2 * limit[T.GaussianBlur] * size) + 1
    return nn.Sequential(
        K.RandomRotation(limit[T.Rotate], p=1.0),
        K.RandomAffine(0.0, translate=(limit[T.TranslateX], 0.0), **mirrored),
        K.RandomAffine(0.0, translate=(0.0, limit[T.TranslateY]), **mirrored),
        K.RandomAffine(0.0, shear=(-limit[T.ShearX], limit[T.ShearX]), **mirrored),
        K.RandomAffine(0.0, shear=(0.0, 0.0, -limit[T.ShearY], limit[T.ShearY]), **mirrored),
        K.RandomAffine(0.0, scale=(1 / zoom, zoom), **mirrored),
        K.RandomAffine(0.0, scale=(1 / stretch, stretch, 1 / stretch, stretch), **mirrored),
        K.RandomHorizontalFlip(),
        K.RandomBrightness((1 - limit[T.Brightness], 1 + limit[T.Brightness]), p=1.0),
        K.RandomContrast((1 - limit[T.Contrast], 1 + limit[T.Contrast]), p=1.0),
        K.RandomSaturation((1 - limit[T.Saturation], 1 + limit[T.Saturation]), p=1.0),
        K.RandomHue((-limit[T.Hue] / 360, limit[T.Hue] / 360), p=1.0),
        K.RandomGamma((2 ** -limit[T.Gamma], 2 ** limit[T.Gamma]), p=1.0),
        K.RandomSharpness(limit[T.Sharpness], p=1.0),
        K.RandomGaussianBlur((taps, taps), (1e-3, limit[T.GaussianBlur] * size), p=1.0),
        K.RandomErasing((0.01, limit[T.Erase] ** 2), (1.0, 1.0), p=1.0),
        K.RandomGaussianNoise(std=limit[T.GaussianNoise], p=1.0),
    )


def torchvision_chain(size: int) -> v2.Compose:
    """Do what `CHAIN` says to one image with torchvision."""
    limit = {type(transform): transform.limit for transform in CHAIN}
    zoom, stretch = 2 ** limit[T.Scale], 2 ** (limit[T.Aspect] / 2)
    smooth = {"interpolation": InterpolationMode.BILINEAR}
    taps = 2 * math.ceil(2 * limit[T.GaussianBlur] * size) + 1
    return v2.Compose([
        v2.RandomRotation(limit[T.Rotate], **smooth),
        v2.RandomAffine(0, translate=(limit[T.TranslateX], 0), **smooth),
        v2.RandomAffine(0, translate=(0, limit[T.TranslateY]), **smooth),
        v2.RandomAffine(0, shear=(-limit[T.ShearX], limit[T.ShearX]), **smooth),
        v2.RandomAffine(0, shear=(0, 0, -limit[T.ShearY], limit[T.ShearY]), **smooth),
        v2.RandomAffine(0, scale=(1 / zoom, zoom), **smooth),
        v2.RandomResizedCrop(size, (1.0, 1.0), (1 / stretch**2, stretch**2)),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=limit[T.Brightness]),
        v2.ColorJitter(contrast=limit[T.Contrast]),
        v2.ColorJitter(saturation=limit[T.Saturation]),
        v2.ColorJitter(hue=min(0.5, limit[T.Hue] / 360)),
        v2.Lambda(lambda image: v2.functional.adjust_gamma(image, 2 ** float(limit[T.Gamma] * random.uniform(-1, 1)))),
        v2.RandomAdjustSharpness(1 + limit[T.Sharpness], p=1.0),
        v2.GaussianBlur(taps, (1e-3, limit[T.GaussianBlur] * size)),
        v2.RandomErasing(1.0, (0.01, limit[T.Erase] ** 2), (1.0, 1.0)),
        v2.GaussianNoise(sigma=limit[T.GaussianNoise]),
    ])  # fmt: skip


def albumentations_chain(size: int) -> A.Compose:
    """Do what `CHAIN` says to one image with albumentations."""
    limit = {type(transform): transform.limit for transform in CHAIN}
    zoom, stretch = 2 ** limit[T.Scale], 2 ** (limit[T.Aspect] / 2)
    mirrored = {"border_mode": cv2.BORDER_REFLECT_101, "p": 1.0}
    x, y, side = limit[T.TranslateX], limit[T.TranslateY], limit[T.Erase]
    return A.Compose([
        A.Rotate(limit[T.Rotate], **mirrored),
        A.Affine(translate_percent={"x": (-x, x), "y": (0, 0)}, **mirrored),
        A.Affine(translate_percent={"x": (0, 0), "y": (-y, y)}, **mirrored),
        A.Affine(shear={"x": (-limit[T.ShearX], limit[T.ShearX]), "y": (0, 0)}, **mirrored),
        A.Affine(shear={"x": (0, 0), "y": (-limit[T.ShearY], limit[T.ShearY])}, **mirrored),
        A.Affine(scale=(1 / zoom, zoom), **mirrored),
        A.Affine(scale={"x": (1 / stretch, stretch), "y": (1 / stretch, stretch)}, **mirrored),
        A.HorizontalFlip(),
        A.ColorJitter((1 - limit[T.Brightness], 1 + limit[T.Brightness]), 0, 0, 0, p=1.0),
        A.ColorJitter(0, (1 - limit[T.Contrast], 1 + limit[T.Contrast]), 0, 0, p=1.0),
        A.ColorJitter(0, 0, (1 - limit[T.Saturation], 1 + limit[T.Saturation]), 0, p=1.0),
        A.ColorJitter(0, 0, 0, (-limit[T.Hue] / 360, limit[T.Hue] / 360), p=1.0),
        A.RandomGamma((int(100 * 2 ** -limit[T.Gamma]), int(100 * 2 ** limit[T.Gamma])), p=1.0),
        A.Sharpen((0.0, min(1.0, limit[T.Sharpness])), p=1.0),
        A.GaussianBlur(0, (1e-3, limit[T.GaussianBlur] * size), p=1.0),
        A.CoarseDropout((1, 1), (0.1, side), (0.1, side), p=1.0),
        A.GaussNoise((0.0, limit[T.GaussianNoise]), p=1.0),
    ])  # fmt: skip


Program = Callable[[Tensor, Tensor, Tensor], Tensor]


def differentiable() -> dict[str, Program]:
    """Name the chains that take images, amounts and noise."""
    return {
        "fused": lambda *given: T.apply(CHAIN, *given),
        "its members one after another": lambda *given: one_after_another(CHAIN, *given),
        "kornia's functions one after another": lambda *given: by_kornia(CHAIN, *given),
    }


def drawing(size: int) -> dict[str, Callable[[Tensor], object]]:
    """Name the chains that draw amounts of their own and take a batch of images in [0, 1]."""
    modules, one, array = kornia_modules(size), torchvision_chain(size), albumentations_chain(size)

    def as_arrays(images: Tensor) -> list:
        arrays = (images * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return [array(image=image)["image"] for image in arrays]

    return {
        "kornia's modules one after another": modules,
        "torchvision v2, image by image": lambda images: [one(image) for image in images],
        "albumentations, image by image": as_arrays,
    }
