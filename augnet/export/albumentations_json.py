"""A plain policy as an albumentations pipeline, and the JSON of it that `albumentations.load` reads.

Its transforms count in pixels where augnet counts in shares, so a pipeline is for images of the size that the policy
was fitted to. It is for uint8 images; those in floats lack JPEG compression and equalizing.
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from augnet import transforms as tf

if TYPE_CHECKING:
    from augnet.export.plain import PlainPolicy, Step

REFLECT = cv2.BORDER_REFLECT
# An operation that has no range of its own is one of so many of fixed amounts.
PIECES = 8


def pipeline(policy: "PlainPolicy") -> A.Compose:
    """Make the pipeline, in the policy's order."""
    made = [counterpart(step, policy) for step in policy.steps]
    return A.Compose([one for one in made if one is not None])


def to_json(policy: "PlainPolicy") -> str:
    """Write the pipeline so that `albumentations.load(path)` gives it back."""
    return json.dumps(A.to_dict(pipeline(policy)), indent=2)


def on_tensors(policy: "PlainPolicy") -> Callable[[Tensor], Tensor]:
    """Make a function of the pipeline: an image (c, h, w) of floats in [0, 1] in, the same out, by way of uint8."""
    made = pipeline(policy)
    # Its draws are not torch's: a measurement is to come out the same every time.
    made.set_random_seed(0)

    def change(image: Tensor) -> Tensor:
        levels = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
        return torch.from_numpy(made(image=levels)["image"]).permute(2, 0, 1) / 255

    return change


def without_counterpart(policy: "PlainPolicy") -> "list[Step]":
    """List the steps that a pipeline leaves out."""
    return [step for step in policy.steps if counterpart(step, policy) is None]


def counterpart(step: "Step", policy: "PlainPolicy") -> "A.BasicTransform | A.BaseCompose | None":
    """Make one step's transform; None where albumentations has nothing like it."""
    make = COUNTERPARTS.get(type(step.transform))
    return make(step, policy) if make else None


def _affine(step: "Step", **settings: object) -> A.Affine:
    return A.Affine(**{"border_mode": REFLECT, "p": step.probability, **settings})


def _widen(step: "Step", policy: "PlainPolicy") -> A.OneOf:
    """Choose among fixed amounts: `Affine` draws width and height on their own."""
    reaches = 2 ** (np.linspace(step.low, step.high, 2 * PIECES + 1)[1::2] / 2)
    fixed = [_affine(step, scale={"x": (r, r), "y": (1 / r, 1 / r)}, p=1) for r in reaches.tolist()]
    return A.OneOf(fixed, p=step.probability)


def _bend(step: "Step", policy: "PlainPolicy") -> A.ThinPlateSpline:
    """Push 4×4 points at random.

    Measured over 200 draws, a scale of 1 moves pixels by 0.40 of the image (root mean square), and an amount of 1 by
    0.47.
    """
    scales = tuple(min(1.0, amount * 0.47 / 0.40) for amount in (step.low, step.high))
    return A.ThinPlateSpline(scale_range=scales, num_control_points=4, border_mode=REFLECT, p=step.probability)


def _sharpen(step: "Step", policy: "PlainPolicy") -> A.OneOf:
    """Sharpen where positive; their kernel is 9 times as strong. Soften fully, as often as it comes to the same."""
    low, high = step.low, max(step.high, step.low + 1e-9)
    sharp, soft = max(high, 0.0) - max(low, 0.0), _mean_parts(step)[1]
    members = [
        A.Sharpen(alpha=(max(low, 0.0) / 9, max(high, 0.0) / 9), lightness=(1, 1), p=sharp / (high - low)),
        A.Blur(blur_limit=3, p=soft),
    ]
    chance = sum(member.p for member in members)
    return A.OneOf([member for member in members if member.p > 0], p=step.probability * chance)


def _dilate(step: "Step", policy: "PlainPolicy") -> A.OneOf:
    """Dilate and erode fully, as often as it comes to the same."""
    light, dark = _mean_parts(step)
    members = [("dilation", light), ("erosion", dark)]
    made = [A.Morphological(scale=(3, 3), operation=name, p=share) for name, share in members if share > 0]
    return A.OneOf(made, p=step.probability * (light + dark))


def _smear(step: "Step", policy: "PlainPolicy") -> A.MotionBlur | None:
    low, high = (2 * round(amount * policy.size[1] / 2) + 1 for amount in (step.low, step.high))
    if high < 3:
        return None
    return A.MotionBlur(
        blur_limit=(max(3, low), high),
        allow_shifted=False,
        angle_range=(0, 180),
        direction_range=(0, 0),
        p=step.probability,
    )


def _blur(step: "Step", policy: "PlainPolicy") -> A.GaussianBlur:
    # A deviation of 0 has no kernel.
    deviations = tuple(max(1e-3, amount * policy.size[1]) for amount in (step.low, step.high))
    return A.GaussianBlur(blur_limit=0, sigma_limit=deviations, p=step.probability)


def _posterize(step: "Step", policy: "PlainPolicy") -> A.Posterize | None:
    bits = (max(1, min(7, 8 - round(amount))) for amount in (step.high, step.low))
    return A.Posterize(num_bits=tuple(bits), p=step.probability)


def _erase(step: "Step", policy: "PlainPolicy") -> A.CoarseDropout:
    # From 1 on, sides would be counted in pixels.
    sides = (step.low, min(step.high, 0.999))
    fill = tuple(255 * value for value in policy.colour)
    return A.CoarseDropout(
        num_holes_range=(1, 1), hole_height_range=sides, hole_width_range=sides, fill=fill, p=step.probability
    )


def _jitter(step: "Step", **settings: tuple[float, float]) -> A.ColorJitter:
    still = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
    return A.ColorJitter(**{**still, **settings}, p=step.probability)


def _brighten(step: "Step", policy: "PlainPolicy") -> A.RandomBrightnessContrast:
    limits = (step.low, step.high)
    return A.RandomBrightnessContrast(brightness_limit=limits, contrast_limit=(0, 0), p=step.probability)


def _mean(step: "Step") -> float:
    return (step.low + step.high) / 2


def _mean_parts(step: "Step") -> tuple[float, float]:
    """Average what of the amount is positive, and what is negative."""
    low, high = step.low, max(step.high, step.low + 1e-9)
    above, below = (max(high, 0.0), max(low, 0.0)), (max(-low, 0.0), max(-high, 0.0))
    positive, negative = ((far**2 - near**2) / (2 * (high - low)) for far, near in (above, below))
    return positive, negative


COUNTERPARTS: "dict[type, Callable[[Step, PlainPolicy], A.BasicTransform | A.BaseCompose | None]]" = {
    tf.MirrorLeftRight: lambda step, _: A.HorizontalFlip(p=step.probability),
    tf.MirrorUpDown: lambda step, _: A.VerticalFlip(p=step.probability),
    tf.QuarterTurn: lambda step, _: A.Rotate(limit=(90, 90), border_mode=REFLECT, p=step.probability),
    tf.Rotate: lambda step, _: A.Rotate(limit=(step.low, step.high), border_mode=REFLECT, p=step.probability),
    tf.TranslateX: lambda step, _: _affine(step, translate_percent={"x": (step.low, step.high), "y": (0, 0)}),
    tf.TranslateY: lambda step, _: _affine(step, translate_percent={"x": (0, 0), "y": (step.low, step.high)}),
    tf.ShearX: lambda step, _: _affine(step, shear={"x": (step.low, step.high), "y": (0, 0)}),
    tf.ShearY: lambda step, _: _affine(step, shear={"x": (0, 0), "y": (step.low, step.high)}),
    tf.Scale: lambda step, _: _affine(step, scale=(2**step.low, 2**step.high)),
    tf.Aspect: _widen,
    tf.Elastic: _bend,
    tf.Brightness: _brighten,
    tf.Contrast: lambda step, _: _jitter(step, contrast=(1 + step.low, 1 + step.high)),
    tf.Saturation: lambda step, _: _jitter(step, saturation=(1 + step.low, 1 + step.high)),
    tf.Hue: lambda step, _: _jitter(step, hue=(step.low / 360, step.high / 360)),
    tf.Invert: lambda step, _: A.InvertImg(p=step.probability),
    tf.Greyscale: lambda step, _: A.ToGray(p=step.probability),
    tf.Gamma: lambda step, _: A.RandomGamma(gamma_limit=(100 * 2**step.low, 100 * 2**step.high), p=step.probability),
    tf.Solarize: lambda step, _: A.Solarize(threshold_range=(1 - step.high, 1 - step.low), p=step.probability),
    tf.Posterize: _posterize,
    tf.Equalize: lambda step, _: A.Equalize(p=step.probability * _mean(step)),
    tf.AutoContrast: lambda step, _: A.AutoContrast(method="pil", p=step.probability * _mean(step)),
    tf.Sharpness: _sharpen,
    tf.Dilation: _dilate,
    tf.GaussianBlur: _blur,
    tf.MotionBlur: _smear,
    tf.GaussianNoise: lambda step, _: A.GaussNoise(std_range=(step.low, step.high), p=step.probability),
    tf.JPEG: lambda step, _: A.ImageCompression(
        quality_range=tuple(max(1, round(100 * (1 - loss))) for loss in (step.high, step.low)), p=step.probability
    ),
    tf.Erase: _erase,
}

NEAR: dict[type, str] = {
    tf.TranslateX: "whole pixels",
    tf.TranslateY: "whole pixels",
    tf.Scale: "even in size, not in octaves",
    tf.Aspect: f"one of {PIECES} fixed amounts",
    tf.Elastic: "a thin-plate spline",
    tf.Hue: "hue of HSV, not YUV",
    tf.Gamma: "even in the exponent, not in octaves",
    tf.Solarize: "inverts at once, not gradually",
    tf.Posterize: "whole bits, rounded down",
    tf.Equalize: "in full, less often",
    tf.AutoContrast: "in full, less often",
    tf.Sharpness: "softened in full, less often",
    tf.Dilation: "in full, less often, by a cross of five pixels",
    tf.GaussianBlur: "a sampled Gaussian",
    tf.MotionBlur: "whole pixels",
    tf.JPEG: "a real file, with thinned-out colours",
    tf.Erase: "the mean colour of all images, never across the border",
}
"""Counterparts that are like the transform rather than the same, and what sets them apart."""
