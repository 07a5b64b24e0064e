"""Whole comparisons of a tiny run: what is trained, what is not trained again, and the verdict where it is known."""

import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from augnet import Recipe, Run, from_datasets
from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.file import to_bytes
from augnet.compare import compare, write
from augnet.compare.bench import _described, _joined
from augnet.compare.comparison import Learning
from augnet.compare.writing import as_json, as_markdown, by_class
from augnet.data import Digits
from augnet.recipe import ScheduleConfig
from augnet.training import IFTTrainer


def copy_of(run, folder):
    shutil.copytree(run.path, folder)
    return folder


def blackening():
    """Make an augmenter that takes all brightness away, nearly always."""
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Brightness(limit=1.0)], width=4, depth=2), 1)
    with torch.no_grad():
        augmenter.head.linear.bias.copy_(torch.tensor([-5.0, -2.0, 2.0]))
    return augmenter


def accuracies(comparison):
    return {arm.label: arm.accuracy.mean for arm in comparison.sections[0].arms}


def test_a_harmful_policy_is_advised_against_and_what_was_trained_is_not_trained_again(tiny_run, tmp_path):
    """Trained on black images a classifier knows nothing; what it is compared with, plain images, works."""
    run = copy_of(tiny_run, tmp_path / "run")
    (run / "augmenter.safetensors").write_bytes(to_bytes(blackening(), {}))
    settings = {"arms": ["learned", "none"], "budgets": [4], "jobs": 1}
    found = compare(run, seeds=3, **settings)
    assert accuracies(found)["learned"] < 0.25 < accuracies(found)["none"]
    assert found.verdict.decision == "don't use it"
    assert "don't use it, use none" in found.verdict.sentence
    (sentence,) = by_class(found.sections[0], found)
    assert "learned" in sentence
    assert "none" in sentence

    table, said = run / "comparison" / "results.csv", []
    before = table.read_bytes()
    again = compare(run, seeds=3, **settings, tell=said.append)
    assert (said, table.read_bytes()) == ([], before)
    assert again == found
    compare(run, seeds=4, **settings, tell=said.append)
    assert "2 trainings to make, 6 more are known" in said[0]
    added = table.read_text().removeprefix(before.decode()).splitlines()
    assert sorted(row.split(",")[:3] for row in added) == [["learned", "48", "3"], ["none", "48", "3"]]

    # A narrower comparison in the same folder leaves nothing out that is known, and one at another budget keeps this.
    narrower = compare(run, seeds=3, **(settings | {"arms": ["none"]}), tell=said.append)
    more = "the table is of 3 seeds, but more are known of none, learned at 48 steps; raise --seeds to see them"
    assert narrower == replace(again, notes=(more,))
    other = compare(run, seeds=3, **(settings | {"arms": ["none"], "budgets": [1]}))
    assert list(accuracies(other)) == ["none"]
    assert other.sections[1:] == again.sections
    assert other.verdict == again.verdict
    page = as_markdown(other)
    assert page[2] == "## 12 steps"
    assert "**nothing is judged, which takes a learned arm and one that is not.**" in page
    assert f"**{again.verdict.sentence}.**" in page

    # Against a policy that destroys just as much, plain images win: the same rows, read from another folder.
    mine = tmp_path / "mine.py"
    mine.write_text("black = lambda image: image * 0\n")
    shutil.copy(tiny_run.path / "augmenter.safetensors", run)
    settings["arms"] = ["learned@0", "none", f"{mine}:black"]
    good = compare(run, seeds=3, out=tmp_path / "other", known=[table], **settings, tell=said.append)
    assert any("6 trainings to make, 3 more are known" in sentence for sentence in said)
    assert f"7 of the 11 trainings of {table} are of these images, settings and packages" in said
    # At strength 0 nothing is changed: the very same training as without augmentation.
    assert accuracies(good)["learned@0.0"] == accuracies(good)["none"]
    assert good.verdict.decision == "no difference found"
    settings["arms"] = ["learned@0", f"{mine}:black"]
    best = compare(run, seeds=3, out=tmp_path / "other", **settings)
    assert best.verdict.decision == "use it"


def test_the_best_fixed_arm_is_trained_for_as_long_as_learning_took_too(tiny_run, tmp_path):
    found = compare(tiny_run, arms=["none", "learned", "longer"], seeds=1, jobs=1, copies=2, out=tmp_path)
    learning = Learning.of_run(tiny_run)
    for section in found.sections:
        longer = next(arm for arm in section.arms if arm.role == "longer")
        assert (longer.name, longer.steps) == ("none", 12 + learning.steps)
    table = tmp_path / "results.csv"
    again = compare(tiny_run, arms=["learned"], seeds=1, jobs=1, copies=2, out=tmp_path)
    assert again.sections == found.sections
    # Another arm that is as good or better takes nothing from the one that was trained for longer.
    mine = tmp_path / "mine.py"
    mine.write_text("same = lambda image: image\n")
    more = compare(tiny_run, arms=[f"{mine}:same"], seeds=1, jobs=1, copies=2, out=tmp_path)
    assert [arm.label for arm in more.sections[0].arms].count(f"none for longer ({12 + learning.steps} steps)") == 1
    mine.unlink()
    few = compare(tiny_run, arms=["learned", "longer"], seeds=2, jobs=1, out=tmp_path.with_name("few"), known=[table])
    assert few.notes == (
        "nothing is trained for longer: there is no fixed arm",
        "none is left out at 12 steps, where it has 1 of 2 seeds; name it to train it",
    )
    # 24 steps twice over are trained once; of the 12 there are no three views.
    said = []
    other = compare(
        tiny_run, arms=["none"], budgets=[2, 2.01], seeds=1, jobs=1, copies=3, out=tmp_path, tell=said.append
    )
    assert "1 training to make" in said[0]
    assert [(each.budget, each.copies) for each in other.sections] == [(2, 1), (2.01, 1), (2, 3), (2.01, 3), (1, 1)]
    assert [section.copies for section in found.sections] == [1, 2]
    write(found)
    written = json.loads((tmp_path / "comparison.json").read_text())
    assert written == as_json(found)
    assert written["verdict"]["decision"] == "no difference found"
    assert sum(written["test_images"]) == 599
    assert {path.name for path in tmp_path.iterdir()} == {
        "results.csv", "comparison.json", "comparison.csv", "comparison.md", "comparison.png"
    }  # fmt: skip
    assert "none for longer" in (tmp_path / "comparison.md").read_text()


def test_the_cost_of_learning_is_counted_in_plain_steps(tiny_run, tmp_path):
    """12 steps, of which 2, 6 and 10 are outer ones; at 1 s for 9 inner steps, 3 + 1 + 0.5 s are 40.5 of them."""
    run = copy_of(tiny_run, tmp_path / "run")
    record = json.loads((run / "record.json").read_text())
    record["seconds"] = {"inner": 1.0, "outer": 3.0, "reports": 0.5}
    (run / "record.json").write_text(json.dumps(record))
    assert Learning.of_run(Run(run)).steps == round(4.5 * 9)


def test_processes_give_what_one_process_gives(tiny_run, tmp_path):
    settings = {"arms": ["none", "TrivialAugmentWide"], "seeds": 1}
    one = compare(tiny_run, **settings, jobs=1, out=tmp_path / "one")
    two = compare(tiny_run, **settings, jobs=2, out=tmp_path / "two")
    assert [arm.results[0].measures for arm in one.sections[0].arms] == [
        arm.results[0].measures for arm in two.sections[0].arms
    ]


def test_an_arm_that_fails_or_dies_is_named(tiny_run, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import multiprocessing, os\n"
        "seen = []\n"
        "def late(image):\n    seen.append(1)\n    return image if len(seen) < 20 else 1 / 0\n"
        "def dies(image):\n    return os._exit(3) if multiprocessing.parent_process() else image\n"
    )
    with pytest.raises(ValueError, match=r"training with .*mine.py:late \(seed 0\) failed: .* \(ZeroDivisionError"):
        compare(tiny_run, arms=["none", f"{mine}:late"], seeds=1, jobs=1, out=tmp_path)
    with pytest.raises(ChildProcessError, match=r"a process died, .* while it trained .*mine.py:dies; what was done"):
        compare(tiny_run, arms=[f"{mine}:dies"], seeds=1, jobs=2, out=tmp_path)


def test_data_and_classifier_from_python_are_handed_over(tiny_run, tmp_path):
    splits = Digits(size=8, train_size=80, val_size=40).load(0)
    data = from_datasets(splits.train, splits.val, splits.test)
    schedule = ScheduleConfig(inner_steps=6, outer_every=3, warmup=1, batch_size=16, val_batch_size=16)

    def module():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    recipe = Recipe(data=data, schedule=schedule, device="cpu", augmenter=tiny_run.recipe.augmenter)
    run = IFTTrainer(recipe, classifier=module(), out=tmp_path / "run").fit()
    with pytest.raises(ValueError, match=r"came from Python; go on there: augnet.compare.compare\(path, data="):
        compare(run)
    with pytest.raises(ValueError, match=r"the data of .* have changed"):
        compare(run, data=Digits(size=8))
    with pytest.raises(ValueError, match="trained a classifier of 650 weights, found one of"):
        compare(run, data=data)
    found = compare(run, data=data, classifier=module, arms=["none"], seeds=1, jobs=1)
    assert found.verdict is None
    with pytest.raises(ValueError, match=r"cannot be handed to other processes .* or set jobs to 1"):
        compare(run, data=data, classifier=module, arms=["uniform"], seeds=1, jobs=2)


def test_runs_that_cannot_be_compared_say_why(tiny_run, tmp_path):
    run = copy_of(tiny_run, tmp_path / "run")
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({k: v for k, v in record.items() if k != "test_accuracy"}))
    with pytest.raises(ValueError, match="has not come to its end"):
        compare(run)
    (run / "record.json").write_text(json.dumps(record))
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("test_size: 0.3333333333333333", "test_size: null"))
    with pytest.raises(ValueError, match=r"have no test images, .* such as --data.test_size 0.2"):
        compare(run)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": 0}, "seeds must be at least 1, found 0"),
        ({"copies": 0}, "copies must be at least 1, found 0"),
        ({"jobs": 0}, "jobs must be at least 1, found 0"),
        ({"budgets": [0]}, "budgets must be multiples of the run's steps, above 0"),
        ({"budgets": []}, "budgets must be multiples"),
        ({"arms": []}, "name at least one arm"),
        ({"arms": ["longer"]}, "name at least one arm"),
        ({"arms": ["trivial augment"]}, "did you mean TrivialAugmentWide"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_run, settings, words):
    with pytest.raises(ValueError, match=words):
        compare(tiny_run, **settings)


def test_images_in_memory_have_an_order_that_does_not_depend_on_the_split(tiny_run, tmp_path):
    """All digits are used: whichever validate, fixed arms see the same images in the same order."""

    first, second = (Digits(size=8).load(seed) for seed in (0, 1))
    one, other = (_joined(splits.train, splits.val) for splits in (first, second))
    assert not torch.equal(first.train.images, second.train.images)
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.labels, other.labels)


UNGUARDED = """
from types import SimpleNamespace
from augnet.compare.processes import Processes

def work(bench, training, stopped):
    return None

# Beyond what a pipe holds.
with Processes(bytes(1_000_000), 2) as processes:
    print(list(processes.run(work, [SimpleNamespace(arm=SimpleNamespace(name="none"), seed=0)])))
"""


def test_a_script_that_is_imported_by_its_processes_ends_in_a_sentence(tmp_path):
    """Each process runs the script, and dies of starting processes itself."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 1
    assert 'if __name__ == "__main__":' in run.stderr.splitlines()[-1]
    script.write_text(UNGUARDED.replace("with Processes", 'if __name__ == "__main__":\n  with Processes'))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_classifier_of_ones_own_is_known_by_its_code(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    code = (
        "import torch\n\nclass Net(torch.nn.Linear):\n    def forward(self, x):\n        return super().forward(x%s)\n"
    )
    found = []
    for name, power in (("net_one", ""), ("net_again", ""), ("net_two", " ** 2")):
        (tmp_path / f"{name}.py").write_text(code % power)
        found.append(_described(importlib.import_module(name).Net(4, 2)))
    assert found[0] == found[1] != found[2]


def test_the_code_of_a_classifier_of_packages_is_their_version():
    assert _described(torch.nn.Linear(4, 2)) == ["Linear(in_features=4, out_features=2, bias=True)"]
