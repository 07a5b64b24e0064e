"""Behaviour that depends on the image: how amounts differ between classes, and the images at the extremes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.show.canvas import Place, Tile, halves, mosaic, picture, place, shorten
from augnet.show.decisions import decide
from augnet.show.subject import name_of

DRAWS = 8
MOST_CLASSES = 20
MOST_TRANSFORMS = 5
EXTREMES = 5
WIDTH = 12.5
COLOUR_MAP = "PuOr"
# Differences of use below this make no difference to the eye, and an order by them none to anybody.
SEEN = 0.01
# Standard errors beyond which a class is said to differ: the largest of some twenty often exceeds two by chance.
SURE = 3.0


def by_class(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"] | None = None,
    classes: Sequence[str] = (),
    *,
    seed: int = 0,
    on: Place | None = None,
) -> Figure:
    """Show how the use of each transform differs between classes, and which images get the least and the most of it.

    Use is the share of the limit that is reached, times how often. A dot marks a class whose mean differs from that
    of all images by more than three standard errors. Of many classes, the 20 that differ most are shown. Images are
    ranked by transforms whose use differs between them by 0.01 or more; where none does, a sentence says so.

    Args:
        augmenter: what to show.
        images: values in [0, 1].
        labels: class of each image; without them only the extremes are shown.
        classes: name of each label.
        seed: fixes the noise.
        on: see `place`.

    Raises:
        ValueError: if the augmenter has no transforms.
    """
    use = torch.stack([policy.use for policy in decide(augmenter, images, DRAWS, seed)]).mean(dim=0)
    most_varied = use.std(dim=0, correction=0).argsort(descending=True)[:MOST_TRANSFORMS].tolist()
    varied = [k for k in most_varied if float(use[:, k].max() - use[:, k].min()) >= SEEN]
    if not varied:
        sheet = place(on, WIDTH, 0.6)
        # On axes, so that it has a place of its own in the layout.
        axes = sheet.subplots()
        axes.set_axis_off()
        axes.set_title(
            f"all images are treated alike: no transform's use differs by {SEEN:g} between any two", fontsize=9
        )
        return sheet.figure
    lines = 0 if labels is None else min(MOST_CLASSES, len(labels.unique()))
    below = 0.4 + 1.2 * len(varied)
    above = 1.9 + 0.24 * lines
    if labels is None:
        sheet = place(on, WIDTH, below)
        _extremes(sheet, augmenter, images, use, varied)
        return sheet.figure
    sheet = place(on, WIDTH, above + below)
    upper, lower = halves(sheet, [above, below])
    _table(upper, augmenter, use, labels, classes)
    _extremes(lower, augmenter, images, use, varied)
    return sheet.figure


def class_differences(
    use: Float[Tensor, "b k"], labels: Int64[Tensor, "b"]
) -> tuple[Int64[Tensor, "c"], Float[Tensor, "c k"], Float[Tensor, "c k"]]:
    """Give the classes present, how their means differ from the mean of all, and the standard errors of their means."""
    present = labels.unique()
    means = torch.stack([use[labels == label].mean(dim=0) for label in present])
    errors = torch.stack(
        # One image says nothing of its class's spread.
        [u.std(dim=0) / len(u) ** 0.5 if len(u) > 1 else torch.full_like(u[0], torch.inf)
         for u in (use[labels == label] for label in present)]
    )  # fmt: skip
    return present, means - use.mean(dim=0), errors


def _table(
    sheet: Figure | SubFigure, augmenter: Augmenter, use: Tensor, labels: Tensor, classes: Sequence[str]
) -> None:
    present, differences, errors = class_differences(use, labels)
    kept = differences.abs().amax(dim=1).argsort(descending=True)[:MOST_CLASSES].sort().values
    shown, sure = differences[kept], (differences.abs() > SURE * errors)[kept]
    largest = max(SEEN, float(shown.abs().max()))
    axes = sheet.subplots()
    axes.imshow(shown.numpy(), cmap=COLOUR_MAP, vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
    down, across = (sure & (shown.abs() >= SEEN)).nonzero(as_tuple=True)
    # Not the ink of text, which turns light on a dark page.
    axes.plot(across.numpy(), down.numpy(), ".", color="#111111", markersize=4)
    names = [shorten(name_of(classes, int(label))) for label in present[kept]]
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    labels_below = [transform.label for transform in augmenter.transforms]
    axes.set_xticks(range(len(labels_below)), labels_below, fontsize=8, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    which = "" if largest <= SEEN else ", those that differ most"
    of_many = "" if len(present) == len(kept) else f" ({len(kept)} of {len(present)} classes{which})"
    alike = "\nhardly any difference: the augmenter treats all classes alike" if largest <= SEEN else ""
    axes.set_title(f"use in each class, less the mean of all{of_many}{alike}", fontsize=9)
    bar = sheet.colorbar(ScalarMappable(Normalize(-largest, largest), COLOUR_MAP), ax=axes, aspect=30, pad=0.01)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("share of the limit × how often", fontsize=8)


def _extremes(
    sheet: Figure | SubFigure, augmenter: Augmenter, images: Tensor, use: Tensor, varied: Sequence[int]
) -> None:
    rows: list[list[Tile | None]] = []
    few = min(EXTREMES, (len(images) + 1) // 2)
    for k in varied:
        order = use[:, k].argsort().tolist()
        ends = [*order[:few], None, *order[len(order) - few :]]
        rows.append([None if i is None else Tile(picture(images[i]), f"{float(use[i, k]):.2f}") for i in ends])
    names = ["least use", *[""] * few, "most use"]
    mosaic(sheet, rows, row_names=[augmenter.transforms[k].label for k in varied], column_names=names)
