"""`augnet export`: what a person types, what is written, and that it runs where there is no augnet."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from augnet import IFTTrainer, LearnedAugment, from_datasets, load
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.file import to_bytes
from augnet.cli import main
from augnet.data import Digits
from augnet.export import target_for
from augnet.recipe import Recipe, ScheduleConfig
from augnet.transforms import MirrorLeftRight, MirrorUpDown, Rotate, TranslateX

TARGETS = ("signs.safetensors", "signs.pt2", "signs.onnx", "policy.py", "policy.json")
# Digits as they are, 8×8, and three transforms: trained in seconds, so that most validation images are seen rightly.
RECIPE = Recipe(
    data=Digits(size=8, train_size=400, val_size=200),
    augmenter=AugmenterConfig(width=4, transforms=[MirrorLeftRight(), Rotate(), TranslateX()]),
    schedule=ScheduleConfig(inner_steps=100, outer_every=20, warmup=4, batch_size=32, val_batch_size=16),
)
# Runs every exported file where augnet, and what only augnet needs, cannot be imported.
STRANGER = """
import importlib.abc, json, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("augnet", "kornia", "timm", "jaxtyping"):
            raise ImportError(f"there is no {name} here")

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, ".")
try:
    import augnet
    raise SystemExit("augnet was imported")
except ImportError:
    pass
import albumentations, numpy, onnxruntime, torch

images = numpy.random.default_rng(0).random((5, 1, 24, 20), dtype=numpy.float32)
extra = {"augnet.json": ""}
program = torch.export.load("signs.pt2", extra_files=extra).module()
noise = 2 * torch.rand(5, json.loads(extra["augnet.json"])["noise_size"]) - 1
by_torch = program(torch.from_numpy(images), noise).numpy()
session = onnxruntime.InferenceSession("signs.onnx")
(by_onnx,) = session.run(None, {"images": images, "noise": noise.numpy()})
assert abs(by_torch - by_onnx).max() <= 1e-4
from policy import transform
by_policy = transform(torch.from_numpy(images[0])).numpy()
pixels = (255 * images[0].transpose(1, 2, 0)).astype("uint8")
by_json = albumentations.load("policy.json")(image=pixels)["image"] / 255
for found, shape in ((by_torch, images.shape), (by_policy, images[0].shape), (by_json, pixels.shape)):
    assert found.shape == shape and 0 <= found.min() < found.max() <= 1, found.shape
assert not any(name.split(".")[0] == "augnet" for name in sys.modules)
print("all four ran")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "signs"
    IFTTrainer(RECIPE, out=out).fit()
    return out


@pytest.fixture(autouse=True)
def in_an_empty_folder(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, "runs/signs")


def said(capsys, *arguments):
    """Run a command that works and give what it says."""
    assert main(["export", *arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    """Give the one sentence that a command ends with."""
    assert main(["export", *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_run_becomes_a_file_for_learned_augment_that_holds_its_label_safety(capsys):
    out = said(capsys, "runs/signs")
    assert "wrote       signs.safetensors" in out
    assert out.splitlines()[-1] == "next        transform = augnet.LearnedAugment.load('signs.safetensors')"
    augmenter, about = load("signs.safetensors")
    original, known = load("runs/signs/augmenter.safetensors")
    assert {key: about[key] for key in known} == known
    assert all(torch.equal(a, b) for a, b in zip(augmenter.parameters(), original.parameters(), strict=True))
    assert list(about["label_safety"]["agreement"]) == ["0.25", "0.5", "0.75", "1", "1.25", "1.5", "2"]
    assert set(about["label_safety"]["agreement"]["1"]) == set(map(str, range(10)))
    assert isinstance(LearnedAugment.load("signs.safetensors"), torch.nn.Module)


def test_what_is_exported_runs_where_there_is_no_augnet(capsys):
    for path in TARGETS[1:]:
        out = said(capsys, "runs/signs", "--to", path, "--no-check")
        assert f"wrote       {path}" in out
        assert "label safety" not in out
    stranger = subprocess.run(
        [sys.executable, "-c", STRANGER],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_ALBUMENTATIONS_UPDATE": "1"},
    )
    assert stranger.stdout == "all four ran\n", stranger.stderr


def test_a_plain_policy_says_what_is_lost_and_how_it_differs(capsys):
    out = said(capsys, "runs/signs", "--to", "policies/policy.json", "--no-check")
    assert "1-Wasserstein distance from the U-Net's amounts" in out
    assert "Near, not the same: shift left-right: whole pixels." in out
    assert json.loads(Path("policies/policy.json").read_text())["transform"]["transforms"]


def test_a_file_that_is_there_is_replaced_only_if_told_so(capsys):
    Path("signs.safetensors").write_text("mine")
    assert "signs.safetensors exists; replace it with --force" in refused(capsys, "runs/signs")
    assert Path("signs.safetensors").read_text() == "mine"
    said(capsys, "runs/signs", "--no-check", "--force")
    load("signs.safetensors")


def test_a_strength_is_kept_by_every_form(capsys):
    out = said(capsys, "runs/signs", "--strength", "0.5", "--no-check")
    assert out.endswith("LearnedAugment.load('signs.safetensors')\n")
    assert LearnedAugment.load("signs.safetensors").strength == 0.5
    assert LearnedAugment.load("signs.safetensors", strength=0.7).strength == 0.7
    said(capsys, "runs/signs", "--to", "a.pt2", "--strength", "0", "--sampled")
    images = torch.rand(3, 1, 12, 12)
    found = torch.export.load("a.pt2").module()(images)
    torch.testing.assert_close(found, images, rtol=0, atol=1e-5)


def test_a_file_keeps_the_strength_that_it_was_exported_with(capsys):
    said(capsys, "runs/signs", "--strength", "0.5", "--no-check")
    said(capsys, "signs.safetensors", "--to", "again.safetensors")
    assert load("again.safetensors")[1]["strength"] == 0.5
    said(capsys, "signs.safetensors", "--to", "other.safetensors", "--strength", "0.7")
    assert load("other.safetensors")[1]["strength"] == 0.7


def test_label_safety_is_not_measured_where_nothing_is_changed(capsys):
    assert "label safety" not in said(capsys, "runs/signs", "--strength", "0")


def test_at_strength_0_no_amounts_are_listed(capsys):
    out = said(capsys, "runs/signs", "--strength", "0", "--to", "policy.py")
    assert "            It changes nothing.\n" in out
    for words in ("mirror", "rotation"):
        assert words not in out + Path("policy.py").read_text()


@pytest.mark.parametrize("path", ["policy.py", "policy.json"])
def test_label_safety_of_a_plain_policy_is_said_beside_that_of_what_was_learned(capsys, path):
    lines = said(capsys, "runs/signs", "--to", path).splitlines()
    (place,) = [place for place, line in enumerate(lines) if line.startswith("safety      augmented as learned: ")]
    assert lines[place + 1].startswith("            by the plain policy: ")
    assert "shown to be safe" in lines[place + 2]


def test_an_unfinished_run_is_exported_and_said_to_be(capsys):
    record = json.loads(Path("runs/signs/record.json").read_text())
    record.pop("test_accuracy")
    Path("runs/signs/record.json").write_text(json.dumps(record))
    assert "note: runs/signs is not finished; this is what it has learned in 100 steps" in said(capsys, "runs/signs")


def test_a_policy_that_destroys_labels_is_warned_of(capsys):
    """Digits upside down nearly always: a 6 is no 6."""
    harmful = AugmenterConfig(transforms=[MirrorUpDown(), Rotate(limit=90)], start_probability=0.98)
    _, about = load("runs/signs/augmenter.safetensors")
    Path("runs/signs/augmenter.safetensors").write_bytes(to_bytes(Augmenter(harmful, 1), about))
    out = said(capsys, "runs/signs")
    (warning,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert "no longer recognises augmented images of '" in warning
    assert load("signs.safetensors")[1]["label_safety"]["largest_safe_strength"] != 1
    out = said(capsys, "runs/signs", "--to", "policy.py")
    (warning,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert warning.endswith("(below 75%); lower --strength, or export what was learned (.safetensors)")


def gone(what):
    """Make the data of the run other than they were."""
    text = Path("runs/signs/recipe.yaml").read_text()
    new = {"changed": text.replace("train_size: 400", "train_size: 390").replace("size: 8", "size: 9")}
    class_path = "data:\n  class_path: Npz\n  init_args: {path: nothing.npz}\n"
    new["missing"] = class_path + text.partition("\nclassifier:")[2].join(["classifier:", ""])
    Path("runs/signs/recipe.yaml").write_text(new[what])


@pytest.mark.parametrize(("what", "words"), [("changed", "have changed"), ("missing", "nothing.npz")])
def test_without_the_data_label_safety_is_left_out_and_a_policy_needs_images(capsys, what, words):
    gone(what)
    out = said(capsys, "runs/signs")
    assert "note: label safety is not measured: " in out
    assert words in out
    assert "label_safety" not in load("signs.safetensors")[1]
    sentence = refused(capsys, "runs/signs", "--to", "policy.py")
    assert "a plain policy is fitted to images" in sentence
    assert sentence.endswith("name others with --images SOURCE")
    said(capsys, "runs/signs", "--to", "policy.py", "--images", "digits", "--no-check")


def test_a_run_of_data_sets_from_python_is_exported(capsys):
    digits = RECIPE.data.load(0).train
    IFTTrainer(Recipe(**{**vars(RECIPE), "data": from_datasets(digits)}), out="runs/python").fit()
    assert "label safety is not measured: the data sets of runs/python came from Python" in said(capsys, "runs/python")


def test_a_file_is_exported_too(capsys):
    said(capsys, "runs/signs", "--no-check")
    assert "signs.safetensors exists" in refused(capsys, "signs.safetensors")
    assert "signs.safetensors holds none; name some with --images" in refused(
        capsys, "signs.safetensors", "--to", "policy.py"
    )
    np.savez("a.npz", images=np.zeros((6, 8, 8), dtype=np.uint8), labels=np.arange(6) % 2)
    said(capsys, "signs.safetensors", "--to", "policy.py", "--images", "a.npz")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "the following arguments are required: RUN"),
        ("nowhere", "no run at nowhere"),
        ("runs", "no run at runs"),
        ("runs/signs --to signs.pt", "the ending of 'signs.pt' says what to export to, but it is '.pt'; did you mean"),
        ("runs/signs --to signs", "but it is nothing; there is .json, .onnx, .pt2, .py, .safetensors"),
        ("runs/signs --to a.py --sampled", "plain torchvision code (.py) has no setting sampled; leave it out"),
        ("runs/signs --strength -1", "strength must be a number of at least 0"),
        ("runs/signs --strength much", "invalid float value: 'much'"),
        ("runs/signs --too a.py", "unrecognized arguments: --too"),
        ("runs/signs/recipe.yaml --to a.pt2", "is not an augmenter's file or is damaged"),
        (
            "runs/signs --images digits",
            "--images is for a plain policy (.py, .json), but signs.safetensors is for augnet",
        ),
        ("runs/signs --to a.py --images nowhere/there", "there is no file or folder 'nowhere/there'"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(capsys, command, words):
    assert words in refused(capsys, *command.split())
    assert not [path for path in Path().iterdir() if path.name != "runs"]


def test_a_residual_alone_has_no_plain_policy(capsys):
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 1)
    Path("painter.safetensors").write_bytes(to_bytes(painter))
    sentence = refused(capsys, "painter.safetensors", "--to", "policy.py", "--images", "digits")
    assert sentence == "augnet: this augmenter paints a residual and has no transforms, so no plain policy is like it"


def test_help_lists_the_endings(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    page = capsys.readouterr().out
    assert all(Path(target).suffix in page for target in TARGETS)
    assert main([]) == 0
    assert "export   write an augmenter" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["policy.py", "my-policy.py", "class.py"])
def test_the_next_line_to_type_runs_whatever_the_file_is_called(name, capsys, monkeypatch):
    said(capsys, "runs/signs", "--to", name, "--no-check")
    monkeypatch.syspath_prepend(".")
    names = {"runpy": runpy}
    exec(target_for(name).usage(Path(name)), names)
    assert callable(names["transform"])
