"""Nested states as one file."""

import errno
import os

import pytest
import torch

from augnet.training import checkpoint


def test_any_optimiser_state_comes_back_exactly(tmp_path):
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimiser = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimiser.step()
    state = {"optimiser": optimiser.state_dict(), "none": None, 7: (1, 2.5, "x"), "nan": float("nan"), "list": [True]}
    checkpoint.write(state, tmp_path / "s")
    again = checkpoint.read(tmp_path / "s")
    assert again["optimiser"]["param_groups"] == state["optimiser"]["param_groups"]
    found, kept = again["optimiser"]["state"][0], state["optimiser"]["state"][0]
    assert all(torch.equal(found[name], kept[name]) for name in kept)
    assert again[7] == (1, 2.5, "x")
    assert again["none"] is None
    assert again["nan"] != again["nan"]
    assert again["list"] == [True]


def test_tensors_that_share_memory_are_written_twice(tmp_path):
    x = torch.arange(6.0)
    checkpoint.write({"a": x, "b": x[2:]}, tmp_path / "s")
    assert torch.equal(checkpoint.read(tmp_path / "s")["b"], x[2:])


@pytest.mark.parametrize("length", [0, 1, 8, 50, -1])
def test_a_file_cut_short_is_refused_in_a_sentence(tmp_path, length):
    path = tmp_path / "s"
    checkpoint.write({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="is not a checkpoint or is damaged"):
        checkpoint.read(path)


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "s"
    checkpoint.write({"a": torch.ones(3)}, path)

    def full(_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"no space left to write .* what was there is kept"):
        checkpoint.write({"a": torch.zeros(3)}, path)
    assert torch.equal(checkpoint.read(path)["a"], torch.ones(3))
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.read(tmp_path / "none")


def test_an_error_other_than_a_full_disk_is_passed_on(tmp_path):
    with pytest.raises(PermissionError, match="Permission denied"), checkpoint.room_for(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")
    with (
        pytest.raises(OSError, match=r"no space left to write .*/metrics\.csv$"),
        checkpoint.room_for(tmp_path / "metrics.csv"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
