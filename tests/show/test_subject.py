"""Which images are shown, and how classes are told."""

import numpy as np
import pytest
import torch
from PIL import Image

from augnet.export.sample import fairly
from augnet.show import Subject


@pytest.mark.parametrize("classes", [3, 659])
def test_every_class_comes_once_before_any_comes_twice(classes):
    labels = torch.arange(2 * classes + 1) % classes
    chosen = labels[fairly(labels, labels, 2 * classes)]
    assert sorted(chosen[:classes].tolist()) == list(range(classes))
    assert sorted(chosen[classes:].tolist()) == list(range(classes))


def test_the_choice_is_fixed_by_its_seed_and_not_by_the_order_of_classes():
    labels = torch.arange(60) % 20
    assert fairly(labels, labels, 5, seed=1) == fairly(labels, labels, 5, seed=1)
    assert labels[fairly(labels, labels, 5, seed=1)].tolist() != labels[fairly(labels, labels, 5, seed=2)].tolist()


def test_a_class_without_images_is_passed_over():
    labels = torch.tensor([0, 0, 4, 4])
    assert sorted(labels[fairly(labels, labels, 2)].tolist()) == [0, 4]


def test_fewer_images_than_wanted_are_all_chosen():
    assert sorted(fairly(torch.rand(5, 1, 4, 4), None, 10)) == [0, 1, 2, 3, 4]


def paint(folder, number, channels=3):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    shape = (12, 12, 3) if channels == 3 else (12, 12)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{number}.png")


def test_a_run_is_shown_on_its_own_validation_images(run_folder):
    subject = Subject.of_run(run_folder)
    assert subject.images.shape == (30, 3, 12, 12)
    assert subject.labels.bincount().tolist() == [10, 10, 10]
    assert subject.source == "30 of 30 validation images"


def test_a_folder_without_classes_is_shown_without_labels(run_folder, tmp_path):
    for number in range(5):
        paint(tmp_path / "five", number, channels=1)
    subject = Subject.of_run(run_folder, str(tmp_path / "five"))
    assert subject.images.shape == (5, 3, 12, 12)
    assert subject.labels is None


def test_classes_are_told_by_their_names_so_one_may_be_missing(tmp_path, run_folder, monkeypatch):
    for number, name in enumerate(["c", "a", "c"]):
        paint(tmp_path / "images" / name, number)
    record = {**Subject.of_run(run_folder).run.record, "classes": ["a", "b", "c"]}
    monkeypatch.setattr("augnet.training.Run.record", record)
    subject = Subject.of_run(run_folder, str(tmp_path / "images"))
    assert sorted(subject.labels.tolist()) == [0, 2, 2]


def test_images_of_other_classes_count_as_unlabelled_and_the_reader_is_told(tmp_path, run_folder):
    for number, name in enumerate(["cat", "dog"]):
        paint(tmp_path / "images" / name, number)
    subject = Subject.of_run(run_folder, str(tmp_path / "images"))
    assert subject.labels is None
    assert "the first being 'cat'" in subject.notes[0]


def test_a_file_is_shown_on_images_of_another_size(tmp_path, run_folder):
    for number in range(3):
        folder = tmp_path / "large" / f"class {number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (number, 80, 80)).save(folder / f"{number}.png")
    subject = Subject.of_file(run_folder / "augmenter.safetensors", str(tmp_path / "large"))
    assert subject.images.shape == (3, 3, 40, 40)
    assert subject.classes == ("class 0", "class 1")
    assert subject.classifier is None


def test_an_empty_folder_is_refused(tmp_path, run_folder):
    with pytest.raises(ValueError, match="holds no images"):
        Subject.of_run(run_folder, str(tmp_path))


def test_a_source_is_shown_by_its_test_part_and_one_without_is_said_to_have_none(tmp_path, run_folder):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 3), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=pixels, labels=np.arange(6) % 2)
    alone = Subject.of_run(run_folder, str(tmp_path / "train.npz"))
    assert alone.source == f"6 images of {tmp_path / 'train.npz'}"
    assert any("its classifier is too sure of them" in note for note in alone.notes)
    np.savez(tmp_path / "test.npz", images=pixels[:4], labels=np.arange(4) % 2)
    both = Subject.of_run(run_folder, str(tmp_path))
    assert both.source == f"4 test images of {tmp_path}"
    assert not any("too sure" in note for note in both.notes)
    # An exported augmenter has no classifier to be sure of anything.
    assert Subject.of_file(run_folder / "augmenter.safetensors", str(tmp_path / "train.npz")).notes == ()


def test_images_of_other_proportions_are_cut_and_not_squashed(tmp_path, run_folder):
    """The outer quarters of a wide image, all white, are not to be seen."""
    (tmp_path / "wide").mkdir()
    wide = np.full((24, 48, 3), 255, dtype=np.uint8)
    wide[:, 12:36] = 90
    Image.fromarray(wide).save(tmp_path / "wide" / "0.png")
    subject = Subject.of_run(run_folder, str(tmp_path / "wide"))
    assert subject.images.shape == (1, 3, 12, 12)
    assert float(subject.images.max()) == pytest.approx(90 / 255, abs=1e-3)


def test_files_that_cannot_be_read_are_left_out_and_named(tmp_path, run_folder):
    for number, name in enumerate(["a", "b", "b"]):
        paint(tmp_path / "images" / name, number)
    (tmp_path / "images" / "a" / "9.png").write_bytes(b"no image")
    subject = Subject.of_file(run_folder / "augmenter.safetensors", str(tmp_path / "images"))
    assert len(subject.images) == 3
    assert "1 of the files cannot be read: " in subject.notes[0]


def test_data_that_have_changed_are_refused(run_folder, monkeypatch):
    record = {**Subject.of_run(run_folder).run.record, "data_fingerprint": "0" * 64}
    monkeypatch.setattr("augnet.training.Run.record", record)
    with pytest.raises(ValueError, match=r"have changed .*; or name images to show it on: --images SOURCE"):
        Subject.of_run(run_folder)
