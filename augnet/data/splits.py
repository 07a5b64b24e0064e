"""Cutting labelled images into training, validation and test parts.

Every cut is stratified by class and never separates images of one group. The test part is cut off first, with a seed of
its own, so that it is the same in every run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from augnet.data.images import LabelledImages

Tensors = tuple[Float[Tensor, "n c h w"], Int64[Tensor, "n"]]

TEST_SEED = 20_200_304
# Training images that are looked at for darkness, and the share of full scale up to which they are dark; 12 bits of 16
# go up to 0.0625.
LOOKED_AT, NEARLY_BLACK = 16, 0.07
LARGEST_DEFAULT = 5_000


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a run trains on, validates on, and is judged by at the very end.

    Args:
        train: images that the classifier learns from.
        val: images that the augmenter learns from.
        test: images that nothing learns from; None where the source has none.
        classes: name of each label.
        channels: 1 for grey, 3 for RGB.
        size: height and width in pixels.
        fingerprint: SHA-256 of all that the source read; does not depend on the seed.
        skipped: files left out because they could not be read.
        notes: what a reader of the run should know of the cut, one sentence each.
    """

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages | None
    classes: tuple[str, ...]
    channels: int
    size: tuple[int, int]
    fingerprint: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def tensors(self) -> tuple[Tensors, Tensors, Tensors]:
        """Give the training, validation and test part whole, each as images (n, c, h, w) in [0, 1] and labels (n,).

        Raises:
            ValueError: if there are no test images.
        """
        if self.test is None:
            raise ValueError(
                "the data sets no test images apart; give test/ or test.npz beside the training images, or set "
                "test_size"
            )
        train, val, test = (part.batch(range(len(part))) for part in (self.train, self.val, self.test))
        return train, val, test


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What a source holds before it is cut.

    Args:
        train: all images for training and, where `val` is None, validation.
        val: validation images that the source itself sets apart.
        test: test images that the source itself sets apart.
        classes: name of each label.
        fingerprint: SHA-256 of the content.
        skipped: files left out because they could not be read.
        notes: sentences for `Splits.notes`.

    Raises:
        ValueError: if there are fewer than two classes, a label has no name, or a class has no training image.
    """

    train: LabelledImages
    val: LabelledImages | None = None
    test: LabelledImages | None = None
    classes: tuple[str, ...]
    fingerprint: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        parts = {"training": self.train, "validation": self.val, "test": self.test}
        for name, part in parts.items():
            if part is None:
                continue
            if len(part) == 0:
                raise ValueError(f"there are no {name} images; add some or leave that part out")
            if int(part.labels.max()) >= len(self.classes):
                raise ValueError(
                    f"{name} label {int(part.labels.max())} is out of range: there are {len(self.classes)} classes, "
                    f"so labels go from 0 to {len(self.classes) - 1}"
                )
        if len(self.classes) < 2:
            raise ValueError(f"there is one class only ({self.classes[0]!r}), and a classifier needs two or more")
        counts = np.bincount(self.train.labels.numpy(), minlength=len(self.classes))
        if counts.min() == 0:
            absent = self.classes[int(counts.argmin())]
            raise ValueError(f"class {absent!r} has no training image; add some or leave the class out")
        shapes = {name: part.shape for name, part in parts.items() if part is not None}
        for name, shape in shapes.items():
            if shape != shapes["training"]:
                raise ValueError(
                    f"{name} images have shape {shape} (channels, height, width), training {shapes['training']}; "
                    "set `size`, or convert them to the same channels"
                )


def cut(
    pool: Pool,
    seed: int,
    val_size: int | float | None = None,
    train_size: int | None = None,
    test_size: int | float | None = None,
) -> Splits:
    """Cut a source's images into training, validation and test parts.

    Args:
        pool: what the source holds.
        seed: fixes which images validate, and which are left out by `train_size`; the test part ignores it.
        val_size: validation images, as a number or as a share of the training images; None takes a third of the
            images used, at most 5,000. Where the source sets validation images apart, a number or share of those.
        train_size: training images to use, out of those that remain; None uses all.
        test_size: test images to cut off, as a number or share; None cuts none off.

    Raises:
        ValueError: if a part is larger than the data or smaller than the number of classes, a class has too few images
            to be on every side, or the source sets test images apart and `test_size` asks for others.
    """
    if seed < 0:
        raise ValueError(f"the seed must be 0 or more, not {seed}")
    notes, train, val, test = _unreadable(pool.skipped) + list(pool.notes), pool.train, pool.val, pool.test
    if test_size is not None:
        if test is not None:
            raise ValueError(f"the data has {len(test)} test images of its own, which stay as they are; drop test_size")
        wanted = _count("test_size", test_size, len(train), pool.classes)
        # What remains needs an image per class for training, and one for validation where that is cut from it too.
        test, train = _divide(train, wanted, [TEST_SEED], keep=2 if val is None else 1)
        notes += _surprises("test", test, wanted, pool.classes)
    elif test is not None:
        notes += _surprises("test", test, len(test), pool.classes)
    if val is None:
        _check_divisible(train, pool.classes)
        wanted = _validation_count(val_size, train_size, len(train), pool.classes)
        val, train = _divide(train, wanted, [seed, 0], keep=1)
    else:
        wanted = len(val) if val_size is None else _count("val_size", val_size, len(val), pool.classes)
        val, _ = _divide(val, wanted, [seed, 0]) if wanted < len(val) else (val, None)
    # Nobody asked for the default to the image.
    notes += _surprises("validation", val, len(val) if val_size is None else wanted, pool.classes)
    if train_size is not None:
        wanted = _count("train_size", train_size, len(train), pool.classes)
        train, _ = _divide(train, wanted, [seed, 1])
        notes += _surprises("training", train, wanted, pool.classes)
    notes += _darkness(train)
    channels, height, width = train.shape
    return Splits(
        train=train,
        val=val,
        test=test,
        classes=pool.classes,
        channels=channels,
        size=(height, width),
        fingerprint=pool.fingerprint,
        skipped=pool.skipped,
        notes=tuple(notes),
    )


def _unreadable(skipped: Sequence[str]) -> list[str]:
    files = "1 unreadable file is" if len(skipped) == 1 else f"{len(skipped):,} unreadable files are"
    return [f"{files} left out: {', '.join(skipped[:3])}"] if skipped else []


def choose(labels: np.ndarray, groups: np.ndarray | None, size: int, seed: Sequence[int], keep: int = 0) -> np.ndarray:
    """Choose about `size` images, whole groups only, with classes in proportion and every class present.

    Groups are taken one at a time, in random order, always for the class that lacks most of its share; first of all one
    for every class, the class with the fewest groups first. A group is passed over if the total would end further from
    `size` with it. Without groups the size is met exactly.

    Args:
        labels: class of each image.
        groups: images with the same number stay together; None makes each image a group.
        size: images wanted.
        seed: fixes the order.
        keep: groups of every class that must not be chosen.

    Returns:
        Positions of the chosen images, ascending. A class whose every group must be kept is not among them.
    """
    rng = np.random.default_rng(list(seed))
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    classes = int(labels.max()) + 1
    # One entry per class of each unit, sorted by unit: a dense table would not fit for a million images.
    pairs, counts = np.unique(units * classes + labels, return_counts=True)
    unit_of, class_of = np.divmod(pairs, classes)
    first = np.searchsorted(unit_of, np.arange(int(units.max()) + 2))
    shuffled = rng.permutation(len(pairs))
    by_class = shuffled[np.argsort(class_of[shuffled], kind="stable")]
    ends = np.searchsorted(class_of[by_class], np.arange(classes + 1))
    queues = [list(unit_of[by_class[low:high]]) for low, high in pairwise(ends)]

    target = size * np.bincount(labels, minlength=classes) / len(labels)
    have = np.zeros(classes)
    left = np.array([len(queue) for queue in queues])
    available = left > keep
    chosen = np.zeros(int(units.max()) + 1, dtype=bool)
    total = 0
    while available.any():
        absent = available & (have == 0)
        if total >= size and not absent.any():
            break
        lack = np.where(absent, len(pairs) - left, -np.inf) if absent.any() else target - have
        c = int(np.where(available, lack, -np.inf).argmax())
        if not queues[c]:
            available[c] = False
            continue
        unit = queues[c].pop()
        entries = slice(first[unit], first[unit + 1])
        images = int(counts[entries].sum())
        nearer = abs(total + images - size) < abs(total - size)
        # Both reasons to pass a unit over only grow stronger, so it need not be looked at again for this class.
        if chosen[unit] or (left[class_of[entries]] <= keep).any() or not (nearer or have[c] == 0):
            continue
        chosen[unit] = True
        have[class_of[entries]] += counts[entries]
        left[class_of[entries]] -= 1
        total += images
    return np.flatnonzero(chosen[units])


def _count(name: str, value: int | float, available: int, classes: Sequence[str]) -> int:
    wanted = round(value * available) if isinstance(value, float) else value
    if wanted > available:
        raise ValueError(f"{name} asks for {wanted} images, but there are {available}; lower it")
    if wanted < len(classes):
        raise ValueError(f"{name} comes to {wanted} images, fewer than the {len(classes)} classes; raise it")
    return wanted


def _validation_count(
    val_size: int | float | None, train_size: int | None, available: int, classes: Sequence[str]
) -> int:
    if val_size is None:
        # A third of the images used: of all, or half as many as train_size, as far as there are others left.
        third = round(available / 3) if train_size is None else min(train_size // 2, available - train_size)
        val_size = max(min(third, LARGEST_DEFAULT), min(len(classes), available - len(classes)))
    wanted = _count("val_size", val_size, available, classes)
    if available - wanted < len(classes):
        raise ValueError(
            f"val_size asks for {wanted} of {available} images, which leaves too few to train "
            f"{len(classes)} classes; lower val_size"
        )
    return wanted


def _divide(
    images: LabelledImages, wanted: int, seed: Sequence[int], keep: int = 0
) -> tuple[LabelledImages, LabelledImages]:
    groups = None if images.groups is None else images.groups.numpy()
    chosen = choose(images.labels.numpy(), groups, wanted, seed, keep)
    others = np.setdiff1d(np.arange(len(images)), chosen, assume_unique=True)
    return images.take(chosen), images.take(others)


def _check_divisible(train: LabelledImages, classes: Sequence[str]) -> None:
    labels = train.labels.numpy()
    units = np.arange(len(labels)) if train.groups is None else train.groups.numpy()
    for label, name in enumerate(classes):
        found = units[labels == label]
        if len(found) == 1:
            raise ValueError(
                f"class {name!r} has one image, but training and validation need one each; "
                "add images, leave the class out, or give validation images of your own"
            )
        if len(np.unique(found)) == 1:
            raise ValueError(
                f"all {len(found)} images of class {name!r} are in one group, so it cannot be on both sides of the "
                "validation split; add images of another group or leave the class out"
            )


def _surprises(part: str, images: LabelledImages, wanted: int, classes: Sequence[str]) -> list[str]:
    notes = []
    if len(images) != wanted:
        notes.append(f"{len(images):,} {part} images instead of {wanted:,}, because groups and classes are kept whole")
    counts = np.bincount(images.labels.numpy(), minlength=len(classes))
    if counts.min() == 0:
        absent = [name for name, count in zip(classes, counts, strict=True) if count == 0]
        many = f"{len(absent):,} classes, the first being" if len(absent) > 1 else "class"
        notes.append(f"no {part} image of {many} {absent[0]!r}")
    return notes


def _darkness(images: LabelledImages) -> list[str]:
    """Say where images are nearly black, as 12 bits are in a file of 16."""
    looked_at, _ = images.batch(range(0, len(images), -(-len(images) // LOOKED_AT)))
    brightest = float(looked_at.max())
    if brightest > NEARLY_BLACK:
        return []
    return [
        f"the brightest pixel of {len(looked_at)} training images is at {brightest:.1%} of full scale; if they have "
        "fewer bits than their files, scale them"
    ]
