"""Images from a folder with one subfolder per class, or with train, val and test folders that hold those."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import Literal, NamedTuple, TypeVar

import torch
from PIL import Image

from augnet.data.images import FileSet, ImageSet, LabelledImages
from augnet.data.pixels import GREY_MODES, UNREADABLE, decode
from augnet.data.sources import DataSource
from augnet.data.splits import Pool

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
# Files that operating systems leave behind, hidden there but not by name.
LEFT_BEHIND = ("thumbs.db", "desktop.ini", "__macosx")
LARGEST_SIDE = 256
DEFAULT_SIDE = 224
EXIF_ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)
A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True, kw_only=True)
class Folder(DataSource):
    """Image files in one folder per class, or in train, val and test folders that hold those.

    Class names are sorted as people count (class 2 before class 10). Hidden files are ignored, files in folders inside
    a class folder belong to the class. Images are turned as EXIF says; transparency is laid on white; 16-bit, palette
    and CMYK files become 8-bit grey, if all files are grey, or RGB. Images that differ in size, or are larger than 256
    pixels, are brought to a square of their median short side, at most 224 pixels, unless `size` says otherwise.

    Args:
        root: the folder.
        on_bad_file: "stop" at a file that is no image or is cut short, or "skip" and list it.
        memory_limit: decoded images are kept in memory up to this many megabytes; beyond it they are decoded when used.
    """

    root: str | Path
    on_bad_file: Literal["stop", "skip"] = "stop"
    memory_limit: int = 1_000

    def read(self) -> Pool:
        root = Path(self.root)
        if not root.is_dir():
            if root.exists():
                raise ValueError(f"{str(root)!r} is a file; give the folder that holds the class folders")
            raise FileNotFoundError(f"there is no folder {str(root)!r}")
        places, notes = _places(root)
        classes = tuple(folder.name for folder in _folders(places["train"]))
        _check_classes(places["train"], classes)

        found = {name: _files(place, classes) for name, place in places.items()}
        paths = [path for files in found.values() for path, _ in files]
        headers = dict(zip(paths, _parallel(_header, paths), strict=True))
        skipped = self._bad({path: header for path, header in headers.items() if isinstance(header, str)})
        readable = [header for header in headers.values() if isinstance(header, _Header)]
        if not readable:
            raise ValueError(f"none of the {len(paths)} files in {str(root)!r} is an image")
        channels = 1 if all(header.grey for header in readable) else 3
        size = self.size
        if size is None:
            size, reason = choose_size([(header.height, header.width) for header in readable])
            notes += reason

        files_of = {}
        for name, files in found.items():
            kept = [(path, label) for path, label in files if path not in skipped]
            files_of[name] = FileSet([path for path, _ in kept], [label for _, label in kept], size, channels)
        sets: dict[str, LabelledImages] = dict(files_of)
        height, width = (size, size) if size is not None else (readable[0].height, readable[0].width)
        fits = len(readable) * channels * height * width <= self.memory_limit * 1_000_000
        if fits or self.on_bad_file == "skip":
            # A file cut short shows only when it is decoded in full.
            for name, part in files_of.items():
                sets[name], broken = _decoded(part, (channels, height, width), keep=fits)
                skipped |= self._bad(broken)
        return Pool(
            train=sets["train"],
            # Folders that were made and never filled are as good as none.
            val=sets.get("val") or None,
            test=sets.get("test") or None,
            classes=classes,
            fingerprint=_fingerprint(root, found, skipped, size),
            skipped=tuple(str(path) for path in sorted(skipped)),
            notes=tuple(notes),
        )

    def _bad(self, reasons: dict[Path, str]) -> set[Path]:
        """Stop at bad files, or give those to skip."""
        if reasons and self.on_bad_file == "stop":
            path, reason = next(iter(reasons.items()))
            more = f", and {len(reasons) - 1} more files" if len(reasons) > 1 else ""
            raise ValueError(
                f"cannot read {str(path)!r} as an image ({reason}){more}; remove it or set data.on_bad_file to skip"
            )
        return set(reasons)


def choose_size(shapes: Sequence[tuple[int, int]]) -> tuple[int | None, list[str]]:
    """Choose the side of the square for images of these heights and widths; None keeps them.

    Returns:
        The side, and a note if it is not None.
    """
    sides = [min(shape) for shape in shapes]
    if len(set(shapes)) == 1 and max(shapes[0]) <= LARGEST_SIDE:
        return None, []
    size = min(median_low(sides), DEFAULT_SIDE)
    return size, [
        f"images with short sides of {min(sides)} to {max(sides)} pixels made {size}x{size}; set data.size for another"
    ]


class _Header(NamedTuple):
    """What a file says of its image before it is decoded."""

    grey: bool
    height: int
    width: int


def _header(path: Path) -> _Header | str:
    """Read a file's header, or say what is wrong with it."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(EXIF_ORIENTATION) in QUARTER_TURNS:
                width, height = height, width
            return _Header(image.mode in GREY_MODES, height, width)
    except UNREADABLE as error:
        return _reason(error)


def _reason(error: BaseException) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is in no image format that Pillow knows"
    return str(error)


def _places(root: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the train, val and test folders; the root itself is the train folder where there are none."""
    folders = {folder.name.lower(): folder for folder in _folders(root)}
    places = {}
    for split, names in SPLIT_NAMES.items():
        present = [folders[name] for name in names if name in folders]
        if len(present) > 1:
            raise ValueError(f"{str(root)!r} holds both {present[0].name!r} and {present[1].name!r}; keep one")
        if present:
            places[split] = present[0]
    # A class may be called "train": then it holds files, not folders.
    if "train" not in places or not _folders(places["train"]):
        if len(places) > 1:
            raise ValueError(
                f"{str(root)!r} holds {' and '.join(place.name for place in places.values())}, but no train folder "
                "with class folders inside; put the training images of each class into a folder of train"
            )
        return {"train": root}, []
    notes = []
    others = [folder.name for folder in _folders(root) if folder not in places.values()]
    if others:
        notes.append(f"folders beside train ignored: {', '.join(others)}")
    for split in ("val", "test"):
        if split in places and not _folders(places[split]):
            notes.append(f"folder {places.pop(split).name!r} ignored, because it has no class folders")
    return places, notes


def _check_classes(place: Path, classes: Sequence[str]) -> None:
    if len(classes) >= 2:
        return
    if not classes:
        raise ValueError(f"{str(place)!r} holds no class folders; put the images of each class into a folder")
    inner = place / classes[0]
    nested = f", or give {str(inner)!r}, which holds folders" if len(_folders(inner)) >= 2 else ""
    raise ValueError(
        f"{str(place)!r} holds one class only ({classes[0]!r}), but two or more are needed; add some{nested}"
    )


def _files(place: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """List the files of a place with their labels, in natural order."""
    files = []
    for folder in _folders(place):
        if folder.name not in classes:
            raise ValueError(
                f"{str(folder)!r} is a class without training images (classes: {', '.join(classes[:5])}, ...); "
                "add some or remove the folder"
            )
        inside = [path for path in folder.rglob("*") if path.is_file() and _visible(path.relative_to(folder))]
        files += [(path, classes.index(folder.name)) for path in sorted(inside, key=_natural)]
    return files


def _folders(place: Path) -> list[Path]:
    inside = [path for path in place.iterdir() if path.is_dir() and _visible(Path(path.name))]
    return sorted(inside, key=lambda folder: _natural(Path(folder.name)))


def _visible(path: Path) -> bool:
    return not any(part.startswith(".") or part.lower() in LEFT_BEHIND for part in path.parts)


def _natural(path: Path) -> list[tuple[str, int]]:
    """Sort digits as numbers, the rest as text; a leading text part makes any two keys comparable."""
    parts = re.split(r"([0-9]+)", str(path))
    pairs = [(text.lower(), int(number)) for text, number in zip(parts[::2], [*parts[1::2], "0"], strict=True)]
    return [*pairs, (str(path), 0)]


def _decoded(files: FileSet, shape: tuple[int, int, int], keep: bool) -> tuple[LabelledImages, dict[Path, str]]:
    """Decode every file; give them in memory, or, unless `keep`, as files; and what was wrong with the rest."""
    pixels = torch.empty(len(files) if keep else 0, *shape, dtype=torch.uint8)

    def attempt(index: int) -> str | None:
        path = files.paths[index]
        try:
            image = decode(path, files.channels, files.size)
        except ValueError as error:
            return _reason(error.__cause__ or error)
        if keep:
            pixels[index] = image
        return None

    reasons = _parallel(attempt, range(len(files)))
    good = torch.tensor([i for i, reason in enumerate(reasons) if reason is None], dtype=torch.int64)
    broken = {files.paths[i]: reason for i, reason in enumerate(reasons) if reason is not None}
    if not keep:
        return (files.take(good) if broken else files), broken
    return ImageSet(pixels[good] if broken else pixels, files.labels[good]), broken


def _parallel(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    # Threads: Pillow decodes outside the interpreter lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def _fingerprint(root: Path, found: dict[str, list[tuple[Path, int]]], skipped: set[Path], size: int | None) -> str:
    """Hash paths, file sizes and labels: a folder may be too large to hash every pixel."""
    digest = hashlib.sha256(str(size).encode())
    for split, files in found.items():
        for path, label in files:
            if path not in skipped:
                name = path.relative_to(root).as_posix()
                digest.update(f"{split}\0{name}\0{path.stat().st_size}\0{label}\n".encode())
    return digest.hexdigest()
