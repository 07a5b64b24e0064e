"""The gallery: images of every class, and draws of their augmentation beside them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from matplotlib.figure import Figure
from torch import Tensor, nn

from augnet.augmenter import Augmenter
from augnet.export.sample import fairly
from augnet.show.canvas import Place, Tile, mosaic, picture
from augnet.show.decisions import confidence, fixed_noise
from augnet.show.subject import name_of

MOST_ROWS = 10
# By how much the confidence in the true label must fall for a frame.
FALL = 0.1


@torch.no_grad()
def gallery(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"] | None = None,
    classes: Sequence[str] = (),
    classifier: nn.Module | None = None,
    *,
    draws: int = 6,
    seed: int = 0,
    on: Place | None = None,
) -> Figure:
    """Show images and draws of their augmentation, one row per class.

    Images are chosen by the seed: one of every class, of ten classes at most. With a classifier and labels, the
    confidence in the true label is written below each image, and a frame is drawn where augmentation lowers it by 0.1
    or more.

    Args:
        augmenter: what to show.
        images: values in [0, 1].
        labels: class of each image.
        classes: name of each label.
        classifier: maps images to logits.
        draws: augmented images per row.
        seed: fixes the choice and the noise.
        on: see `place`.
    """
    chosen = fairly(images, labels, MOST_ROWS, seed)
    chosen = chosen if labels is None else sorted(chosen, key=lambda index: int(labels[index]))
    originals = images[chosen]
    noises = [fixed_noise(augmenter, len(chosen), seed + draw) for draw in range(draws)]
    columns: list[list[Tile]] = []
    sure: Tensor | None = None
    for shown in (originals, *(augmenter(originals, noise) for noise in noises)):
        if classifier is None or labels is None:
            columns.append([Tile(picture(image)) for image in shown])
            continue
        found = confidence(classifier, shown, labels[chosen])
        sure = found if sure is None else sure
        falls = (sure - found >= FALL).tolist()
        columns.append(
            [Tile(picture(i), f"{f:.2f}", frame) for i, f, frame in zip(shown, found.tolist(), falls, strict=True)]
        )
    return mosaic(
        on,
        list(zip(*columns, strict=True)),
        row_names=[] if labels is None else [name_of(classes, int(labels[index])) for index in chosen],
        column_names=["original", *(f"draw {draw + 1}" for draw in range(draws))],
    ).figure
