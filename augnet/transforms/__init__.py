"""Differentiable image transforms, and how to apply a list of them at once."""

from augnet.transforms.colour import (
    Brightness,
    Contrast,
    Greyscale,
    Hue,
    Invert,
    LinearColour,
    Saturation,
    Temperature,
)
from augnet.transforms.corruption import JPEG, Erase, GaussianNoise
from augnet.transforms.filters import GaussianBlur, MotionBlur, Sharpness
from augnet.transforms.fuse import apply, total_draws, usable, warp_matrix
from augnet.transforms.geometry import (
    Aspect,
    Elastic,
    MirrorLeftRight,
    MirrorUpDown,
    Rotate,
    Scale,
    ShearX,
    ShearY,
    TiltX,
    TiltY,
    TranslateX,
    TranslateY,
)
from augnet.transforms.tone import AutoContrast, Equalize, Gamma, Posterize, Solarize
from augnet.transforms.transform import (
    DifferentiableTransform,
    all_transforms,
    named,
    straight_through_choice,
    straight_through_clamp,
)
from augnet.transforms.warp import Flow, Warp

__all__ = [
    "JPEG",
    "Aspect",
    "AutoContrast",
    "Brightness",
    "Contrast",
    "DifferentiableTransform",
    "Elastic",
    "Equalize",
    "Erase",
    "Flow",
    "Gamma",
    "GaussianBlur",
    "GaussianNoise",
    "Greyscale",
    "Hue",
    "Invert",
    "LinearColour",
    "MirrorLeftRight",
    "MirrorUpDown",
    "MotionBlur",
    "Posterize",
    "Rotate",
    "Saturation",
    "Scale",
    "Sharpness",
    "ShearX",
    "ShearY",
    "Solarize",
    "Temperature",
    "TiltX",
    "TiltY",
    "TranslateX",
    "TranslateY",
    "Warp",
    "all_transforms",
    "apply",
    "named",
    "straight_through_choice",
    "straight_through_clamp",
    "total_draws",
    "usable",
    "warp_matrix",
]
