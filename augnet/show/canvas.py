"""Where figures are drawn: their place, their colours, and images side by side.

Everything goes through matplotlib's objects and nothing through pyplot, so figures can be drawn in threads and without
a display.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from torch import Tensor

from augnet.transforms import DifferentiableTransform

Place = Figure | SubFigure | Axes
INK, FAINT, PAPER = "#1b1b1b", "#9a9a9a", "#ffffff"
# The same three on a dark page.
DARK = {INK: "#ececec", "#000000": "#ececec", FAINT: "#7d8287", PAPER: "#15181b"}
# Okabe and Ito's colours, which all eyes tell apart; its yellow is left out, which is too light for lines on paper.
BLUE, ORANGE, GREEN, PINK, SKY, RED = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
LONGEST = 26
# Images up to this size are shown as squares of colour, larger ones smoothly.
PIXELATED = 64
# Side of an image in a mosaic, inches, and the distance from one to the next, in sides.
TILE = 0.95
STEP = 1.07


def place(on: Place | None, width: float, height: float) -> Figure | SubFigure:
    """Give the figure to draw on.

    Args:
        on: None for a new figure; a figure or subfigure to fill; or axes of a grid, whose cell is taken.
        width: of a new figure, inches.
        height: of a new figure, inches.

    Raises:
        ValueError: if axes stand in no grid.
    """
    if on is None:
        return Figure(figsize=(width, height), layout="constrained", facecolor=PAPER)
    if isinstance(on, Axes):
        cell, parent = on.get_subplotspec(), on.get_figure()
        if cell is None or parent is None:
            raise ValueError("these axes stand in no grid, so a figure cannot take their cell; use subplots()")
        on.remove()
        return parent.add_subfigure(cell)
    return on


def halves(sheet: Figure | SubFigure, heights: Sequence[float]) -> Sequence[SubFigure]:
    """Cut a figure into parts, one above the other, of these heights."""
    return list(sheet.subfigures(len(heights), 1, squeeze=False, height_ratios=heights).flat)


def darken(figure: Figure) -> None:
    """Turn a figure's ink and paper into those of a dark page; images and other colours stay."""
    figure.set_facecolor(DARK[PAPER])
    for artist in figure.findobj():
        if isinstance(artist, Text | Line2D):
            artist.set_color(DARK.get(to_hex(artist.get_color()), artist.get_color()))
        if isinstance(artist, Patch):
            # What is transparent stays so.
            artist.set(facecolor=_dark(artist.get_facecolor()), edgecolor=_dark(artist.get_edgecolor()))
        if isinstance(artist, Axes):
            artist.tick_params(colors=DARK[INK], which="both")


def _dark(colour: Any) -> Any:
    return DARK.get(to_hex(colour), colour) if to_rgba(colour)[3] == 1 else colour


def plain(axes: Axes) -> Axes:
    """Leave out the frame's upper and right sides."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.set_facecolor("none")
    return axes


def shorten(name: str, longest: int = LONGEST) -> str:
    """Cut a name that would take a figure's whole width."""
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 1] + "…"


def in_unit(transform: DifferentiableTransform, amount: float) -> str:
    """Write an amount with as many digits as matter: "+12", "−0.05"; the unit is `unit_of`."""
    text = f"{amount:+.2g}" if transform.signed else f"{amount:.2g}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def unit_of(transform: DifferentiableTransform) -> str:
    """Name the unit of amounts, with a space before it unless it is a sign."""
    return "°" if transform.unit == "degrees" else f" {transform.unit}"


def limit_of(transform: DifferentiableTransform) -> str:
    """Say how far a transform may go."""
    if transform.choice:
        return "done or not"
    return f"{'±' if transform.signed else 'up to '}{transform.limit:.3g}{unit_of(transform)}"


def picture(image: Float[Tensor, "c h w"]) -> np.ndarray:
    """Turn an image in [0, 1], grey or RGB, into bytes (h, w, 3)."""
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return pixels.expand(-1, -1, 3).numpy()


class Tile(NamedTuple):
    """An image of a mosaic.

    Args:
        image: pixels (h, w, 3) in bytes, or values (h, w) that a colour map turns into colours.
        caption: written below.
        framed: whether a frame is drawn around it.
    """

    image: np.ndarray
    caption: str = ""
    framed: bool = False


def mosaic(
    on: Place | None,
    rows: Sequence[Sequence[Tile | None]],
    *,
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    colour_map: str | None = None,
    largest: float | None = None,
    below: float = 0.0,
) -> Figure | SubFigure:
    """Draw images side by side, in a new figure of the size that they need or in a given place.

    Args:
        on: see `place`.
        rows: images; None leaves a gap.
        row_names: one per row, at the left.
        column_names: one per column, above.
        colour_map: for tiles of values.
        largest: value that the colour map's end stands for; its other end is the negative of it.
        below: inches that the caller will use below.

    Returns:
        What was drawn on; its last axes hold the images.
    """
    first = next(tile for row in rows for tile in row if tile is not None)
    height, width = first.image.shape[:2]
    tall = height / width
    captions = any(tile is not None and tile.caption for row in rows for tile in row)
    pitch = tall + (0.24 if captions else STEP - 1)
    columns = max(len(row) for row in rows)
    names = ["\n".join(shorten(line) for line in name.split("\n")) for name in row_names]
    # Room for names in tiles, of which a letter of this size is a fourteenth.
    margin = max((len(line) for name in names for line in name.split("\n")), default=0) / 14 + 0.1
    head = 0.25 if column_names else 0.05
    across, down = margin + columns * STEP, head + len(rows) * pitch
    sheet = place(on, TILE * across, TILE * down + below)
    axes = sheet.subplots()
    smoothness = "nearest" if max(height, width) <= PIXELATED else "auto"
    for line, row in enumerate(rows):
        for column, tile in enumerate(row):
            if tile is None:
                continue
            left, top = column * STEP, line * pitch
            axes.imshow(
                tile.image, extent=(left, left + 1, top + tall, top), interpolation=smoothness,
                cmap=colour_map, vmin=None if largest is None else -largest, vmax=largest,
            )  # fmt: skip
            if tile.framed:
                axes.add_patch(Rectangle((left, top), 1, tall, fill=False, edgecolor=RED, linewidth=2.5))
            axes.text(left + 0.5, top + tall + 0.02, tile.caption, ha="center", va="top", fontsize=6.5, color=INK)
    # Names are not formulas, whatever dollars are in them.
    plainly: dict[str, Any] = {"fontsize": 8, "color": INK, "parse_math": False}
    for line, name in enumerate(names):
        axes.text(-0.1, line * pitch + tall / 2, name, ha="right", va="center", **plainly)
    for column, name in enumerate(column_names):
        axes.text(column * STEP + 0.5, -0.05, name, ha="center", va="bottom", **plainly)
    axes.set(xlim=(-margin, columns * STEP), ylim=(len(rows) * pitch, -head), aspect="equal", anchor="N")
    axes.set_axis_off()
    return sheet
