"""Self-contained programs: the augmenter as a graph that runs without augnet.

A program holds for every number of images and every size, though it is traced at one. It takes images and noise, so
that the same noise gives the same pixels as the module; a *sampled* one takes images alone and draws its noise itself.
The file says of itself what is in it: JSON named `augnet`, in the extra files of `torch.export` and in the properties
of an ONNX model.
"""

import copy
import importlib
import io
import json
import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from augnet.augmenter import Augmenter
from augnet.augmenter.policy import check_strength

EXTRA_FILE = "augnet.json"
INSTALL = "an ONNX program needs onnx and onnxscript; run: pip install 'augnet[onnx]'"


def torch_program(
    augmenter: Augmenter, about: dict[str, Any] | None = None, *, strength: float = 1.0, sampled: bool = False
) -> bytes:
    """Write the file of a program that `torch.export.load` reads, with its description as extra file `augnet.json`.

    It runs on the CPU; `torch.export.passes.move_to_device_pass(program, "cuda")` moves it to another device.

    Args:
        augmenter: what to write.
        about: what is known of it, put into the description.
        strength: 0 changes nothing, 1 is as learned.
        sampled: take images alone, and draw noise from torch's global generator, each image its own.
    """
    program = trace(augmenter, strength=strength, sampled=sampled)
    described = json.dumps(description(augmenter, about, strength=strength, sampled=sampled))
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={EXTRA_FILE: described})
    return buffer.getvalue()


def need_onnx() -> None:
    """Raise ValueError unless onnx and onnxscript are installed."""
    try:
        for package in ("onnx", "onnxscript"):
            importlib.import_module(package)
    except ImportError as error:
        raise ValueError(INSTALL) from error


def onnx_program(
    augmenter: Augmenter, about: dict[str, Any] | None = None, *, strength: float = 1.0, sampled: bool = False
) -> bytes:
    """Write the file of an ONNX model with inputs `images` (and `noise`) and output `augmented`.

    Rounding (in `Posterize`, `JPEG`, `Equalize`) may fall to the other side where a value lies halfway.

    Args:
        augmenter: what to write.
        about: what is known of it, put into the model's properties under `augnet`.
        strength: 0 changes nothing, 1 is as learned.
        sampled: take images alone, and draw noise by `RandomUniformLike`, whose seed is the runtime's.

    Raises:
        ValueError: if onnx or onnxscript is not installed.
    """
    need_onnx()
    import onnx

    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "noise": {0: "batch"}}
    program = trace(augmenter, strength=strength, sampled=sampled)
    with warnings.catch_warnings():
        # That axes of the same size share a name is meant.
        warnings.simplefilter("ignore")
        converted: Any = torch.onnx.export(
            program,
            dynamo=True,
            dynamic_shapes={"images": axes["images"]} if sampled else axes,
            output_names=["augmented"],
            verbose=False,
        )
    model = converted.model_proto
    for node in model.graph.node:
        # What torch remembers of each node is as large as all the rest.
        node.ClearField("metadata_props")
    described = description(augmenter, about, strength=strength, sampled=sampled)
    onnx.helper.set_model_props(model, {"augnet": json.dumps(described)})
    return model.SerializeToString()


def trace(augmenter: Augmenter, *, strength: float = 1.0, sampled: bool = False) -> ExportedProgram:
    """Export the graph of an augmenter, for any number of images and any size from `smallest_side` on."""
    check_strength(strength)
    augmenter = copy.deepcopy(augmenter).cpu().float().eval().requires_grad_(False)
    # Larger than the copy that the U-Net sees, not square and no multiple of anything: sizes of which nothing is
    # true by chance.
    side = augmenter.config.working_size
    images = torch.full((2, augmenter.channels, side + 27, side + 21), 0.5)
    least = smallest_side(augmenter)
    shapes: dict[str, Any] = {"images": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC(min=least), 3: Dim.DYNAMIC(min=least)}}
    arguments: tuple[Tensor, ...] = (images,)
    if not sampled:
        shapes["noise"] = {0: Dim.DYNAMIC}
        arguments = (images, torch.zeros(2, augmenter.noise_size))
    module = _Sampled(augmenter, strength) if sampled else _Given(augmenter, strength)
    program = torch.export.export(module, arguments, dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        # Paths of the machine that wrote the file, and a fifth of it.
        node.meta.pop("stack_trace", None)
    return program


def smallest_side(augmenter: Augmenter) -> int:
    """Give the smallest side in pixels that a program takes: a level of its U-Net of a single pixel is another graph.

    Level j has ⌈side / 2^j⌉ pixels a side, of the copy that the U-Net sees; transforms look at both neighbours.
    """
    config = augmenter.config
    return max([2, *(2**level for level in range(config.depth) if 2**level < config.working_size)]) + 1


def description(
    augmenter: Augmenter, about: dict[str, Any] | None, *, strength: float, sampled: bool
) -> dict[str, Any]:
    """Say what a program takes and does, and what is known of its augmenter."""
    noise = {"noise": f"float32 (batch, {augmenter.noise_size}), uniform on (-1, 1)"}
    return {
        **(about or {}),
        "inputs": {
            "images": f"float32 (batch, {augmenter.channels}, height, width), values in [0, 1]",
            **({} if sampled else noise),
        },
        "channels": augmenter.channels,
        "noise_size": 0 if sampled else augmenter.noise_size,
        "smallest_side": smallest_side(augmenter),
        "strength": strength,
        "transforms": [type(transform).__name__ for transform in augmenter.transforms],
    }


class _Given(nn.Module):
    """An augmenter of fixed strength, whose noise is given."""

    def __init__(self, augmenter: Augmenter, strength: float) -> None:
        super().__init__()
        self.augmenter, self.strength = augmenter, strength

    def forward(self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"]) -> Float[Tensor, "b c h w"]:
        return self.augmenter(images, noise, self.strength)


class _Sampled(nn.Module):
    """An augmenter of fixed strength that draws for each image on its own: antithetic pairs need to know the batch."""

    def __init__(self, augmenter: Augmenter, strength: float) -> None:
        super().__init__()
        self.augmenter, self.strength = augmenter, strength

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        noise = 2 * torch.rand(images.shape[0], self.augmenter.noise_size, device=images.device) - 1
        return self.augmenter(images, noise, self.strength)
