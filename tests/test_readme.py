"""What the README shows is what augnet does."""

import importlib
import re
import shlex
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image

import augnet
from augnet import IFTTrainer, Recipe, ScheduleConfig, cli

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
SHELL = "".join(text for kind, text in BLOCKS if kind == "bash").replace("\\\n", " ")
COMMANDS = [line for line in SHELL.splitlines() if line.startswith("augnet train") and "--resume" not in line]
AFTERWARDS = [line for line in SHELL.splitlines() if re.match("augnet (export|show|compare)", line)]
TRAINING, TRANSFORM = (text for kind, text in BLOCKS if kind == "python")


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """Make a folder that holds what the README's commands name."""
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
    return tmp_path


def test_there_are_commands():
    assert len(COMMANDS) >= 5


def alone(arguments):
    at = arguments.index("--devices")
    return [*arguments[:at], *arguments[at + 2 :]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command, workplace, monkeypatch, capsys):
    """Up to the point where training would begin."""
    made = []

    def begin(recipe, out):
        made.append((recipe, out))
        raise ValueError("far enough")

    # The verb hides the module of the same name. Several processes each read the command as one alone would.
    train = importlib.import_module("augnet.cli.train")
    monkeypatch.setattr(train, "IFTTrainer", begin)
    monkeypatch.setattr(train, "launch", lambda devices, arguments: cli.main(alone(arguments)))
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
    few, compare = {"arms": ["none", "learned"], "seeds": 1, "jobs": 1}, augnet.compare.compare
    monkeypatch.setattr("augnet.compare.compare", lambda run, seeds, **settings: compare(run, **few, **settings))

    def make_model():
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))

    names = {
        "__name__": "__main__",
        "train": Dots(),
        "val": Dots(),
        "test": Dots(),
        "model": make_model(),
        "images": torch.rand(5, 3, 8, 8),
    }
    names["make_model"] = make_model
    exec(TRAINING, names)
    assert names["augmented"].shape == (5, 3, 8, 8)
    assert names["trainer"].step == 8
    assert (workplace / "runs/mine/comparison/comparison.md").exists()


@pytest.fixture(scope="module")
def signs(tmp_path_factory):
    """Make a folder with a tiny run in it, under the README's name."""
    folder = tmp_path_factory.mktemp("readme")
    recipe = Recipe.parse(
        ["--data.size=8", "--data.train_size=60", "--data.val_size=40", "--augmenter.width=4", "--device=cpu",
         "--schedule.inner_steps=12", "--schedule.warmup=2", "--schedule.batch_size=8", "--schedule.val_batch_size=8"]
    )  # fmt: skip
    IFTTrainer(recipe, out=folder / "runs/signs").fit()
    return folder


def test_the_commands_after_training_run(signs, workplace, monkeypatch, capsys):
    """One after the other, as a person would type them, with two seeds in place of five."""
    monkeypatch.chdir(signs)
    (signs / "path").symlink_to(workplace / "path")
    (signs / "mine.py").write_text("def transform(image):\n    return image.flip(-1)\n")
    assert len(AFTERWARDS) == 10
    for command in AFTERWARDS:
        arguments = shlex.split(command, comments=True)[1:]
        few = ["--seeds=2", "--jobs=1"] if arguments[0] == "compare" else []
        assert cli.main([*arguments, *few]) == 0, capsys.readouterr().err
    names = {"augnet": augnet, "torch": torch, "albumentations": albumentations}
    names["image"] = torch.randint(0, 256, (1, 40, 30), dtype=torch.uint8)
    exec(TRANSFORM, names)
    assert names["augmented"].shape == (1, 40, 30)
    assert names["augmented"].dtype == torch.float32
    pixels = np.zeros((20, 20, 1), dtype=np.uint8)
    assert names["pipeline"](image=pixels)["image"].shape == pixels.shape
