"""Images from NumPy archives: our own layout, that of MedMNIST, and train.npz beside val.npz and test.npz."""

import lzma
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from augnet.data.images import ImageSet, label_tensor
from augnet.data.pixels import resize
from augnet.data.sources import DataSource, pooled
from augnet.data.splits import Pool

DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, lzma.LZMAError, zlib.error)


@dataclass(frozen=True, kw_only=True)
class Npz(DataSource):
    """A NumPy archive with `images` and `labels`, or `train_images`, `train_labels`, `val_images`, ... (MedMNIST).

    Images are uint8 or float in [0, 1], of shape (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w). `classes` (names)
    and `groups` (images that a split must not separate) may stand beside them. Pickled arrays are refused.

    Args:
        path: an .npz file, or a folder with train.npz and, if there are any, val.npz and test.npz.
        test: an .npz file of test images; by default test.npz beside a train.npz.
    """

    path: str | Path
    test: str | Path | None = None

    def read(self) -> Pool:
        path = Path(self.path)
        if path.is_dir():
            path = path / "train.npz"
        arrays = _arrays(path)
        beside = {name: path.with_name(f"{name}.npz") for name in ("val", "test")} if path.name == "train.npz" else {}
        beside = {name: file for name, file in beside.items() if file.exists()}
        if self.test is not None:
            beside["test"] = Path(self.test)
        names = [name for name in ("train", "val", "test") if f"{name}_images" in arrays]
        keyed = {name: _part(arrays, f"{name}_", path) for name in names}
        if "train" not in keyed:
            keyed = {"train": _part(arrays, "", path), **keyed}
        for name, file in beside.items():
            if name in keyed:
                raise ValueError(f"{str(path)!r} holds {name}_images, so {str(file)!r} cannot be the {name} set")
            others = _arrays(file)
            if "classes" in others and "classes" in arrays and _names(others) != _names(arrays):
                raise ValueError(f"{str(file)!r} names other classes than {str(path)!r}; number and name them alike")
            keyed[name] = _part(others, "", file)
        if self.size is not None:
            keyed = {k: ImageSet(resize(part.images, self.size), part.labels, part.groups) for k, part in keyed.items()}
        return pooled(keyed, _names(arrays))


def to_pixels(array: np.ndarray) -> UInt8[Tensor, "n c h w"]:
    """Turn an array of images, uint8 or float in [0, 1], into channel-first uint8.

    Raises:
        ValueError: if the shape is not that of images or could be read in two ways, or values leave [0, 1].
    """
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and (array.shape[1] in (1, 3)) != (array.shape[3] in (1, 3)):
        array = array if array.shape[1] in (1, 3) else array.transpose(0, 3, 1, 2)
    else:
        raise ValueError(
            f"images have shape {array.shape}; give (n, h, w), (n, h, w, channels) or (n, channels, h, w) "
            "with 1 or 3 channels, in one way only"
        )
    if array.dtype != np.uint8:
        if array.dtype.kind not in "fiu":
            raise ValueError(f"images are {array.dtype}; give uint8, or floats in [0, 1]")
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
        if array.dtype.kind != "f" or not (low >= 0 and high <= 1):  # also true of NaN
            raise ValueError(
                f"images are {array.dtype} from {low:.3g} to {high:.3g}; give uint8 from 0 to 255, or floats in [0, 1]"
            )
        array = (array * 255).round().astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(array))


def _names(arrays: Mapping[str, np.ndarray]) -> list[str] | None:
    if "classes" not in arrays:
        return None
    names = arrays["classes"].ravel()
    return list(map(str, np.char.decode(names, "utf-8", "replace") if names.dtype.kind == "S" else names))


def _part(arrays: Mapping[str, np.ndarray], prefix: str, path: Path) -> ImageSet:
    for name in (f"{prefix}images", f"{prefix}labels"):
        if name not in arrays:
            raise ValueError(f"{str(path)!r} has no {name!r}; it holds {', '.join(sorted(arrays)) or 'nothing'}")
    named = arrays.get(f"{prefix}groups")
    # Groups may be named by text.
    groups = None if named is None else torch.from_numpy(np.unique(named.ravel(), return_inverse=True)[1])
    try:
        return ImageSet(to_pixels(arrays[f"{prefix}images"]), label_tensor(arrays[f"{prefix}labels"]), groups)
    except ValueError as error:
        raise ValueError(f"{prefix}images of {str(path)!r}: {error}") from error


def _arrays(path: Path) -> Mapping[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    status = path.stat()
    return _read(path.resolve(), status.st_mtime_ns, status.st_size)


# LZMA members take seconds to unpack, and a comparison loads the same file once per seed.
@lru_cache(maxsize=3)
def _read(path: Path, changed: int, size: int) -> Mapping[str, np.ndarray]:
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with archive:
            return {name: archive[name] for name in archive.files}
    except DAMAGED as error:
        reason = str(error)
        if "pickle" in reason:
            # NumPy takes whatever it does not know for a pickle.
            known = zipfile.is_zipfile(path)
            reason = "it holds pickled objects, which are not safe to open" if known else "it is no NumPy archive"
        raise ValueError(
            f"cannot read {str(path)!r}: {reason}; write it with numpy.savez(path, images=..., labels=...)"
        ) from error
