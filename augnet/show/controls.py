"""Images for the page's controls, drawn beforehand, since a page without a server cannot augment.

A sheet is one picture of rows of tiles; the page shows one row of it at a time.
"""

import base64
import io
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.export.label_safety import STRENGTHS
from augnet.export.sample import fairly
from augnet.show.canvas import picture
from augnet.show.decisions import at_step, fixed_noise
from augnet.show.strip import clearest, strip_amounts, together
from augnet.show.subject import Subject, name_of
from augnet.show.walk import walked

DRAWS = 5
MOST_STEPS = 10
# Classes to choose from, fewer where their sheets take more bytes than this.
MOST_CLASSES = 48
MOST_BYTES = 2_500_000
# Transforms that can be switched: every combination of them is a row.
SWITCHES = 6
WALKERS, FRAMES = 3, 48
# Tiles are at most this many pixels a side.
SIDE = 64
QUALITY = 80


class Sheet(NamedTuple):
    """Rows of tiles in one picture.

    Args:
        picture: a data: address.
        rows: of tiles.
        columns: of tiles.
        shape: width of a tile by its height.
        small: whether tiles are so small that their pixels are shown as squares.
    """

    picture: str
    rows: int
    columns: int
    shape: float
    small: bool


def address(content: bytes, kind: str) -> str:
    """Write a picture as an address that holds all of it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def sheet(rows: Float[Tensor, "r s c h w"]) -> dict[str, Any]:
    """Lay tiles out in rows; give the fields of a `Sheet`, for JSON."""
    r, s, c, h, w = rows.shape
    if max(h, w) > SIDE:
        scale = SIDE / max(h, w)
        h, w = max(1, round(h * scale)), max(1, round(w * scale))
        rows = F.interpolate(rows.flatten(0, 1), (h, w), mode="bilinear", antialias=True).view(r, s, c, h, w)
    written = io.BytesIO()
    laid = rows.permute(2, 0, 3, 1, 4).reshape(c, r * h, s * w)
    Image.fromarray(picture(laid)).save(written, "WEBP", quality=QUALITY)
    return Sheet(address(written.getvalue(), "webp"), r, s, w / h, max(h, w) < SIDE)._asdict()


def controls(subject: Subject) -> dict[str, Any]:
    """Draw what every position of every control shows, as plain values for JSON."""
    augmenter = subject.augmenter
    walk = walked(augmenter, subject.images[:WALKERS], FRAMES).transpose(0, 1)
    found: dict[str, Any] = {**_views(subject), "walk": sheet(walk)}
    return {**found, "switches": _switches(augmenter, subject.images) if augmenter.transforms else None}


def _views(subject: Subject) -> dict[str, Any]:
    """Draw, for an image of every class, its draws at every strength and at training steps."""
    augmenter, labels = subject.augmenter, subject.labels
    chosen = fairly(subject.images, labels, MOST_CLASSES)
    if labels is not None:
        # One image of a class is enough.
        chosen = chosen[: len(labels.unique())]
    steps = _steps(subject)
    images = subject.images[chosen]
    noises = [fixed_noise(augmenter, len(images), seed) for seed in range(DRAWS)]
    earlier = [(at_step(augmenter, row), 1.0) for row in steps]
    with torch.no_grad():
        rows = [
            torch.stack([images, *(its(images, noise, strength) for noise in noises)], dim=1)
            for its, strength in [*((augmenter, strength) for strength in (0.0, *STRENGTHS)), *earlier]
        ]
    views: list[tuple[int, str, dict[str, Any]]] = []
    size = 0
    for number, (index, tiles) in enumerate(zip(chosen, torch.stack(rows, dim=1), strict=True), 1):
        drawn = sheet(tiles)
        size += len(drawn["picture"])
        if views and size > MOST_BYTES:
            break
        label = 0 if labels is None else int(labels[index])
        views.append((label, f"image {number}" if labels is None else name_of(subject.classes, label), drawn))
    views.sort(key=lambda view: view[0])
    return {
        "views": [{"name": name, "sheet": drawn} for _, name, drawn in views],
        "strengths": [0.0, *STRENGTHS],
        "steps": [int(row["step"]) for row in steps],
        "draws": DRAWS,
        "classes": labels is not None,
        "of": len(images) if labels is None else len(labels.unique()),
    }


def _steps(subject: Subject) -> list[dict[str, float]]:
    """Choose rows of metrics.csv, from the first to the last, evenly."""
    if subject.run is None or not subject.augmenter.transforms:
        return []
    rows = subject.run.metrics if (subject.run.path / "metrics.csv").exists() else []
    few = min(MOST_STEPS, len(rows))
    return [rows[round(n * (len(rows) - 1) / max(1, few - 1))] for n in range(few)]


def _switches(augmenter: Augmenter, images: Float[Tensor, "b c h w"]) -> dict[str, Any]:
    """Draw every combination of the most used transforms on the image of most contrast; row n has those of n's bits."""
    learned = augmenter.summary(images)
    amounts = strip_amounts(learned)
    most = sorted(range(len(learned)), key=lambda k: -learned[k].use)[:SWITCHES]
    image = images[clearest(images)]
    rows = [
        together(augmenter, image, amounts, [k for bit, k in enumerate(most) if number >> bit & 1])
        for number in range(2 ** len(most))
    ]
    return {
        "names": [learned[k].transform.label for k in most],
        "sheet": sheet(torch.stack(rows)),
    }
