"""NumPy archives of every layout give the same images, and damaged ones a sentence."""

import numpy as np
import pytest
import torch

from augnet.data import Npz
from augnet.data.archives import to_pixels

GREY = np.arange(12 * 20, dtype=np.uint8).reshape(12, 4, 5)
RGB = np.stack([GREY, GREY // 2, GREY // 3], axis=-1)
LABELS = np.arange(12) % 2


def test_every_layout_gives_channels_first():
    expected = torch.from_numpy(RGB).permute(0, 3, 1, 2)
    assert torch.equal(to_pixels(RGB), expected)
    assert torch.equal(to_pixels(RGB.transpose(0, 3, 1, 2)), expected)
    assert torch.equal(to_pixels(RGB / 255), expected)
    assert torch.equal(to_pixels(GREY), to_pixels(GREY[..., None]))
    assert to_pixels(GREY).shape == (12, 1, 4, 5)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GREY[0], r"shape \(4, 5\)"),
        (np.zeros((2, 3, 3, 3), dtype=np.uint8), "in one way only"),
        (np.zeros((2, 4, 4, 2), dtype=np.uint8), r"shape \(2, 4, 4, 2\)"),
        (GREY.astype(np.float32), r"float32 from 0 to 239; give uint8 from 0 to 255, or floats in \[0, 1\]"),
        (GREY / 255 - 1, r"from -1 to -0\.0627"),
        (np.full((2, 4, 4), np.nan), "from nan to nan"),
        (GREY.astype(np.int64), "images are int64"),
        (np.full((2, 4, 4), "a"), "images are <U1"),
    ],
)
def test_what_is_no_image_is_refused(images, message):
    with pytest.raises(ValueError, match=message):
        to_pixels(images)


def test_classes_and_groups_are_read(tmp_path):
    names = np.array([f"track {i // 2}" for i in range(12)])
    np.savez(tmp_path / "a.npz", images=RGB, labels=LABELS, classes=np.array(["cat", "dog"]), groups=names)
    pool = Npz(path=tmp_path / "a.npz").read()
    assert pool.classes == ("cat", "dog")
    assert pool.train.groups.tolist() == [i // 2 for i in range(12)]


def test_test_npz_beside_train_npz_is_the_test_part(tmp_path):
    np.savez(tmp_path / "train.npz", images=RGB, labels=LABELS)
    np.savez(tmp_path / "test.npz", images=RGB[:4], labels=LABELS[:4])
    np.savez(tmp_path / "other.npz", images=RGB[:3], labels=LABELS[:3])
    assert len(Npz(path=tmp_path).read().test) == 4
    assert len(Npz(path=tmp_path / "train.npz").read().test) == 4
    assert len(Npz(path=tmp_path, test=tmp_path / "other.npz").read().test) == 3
    assert Npz(path=tmp_path / "other.npz").read().test is None


def test_val_npz_beside_train_npz_validates_and_names_must_agree(tmp_path):
    np.savez(tmp_path / "train.npz", images=RGB, labels=LABELS, classes=np.array([b"cat", b"dog"]))
    np.savez(tmp_path / "val.npz", images=RGB[:6], labels=LABELS[:6])
    pool = Npz(path=tmp_path).read()
    assert (len(pool.train), len(pool.val), pool.classes) == (12, 6, ("cat", "dog"))
    np.savez(tmp_path / "test.npz", images=RGB[:4], labels=LABELS[:4], classes=np.array(["dog", "cat"]))
    with pytest.raises(ValueError, match=r"test\.npz' names other classes than .*train\.npz'"):
        Npz(path=tmp_path).read()


def test_images_may_stand_beside_test_images(tmp_path):
    np.savez(tmp_path / "a.npz", images=RGB, labels=LABELS, test_images=RGB[:4], test_labels=LABELS[:4])
    pool = Npz(path=tmp_path / "a.npz").read()
    assert (len(pool.train), len(pool.test)) == (12, 4)


def test_classes_of_one_name_are_told_apart(tmp_path):
    np.savez(tmp_path / "a.npz", images=RGB, labels=np.arange(12) % 3, classes=np.array(["crane", "heron", "crane"]))
    assert Npz(path=tmp_path / "a.npz").read().classes == ("crane (0)", "heron", "crane (2)")


def test_the_medmnist_layout_brings_its_own_parts(tmp_path):
    parts = {"train": slice(0, 6), "val": slice(6, 10), "test": slice(10, 12)}
    arrays = {f"{name}_images": RGB[part] for name, part in parts.items()}
    arrays |= {f"{name}_labels": LABELS[part, None] for name, part in parts.items()}
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    splits = Npz(path=tmp_path / "pathmnist.npz").load(seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (6, 4, 2)
    assert torch.equal(splits.val.images, to_pixels(RGB[6:10]))
    assert splits.classes == ("0", "1")


def test_a_changed_file_is_read_again(tmp_path):
    np.savez(tmp_path / "a.npz", images=RGB, labels=LABELS)
    before = Npz(path=tmp_path / "a.npz").read().fingerprint
    np.savez(tmp_path / "a.npz", images=RGB[:-2], labels=LABELS[:-2])
    assert Npz(path=tmp_path / "a.npz").read().fingerprint != before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": RGB}, "has no 'labels'; it holds images"),
        ({"pictures": RGB, "labels": LABELS}, "has no 'images'; it holds labels, pictures"),
        ({"images": RGB, "labels": LABELS[:5]}, r"^images of '.*a\.npz': there are 12 images for 5"),
        ({"images": RGB, "labels": LABELS, "classes": np.array(["a"])}, "label 1 is out of range"),
        ({"images": np.array([{}], dtype=object), "labels": LABELS}, "pickled objects, which are not safe to open"),
        ({"test_images": RGB, "test_labels": LABELS}, "has no 'images'; it holds test_images, test_labels"),
    ],
)
def test_archives_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        Npz(path=tmp_path / "a.npz").read()


def test_damaged_files_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", images=RGB, labels=LABELS)
    whole = (tmp_path / "a.npz").read_bytes()
    for name, content in {
        "cut": whole[:200],
        "text": b"hello",
        "empty": b"",
        "flipped": whole[:300] + whole[310:],
    }.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.npz"):
            Npz(path=tmp_path / f"{name}.npz").read()
    np.save(tmp_path / "b.npy", RGB)
    with pytest.raises(ValueError, match="single array"):
        Npz(path=tmp_path / "b.npy").read()


def test_a_path_to_nothing_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file '.*a\.npz'"):
        Npz(path=tmp_path / "a.npz").read()
    with pytest.raises(FileNotFoundError, match=r"no file '.*train\.npz'"):
        Npz(path=tmp_path).read()
