"""What the decoder paints: the pixel residual as a heat map beside its effect."""

import torch
from jaxtyping import Float, Int64
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.export.sample import fairly
from augnet.show.canvas import Place, Tile, mosaic, picture
from augnet.show.decisions import apply, fixed_noise

# Diverging, and as light at its middle for all eyes.
COLOUR_MAP = "PuOr"
MOST_ROWS = 6


@torch.no_grad()
def residual(
    augmenter: Augmenter,
    images: Float[Tensor, "b c h w"],
    labels: Int64[Tensor, "b"] | None = None,
    *,
    seed: int = 0,
    on: Place | None = None,
) -> Figure:
    """Show images before the decoder's residual is added, the residual, and images after it.

    Args:
        augmenter: what to show.
        images: values in [0, 1]; six are chosen by the seed.
        labels: class of each image, so that the six are of different classes.
        seed: fixes the choice and the noise.
        on: see `place`.

    Raises:
        ValueError: if the augmenter has no decoder.
    """
    limit = augmenter.config.residual_limit
    if limit == 0:
        raise ValueError("this augmenter paints nothing: its residual_limit is 0; train one with more")
    images = images[fairly(images, labels, MOST_ROWS, seed)]
    noise = fixed_noise(augmenter, len(images), seed)
    after, policy = augmenter.augment(images, noise)
    before = images if policy is None else apply(augmenter, images, noise, policy.amounts)
    painted = augmenter.residual(images, noise).mean(dim=1)
    sheet = mosaic(
        on,
        [[Tile(picture(x)) for x in before], [Tile(x.numpy()) for x in painted], [Tile(picture(x)) for x in after]],
        row_names=["transformed only", "residual", "with the residual"],
        colour_map=COLOUR_MAP,
        largest=limit,
        below=0.8,
    )
    bar = sheet.colorbar(
        ScalarMappable(Normalize(-limit, limit), COLOUR_MAP),
        ax=sheet.axes[-1],
        location="bottom",
        shrink=0.6,
        aspect=40,
    )
    bar.set_label("change of a pixel, mean over its channels, share of full scale", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return sheet.figure
