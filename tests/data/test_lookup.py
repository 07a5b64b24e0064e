"""One word for a data set is understood, or answered with the nearest names."""

import numpy as np
import pytest

from augnet.data import Digits, Folder, HuggingFace, Npz, Torchvision, source_from


def test_names():
    assert source_from("digits") == Digits()
    assert source_from("hf:owner/name") == HuggingFace(name="owner/name")
    assert source_from("CIFAR-10", root="there") == Torchvision(name="CIFAR-10", root="there")


def test_paths(tmp_path):
    assert source_from(str(tmp_path)) == Folder(root=str(tmp_path))
    np.savez(tmp_path / "train.npz", images=[], labels=[])
    assert source_from(str(tmp_path)) == Npz(path=str(tmp_path))
    assert source_from(str(tmp_path / "train.npz")) == Npz(path=str(tmp_path / "train.npz"))


def test_a_folder_called_like_a_data_set_is_the_folder(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    monkeypatch.chdir(tmp_path)
    assert source_from("cifar10") == Folder(root="cifar10")


@pytest.mark.parametrize("text", ["no/such/folder", "nothing.npz", "~/nothing", "./digits"])
def test_a_path_to_nothing_is_said(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="there is no file or folder"):
        source_from(text)


def test_a_misspelt_name_is_answered_with_the_nearest(tmp_path, monkeypatch):
    (tmp_path / "my-pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="no such path or data set: 'cifra10'; did you mean cifar10"):
        source_from("cifra10")
    with pytest.raises(ValueError, match="did you mean my-pictures"):
        source_from("my_picture")
    with pytest.raises(ValueError, match=r"give a folder, an \.npz file, digits"):
        source_from("qqqqqq")


def test_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "data.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"not an \.npz archive"):
        source_from(str(tmp_path / "data.zip"))
