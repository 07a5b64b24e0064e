"""`augnet compare`: what a person types and what comes back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from augnet.cli import main

SMALL = ["--data.size=8", "--data.train_size=80", "--data.val_size=40", "--augmenter.width=4", "--device=cpu"]
SHORT = ["--schedule.inner_steps=8", "--schedule.warmup=2", "--schedule.batch_size=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", *SMALL, *SHORT, "--out", str(folder)]) == 0
    return folder


def test_the_table_the_verdict_and_the_files_are_said(run, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "found"
    command = ["compare", str(run), "--arms", "none, learned", "--seeds", "1", "--budgets", "1,2", "--jobs", "1"]
    assert main([*command, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "4 trainings to make" in said
    assert "4 of 4 · learned · seed 0 · 16 steps" in said
    assert "| arm " in said
    assert "16 steps (2 times the run's)" in said
    verdict = json.loads((out / "comparison.json").read_text())["verdict"]
    assert verdict["sentence"].startswith("too few seeds to judge: learned has ")
    assert verdict["sentence"] in said
    assert "comparison.md" in said
    assert main([*command, "--out", str(out)]) == 0
    assert "trainings to make" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--arms lerned", "there is no arm 'lerned'; did you mean learned"),
        ("--arms none.py:augment", "there is no file 'none.py'"),
        ("--seeds 0", "seeds must be at least 1, found 0"),
        ("--budgets 1,x", "argument --budgets: invalid"),
        ("--known none.csv --arms none", "there is no table of results 'none.csv'"),
        ("--sedes 3", "unrecognized arguments: --sedes 3"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence_of_compare(run, tmp_path, capsys, options, words):
    assert main(["compare", str(run), "--out", str(tmp_path), *options.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("augnet: ")
    assert words in line


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["compare", str(tmp_path)]) == 2
    assert "no run at" in capsys.readouterr().err


def test_after_ctrl_c_what_was_trained_is_kept(run, tmp_path):
    command = [sys.executable, "-m", "augnet", "compare", str(run), "--out", str(tmp_path), "--jobs", "2"]
    process = subprocess.Popen(
        [*command, "--arms", "none,mirror_crop", "--seeds", "200"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    table = Path(tmp_path) / "results.csv"
    deadline = time.monotonic() + 120
    while not table.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, said
    assert said == "augnet: interrupted\n"
    rows = table.read_text().splitlines()
    assert 2 <= len(rows) < 401
    assert all(row.count(",") == rows[0].count(",") for row in rows)
