"""Draw a data set of many classes and few images each: the letters of the fonts that come with matplotlib.

    python recipes/benchmarks/letters.py letters.npz
    augnet train letters.npz --data.test_size 0.333 --inner.precision bfloat16

A class is a letter of any script, without an accent, that all of the twelve DejaVu fonts have and that looks like no
other of them; an image is its drawing in one font, white on black, 28×28 pixels. Always the same images.
"""

import argparse
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

FAMILIES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
SIDE = 28
# Height of the letter M and of what hangs below the line, about, in pixels; the width of W fits.
POINTS = 20
LAST = 0x2000


def fonts() -> list[Path]:
    """List the fonts: plain, bold, slanted and both, of three families."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(path for path in folder.glob("DejaVu*.ttf") if path.stem.split("-")[0] in FAMILIES)


def letters(paths: list[Path]) -> list[str]:
    """List the letters without accents that all fonts have, in the order of their code points."""
    common = set.intersection(*(set(FT2Font(str(path)).get_charmap()) for path in paths))
    found = [chr(code) for code in sorted(common) if code < LAST]
    return [each for each in found if unicodedata.category(each)[0] == "L" and not unicodedata.decomposition(each)]


def drawn(letter: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Draw a letter on its line, centred from left to right; bytes (28, 28)."""
    image = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(image).text((SIDE / 2, 0.72 * SIDE), letter, fill=255, font=font, anchor="ms")
    return np.asarray(image)


def main() -> None:
    """Draw all and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    out = parser.parse_args().out
    opened = [ImageFont.truetype(str(path), POINTS) for path in fonts()]
    images: dict[bytes, tuple[str, np.ndarray]] = {}
    for letter in letters(fonts()):
        each = np.stack([drawn(letter, font) for font in opened])
        # Alpha and A are one letter to a network.
        images.setdefault(each.tobytes(), (letter, each))
    names, stacks = zip(*images.values(), strict=True)
    labels = np.repeat(np.arange(len(names)), len(opened))
    np.savez_compressed(out, images=np.concatenate(stacks), labels=labels, classes=np.array(names))
    print(f"wrote {len(labels):,} images of {len(names):,} classes to {out}")


if __name__ == "__main__":
    main()
