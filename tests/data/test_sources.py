"""What holds for every source of images, and the sources that need no file."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from augnet.data import (
    DataSource,
    Digits,
    Folder,
    HuggingFace,
    ImageSet,
    Npz,
    Pair,
    SampleSet,
    Torchvision,
    all_batches,
    from_datasets,
)
from augnet.family import members

RNG = np.random.default_rng(0)


def write_folder(root, per_class=6, classes=3):
    """Write small grey PNG files in class folders."""
    for name in range(classes):
        (root / f"class {name}").mkdir(parents=True)
        for i in range(per_class):
            pixels = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"class {name}" / f"{i}.png")
    return root


def settings_of(member, folder):
    """Give a source something to read in a folder."""
    if member is Folder:
        return {"root": write_folder(folder)}
    if member is HuggingFace:
        pytest.importorskip("datasets")
        return {"name": str(write_folder(folder / "hub"))}
    if member is Npz:
        np.savez(folder / "a.npz", images=RNG.integers(0, 256, (18, 8, 8), dtype=np.uint8), labels=np.arange(18) % 3)
        return {"path": folder / "a.npz"}
    if member is Torchvision:
        for split in ("train", "valid", "test"):
            write_folder(folder / "country211" / split)
        return {"root": folder, "name": "Country211"}
    if member is Pair:
        pixels = torch.from_numpy(RNG.integers(0, 256, (18, 1, 8, 8), dtype=np.uint8))
        return {"train": TensorDataset(pixels, torch.arange(18) % 3)}
    return {}


@pytest.fixture(params=members(DataSource), ids=lambda member: member.__name__)
def make(request, tmp_path):
    """Make the source with further settings."""
    needed = settings_of(request.param, tmp_path)
    return lambda **settings: request.param(**needed, **settings)


def test_images_are_floats_in_the_unit_range_with_whole_labels(make):
    splits = make().load(seed=0)
    for part in (splits.train, splits.val, splits.test):
        for images, labels, _ in all_batches(part or splits.train, 16):
            assert images.shape[1:] == (splits.channels, *splits.size)
            assert images.dtype == torch.float32
            assert 0 <= images.min() <= images.max() <= 1
            assert labels.dtype == torch.int64
            assert 0 <= labels.min() <= labels.max() < len(splits.classes)


def test_every_class_is_trained_and_validated(make):
    splits = make().load(seed=0)
    assert len(splits.classes) >= 3
    for part in (splits.train, splits.val):
        assert set(part.labels.tolist()) == set(range(len(splits.classes)))


def test_a_seed_gives_the_same_split_again(make):
    first, second = make().load(seed=3), make().load(seed=3)
    assert first.fingerprint == second.fingerprint
    for a, b in ((first.train, second.train), (first.val, second.val)):
        assert torch.equal(a.batch(range(len(a)))[0], b.batch(range(len(b)))[0])


def test_the_fingerprint_does_not_depend_on_the_seed(make):
    assert make().load(seed=0).fingerprint == make().load(seed=1).fingerprint


def test_an_anchored_source_is_the_same_in_any_working_directory(make, tmp_path, monkeypatch):
    """Every path is given relative to one directory and read from another."""
    monkeypatch.chdir(tmp_path)
    source = make()
    given = {name: value for name, value in vars(source).items() if str(value).startswith(str(tmp_path))}
    relative = replace(source, **{name: os.path.relpath(value) for name, value in given.items()})
    anchored = relative.anchored()
    assert all(os.path.isabs(getattr(anchored, name)) for name in given)
    monkeypatch.chdir(tmp_path.parent)
    assert anchored.load(seed=0).fingerprint == source.load(seed=0).fingerprint
    assert anchored.anchored() == anchored


def test_size_makes_squares(make):
    assert make(size=5).load(seed=0).size == (5, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val_size": 0}, "val_size must be a number of images from 1, or a share between 0 and 1, not 0"),
        ({"val_size": 1.0}, r"not 1\.0"),
        ({"test_size": -3}, "test_size must be"),
        ({"train_size": 0}, "train_size must be 1 or more, not 0"),
        ({"size": 0}, "size must be 1 or more, not 0"),
    ],
)
def test_sizes_out_of_range_are_refused_where_they_are_given(settings, message):
    with pytest.raises(ValueError, match=message):
        Digits(**settings)


def test_digits_are_thirds_of_1797():
    """1,797 / 3 = 599 to test on; of the other 1,198 a third, 399, validates."""
    splits = Digits().load(seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (799, 399, 599)
    assert splits.classes == tuple("0123456789")


def test_digits_are_scaled_from_16_to_255():
    """At size 8 the pixels are the originals: the largest, 16, is white, and the sum of the first digit stands."""
    images = Digits(size=8, test_size=None).read().train
    assert images.images.max() == 255
    assert (images.images[0] / 255 * 16).round().sum() == 294


def test_the_transforms_of_a_pair_keep_working():
    """A data set that draws anew at each access gives other pixels at the second look."""

    class Restless(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, index):
            return torch.rand(1, 4, 4), index % 3

    train = from_datasets(Restless()).load(seed=0).train
    assert isinstance(train, SampleSet)
    assert not torch.equal(train.batch([0])[0], train.batch([0])[0])


def test_an_image_set_in_a_pair_stays_in_memory_with_its_groups():
    images = ImageSet(torch.zeros(12, 3, 4, 4, dtype=torch.uint8), torch.arange(12) // 6, torch.arange(12) // 2)
    splits = from_datasets(images, classes=["cat", "dog"], val_size=4, size=2).load(seed=0)
    assert splits.train.in_memory
    assert not set(splits.train.groups.tolist()) & set(splits.val.groups.tolist())
    assert splits.classes == ("cat", "dog")
    assert splits.size == (2, 2)


def test_pil_images_of_a_pair_are_converted():
    items = [(Image.new("RGB", (4, 3), "red"), i % 2) for i in range(8)]
    splits = from_datasets(items, val=items, test=items).load(seed=0)
    assert (splits.channels, splits.size) == (3, (3, 4))
    assert splits.train.batch([0])[0][0, :, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("image", "label", "message"),
    [
        (torch.full((1, 2, 2), 255.0), 0, r"float images must lie in \[0, 1\]"),
        (torch.full((1, 2, 2), float("nan")), 0, "nan"),
        (torch.zeros(1, 2, 2), 0.5, "label 0.5 is a float"),
        (torch.zeros(2, 2, 1), 0, r"shape \(2, 2, 1\)"),
        (torch.zeros(1, 2, 2), -1, "label -1 is negative"),
    ],
)
def test_items_of_a_pair_are_looked_at_when_loading(image, label, message):
    with pytest.raises(ValueError, match=message):
        from_datasets([(image, label)] * 8).load(seed=0)


def test_a_pair_with_too_few_names_is_refused():
    items = [(torch.zeros(1, 2, 2), i % 3) for i in range(9)]
    with pytest.raises(ValueError, match="training label 2 is out of range: there are 2 classes"):
        from_datasets(items, classes=["a", "b"]).load(seed=0)


@pytest.mark.parametrize(
    ("source", "label"),
    [
        (Digits(), "digits"),
        (Npz(path="somewhere/signs.npz"), "signs"),
        (Npz(path="somewhere/signs/train.npz"), "signs"),
        (Folder(root="pictures/leaves"), "leaves"),
        (Torchvision(name="CIFAR10"), "CIFAR10"),
    ],
)
def test_a_source_is_named_without_the_path_where_it_lies(source, label):
    assert source.title == label
