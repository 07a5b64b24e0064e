"""Data sets by name, read from files in the layout that each library expects."""

import struct
import sys

import numpy as np
import pytest
from PIL import Image

from augnet.data import HuggingFace, SampleSet, Torchvision

RNG = np.random.default_rng(0)


def write_mnist(root, train=20, test=10):
    """Write the four IDX files of MNIST: magic number, dimensions, bytes (LeCun, Cortes and Burges)."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, number in (("train", train), ("t10k", test)):
        pixels = RNG.integers(0, 256, number * 784, dtype=np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, number, 28, 28) + pixels.tobytes())
        labels = (np.arange(number) % 10).astype(np.uint8)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, number) + labels.tobytes())
    return root


def write_country211(root, **sizes):
    for split in ("train", "valid", "test"):
        for name, side in sizes.items():
            for i in range(3):
                path = root / "country211" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (side + 1, side), "red").save(path)
    return root


@pytest.mark.parametrize("name", ["mnist", "MNIST", "m-nist"])
def test_names_are_understood_in_any_case(tmp_path, name):
    splits = Torchvision(name=name, root=write_mnist(tmp_path), val_size=10).load(seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (10, 10, 10)
    assert (splits.channels, splits.size) == (1, (28, 28))
    assert splits.classes[0] == "0 - zero"


def test_a_validation_part_of_its_own_is_used(tmp_path):
    splits = Torchvision(name="country211", root=write_country211(tmp_path, AD=8, AE=8)).load(seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 6, 6)
    assert splits.classes == ("AD", "AE")
    assert splits.train.in_memory


def test_different_sizes_are_made_one(tmp_path):
    splits = Torchvision(name="country211", root=write_country211(tmp_path, AD=8, AE=12)).load(seed=0)
    assert splits.size == (8, 8)
    assert "made 8x8" in splits.notes[0]


def test_beyond_the_memory_limit_items_are_read_when_used(tmp_path):
    source = Torchvision(name="country211", root=write_country211(tmp_path, AD=8, AE=12), memory_limit=0)
    train = source.load(seed=0).train
    assert isinstance(train, SampleSet)
    assert train.batch([0, 5])[0].shape == (2, 3, 8, 8)


def test_data_that_are_not_there_are_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"CIFAR10 is not in '.*'; set download \(--data.download true\)"):
        Torchvision(name="cifar10", root=tmp_path).read()


def test_a_download_that_fails_says_why(tmp_path, monkeypatch):
    def unreachable(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", unreachable)
    with pytest.raises(FileNotFoundError, match="could not be fetched"):
        Torchvision(name="cifar10", root=tmp_path, download=True).read()


def test_a_name_that_torchvision_does_not_know_is_refused():
    with pytest.raises(ValueError, match="no training data 'cifra10'; did you mean cifar10"):
        Torchvision(name="cifra10").read()


def test_a_data_set_of_the_hub_is_no_path_but_a_folder_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert HuggingFace(name="owner/pets").anchored() == HuggingFace(name="owner/pets")
    (tmp_path / "owner" / "pets").mkdir(parents=True)
    assert HuggingFace(name="owner/pets").anchored() == HuggingFace(name=str(tmp_path / "owner" / "pets"))


def test_without_its_library_the_hub_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'augnet\[hub\]'"):
        HuggingFace(name="mnist").read()


def test_the_hub_reads_a_local_folder_with_its_parts(tmp_path):
    pytest.importorskip("datasets")
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(4):
                path = tmp_path / "pets" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (6, 6), 50).save(path)
    splits = HuggingFace(name=str(tmp_path / "pets")).load(seed=0)
    assert (splits.classes, splits.size) == (("cat", "dog"), (6, 6))
    assert len(splits.train) + len(splits.val) == len(splits.test) == 8
