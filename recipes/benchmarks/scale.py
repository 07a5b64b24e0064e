"""How time and memory of an outer step grow with hyperparameters, weights, image size and batch size.

    python recipes/benchmarks/scale.py [--axes hyperparameters weights size batch] [--megabytes 6000]

Four series of the trainer's default hypergradient, down to the augmenter's weights. Each size is a process of its own,
in turns; beside it are the plain forward and backward pass of the same classifier on the same images, and the
augmenter's own. Hyperparameters are U-Nets of growing width up to 10⁶, and from 10⁵ on one per pixel of a training set,
added to its images, of which a batch is looked up. Weights are those of a timm residual net of growing width. The
*exponent* is k in cost ∝ sizeᵏ, fitted to the series; *growth* is the last row over the first. *Rest* is the outer step
without the augmenter's own passes. Sizes beyond `--megabytes`, by a count of vectors, are left out. About three minutes
on one idle core.
"""

import argparse
import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from measuring import Cost, cost, exponent, fresh, median_and_spread, publish
from outer_methods import methods
from outer_problem import logits
from torch import Tensor, nn

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.classifier import Classifier
from augnet.recipe import Recipe

# Vectors of the size of the weights that live at the peak of an outer step, the weights and what is kept between steps
# included, to tell beforehand what fits.
VECTORS = 14


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
    """One size of everything.

    Args:
        width: channels of the first level of the U-Net.
        depth: levels of the U-Net.
        pixels: hyperparameters if they are pixels of a training set instead; 0 for a U-Net.
        channels: of the first stage of the classifier.
        size: of the images, pixels a side.
        batch: training and validation images.
    """

    width: int = 8
    depth: int = 3
    pixels: int = 0
    channels: int = 16
    size: int = 32
    batch: int = 64

    def augmenter(self) -> nn.Module:
        """Make what the hyperparameters are of."""
        if self.pixels:
            return PerPixel(self.pixels, self.size)
        return Augmenter(AugmenterConfig(width=self.width, depth=self.depth), channels=3)

    def classifier(self) -> nn.Module:
        """Make a residual net with one block per stage."""
        channels = [self.channels * 2**stage for stage in range(4)]
        model = timm.create_model("resnet18", num_classes=10, layers=[1] * 4, channels=channels)
        return Classifier(model, [0.5] * 3, [0.25] * 3).to(memory_format=torch.channels_last).train()


class PerPixel(nn.Module):
    """Add a learned number to every pixel of every training image.

    Args:
        count: hyperparameters, about.
        size: of the images.
    """

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.residuals = nn.Parameter(torch.zeros(max(1, count // (3 * size * size)), 3, size, size))

    def forward(self, images: Tensor) -> Tensor:
        """Add the residuals of some images, spread over the training set."""
        which = torch.linspace(0, len(self.residuals) - 1, len(images)).long()
        return images + self.residuals[which]


class Step:
    """An outer step on noise, as the methods of `outer_methods` see it."""

    def __init__(self, point: Point) -> None:
        torch.manual_seed(0)
        self.classifier, self.augmenter = point.classifier(), point.augmenter()
        self.weights, self.step_size = list(self.classifier.parameters()), 0.01
        self.images, self.val_images = torch.rand(2, point.batch, 3, point.size, point.size)
        self.labels = torch.arange(point.batch) % 10

    def outputs_and_loss(self, hyper: Tensor, weights: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Return logits and the training loss."""
        found = logits(self.classifier, hyper, weights)
        return found, F.cross_entropy(found, self.labels)

    def val_loss(self, weights: list[Tensor] | None = None) -> Tensor:
        """Return the validation loss."""
        return F.cross_entropy(logits(self.classifier, self.val_images, weights), self.labels)

    def plain(self) -> None:
        """Do the plain forward and backward pass."""
        torch.autograd.grad(self.outputs_and_loss(self.images)[1], self.weights)

    def augment(self, slope: Tensor | None = None) -> tuple[Tensor, ...]:
        """Do the augmenter's own forward and backward pass."""
        return self.back(self.augmenter(self.images), self.images if slope is None else slope)

    def back(self, augmented: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
        """Carry a slope by the images back to the hyperparameters."""
        return torch.autograd.grad(augmented, list(self.augmenter.parameters()), slope, allow_unused=True)


def measure(point: Point, repeats: int, time_only: bool) -> tuple[int, int, list[Cost]]:
    """Count hyperparameters and weights, and measure plain pass, augmenter and outer step."""
    step = Step(point)
    method = methods(Recipe())["augnet's default"]

    def outer(start=None):
        augmented = step.augmenter(step.images)
        cut = augmented.detach().requires_grad_()
        slope, following = method.call(step, cut, start)
        step.back(augmented, slope)
        return following

    # The first one finds λ_max, which the others do not.
    calls = [step.plain, step.augment, partial(outer, outer())]
    sizes = [sum(w.numel() for w in part) for part in (step.augmenter.parameters(), step.weights)]
    return sizes[0], sizes[1], [cost(call, repeats=repeats, time_only=time_only) for call in calls]


# Each axis: the points, and whether its size is of the hyperparameters, the weights, or a setting of the point.
AXES: dict[str, list[Point]] = {
    "hyperparameters": [
        *(Point(width=width, depth=depth) for width, depth in ((1, 1), (2, 2), (5, 3), (17, 3), (60, 3))),
        *(Point(pixels=10**power) for power in (5, 6, 7, 8)),
    ],
    "weights": [Point(channels=channels, batch=16) for channels in (9, 16, 32, 64, 128, 256)],
    "size": [Point(size=size, batch=16) for size in (32, 64, 128, 224)],
    "batch": [Point(batch=batch) for batch in (16, 64, 256, 512)],
}


def series(axis: str, points: list[Point], rounds: int, repeats: int, limit: float) -> list[dict[str, Any]]:
    """Return a row for each point of an axis, and its exponents."""
    found: list[list[tuple[int, int, list[Cost]]]] = []
    fitting = [point for point in points if megabytes(point) <= limit]
    for number in range(rounds):
        found.append([fresh(measure, point, repeats, number > 0) for point in fitting])
    rows: list[dict[str, Any]] = []
    for number, point in enumerate(fitting):
        hyperparameters, weights, first = found[0][number]
        plain, augmenter, outer = ([measured[number][2][which].seconds for measured in found] for which in range(3))
        units, spread = median_and_spread(o / p for o, p in zip(outer, plain, strict=True))
        kind = "" if axis != "hyperparameters" else " (pixels)" if point.pixels else " (U-Net)"
        rows.append({
            "axis": axis + kind, "value": {"hyperparameters": hyperparameters, "weights": weights}.get(axis)
            or getattr(point, axis),
            "plain ms": 1e3 * min(plain), "augmenter ms": 1e3 * min(augmenter), "outer ms": 1e3 * min(outer),
            "rest ms": 1e3 * min(o - a for o, a in zip(outer, augmenter, strict=True)), "units": units, "±": spread,
            "plain MB": first[0].megabytes, "outer MB": first[2].megabytes,
        })  # fmt: skip
    return rows + [row for name in dict.fromkeys(row["axis"] for row in rows) for row in fitted(name, rows)]


def fitted(axis: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the exponents of every column of an axis, and its growth from end to end."""
    own = [row for row in rows if row["axis"] == axis]
    if len(own) < 2:
        return []
    columns = [name for name in own[0] if name.endswith((" ms", " MB"))]
    sizes = [row["value"] for row in own]
    exponents = {name: exponent(sizes, [max(row[name], 1e-9) for row in own]) for name in columns}
    growth = {name: own[-1][name] / max(own[0][name], 1e-9) for name in columns}
    return [{"axis": axis, "value": "exponent", **exponents}, {"axis": axis, "value": "growth", **growth}]


def megabytes(point: Point) -> float:
    """Tell beforehand about how much memory a point takes, by its vectors."""
    with torch.device("meta"):
        weights = sum(w.numel() for w in point.classifier().parameters())
    return 4e-6 * (VECTORS * weights + 3 * point.pixels)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--points", type=int, help="the first so many of each axis only")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--megabytes", type=float, default=6000)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    asked = parser.parse_args(arguments)
    rows = []
    for axis in asked.axes:
        points = AXES[axis][: asked.points]
        left_out = [point for point in points if megabytes(point) > asked.megabytes]
        if left_out:
            print(f"{axis}: {len(left_out)} sizes would need more than {asked.megabytes:,.0f} MB and are left out")
        rows += series(axis, points, asked.rounds, asked.repeats, asked.megabytes)
    publish(rows, asked.csv)


if __name__ == "__main__":
    main()
