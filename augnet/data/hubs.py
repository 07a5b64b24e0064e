"""Data sets by name: torchvision's, and those of the Hugging Face hub."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from augnet.data.folders import choose_size
from augnet.data.images import LabelledImages, SampleSet, label_tensor, labels_of
from augnet.data.pixels import as_tensor
from augnet.data.sources import DataSource, in_memory, numbered, pooled
from augnet.data.splits import Pool
from augnet.nearest import nearest, plain


@dataclass(frozen=True, kw_only=True)
class Torchvision(DataSource):
    """A classification data set of torchvision, by the name of its class in any case: cifar10, svhn, flowers102, ...

    Its own validation and test images are used. Where it has validation images but no test images (ImageNet), those are
    the test images. Images of different sizes are brought to their median short side, at most 224 pixels.

    Args:
        name: the class, in any case.
        root: folder where torchvision keeps the data.
        download: fetch the data if they are not there.
        memory_limit: decoded images are kept in memory up to this many megabytes; beyond it they are decoded when used.
    """

    name: str
    root: str | Path = "data"
    download: bool = False
    memory_limit: int = 1_000

    def read(self) -> Pool:
        known = torchvision_names()
        if plain(self.name) not in known:
            raise ValueError(f"torchvision has no training data {self.name!r}{nearest(self.name, known)}")
        kind = known[plain(self.name)]
        accepted = inspect.signature(kind).parameters
        if "train" in accepted:
            parts: dict[str, Dataset | None] = {
                "train": self._open(kind, train=True),
                "test": self._open(kind, train=False),
            }
        else:
            parts = {"train": self._try(kind, "train", "trainval"), "val": self._try(kind, "val", "valid")}
            parts["test"] = self._try(kind, "test")
            if parts["test"] is None:
                parts["test"] = parts.pop("val")
        if parts["train"] is None:
            raise ValueError(f"torchvision's {kind.__name__} has no split called train; use from_datasets in Python")
        names = getattr(parts["train"], "classes", None)
        sets = {name: SampleSet(part, labels_of(part)) for name, part in parts.items() if part is not None}
        return gathered(sets, names, self.size, self.memory_limit)

    def _try(self, kind: type, *splits: str) -> Dataset | None:
        for split in splits:
            try:
                return self._open(kind, split=split)
            except ValueError as error:
                if "split" not in str(error):
                    raise
        return None

    def _open(self, kind: type, **part: bool | str) -> Dataset:
        accepted = inspect.signature(kind).parameters
        if "download" in accepted:
            part["download"] = self.download
        try:
            return kind(str(self.root), **part)
        except TypeError as error:
            raise ValueError(
                f"torchvision's {kind.__name__} needs more than a name ({error}); open it in Python, use from_datasets"
            ) from error
        except (RuntimeError, OSError) as error:
            if self.download:
                raise FileNotFoundError(
                    f"{kind.__name__} is not in {str(self.root)!r} and could not be fetched ({error})"
                ) from error
            raise FileNotFoundError(
                f"{kind.__name__} is not in {str(self.root)!r}; set download (--data.download true), or root to where "
                "it is"
            ) from error


@dataclass(frozen=True, kw_only=True)
class HuggingFace(DataSource):
    """A data set of the Hugging Face hub, or a local folder that its `datasets` library reads; needs augnet[hub].

    The splits train, validation and test are used as they are named there.

    Args:
        name: the data set, such as owner/name.
        config: its configuration, where it has several.
        image: column of images; by default the only column of that type.
        label: column of labels; by default the only column of class labels, else one called label.
        memory_limit: decoded images are kept in memory up to this many megabytes; beyond it they are decoded when used.
    """

    name: str
    config: str | None = None
    image: str | None = None
    label: str | None = None
    memory_limit: int = 1_000

    def anchored(self) -> "HuggingFace":
        # The library, too, looks for a folder first.
        return replace(self, name=str(Path(self.name).absolute())) if Path(self.name).is_dir() else self

    def read(self) -> Pool:
        try:
            import datasets
        except ImportError as error:
            raise ValueError(
                "the library `datasets` is not installed, which reads the hub; run pip install 'augnet[hub]'"
            ) from error
        try:
            splits = datasets.load_dataset(self.name, self.config)
        except datasets.exceptions.DatasetNotFoundError as error:
            raise FileNotFoundError(f"the hub has no data set {self.name!r} that you may read ({error})") from error
        if "train" not in splits:
            raise ValueError(f"{self.name!r} has the splits {', '.join(splits)}, but none called train")
        features = splits["train"].features
        image = self.image or _column(features, self.name, "image", datasets.Image)
        label = self.label or _column(features, self.name, "label", datasets.ClassLabel)
        names = getattr(features[label], "names", None)
        codes: dict[str, int] | None = None
        if names is None and features[label].dtype == "string":
            names = sorted(set(splits["train"][label]))
            codes = {name: code for code, name in enumerate(names)}
        sets = {}
        notes = []
        for part, aliases in {"train": ["train"], "val": ["validation", "valid", "val"], "test": ["test"]}.items():
            split = next((name for name in aliases if name in splits), None)
            if split is None:
                continue
            values = list(splits[split][label])
            if values and values[0] == -1 and part != "train":
                notes.append(f"split {split!r} ignored, because its labels are withheld")
                continue
            # A string that training lacks becomes a class without a name, which is refused with its number.
            labels = values if codes is None else [codes.get(value, len(codes)) for value in values]
            sets[part] = SampleSet(_Column(splits[split], image), label_tensor(labels))
        return gathered(sets, names, self.size, self.memory_limit, notes)


class _Column(Dataset):
    """The images of a Hugging Face split, as items of one."""

    def __init__(self, split: Any, image: str) -> None:
        self.split, self.image = split, image

    def __getitem__(self, index: int) -> tuple[Any]:
        return (self.split[index][self.image],)


def _column(features: Mapping[str, Any], source: str, name: str, kind: type) -> str:
    typed = [column for column, feature in features.items() if isinstance(feature, kind)]
    if name in features and (name in typed or not typed):
        return name
    if len(typed) != 1:
        raise ValueError(f"{source!r} has the columns {', '.join(features)}; set `{name}` to the one that holds it")
    return typed[0]


def gathered(
    sets: Mapping[str, SampleSet],
    classes: list[str] | None,
    size: int | None,
    memory_limit: int,
    notes: list[str] | None = None,
) -> Pool:
    """Bring items of other libraries to one size and number of channels, in memory if they fit (megabytes)."""
    notes = list(notes or [])
    # A few items stand for all: reading every image twice would cost minutes.
    looks = [part.samples[round(i * (len(part) - 1) / 15)][0] for part in sets.values() for i in range(16)]
    shapes = [_shape(image) for image in looks]
    channels = max(shape[0] for shape in shapes)
    if size is None:
        size, reason = choose_size([(height, width) for _, height, width in shapes])
        notes += reason
    height, width = (size, size) if size is not None else shapes[0][1:]
    total = sum(len(part) for part in sets.values()) * channels * height * width
    read: dict[str, LabelledImages] = {}
    for name, part in sets.items():
        lazy = SampleSet(part.samples, part.labels, size, channels)
        read[name] = in_memory(lazy) if total <= memory_limit * 1_000_000 else lazy
    named = classes is not None and len(classes) >= len(numbered(read.values()))
    return pooled(read, classes if named else None, notes)


def torchvision_names() -> dict[str, type]:
    """List torchvision's data sets that have a training part, by plain name."""
    # torchvision takes a second to import, which other sources need not pay.
    from torchvision import datasets

    kinds = [kind for kind in vars(datasets).values() if inspect.isclass(kind)]
    kinds = [kind for kind in kinds if issubclass(kind, datasets.VisionDataset)]
    return {plain(k.__name__): k for k in kinds if {"train", "split"} & set(inspect.signature(k).parameters)}


def _shape(image: Any) -> tuple[int, int, int]:
    channels, height, width = as_tensor(image, None, None).shape
    return channels, height, width
