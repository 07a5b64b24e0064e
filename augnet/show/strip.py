"""One transform at a time: a strip over its amounts, so that a person can name what it does."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from augnet.augmenter import Augmenter, Learned
from augnet.show.canvas import Place, Tile, in_unit, mosaic, picture, place
from augnet.show.decisions import apply, fixed_noise

COLUMNS = 5
# How far from the centre a strip goes.
SPREADS = 2
# Rows beyond which they stand in two columns.
LONGEST = 9
LOOKED_AT = 16


def strip_amounts(learned: list[Learned]) -> Float[Tensor, "k s"]:
    """Give the amounts of a strip, one row per transform, in its unit.

    In equal steps from two spreads below the centre to two above, within the limits; amounts that have no sign begin at
    0. A choice is not made, and in the last two columns made.
    """
    rows = []
    for transform, centre, spread, _ in learned:
        if transform.choice:
            rows.append(torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0]))
            continue
        low = max(-transform.limit, centre - SPREADS * spread) if transform.signed else 0.0
        high = min(transform.limit, (centre if transform.signed else abs(centre)) + SPREADS * spread)
        rows.append(torch.linspace(low, high, COLUMNS))
    return torch.stack(rows)


def together(
    augmenter: Augmenter, image: Float[Tensor, "c h w"], amounts: Float[Tensor, "k s"], switched_on: list[int]
) -> Float[Tensor, "s c h w"]:
    """Apply the transforms at these positions, each by its column's amount, and no other; s images."""
    only = torch.zeros_like(amounts)
    only[switched_on] = amounts[switched_on]
    images = image.expand(amounts.shape[1], -1, -1, -1)
    noise = fixed_noise(augmenter, 1).expand(len(images), -1)
    return apply(augmenter, images, noise, only.T)


def clearest(images: Float[Tensor, "b c h w"]) -> int:
    """Give the position of the image of most contrast among the first few."""
    return int(images[:LOOKED_AT].flatten(1).std(dim=1).argmax())


def strip(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    *,
    image: int | None = None,
    on: Place | None = None,
) -> Figure:
    """Show each transform alone by the amounts of `strip_amounts`, all others at zero, the most used first.

    Args:
        augmenter: what to show.
        images: values in [0, 1]; centres and spreads are averaged over them.
        image: position of the one to show it on; that of `clearest` by default.
        on: see `place`.

    Raises:
        ValueError: if the augmenter has no transforms.
    """
    learned = augmenter.summary(images)
    if not learned:
        raise ValueError("this augmenter has no transforms to show one at a time")
    amounts = strip_amounts(learned)
    chosen = images[clearest(images) if image is None else image]
    order = sorted(range(len(learned)), key=lambda k: -learned[k].use)
    parts = [order] if len(order) <= LONGEST else [order[: -(-len(order) // 2)], order[-(-len(order) // 2) :]]
    if len(parts) == 1:
        return _rows(on, augmenter, chosen, learned, amounts, order).figure
    sheet = place(on, 13.4, 0.35 + 1.18 * len(parts[0]))
    for half, part in zip(sheet.subfigures(1, 2, squeeze=False).flat, parts, strict=True):
        _rows(half, augmenter, chosen, learned, amounts, part)
    return sheet.figure


def _rows(
    on: Place | None, augmenter: Augmenter, image: Tensor, learned: list[Learned], amounts: Tensor, order: list[int]
) -> Figure | SubFigure:
    rows: list[list[Tile | None]] = []
    for k in order:
        shown = together(augmenter, image, amounts, [k])
        tiles = [
            Tile(picture(i), in_unit(learned[k].transform, float(a))) for i, a in zip(shown, amounts[k], strict=True)
        ]
        choice = [tiles[0]._replace(caption="no"), None, None, None, tiles[-1]._replace(caption="yes")]
        rows.append(choice if learned[k].transform.choice else [*tiles])
    # The contrast of contrast says nothing.
    named = [learned[k].transform for k in order]
    names = [t.label if t.unit == f"of {t.label}" else f"{t.label}\n{t.unit}" for t in named]
    return mosaic(on, rows, row_names=names)
