"""Draw a data set whose label is one quantity, such as the angle or the brightness of a letter.

    python recipes/benchmarks/one_quantity.py angle angle.npz
    augnet train angle.npz --data.test_size 1500 --data.train_size 2000 --data.val_size 1000 --inner.precision bfloat16
    augnet compare runs/angle --seeds 1 --arms learned,uniform,RandAugment,TrivialAugmentWide,none

So a default transform changes the label, and a policy that keeps it loses. The quantity takes five values, each blurred
a little; all else varies at random: a capital letter of one of twelve fonts, its place, size, angle, colour and
background, focus, and some noise. Images are RGB, 32×32; the same images for the same arguments.
"""

import argparse
import colorsys
from pathlib import Path

import numpy as np
from letters import fonts
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIDE = 32
# Letters are drawn larger and shrunk, so that they can be anywhere.
FINE = 4
# A quantity's five values, how far each is blurred to either side, and the range that it varies over where it is not
# the label. Degrees, pixels to the right, height of capitals in pixels, levels in [0, 1], turns of the colour circle,
# pixels of a Gaussian's deviation.
QUANTITIES = {
    "angle": ((-36, -18, 0, 18, 36), 4, (-5, 5)),
    "place": ((-6, -3, 0, 3, 6), 0.7, (-1, 1)),
    "size": ((10, 12, 14.5, 17.5, 21), 0.5, (13.5, 15.5)),
    "brightness": ((0.2, 0.35, 0.5, 0.65, 0.8), 0.04, (0.4, 0.6)),
    "contrast": ((0.1, 0.2, 0.3, 0.4, 0.5), 0.03, (0.25, 0.35)),
    "hue": ((0.0, 0.12, 0.24, 0.36, 0.48), 0.03, (0, 1)),
    "saturation": ((0.1, 0.3, 0.5, 0.7, 0.9), 0.06, (0.3, 0.5)),
    "focus": ((0.2, 0.6, 1.0, 1.5, 2.1), 0.1, (0.3, 0.7)),
}
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NOISE = 0.03


def drawn(values: dict[str, float], letter: str, font: Path, random: np.random.Generator) -> np.ndarray:
    """Draw a letter as the values say; bytes (32, 32, 3)."""
    points = round(FINE * values["size"] / 0.73)  # a capital of DejaVu is 0.73 as high as its font
    cover = Image.new("L", (FINE * SIDE, FINE * SIDE))
    middle = (FINE * (SIDE / 2 + values["place"]), FINE * SIDE / 2)
    opened = ImageFont.truetype(str(font), points)
    left, top, right, bottom = opened.getbbox(letter)
    corner = (middle[0] - (left + right) / 2, middle[1] - (top + bottom) / 2)
    ImageDraw.Draw(cover).text(corner, letter, fill=255, font=opened)
    cover = cover.rotate(values["angle"], Image.Resampling.BILINEAR, center=middle)
    cover = cover.filter(ImageFilter.GaussianBlur(FINE * values["focus"])).resize((SIDE, SIDE), Image.Resampling.BOX)
    share = np.asarray(cover, np.float64)[..., None] / 255
    # The background has the brightness, the letter is lighter or darker by the contrast, both of one hue.
    sign = random.choice([-1, 1]) if values["brightness"] - values["contrast"] > 0.1 else 1
    level = values["brightness"] + sign * values["contrast"] * share
    full = np.array(colorsys.hsv_to_rgb(values["hue"] % 1, values["saturation"], 1))
    image = level * full / full.mean() + NOISE * random.standard_normal((SIDE, SIDE, 3))
    return (255 * image.clip(0, 1)).round().astype(np.uint8)


def draw(quantity: str, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw images (n, 32, 32, 3) and their labels (n,)."""
    random = np.random.default_rng(seed)
    values, blur, _ = QUANTITIES[quantity]
    labels = random.integers(len(values), size=count)
    images = []
    for label in labels:
        found = {name: random.uniform(*free) for name, (_, _, free) in QUANTITIES.items()}
        found[quantity] = values[label] + random.uniform(-blur, blur)
        font = fonts()[random.integers(12)]
        images.append(drawn(found, CAPITALS[random.integers(26)], font, random))
    return np.stack(images), labels


def main() -> None:
    """Draw all and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantity", choices=list(QUANTITIES))
    parser.add_argument("out", type=Path, metavar="OUT.npz")
    parser.add_argument("--images", type=int, default=4500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    images, labels = draw(options.quantity, options.images, options.seed)
    classes = np.array([f"{value:g}" for value in QUANTITIES[options.quantity][0]])
    np.savez_compressed(options.out, images=images, labels=labels, classes=classes)
    print(f"wrote {len(labels):,} images of {len(classes)} classes to {options.out}")


if __name__ == "__main__":
    main()
