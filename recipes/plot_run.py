"""Draw what a run learned: images beside draws of their augmentation, and how the policy came to be.

    python recipes/plot_run.py runs/digits --out digits.png

One image per class, the first of a seeded order. Below: use of each transform over training, that is the share of its
limit that it reaches, times how often.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

import augnet

LINES = 8


def use(run: augnet.Run, name: str, limit: float, choice: bool) -> list[float]:
    """Read the use of one transform at every report."""
    found = []
    for row in run.metrics:
        reach = 1.0 if choice else (abs(row[f"{name}.centre"]) + row[f"{name}.spread"]) / limit
        found.append(row[f"{name}.probability"] * min(1.0, reach))
    return found


def picture(image: Tensor) -> Tensor:
    return image.permute(1, 2, 0).squeeze(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("run.png"))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--classes", type=int, default=10)
    options = parser.parse_args()
    run = augnet.Run(options.run)
    augmenter = run.augmenter()
    splits = run.recipe.data.load(run.recipe.seed)
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(0))
    labels = splits.train.labels[order]
    chosen = [int(order[(labels == c).nonzero()[0, 0]]) for c in range(min(options.classes, len(splits.classes)))]
    images, _ = splits.train.batch(chosen)
    torch.manual_seed(0)
    with torch.no_grad():
        rows = [images, *(augmenter(images) for _ in range(options.draws))]
    figure = plt.figure(figsize=(0.9 * len(chosen) + 1, 0.9 * len(rows) + 3.6), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[0.9 * len(rows), 3.6])
    axes = above.subplots(len(rows), len(chosen), squeeze=False)
    for number, (row, line) in enumerate(zip(rows, axes, strict=True)):
        for image, axis in zip(row, line, strict=True):
            axis.imshow(picture(image), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel("original" if number == 0 else f"draw {number}", rotation=0, ha="right", va="center")
    axis = below.subplots()
    steps = [row["step"] for row in run.metrics]
    learned = {type(t).__name__: t for t in augmenter.transforms}
    curves = {name: use(run, name, t.limit, t.choice) for name, t in learned.items()}
    for number, (name, curve) in enumerate(sorted(curves.items(), key=lambda item: -item[1][-1])):
        if number < LINES:
            style = ("-", "--")[number % 2]
            axis.plot(steps, curve, style, label=learned[name].label, linewidth=2)
        else:
            axis.plot(steps, curve, color="0.8", linewidth=1, zorder=0)
    axis.set(xlabel="step", ylabel="use", ylim=(0, 1), title="the most used transforms; the others in grey")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(options.out, dpi=120)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
