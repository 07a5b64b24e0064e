"""Folders of image files: what is found, how it is read, and what is said of a file that cannot be."""

import struct

import numpy as np
import pytest
import torch
from PIL import Image

from augnet.data import FileSet, Folder, ImageSet


def write(path, mode="L", size=(6, 6), value=128):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).convert(mode).save(path)


def write_classes(root, names=("cat", "dog"), number=4, **image):
    for name in names:
        for i in range(number):
            write(root / name / f"{i}.png", **image)
    return root


def test_class_names_are_sorted_as_people_count(tmp_path):
    names = ["10", "9", "sign 2", "sign 10", "Ant"]
    assert Folder(root=write_classes(tmp_path, names, 2)).read().classes == ("9", "10", "Ant", "sign 2", "sign 10")


def test_hidden_files_are_ignored_and_inner_folders_belong_to_the_class(tmp_path):
    write_classes(tmp_path)
    write(tmp_path / "cat" / "more" / "a.png")
    for name in (".DS_Store", "Thumbs.db", ".hidden/a.txt"):
        (tmp_path / "cat" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "cat" / name).write_text("no image")
    write(tmp_path / ".cache" / "a.png")
    pool = Folder(root=tmp_path).read()
    assert pool.train.labels.tolist() == [0] * 5 + [1] * 4
    assert pool.skipped == ()


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("training", "valid", "testing"), ("Train", "Validation", "Test")]
)
def test_parts_in_their_own_folders_are_used(tmp_path, names):
    for name, number in zip(names, (5, 3, 2), strict=True):
        write_classes(tmp_path / name, number=number)
    splits = Folder(root=tmp_path).load(seed=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (10, 6, 4)


def test_a_test_folder_without_classes_is_ignored_and_a_note_says_so(tmp_path):
    write_classes(tmp_path / "train")
    write(tmp_path / "test" / "1.png")
    pool = Folder(root=tmp_path).read()
    assert pool.test is None
    assert pool.notes == ("folder 'test' ignored, because it has no class folders",)


def test_a_class_may_be_called_train(tmp_path):
    assert Folder(root=write_classes(tmp_path, ["train", "ship"])).read().classes == ("ship", "train")


@pytest.mark.parametrize(
    "inside", [("train/cat.0.png", "test/0.png"), ("val/cat/0.png", "val/dog/0.png", "test/cat/0.png")]
)
def test_parts_are_not_taken_for_classes(tmp_path, inside):
    for name in inside:
        write(tmp_path / name)
    with pytest.raises(ValueError, match="but no train folder with class folders inside"):
        Folder(root=tmp_path).read()


@pytest.mark.parametrize(("kind", "value"), [(1, 5), (2, ord("6")), (3, 9), (7, 5)])
def test_an_orientation_that_is_none_is_ignored(tmp_path, kind, value):
    """Types of TIFF: 1 byte, 2 text, 3 number of 16 bits (which alone is right), 7 unknown."""
    write_classes(tmp_path, size=(6, 4))
    entry = struct.pack("<HHIHH", 0x0112, kind, 1, value, 0)
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    Image.new("L", (6, 4)).save(tmp_path / "cat" / "odd.jpg", exif=exif)
    assert Folder(root=tmp_path).read().train.shape == (1, 4, 6)


def test_mixed_modes_become_rgb_and_grey_ones_stay_grey(tmp_path):
    """The same grey in every mode is the same pixel: 128."""
    write_classes(tmp_path)
    assert Folder(root=tmp_path).read().train.shape == (1, 6, 6)
    for mode, ending in {"P": "png", "RGBA": "png", "LA": "png", "CMYK": "tiff", "RGB": "bmp"}.items():
        write(tmp_path / "cat" / f"{mode}.{ending}", mode)
    Image.fromarray(np.full((6, 6), 128 * 257, dtype=np.uint16)).save(tmp_path / "dog" / "sixteen.png")
    images = Folder(root=tmp_path).read().train.images
    assert torch.equal(images, torch.full((14, 3, 6, 6), 128, dtype=torch.uint8))


def test_images_of_different_sizes_are_brought_to_their_median_short_side(tmp_path):
    write_classes(tmp_path, size=(6, 6))
    write(tmp_path / "cat" / "wide.png", size=(30, 10))
    pool = Folder(root=tmp_path).read()
    assert pool.train.shape == (1, 6, 6)
    assert pool.notes == ("images with short sides of 6 to 10 pixels made 6x6; set data.size for another",)


def test_large_images_are_made_smaller(tmp_path):
    write_classes(tmp_path, number=2, size=(400, 300))
    assert Folder(root=tmp_path).read().train.shape == (1, 224, 224)


def test_beyond_the_memory_limit_files_are_decoded_when_used(tmp_path):
    write_classes(tmp_path)
    kept, lazy = Folder(root=tmp_path).read(), Folder(root=tmp_path, memory_limit=0).read()
    assert (type(kept.train), type(lazy.train)) == (ImageSet, FileSet)
    assert kept.fingerprint == lazy.fingerprint
    torch.testing.assert_close(kept.train.batch(range(8)), lazy.train.batch(range(8)))


@pytest.mark.parametrize("memory_limit", [0, 1])
def test_bad_files_are_skipped_and_listed(tmp_path, memory_limit):
    """One file is no image, another is cut short after its header."""
    write_classes(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    whole = (tmp_path / "dog" / "0.png").read_bytes()
    (tmp_path / "dog" / "cut.png").write_bytes(whole[:-25])
    pool = Folder(root=tmp_path, on_bad_file="skip", memory_limit=memory_limit).read()
    assert pool.skipped == (str(tmp_path / "cat" / "notes.txt"), str(tmp_path / "dog" / "cut.png"))
    assert pool.train.labels.tolist() == [0] * 4 + [1] * 4


@pytest.mark.parametrize(("name", "cut"), [("notes.txt", 20), ("cut.png", -25), ("empty.png", 0)])
def test_a_bad_file_is_named(tmp_path, name, cut):
    write_classes(tmp_path)
    whole = (tmp_path / "dog" / "0.png").read_bytes()
    (tmp_path / "dog" / name).write_bytes(whole[:cut])
    with pytest.raises(ValueError, match=rf"{name}' as an image .*set data\.on_bad_file to skip"):
        Folder(root=tmp_path).read()


def test_a_broken_texture_is_a_bad_file_like_any_other(tmp_path):
    """Pillow says of a DDS without a pixel format that it is not implemented."""
    write_classes(tmp_path)
    header = struct.pack("<7I", 124, 0x1007, 4, 4, 16, 0, 0) + bytes(44) + struct.pack("<8I", 32, *[0] * 7) + bytes(20)
    (tmp_path / "cat" / "odd.dds").write_bytes(b"DDS " + header + bytes(64))
    assert len(Folder(root=tmp_path, on_bad_file="skip").read().skipped) == 1
    with pytest.raises(ValueError, match=r"odd\.dds' as an image \(Unknown pixel format"):
        Folder(root=tmp_path).read()


def test_a_path_to_nothing_and_a_file_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Folder(root=tmp_path / "nothing").read()
    write(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is a file; give the folder"):
        Folder(root=tmp_path / "a.png").read()


def test_folders_that_hold_no_two_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no class folders"):
        Folder(root=tmp_path).read()
    write_classes(tmp_path / "pets", ["cat"])
    with pytest.raises(ValueError, match=r"one class only \('cat'\)"):
        Folder(root=tmp_path / "pets").read()
    write_classes(tmp_path / "pets", ["dog"])
    with pytest.raises(ValueError, match=r"or give '.*pets', which holds folders"):
        Folder(root=tmp_path).read()


def test_an_empty_class_is_named(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "owl").mkdir()
    with pytest.raises(ValueError, match="class 'owl' has no training image"):
        Folder(root=tmp_path).read()


def test_a_class_without_training_images_is_named(tmp_path):
    write_classes(tmp_path / "train")
    write_classes(tmp_path / "test", ["cat", "owl"])
    with pytest.raises(ValueError, match="owl' is a class without training images"):
        Folder(root=tmp_path).read()


def test_two_folders_for_one_part_are_refused(tmp_path):
    for name in ("train", "val", "valid"):
        write_classes(tmp_path / name)
    with pytest.raises(ValueError, match="both 'val' and 'valid'; keep one"):
        Folder(root=tmp_path).read()
