"""Labelled images: kept in memory, decoded from files, or read from another data set.

Every set gives `batch(indices)`: float images in [0, 1], channel first, and int64 labels. Nothing here knows about
splits, seeds or the order of batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence, Sized
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Subset

from augnet.data.pixels import as_tensor, decode, unit_range

Indices = Sequence[int] | Int64[np.ndarray, "b"] | Int64[Tensor, "b"]


class LabelledImages(Dataset, ABC):
    """Images with one class each.

    Args:
        labels: class of each image, as a position in the list of class names.
        groups: images with the same number are near-copies of each other (frames of one film, scans of one patient).

    Raises:
        ValueError: if labels or groups are not whole numbers, a label is negative, or the lengths differ.
    """

    in_memory = False
    labels: Int64[Tensor, "n"]
    groups: Int64[Tensor, "n"] | None

    def __init__(
        self, labels: Sequence[int] | np.ndarray | Tensor, groups: Sequence[int] | np.ndarray | Tensor | None = None
    ) -> None:
        self.labels = label_tensor(labels)
        self.groups = None if groups is None else torch.as_tensor(groups).long()
        if self.groups is not None and self.groups.shape != self.labels.shape:
            raise ValueError(
                f"there are {len(self.groups)} groups for {len(self.labels)} labels; give one group per image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Give one image (uint8, or float in [0, 1] where the source gives floats), channel first, and its label."""

    @abstractmethod
    def take(self, indices: Indices) -> "LabelledImages":
        """Make a set of these images only, in this order."""

    def batch(self, indices: Indices) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """Give these images as floats in [0, 1], and their labels.

        Raises:
            ValueError: if an image cannot be read, differs in shape from the others, or leaves [0, 1].
        """
        items = [self[int(index)] for index in indices]
        shapes = {tuple(image.shape) for image, _ in items}
        if len(shapes) > 1:
            raise ValueError(f"images of one batch differ in shape: {sorted(shapes)[:3]}; {advice(shapes)}")
        images = torch.stack([unit_range(image) for image, _ in items])
        return images, torch.tensor([label for _, label in items], dtype=torch.int64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        channels, height, width = self[0][0].shape
        return channels, height, width

    def _kept_groups(self, indices: Int64[Tensor, "b"]) -> Int64[Tensor, "b"] | None:
        return None if self.groups is None else self.groups[indices]


def advice(shapes: Iterable[tuple[int, ...]]) -> str:
    """Say how to make images of different shapes (channels, height, width) alike."""
    alike = len({shape[1:] for shape in shapes}) == 1
    return "convert them to the same channels" if alike else "set `size` to resize them"


class ImageSet(LabelledImages):
    """Images in memory: a batch is one index operation, wherever the images are.

    Args:
        images: pixels, 1 or 3 channels.
        labels: class of each image.
        groups: images with the same number must stay on one side of a split.

    Raises:
        ValueError: if the images are not uint8 (n, 1 or 3, h, w), or the lengths differ.
    """

    in_memory = True

    def __init__(
        self,
        images: UInt8[Tensor, "n c h w"],
        labels: Sequence[int] | np.ndarray | Tensor,
        groups: Sequence[int] | np.ndarray | Tensor | None = None,
    ) -> None:
        super().__init__(labels, groups)
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"images must be uint8 of shape (n, 1 or 3, h, w), not {images.dtype} of shape {tuple(images.shape)}"
            )
        if len(images) != len(self.labels):
            raise ValueError(f"there are {len(images)} images for {len(self.labels)} labels; give one label per image")
        self.images = images

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], int]:
        return self.images[index], int(self.labels[index])

    def batch(self, indices: Indices) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]:
        """Give these images as floats in [0, 1], and their labels, on the device of the set."""
        indices = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        return self.images[indices].float().div_(255), self.labels[indices]

    def take(self, indices: Indices) -> "ImageSet":
        indices = torch.as_tensor(indices, dtype=torch.int64)
        return ImageSet(self.images[indices], self.labels[indices], self._kept_groups(indices))

    def to(self, device: torch.device | str) -> "ImageSet":
        """Give the same set with images and labels on another device."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.groups)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.images.shape
        return channels, height, width


class FileSet(LabelledImages):
    """Image files, decoded at each access.

    Args:
        paths: one file per image.
        labels: class of each image.
        size: side of the square that images are brought to, in pixels; None keeps them.
        channels: 1 for grey, 3 for RGB.
        groups: images with the same number must stay on one side of a split.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int] | np.ndarray | Tensor,
        size: int | None,
        channels: int,
        groups: Sequence[int] | np.ndarray | Tensor | None = None,
    ) -> None:
        super().__init__(labels, groups)
        if len(paths) != len(self.labels):
            raise ValueError(f"there are {len(paths)} files for {len(self.labels)} labels; give one label per file")
        self.paths, self.size, self.channels = list(paths), size, channels

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "c h w"], int]:
        return decode(self.paths[index], self.channels, self.size), int(self.labels[index])

    def take(self, indices: Indices) -> "FileSet":
        indices = torch.as_tensor(indices, dtype=torch.int64)
        paths = [self.paths[i] for i in indices.tolist()]
        return FileSet(paths, self.labels[indices], self.size, self.channels, self._kept_groups(indices))


class SampleSet(LabelledImages):
    """Another data set's items (image, label), converted at each access.

    Args:
        samples: a data set of PIL images, uint8 arrays or tensors, or floats in [0, 1].
        labels: class of each image.
        size: side of the square that images are brought to, in pixels; None keeps them.
        channels: 1 for grey, 3 for RGB: what PIL images are converted to; None keeps each image's own.
        indices: positions in `samples`; None stands for all.
        groups: images with the same number must stay on one side of a split.
    """

    def __init__(
        self,
        samples: Dataset,
        labels: Sequence[int] | np.ndarray | Tensor,
        size: int | None = None,
        channels: int | None = None,
        indices: Int64[Tensor, "n"] | None = None,
        groups: Sequence[int] | np.ndarray | Tensor | None = None,
    ) -> None:
        super().__init__(labels, groups)
        self.samples, self.size, self.channels = samples, size, channels
        self.indices = torch.arange(len(self.labels)) if indices is None else indices

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.samples[int(self.indices[index])][0]
        return as_tensor(image, self.channels, self.size), int(self.labels[index])

    def take(self, indices: Indices) -> "SampleSet":
        indices = torch.as_tensor(indices, dtype=torch.int64)
        groups = self._kept_groups(indices)
        return SampleSet(self.samples, self.labels[indices], self.size, self.channels, self.indices[indices], groups)


def labelled(dataset: Dataset) -> LabelledImages:
    """See any map-style data set of (image, label) as labelled images; labelled images are returned as they are.

    Raises:
        ValueError: if it is empty, or its items are not (image, label) with whole-number labels.
    """
    if isinstance(dataset, LabelledImages):
        return dataset
    if isinstance(dataset, Subset) and isinstance(dataset.dataset, LabelledImages):
        return dataset.dataset.take(dataset.indices)
    if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
        raise ValueError(f"{type(dataset).__name__} has no length or no items by number; give a map-style data set")
    if len(dataset) == 0:
        raise ValueError(f"{type(dataset).__name__} holds no images")
    return SampleSet(dataset, labels_of(dataset))


def labels_of(dataset: Dataset) -> Int64[Tensor, "n"]:
    """Read every label, from the list that the data set keeps where it agrees with a few items, else item by item."""
    if isinstance(dataset, LabelledImages):
        return dataset.labels
    if isinstance(dataset, Subset):
        return labels_of(dataset.dataset)[torch.as_tensor(dataset.indices)]
    number = len(dataset)  # type: ignore[arg-type]  # map-style, as `labelled` has checked
    probes = sorted({round(i * (number - 1) / 7) for i in range(8)})
    seen = [_label(dataset[i]) for i in probes]
    for name in ("targets", "labels", "_labels"):
        kept = getattr(dataset, name, None)
        if kept is None or len(kept) != number:
            continue
        # A target_transform makes the list differ from the items; then the items are right.
        kept = np.asarray(kept)
        if kept.dtype.kind in "iu" and kept[probes].ravel().tolist() == seen:
            return label_tensor(kept)
    return label_tensor([_label(dataset[i]) for i in range(number)])


def label_tensor(labels: Sequence[int] | np.ndarray | Tensor) -> Int64[Tensor, "n"]:
    """Check labels: whole numbers from 0, one per image.

    Raises:
        ValueError: if they are not whole numbers, some are negative, or an image has several.
    """
    if not isinstance(labels, Tensor) and np.asarray(labels).dtype.kind in "USO":
        raise ValueError("labels are text or objects, not whole numbers; give classes 0, 1, …, and their names apart")
    array = labels if isinstance(labels, Tensor) else torch.as_tensor(np.asarray(labels))
    if array.ndim == 2 and array.shape[1] == 1:  # as MedMNIST has them
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"labels have shape {tuple(array.shape)}; give one class per image, shape (n,)")
    # An empty list has no type of its own, and NumPy calls it float.
    if len(array) and (array.is_floating_point() or array.is_complex() or array.dtype == torch.bool):
        kind = str(array.dtype).removeprefix("torch.")
        raise ValueError(f"labels are {kind}, not whole numbers; give classes 0, 1, …")
    # First of all, since torch finds no least number of some unsigned types.
    array = array.to(torch.int64)
    if len(array) and int(array.min()) < 0:
        raise ValueError(f"label {int(array.min())} is negative; number the classes from 0")
    return array


def _label(item: object) -> int:
    """Read the label of one item of a data set."""
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise ValueError(f"an item is a {type(item).__name__}, not (image, label); wrap the data set to give pairs")
    label = item[1]
    if isinstance(label, (np.ndarray, Tensor)) and "int" in str(label.dtype) and len(label.reshape(-1)) == 1:
        return int(label.reshape(-1)[0])
    if not isinstance(label, (int, np.integer)) or isinstance(label, bool):
        raise ValueError(f"label {label!r} is a {type(label).__name__}, not a whole number; give classes 0, 1, …")
    return int(label)
