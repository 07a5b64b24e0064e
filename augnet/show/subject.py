"""What is shown: an augmenter, images to show it on, and what else is known of them.

The images are those that the classifier was not trained on, since of the others it is too sure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn

from augnet.augmenter import Augmenter, load
from augnet.data import FileSet, LabelledImages, source_from
from augnet.data.folders import choose_size
from augnet.data.pixels import UNREADABLE
from augnet.export.sample import fairly
from augnet.training import Run

# Images that are looked at, fewer where they are large: what numbers in figures are averaged over.
MOST_IMAGES = 1024
MOST_VALUES = 20_000_000
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """An augmenter with images.

    Args:
        name: of the run or the file.
        augmenter: in evaluation mode, on the CPU.
        images: a sample in [0, 1], balanced over the classes.
        labels: class of each image; None where they have none, or none that the augmenter's task knows.
        classes: name of each label.
        classifier: maps images to logits, in evaluation mode; None where there is none for these images.
        run: the training that it comes from.
        about: what the augmenter's file says of itself.
        source: where the images came from.
        notes: what a reader should know, one sentence each.
    """

    name: str
    augmenter: Augmenter
    images: Float[Tensor, "b c h w"]
    labels: Int64[Tensor, "b"] | None = None
    classes: tuple[str, ...] = ()
    classifier: nn.Module | None = None
    run: Run | None = None
    about: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of_run(cls, path: Path | str, images: str | None = None) -> "Subject":
        """Read a run, finished or not.

        Args:
            path: the run folder.
            images: what `source_from` understands, or a folder of images; the run's validation images by default.

        Raises:
            FileNotFoundError: if there is no run, or its images are gone.
            ValueError: if no images were named and the run's data sets came from Python or have changed.
        """
        run = Run(path)
        augmenter, about = load(run.path / "augmenter.safetensors")
        record = run.record
        classes, notes, classifier = tuple(record["classes"]), [], None
        labels: Tensor | None
        try:
            classifier = run.classifier()
        except (ValueError, FileNotFoundError) as error:
            notes.append(f"no classifier, so no confidence and no label safety: {error}")
        if images is None:
            try:
                found = run.splits().val
            except ValueError as error:
                raise ValueError(f"{error}; or name images to show it on: --images SOURCE") from error
            pixels, labels = found.batch(fairly(found, found.labels, _most(found)))
            source = f"{len(pixels):,} of {len(found):,} validation images"
        else:
            pixels, labels, names, said = _read(images, augmenter.channels, tuple(record["size"]))
            source = f"{len(pixels):,} images of {images}"
            if labels is not None:
                labels, doubt = _in_terms_of(classes, labels, names)
                notes += doubt
            notes += said
        return cls(
            name=run.path.resolve().name, augmenter=augmenter, images=pixels, labels=labels, classes=classes,
            classifier=classifier, run=run, about=about, source=source, notes=tuple(notes),
        )  # fmt: skip

    @classmethod
    def of_file(cls, path: Path | str, images: str) -> "Subject":
        """Read an augmenter's file, to show it on any images.

        Raises:
            FileNotFoundError: if there is no such file or no such images.
            ValueError: if either cannot be read.
        """
        augmenter, about = load(path)
        # What may be noted of the images is for a classifier, and a file has none.
        pixels, labels, classes, _ = _read(images, augmenter.channels, None)
        return cls(
            name=Path(path).stem, augmenter=augmenter, images=pixels, labels=labels, classes=classes, about=about,
            source=f"{len(pixels):,} images of {images}",
        )  # fmt: skip


def name_of(classes: Sequence[str], label: int) -> str:
    """Name a class; its number where it has no name."""
    return classes[label] if label < len(classes) else str(label)


def _most(images: LabelledImages) -> int:
    channels, height, width = images.shape
    return max(1, min(MOST_IMAGES, MOST_VALUES // (channels * height * width)))


def _read(
    source: str, channels: int, size: tuple[int, ...] | None
) -> tuple[Tensor, Int64[Tensor, "b"] | None, tuple[str, ...], tuple[str, ...]]:
    """Read a sample of images in these channels and, if given, this size; with labels and classes, if any, and notes.

    It is of the source's test part, where it has one.
    """
    folder = Path(source).expanduser()
    bare = folder.is_dir() and not (folder / "train.npz").exists() and sum(p.is_dir() for p in folder.iterdir()) < 2
    found: LabelledImages
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    if bare:
        found = _bare_folder(folder, channels)
    else:
        pool = source_from(source).read()
        found, classes = pool.test or pool.train, pool.classes
        if pool.test is None:
            notes = (f"{source} has no test part; a classifier that learned from these images is too sure of them",)
    images, labels = found.batch(fairly(found, found.labels, _most(found)))
    if images.shape[1] != channels:
        images = images.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1).contiguous()
    if size is not None and tuple(images.shape[-2:]) != size:
        images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)
    return images, None if bare else labels, classes, notes


def _bare_folder(folder: Path, channels: int) -> FileSet:
    """Take every image file below a folder that has no class folders."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise ValueError(f"{str(folder)!r} holds no images; give a folder with some, or with one folder per class")
    shapes = []
    for path in paths:
        try:
            with Image.open(path) as image:
                shapes.append((image.height, image.width))
        except UNREADABLE as error:
            raise ValueError(f"cannot read {str(path)!r} as an image ({error}); remove it") from error
    return FileSet(paths, [0] * len(paths), choose_size(shapes)[0], channels)


def _in_terms_of(
    classes: Sequence[str], labels: Int64[Tensor, "b"], names: Sequence[str]
) -> tuple[Int64[Tensor, "b"] | None, list[str]]:
    """Renumber labels as a run numbers its classes, by name."""
    position = {name: number for number, name in enumerate(classes)}
    unknown = [name for name in names if name not in position]
    if unknown:
        return None, [
            f"{len(unknown)} classes of these images are none of the run's, the first being {unknown[0]!r}, so the "
            "images count as unlabelled"
        ]
    return torch.tensor([position[name] for name in names])[labels], []
