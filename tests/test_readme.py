"""What the README shows is what augnet does."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augnet import ScheduleConfig, cli

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = "".join(text for kind, text in BLOCKS if kind == "bash").replace("\\\n", " ")
COMMANDS = [line for line in SHELL.splitlines() if line.startswith("augnet train") and "--resume" not in line]
(PYTHON,) = [text for kind, text in BLOCKS if kind == "python"]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder that holds what the README's commands name."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        folder = tmp_path / "path/to/images" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    (tmp_path / "signs").mkdir()
    for name in ("archive.npz", "signs/train.npz"):
        np.savez(tmp_path / name, images=pixels, labels=np.arange(12) % 2)
    (tmp_path / "recipes").symlink_to(Path(__file__).parent.parent / "recipes")


def test_there_are_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, workplace, monkeypatch, capsys):
    """Up to the point where training would begin."""
    made = []

    def begin(recipe, out):
        made.append((recipe, out))
        raise ValueError("far enough")

    monkeypatch.setattr(cli, "IFTTrainer", begin)
    assert cli.main(shlex.split(command, comments=True)[1:]) == 2
    assert capsys.readouterr().err == "augnet: far enough\n"
    assert made


def test_the_python_example_runs(workplace, monkeypatch):
    class Dots(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, index):
            return torch.full((3, 8, 8), 0.2 + 0.6 * (index % 2)), index % 2

    # The example's 3,000 steps, in a test's time.
    short = ScheduleConfig(inner_steps=8, warmup=2, batch_size=8, val_batch_size=8)
    monkeypatch.setattr("augnet.ScheduleConfig", lambda inner_steps: short)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    names = {"train": Dots(), "val": Dots(), "test": Dots(), "model": model, "images": torch.rand(5, 3, 8, 8)}
    exec(PYTHON, names)
    assert names["augmented"].shape == (5, 3, 8, 8)
    assert names["trainer"].step == 8
