"""A plain policy as torchvision v2 transforms: as objects, and as the Python that makes them.

Both come from the same functions (operations.py): the code quotes their source.
"""

import inspect
from collections.abc import Callable, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch
from torchvision.transforms import v2

from augnet import transforms as tf
from augnet.export import operations
from augnet.export.operations import Sometimes

if TYPE_CHECKING:
    from augnet.export.plain import PlainPolicy, Step

CHOICES: dict[type, type[v2.Transform]] = {
    tf.MirrorLeftRight: v2.RandomHorizontalFlip,
    tf.MirrorUpDown: v2.RandomVerticalFlip,
    tf.Invert: v2.RandomInvert,
    tf.Greyscale: v2.RandomGrayscale,
}

AMOUNTS: dict[type, Callable[..., torch.Tensor]] = {
    tf.QuarterTurn: operations.turn_a_quarter,
    tf.Rotate: operations.rotate,
    tf.TranslateX: operations.shift_right,
    tf.TranslateY: operations.shift_down,
    tf.ShearX: operations.slant_right,
    tf.ShearY: operations.slant_up,
    tf.Scale: operations.enlarge,
    tf.Aspect: operations.widen,
    tf.TiltX: operations.tilt_right,
    tf.TiltY: operations.tilt_down,
    tf.Elastic: operations.bend,
    tf.Brightness: operations.brighten,
    tf.Contrast: operations.contrast,
    tf.Saturation: operations.saturate,
    tf.Hue: operations.turn_hue,
    tf.Temperature: operations.warm,
    tf.Gamma: operations.gamma,
    tf.Solarize: operations.solarize,
    tf.Posterize: operations.posterize,
    tf.Equalize: operations.equalize,
    tf.AutoContrast: operations.stretch_contrast,
    tf.Sharpness: operations.sharpen,
    tf.Dilation: operations.dilate,
    tf.GaussianBlur: operations.blur,
    tf.MotionBlur: operations.smear,
    tf.GaussianNoise: operations.add_noise,
    tf.JPEG: operations.jpeg,
    tf.Erase: operations.erase,
}

NEAR: dict[type, str] = {
    tf.Solarize: "inverts at once, not gradually",
    tf.Equalize: "as Pillow does",
    tf.GaussianBlur: "a sampled Gaussian",
    tf.MotionBlur: "a mean of shifted copies",
    tf.JPEG: "a real file, with thinned-out colours",
    tf.Erase: "whole pixels",
}
"""Counterparts that are like the transform rather than the same, and what sets them apart."""


def compose(steps: "Sequence[Step]") -> v2.Compose:
    """Make the transform: images of any kind in, float images in [0, 1] out."""
    return v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), *map(_object, known(steps))])


def known(steps: "Sequence[Step]") -> "list[Step]":
    """Leave out transforms without a counterpart, such as members of one's own."""
    return [step for step in steps if type(step.transform) in CHOICES or type(step.transform) in AMOUNTS]


def code(policy: "PlainPolicy", heading: Sequence[str] = ()) -> str:
    """Write a Python module that makes `transform` and needs torch and torchvision alone.

    Args:
        policy: what to write.
        heading: lines of a comment at the top.
    """
    steps = known(policy.steps)
    without = [step for step in policy.steps if step not in steps]
    comments = [
        *heading,
        "Images of any kind in, float images in [0, 1] out. Put v2.Normalize behind it.",
        *(f"Left out, with hardly any use: {step.words}." for step in policy.left_out if step.use),
        *(f"Left out, having no counterpart: {step.words}, use {step.use:.2f}." for step in without),
        *policy.unpainted,
    ]
    amounts = [AMOUNTS[type(step.transform)] for step in steps if type(step.transform) in AMOUNTS]
    # What stands between the docstring and the first class: the imports and a constant.
    imports = inspect.getsource(operations).split('"""')[2].partition("class ")[0]
    lines = ["v2.ToImage(),", "v2.ToDtype(torch.float32, scale=True),", *map(_line, steps)]
    blocks = [
        "".join(f"# {comment}\n" for comment in comments) + imports.rstrip(),
        *(inspect.getsource(part).rstrip() for part in _parts(amounts)),
        "transform = v2.Compose(\n    [\n" + "".join(f"        {line}\n" for line in lines) + "    ]\n)\n",
    ]
    return "\n\n\n".join(blocks)


def _object(step: "Step") -> v2.Transform:
    kind = type(step.transform)
    if kind in CHOICES:
        return CHOICES[kind](p=step.probability)
    return Sometimes(AMOUNTS[kind], p=step.probability, low=step.low, high=step.high)


def _line(step: "Step") -> str:
    kind = type(step.transform)
    if kind in CHOICES:
        return f"v2.{CHOICES[kind].__name__}(p={step.probability}),"
    made = f"Sometimes({AMOUNTS[kind].__name__}, p={step.probability}, low={step.low}, high={step.high}),"
    return f"{made}  # {step.transform.label}, {step.transform.unit}"


def _parts(functions: Sequence[Callable[..., Any]]) -> list[Any]:
    """Collect `Sometimes`, these functions and what they use of operations.py, in the order of that module."""
    own = {
        name: value
        for name, value in vars(operations).items()
        if getattr(value, "__module__", None) == operations.__name__
    }
    needed = {"Sometimes"}
    queue = [function.__name__ for function in functions]
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue += [used for used in _names(own[name].__code__) if used in own]
    return [value for name, value in own.items() if name in needed]


def _names(source: CodeType) -> set[str]:
    """List the global names that a function uses, in functions inside it too."""
    inside = [_names(constant) for constant in source.co_consts if isinstance(constant, CodeType)]
    return set(source.co_names).union(*inside)
