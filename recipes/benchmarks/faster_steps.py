"""What could make the classifier's part of a step cheaper: layout, half precision, compiling; beside the default.

    python recipes/benchmarks/faster_steps.py [--model small] [--size 32]

Milliseconds of a forward and backward pass in training mode, each variant in a process of its own; the first call, in
which `torch.compile` compiles, apart; and after how many passes compiling has paid. One thread; on a GPU with --device.
"""

import argparse
import statistics
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from measuring import fresh, publish, seconds
from training_cost import noise_images

from augnet.classifier import Classifier, ClassifierConfig

DEFAULT = "float32, channels last (default)"


class Variant(NamedTuple):
    """How a pass is made."""

    channels_last: bool = True
    half: bool = False
    compiled: bool = False


VARIANTS = {
    DEFAULT: Variant(),
    "contiguous": Variant(channels_last=False),
    "bfloat16": Variant(half=True),
    "compiled": Variant(compiled=True),
    "bfloat16, compiled": Variant(half=True, compiled=True),
}


def pass_seconds(variant: Variant, model: str, size: int, device: str, repeats: int) -> tuple[float, float]:
    """Return the seconds of the first pass and the median of later ones."""
    data = noise_images(64, size, 0)
    config = ClassifierConfig(name=model)
    classifier = Classifier.build(config, classes=10, channels=3, size=(size, size)).to(device).train()
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    classifier, labels = classifier.to(memory_format=layout), data.labels.to(device)
    images = (data.images.to(device) / 255).to(memory_format=layout)
    network = torch.compile(classifier) if variant.compiled else classifier

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=variant.half):
            logits = network(images)
        torch.autograd.grad(F.cross_entropy(logits.float(), labels), [*classifier.parameters()])

    first = seconds(step, device)
    return first, statistics.median(seconds(step, device) for _ in range(repeats))


def main() -> None:
    """Print the table, and write it as CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    asked = parser.parse_args()
    found = {
        name: fresh(pass_seconds, variant, asked.model, asked.size, asked.device, asked.repeats)
        for name, variant in VARIANTS.items()
    }
    _, plain = found[DEFAULT]
    rows = []
    for name, (first, later) in found.items():
        saved, extra = plain - later, first - later
        paid = f"{extra / saved:,.0f} passes" if VARIANTS[name].compiled and saved > 0 else "never"
        rows.append(
            {"variant": name, "ms": 1e3 * later, "× default": later / plain, "first pass, s": first}
            | ({"paid after": paid} if VARIANTS[name].compiled else {})
        )
    publish(rows, asked.csv, f"{asked.model}, batch 64 of {asked.size}×{asked.size}, {asked.device}")


if __name__ == "__main__":
    main()
