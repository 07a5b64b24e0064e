"""Where images come from: the DataSource family, with the members that need no file.

A source reads everything it has once (`read`) and leaves the cutting to `splits.cut`, so every source splits alike.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.utils.data import Dataset

from augnet.data.images import ImageSet, LabelledImages, SampleSet, advice, labelled
from augnet.data.pixels import resize
from augnet.data.splits import Pool, Splits, cut


@dataclass(frozen=True, kw_only=True)
class DataSource(ABC):
    """A labelled set of images, and how much of it to use for what.

    Args:
        val_size: validation images, cut from the training images afresh with each seed: a number, or a share of them.
            By default a third of the images used, at most 5,000. Where the source sets validation images apart those
            are used, and this takes a part of them.
        train_size: training images to use; by default all that remain.
        test_size: test images to cut off first, the same ones for every seed: a number or a share. Only for a source
            without test images of its own.
        size: side in pixels of the square that images are brought to, by cutting out the largest centred square and
            resizing it; by default images stay as they are.
    """

    val_size: int | float | None = None
    train_size: int | None = None
    test_size: int | float | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name in ("val_size", "test_size"):
            value = getattr(self, name)
            if value is not None and not (0 < value < 1 if isinstance(value, float) else value >= 1):
                raise ValueError(f"{name} must be a number of images from 1, or a share between 0 and 1, not {value}")
        for name in ("train_size", "size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be 1 or more, not {value}")

    @abstractmethod
    def read(self) -> Pool:
        """Read everything, uncut.

        Raises:
            FileNotFoundError: if there is nothing at the path.
            ValueError: if what is there cannot be used; the message says what to change.
        """

    def anchored(self) -> "DataSource":
        """Give the same source with absolute paths, which means the same in any working directory."""
        names = [field.name for field in fields(self) if Path in (field.type, *get_args(field.type))]
        given = {name: getattr(self, name) for name in names}
        found: dict[str, Any] = {name: str(Path(path).absolute()) for name, path in given.items() if path is not None}
        return replace(self, **found)

    @property
    def title(self) -> str:
        """Name the images for people, without the path where they lie: `cifar10`, `signs`, `digits`."""
        given = [getattr(self, name) for name in ("name", "path", "root") if hasattr(self, name)]
        path = Path(given[0] if given else type(self).__name__.lower())
        return path.absolute().parent.name if path.stem == "train" else path.stem

    def load(self, seed: int) -> Splits:
        """Read the images and cut them into training, validation and test parts.

        Args:
            seed: fixes which images validate; the test part does not depend on it.

        Raises:
            FileNotFoundError: if there is nothing at the path.
            ValueError: if the content cannot be used or cannot be cut as asked.
        """
        return cut(self.read(), seed, self.val_size, self.train_size, self.test_size)


@dataclass(frozen=True, kw_only=True)
class Digits(DataSource):
    """The 1,797 handwritten digits of scikit-learn: 8x8 grey, here enlarged; needs no download.

    Args:
        size: side in pixels, bilinear; 8 gives the originals.
        test_size: share or number of test images; the same ones for every seed.
    """

    size: int | None = 16
    test_size: int | float | None = 1 / 3

    def read(self) -> Pool:
        # scikit-learn takes a second to import, which other sources need not pay.
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = torch.from_numpy((digits.images * (255 / 16)).round().astype(np.uint8))[:, None]
        train = ImageSet(images if self.size is None else resize(images, self.size), digits.target)
        return pooled({"train": train}, digits.target_names)


@dataclass(frozen=True, kw_only=True)
class Pair(DataSource):
    """Data sets made in Python: items (image, label) with PIL images, uint8 or float in [0, 1].

    Images are read at each access, so transforms of the data sets keep working. An `ImageSet` is used as it is.

    Args:
        train: images to learn from.
        val: validation images; None cuts them from `train`.
        test: test images.
        classes: name of each label; None numbers them.
    """

    train: Dataset
    val: Dataset | None = None
    test: Dataset | None = None
    classes: Sequence[str] | None = None

    def read(self) -> Pool:
        given = {"train": self.train, "val": self.val, "test": self.test}
        parts = {name: sized(labelled(part), self.size) for name, part in given.items() if part is not None}
        for part in parts.values():
            # One look now, rather than a failure hours later.
            part.batch(range(min(8, len(part))))
        return pooled(parts, self.classes)


def from_datasets(
    train: Dataset,
    val: Dataset | None = None,
    test: Dataset | None = None,
    classes: Sequence[str] | None = None,
    **sizes: Any,
) -> Pair:
    """Make a source of data sets that yield (image, label).

    Args:
        train: images to learn from; PIL images, uint8 or float in [0, 1].
        val: validation images; None cuts them from `train`.
        test: test images.
        classes: name of each label; None numbers them.
        sizes: `val_size`, `train_size`, `test_size` and `size`, as in every source.
    """
    return Pair(train=train, val=val, test=test, classes=classes, **sizes)


def sized(images: LabelledImages, size: int | None) -> LabelledImages:
    """Bring images to a square of `size` pixels; None leaves them."""
    if size is None:
        return images
    if isinstance(images, ImageSet):
        return ImageSet(resize(images.images, size), images.labels, images.groups)
    return SampleSet(images, images.labels, size=size, groups=images.groups)


def in_memory(images: SampleSet) -> ImageSet:
    """Read every image once into one uint8 tensor.

    Raises:
        ValueError: if images differ in shape or leave [0, 1].
    """
    pixels = torch.empty(len(images), *images.shape, dtype=torch.uint8)
    for index in range(len(images)):
        image = images[index][0]
        image = image if image.dtype == torch.uint8 else (image * 255).round().byte()
        if image.shape != pixels.shape[1:]:
            raise ValueError(
                f"images differ in shape: {tuple(pixels.shape[1:])} and {tuple(image.shape)}; "
                f"{advice([tuple(pixels.shape[1:]), tuple(image.shape)])}"
            )
        pixels[index] = image
    return ImageSet(pixels, images.labels, images.groups)


def pooled(parts: Mapping[str, LabelledImages], classes: Iterable[object] | None, notes: Iterable[str] = ()) -> Pool:
    """Make a pool of the parts called train, val and test; classes that have no names are numbered.

    Where classes share a name, as the two cranes of ImageNet do, their numbers are added to it.
    """
    return Pool(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        classes=numbered(parts.values()) if classes is None else _distinct([str(name) for name in classes]),
        fingerprint=fingerprint(*parts.values()),
        notes=tuple(notes),
    )


def numbered(parts: Iterable[LabelledImages]) -> tuple[str, ...]:
    """Name the classes by their numbers, up to the largest label in any part."""
    largest = max((int(part.labels.max()) for part in parts if len(part)), default=-1)
    return tuple(str(label) for label in range(largest + 1))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    shared = {name for name, count in Counter(names).items() if count > 1}
    return tuple(f"{name} ({label})" if name in shared else name for label, name in enumerate(names))


def fingerprint(*parts: LabelledImages) -> str:
    """Hash labels and pixels; of images that are read at each access, labels and shape only: they may be random."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.labels.numpy().tobytes())
        digest.update(str(part.shape).encode())
        if isinstance(part, ImageSet):
            digest.update(part.images.contiguous().numpy().data)
    return digest.hexdigest()
