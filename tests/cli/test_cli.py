"""The command line: what a person types, what comes back, and what is left behind."""

import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augnet import Run
from augnet.cli import main
from augnet.cli.train import _free_folder
from augnet.training import IFTTrainer

SHORT = ["--schedule.inner_steps", "30", "--schedule.warmup", "5"]
# Digits as they are, 8×8, and a small augmenter: 30 steps in less than a second.
QUICK = ["--data.size=8", "--data.train_size=100", "--data.val_size=60", "--augmenter.width=4", *SHORT]
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def draw(path, **classes):
    """Write class folders with so many images of noise."""
    number = iter(range(60))
    for name, images in classes.items():
        (Path(path) / name).mkdir(parents=True, exist_ok=True)
        for image in range(images):
            Image.fromarray(PIXELS[next(number)]).save(Path(path) / name / f"{image}.png")


def refused(capsys, *arguments):
    """Give the one sentence that a command ends with; nothing else is said on stderr, and no run is left behind."""
    assert main(list(arguments)) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("augnet: ")
    assert not list(Path().rglob("recipe.yaml"))
    return lines[0]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no/such/path", "there is no file or folder 'no/such/path'"),
        ("cifra10", "no such path or data set: 'cifra10'; did you mean cifar10"),
        ("one two", "one DATA is enough, found 'one' and 'two'"),
        ("--model resnet81", "timm has no model 'resnet81'; did you mean resnet18"),
        ('--model resnet18 --classifier.options {"nonsense":1}', "timm cannot make 'resnet18'"),
        ("--model vit_tiny_patch16_224 --data.size 8", "cannot take 1-channel images of 8×8 pixels"),
        ("--augmenter.transforms [Rotat]", "augmenter.transforms has no member 'Rotat'; did you mean Rotate"),
        ("--augmenter.transforms+ Rotat", "did you mean Rotate"),
        ("--augmenter.depth 40", "depth must be at most 13, found 40"),
        ("--inverse_hessian Neuman", "inverse_hessian has no member 'Neuman'; did you mean Neumann?"),
        ("--inverse_hessian.step 3", "Neumann has no setting 'step'; did you mean steps or step_size?"),
        ("--schedule.iner_steps 3", "there is no setting 'schedule.iner_steps'; did you mean schedule.inner_steps"),
        ("--schedule.inner_steps soon", "schedule.inner_steps should be a whole number, found 'soon'"),
        ("--schedule.warmup 1500", "warmup (1500) must be below inner_steps (1500)"),
        ("--data.val_size 5000", "val_size asks for 5000 images, but there are 1198"),
        ("--data.val_size 1.5", "val_size must be a number of images from 1, or a share"),
        ("--data Npz", "Npz needs the setting 'path'; set data.path"),
        ("--model", "--model lacks its value"),
        ("--modle resnet18", "there is no option --modle; did you mean --model?"),
        ("--data.help", "--data.help wants the name of one behind it: Digits, Pair, Npz, Folder"),
        ("--model --out somewhere", "--model lacks its value"),
        ("-o somewhere", "options have two dashes, found '-o'"),
        ("--root somewhere", "no DATA was named"),
        ("--recipe none.yaml", "no recipe at none.yaml"),
        ("--resume nothing", "no run at nothing"),
        ("--resume nothing --seed 1 --model resnet18", "so model, seed cannot be set; start a new run"),
        ("--device warp", "there is no device 'warp' here; there is cpu"),
        ("--device meta", "there is no device 'meta' here"),
        ("--device cuda:99", "there is no device 'cuda:99' here"),
        ("--out taken", "taken exists and is never overwritten; give another --out"),
        ("--out taken/file/run", "not a directory: taken/file/run"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(capsys, command, words):
    Path("taken").mkdir()
    Path("taken/file").touch()
    assert words in refused(capsys, "train", *command.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"schedule: {iner_steps: 3}", "there is no setting 'schedule.iner_steps'; did you mean schedule.inner_steps"),
        (b"schedule: 3", "schedule of r.yaml is a group of settings, found 3"),
        (b"[1, 2]", "r.yaml holds a list"),
        (b"seed: [1", "r.yaml is not YAML"),
        (b"\xff\xfe\x00", "r.yaml is not YAML"),
        (b"", "r.yaml holds nothing"),
    ],
)
def test_a_mistake_in_a_recipe_is_answered_in_one_sentence(capsys, text, words):
    Path("r.yaml").write_bytes(text)
    assert words in refused(capsys, "train", "--recipe", "r.yaml")


def test_a_run_is_no_images_and_a_recipe_lying_about_is_no_run(capsys):
    Path("recipe.yaml").write_text("seed: 3\n")
    assert main(["train", "--recipe", "recipe.yaml", "--out", "run", *QUICK]) == 0
    assert main(["train", "run"]) == 2
    assert "'run' is a run, not images; go on with it by --resume" in capsys.readouterr().err


def test_folders_that_cannot_be_trained_on_are_refused(capsys):
    Path("empty").mkdir()
    draw("one", cat=4)
    draw("single", cat=4, dog=1)
    draw("small", cat=4, dog=4)
    assert "'empty' holds no class folders" in refused(capsys, "train", "empty")
    assert "holds one class only ('cat')" in refused(capsys, "train", "one")
    assert "class 'dog' has one image" in refused(capsys, "train", "single")
    assert "val_size asks for 9 images, but there are 8" in refused(capsys, "train", "small", "--data.val_size", "9")


@pytest.mark.parametrize(("kind", "memory_limit"), [("no image", 1000), ("cut short", 0)])
def test_a_bad_file_is_named_or_skipped_and_recorded(capsys, kind, memory_limit):
    """A file cut short behind its header shows only when it is decoded, which files beyond memory are when used."""
    draw("pets", cat=12, dog=12)
    bad = Path("pets/dog/7.png")
    bad.write_bytes(b"hello" if kind == "no image" else bad.read_bytes()[:-60])
    command = ["train", "pets", "--out", "run", f"--data.memory_limit={memory_limit}", "--data.val_size=4", *SHORT]
    assert main(command) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("augnet: cannot read 'pets/dog/7.png' as an image")
    assert "Traceback" not in last
    assert not Path("run").exists()
    assert main([*command, "--data.on_bad_file", "skip"]) == 0
    assert Run("run").record["skipped_files"] == ["pets/dog/7.png"]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": LABELS + 1, "classes": np.array(["a", "b", "c"])}, "training label 3 is out of range"),
        ({"labels": LABELS - 1}, "label -1 is negative; number the classes from 0"),
        ({"labels": LABELS, "images": PIXELS / 100.0}, "images are float64 from 0 to 2.55; give uint8"),
        ({"labels": LABELS, "images": PIXELS.astype(np.float32) * np.nan}, "give uint8 from 0 to 255, or floats"),
        ({"labels": LABELS[:7]}, "60 images for 7 labels"),
        ({"labels": LABELS * 0}, "one class only"),
    ],
    ids=["too large", "negative", "floats above 1", "nan", "too few", "one class"],
)
def test_archives_that_cannot_be_trained_on_are_refused(capsys, arrays, words):
    np.savez("a.npz", **{"images": PIXELS, **arrays})
    assert words in refused(capsys, "train", "a.npz")


def test_a_file_that_is_no_archive_is_refused(capsys):
    Path("a.npz").write_bytes(b"hello")
    assert "a.npz': it is no NumPy archive" in refused(capsys, "train", "a.npz")


def full(after=0):
    """Make an fsync that finds the disk full from its call number `after` on."""
    calls = iter(range(1_000_000))

    def fsync(_):
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fsync


@pytest.mark.parametrize(
    ("files", "name"),
    list(
        enumerate(
            ["recipe.yaml", "record.json", "augmenter.safetensors", "classifier.safetensors", "state.safetensors"]
        )
    ),
)
def test_a_disk_that_is_full_at_once_leaves_nothing_behind(capsys, monkeypatch, files, name):
    monkeypatch.setattr(os, "fsync", full(after=files))
    assert main(["train", "--out", "run", *QUICK]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("augnet: no space left to write run/")
    assert name in last
    assert not Path("run").exists()


def test_a_disk_that_fills_up_keeps_what_was_learned(capsys, monkeypatch):
    """The recipe, the record and two checkpoints of three files are written; the third, of step 20, is not whole."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full(after=10))
        assert main(["train", "--out", "run", "--checkpoint_every=10", *QUICK]) == 2
    captured = capsys.readouterr()
    assert "no space left to write run/resume/state.safetensors" in captured.err.splitlines()[-1]
    assert captured.out.splitlines()[-1] == "the last checkpoint is kept; go on with: augnet train --resume run"
    assert IFTTrainer.resume("run").step == 10
    assert main(["train", "--resume", "run"]) == 0
    assert Run("run").finished


def test_what_the_system_forbids_is_said_in_words(capsys, monkeypatch):
    def forbidden(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", forbidden)
    assert refused(capsys, "train", *QUICK) == "augnet: permission denied: runs/digits/resume"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            "lower schedule.batch_size",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "lower schedule.batch_size"),
        (MemoryError(), "lower schedule.batch_size"),
        (RuntimeError("DataLoader worker (pid 9) is killed by signal: Bus error."), "lower `workers`"),
    ],
)
def test_a_machine_that_has_no_more_to_give_is_no_traceback(capsys, monkeypatch, error, words):
    def fit(*_):
        raise error

    monkeypatch.setattr(IFTTrainer, "fit", fit)
    assert main(["train", "--out", "run", *QUICK]) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not Path("run").exists()


def test_a_fault_of_the_code_is_not_hidden(monkeypatch):
    def fit(*_):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(IFTTrainer, "fit", fit)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        main(["train", "--out", "run", *QUICK])
    assert not Path("run").exists()


def test_a_loss_that_stays_nan_ends_in_a_sentence(capsys):
    assert main(["train", "--out", "run", "--inner.learning_rate=1e30", *QUICK]) == 2
    captured = capsys.readouterr()
    assert "the loss was not finite in 5 steps in a row" in captured.err.splitlines()[-1]
    assert "the last good state is in run; lower inner.learning_rate (now 1e+30)" in captured.err.splitlines()[-1]
    assert "go on with" not in captured.out


def test_a_damaged_run_is_not_gone_on_with(capsys):
    draw("pets", cat=12, dog=12)
    assert main(["train", "pets", "--out", "run", *SHORT]) == 0
    Path("pets/cat/0.png").rename("pets/cat/other.png")
    capsys.readouterr()
    assert main(["train", "--resume", "run"]) == 2
    assert "the data of run have changed" in capsys.readouterr().err
    Path("pets/cat/other.png").rename("pets/cat/0.png")
    Path("run/resume/state.safetensors").rename("kept")
    assert main(["train", "--resume", "run"]) == 2
    assert "run has no checkpoint: it was killed before its first one" in capsys.readouterr().err
    for path, words in {
        "run/resume/state.safetensors": "is not a checkpoint or is damaged",
        "run/record.json": "run/record.json is damaged",
        "run/recipe.yaml": "run/recipe.yaml is not YAML",
    }.items():
        Path(path).write_bytes(b"[\xff")
        assert main(["train", "--resume", "run"]) == 2
        assert words in capsys.readouterr().err


def test_ctrl_c_before_training_leaves_nothing_behind(capsys, monkeypatch):
    def load(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("augnet.data.Digits.load", load)
    assert main(["train"]) == 130
    assert capsys.readouterr().err == "augnet: interrupted\n"
    assert not Path("runs").exists()


def test_a_second_ctrl_c_ends_at_once_and_says_how_to_go_on(capsys, monkeypatch):
    """The first asks for an end after the step, the second for one within it."""
    step = IFTTrainer.inner_step

    def interrupted(trainer, batch):
        if trainer.step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return step(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(IFTTrainer, "inner_step", interrupted)
        assert main(["train", "--out", "run", *QUICK]) == 130
    assert "go on with: augnet train --resume run" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert main(["train", "--resume", "run"]) == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_command_that_is_said_finishes_the_run(number, code, tmp_path):
    """Ctrl-C goes, as a terminal sends it, to the processes that decode images too; SIGTERM to the one named."""
    draw("pets", cat=30, dog=30)
    command = ["train", "pets", "--out", "my run", "--data.memory_limit=0", "--workers=1", "--schedule.batch_size=16"]
    command += ["--schedule.inner_steps=60", "--schedule.warmup=5", "--schedule.outer_every=20"]
    process = subprocess.Popen(
        [sys.executable, "-m", "augnet", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not Path("my run/metrics.csv").exists() and process.poll() is None:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "Traceback" not in err
    last = out.splitlines()[-1]
    assert last.startswith("stopped at step ")
    program, *arguments = shlex.split(last.partition("go on with: ")[2])
    assert (program, arguments) == ("augnet", ["train", "--resume", "my run"])
    assert not Run("my run").finished
    assert main(arguments) == 0
    assert Run("my run").finished
    assert Run("my run").metrics[-1]["step"] == 60


def learned(capsys, *arguments):
    """Run a command that works; give the last six lines by their first word, and the run."""
    assert main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    said = {line[:12].strip(): line[12:] for line in lines[-6:]}
    assert set(said) == {"accuracy", "learned", "policy", "cost", "run folder", "next"}
    return said, Run(said["run folder"])


def test_the_embedded_digits_work_at_once(capsys):
    said, run = learned(capsys, "train", *SHORT)
    assert run.path == Path("runs/digits")
    assert f"test {run.record['test_accuracy']:.1%}" in said["accuracy"]
    assert said["learned"] == "no transform has changed by a tenth since the start"
    assert "rotation" in said["policy"]
    assert " ±" in said["policy"]
    assert "of which learning the augmenter took" in said["cost"]
    assert run.record["test_accuracy"] > 0.5
    # A second run of the same command finds a folder of its own.
    assert _free_folder("digits") == Path("runs/digits-2")


def test_a_folder_of_class_folders_is_learned_from(capsys):
    draw("pets/train", cat=16, dog=14)
    draw("pets/test", cat=4, dog=4)
    said, run = learned(capsys, "train", "pets/train/..", *SHORT)
    assert run.record["classes"] == ["cat", "dog"]
    assert run.record["images"] == {"train": 20, "validation": 10, "test": 8}
    assert "test" in said["accuracy"]


def test_an_archive_is_learned_from(capsys):
    np.savez("signs.npz", images=PIXELS, labels=LABELS, classes=np.array(["a", "b", "c"]))
    said, run = learned(
        capsys, "train", "signs.npz", "--model=resnet10t", "--seed", "3", *SHORT, "--schedule.inner_steps=8"
    )
    assert run.path == Path("runs/signs")
    assert run.recipe.classifier.name == "resnet10t"
    assert run.recipe.seed == 3
    assert "no test images" in said["accuracy"]


def test_what_is_watched_and_what_will_be_missed_is_said(capsys):
    """Of 24 validation images none is kept from learning; test images there are none."""
    assert main(["train", "--data.train_size=48", "--data.val_size=24", *SHORT]) == 0
    said = capsys.readouterr().out
    assert "loss on 24 validation images" in said
    assert "no test images" not in said
    np.savez("signs.npz", images=PIXELS, labels=LABELS)
    assert main(["train", "signs.npz", *SHORT, "--schedule.inner_steps=8"]) == 0
    assert "note: no test images, so there will be nothing to compare on" in capsys.readouterr().out


def test_help_names_the_verbs_and_every_setting(capsys):
    assert main([]) == 0
    assert "train    learn an augmenter" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    page = capsys.readouterr().out
    assert "augnet train --resume RUN" in page
    assert "--schedule.inner_steps" in page
    assert "classifier updates in all" in page
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "augnet: no verb 'trian'; there is train, show, export, compare\n"


@pytest.mark.parametrize("data", [".", "..", "images/..", "/"])
def test_a_run_folder_is_always_below_runs(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = _free_folder(data)
    assert folder.resolve().parent == (tmp_path / "runs").resolve()
