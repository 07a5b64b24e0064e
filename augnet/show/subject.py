"""What is shown: an augmenter, images to show it on, and what else is known of them.

The images are those that the classifier was not trained on, since of the others it is too sure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from kornia.color import rgb_to_grayscale
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop

from augnet.augmenter import Augmenter, load
from augnet.data import FileSet, Folder, LabelledImages, Torchvision, source_from
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
            pixels, labels, names, source, said = _read(images, augmenter.channels, tuple(record["size"]))
            if labels is not None:
                labels, doubt = _in_terms_of(classes, labels, names)
                notes += doubt
            notes += said
            if classifier is not None and not source.startswith(f"{len(pixels):,} test "):
                notes.append(f"if the run learned from images of {images}, its classifier is too sure of them")
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
        pixels, labels, classes, source, notes = _read(images, augmenter.channels, None)
        if (strength := about.get("strength", 1)) != 1:
            notes = (f"exported at a strength of {strength:g}, but shown at 1, as it was learned", *notes)
        return cls(
            name=Path(path).stem, augmenter=augmenter, images=pixels, labels=labels, classes=classes, about=about,
            source=source, notes=notes,
        )  # fmt: skip


def name_of(classes: Sequence[str], label: int) -> str:
    """Name a class; its number where it has no name."""
    return classes[label] if label < len(classes) else str(label)


def _most(images: LabelledImages) -> int:
    channels, height, width = images.shape
    return max(1, min(MOST_IMAGES, MOST_VALUES // (channels * height * width)))


def _read(
    source: str, channels: int, size: tuple[int, ...] | None
) -> tuple[Tensor, Int64[Tensor, "b"] | None, tuple[str, ...], str, tuple[str, ...]]:
    """Read a sample of images in these channels and, if given, this size.

    It is of the source's test part, where it has one. Of an image of other proportions the middle is cut out.

    Returns:
        Images, labels and classes, if any, what they are in words, and notes.
    """
    folder = Path(source).expanduser()
    bare = folder.is_dir() and not (folder / "train.npz").exists() and sum(p.is_dir() for p in folder.iterdir()) < 2
    found: LabelledImages
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    part = ""
    if bare:
        found = _bare_folder(folder, channels)
    else:
        given = source_from(source)
        try:
            pool = (replace(given, on_bad_file="skip") if isinstance(given, Folder) else given).read()
        except FileNotFoundError as error:
            if not isinstance(given, Torchvision):
                raise
            raise FileNotFoundError(
                f"{source} is not in {str(given.root)!r}, where data sets of torchvision are looked for; name a folder "
                "of images"
            ) from error
        found, classes, part = pool.test or pool.train, pool.classes, "test " if pool.test else ""
        if pool.skipped:
            notes = (f"{len(pool.skipped):,} of the files cannot be read: {', '.join(pool.skipped[:3])}",)
    images, labels = found.batch(fairly(found, found.labels, _most(found)))
    if images.shape[1] != channels:
        # The grey that Pillow makes, and so that of files.
        images = (rgb_to_grayscale(images) if channels == 1 else images).expand(-1, channels, -1, -1).contiguous()
    if size is not None and tuple(images.shape[-2:]) != size:
        height, width = images.shape[-2:]
        scale = min(height / size[0], width / size[1])
        images = center_crop(images, [max(1, round(side * scale)) for side in size])
        images = nn.functional.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)
    return images, None if bare else labels, classes, f"{len(images):,} {part}images of {source}", notes


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
