"""More than one process: the training of one, whatever their number, and a clear end where one dies."""

import os
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch

from augnet.classifier import ClassifierConfig
from augnet.cli import main
from augnet.data import Digits, batches
from augnet.training import IFTTrainer, Run
from augnet.training.parallel import Processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_two_processes_train_as_one_does_and_hand_runs_over(quick, tmp_path):
    """Half batches of a net without batch norm: sums in another order, so equal up to rounding.

    The checks that need both processes are in two_processes.py: float64, hypergradients, dropout, micro-batches. Here,
    in float32, a run begun by one process ends in two and the other way round: the same weights as a run by one alone.
    """
    recipe = quick(classifier=ClassifierConfig(options={"norm_layer": "groupnorm1", "drop_rate": 0.2}))
    whole = IFTTrainer(recipe, out=tmp_path / "whole")
    whole.fit()
    begun = IFTTrainer(recipe, out=tmp_path / "begun_by_one")
    begun.fit(lambda progress: begun.stop() if progress.step == 9 else None)
    script = Path(__file__).with_name("two_processes.py")
    done = subprocess.run([*TORCHRUN, str(script), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    resumed = IFTTrainer.resume(tmp_path / "begun_by_two")
    assert resumed.step == 9
    assert any("not bit for bit the same run: processes" in note for note in resumed.notes)
    resumed.fit()
    for name in ("begun_by_one", "begun_by_two"):
        run = Run(tmp_path / name)
        assert [row["step"] for row in run.metrics] == [row["step"] for row in Run(tmp_path / "whole").metrics]
        for level in ("classifier", "augmenter"):
            ours = getattr(run, level)().state_dict()
            for key, theirs in getattr(whole, level).state_dict().items():
                torch.testing.assert_close(ours[key], theirs, rtol=1e-3, atol=1e-4, msg=f"{name} {key}")


def test_a_process_that_dies_ends_the_run_with_a_sentence_and_a_checkpoint(quick, tmp_path):
    """Killed as the kernel would kill it for want of memory; what is left goes on in one process."""
    quick(steps=300).save(tmp_path / "recipe.yaml")
    run = tmp_path / "run"
    command = ["-m", "augnet", "train", "--recipe", "recipe.yaml", "--out", "run", "--device", "cpu", "--devices", "2"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while not (run / "metrics.csv").exists() and process.poll() is None:
            time.sleep(0.1)
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
        os.kill(max(child for child, parent in pairs if parent == process.pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    finally:
        # Where a check fails: it takes the processes with it.
        process.terminate()
    assert process.returncode == 2
    assert "augnet: another process of this training is gone" in errors
    assert "augnet: process 1 of 2 was ended by SIGKILL; the last checkpoint goes on with --resume" in errors
    assert "Traceback" not in errors
    resumed = IFTTrainer.resume(run)
    resumed.fit(lambda progress: resumed.stop())
    assert resumed.step > 0


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_of_a_batch_are_the_batch(processes):
    images = Digits(size=8, train_size=50, val_size=10).load(0).train
    streams = [batches(images, 16, seed=1, start=2, share=(rank, processes)) for rank in range(processes)]
    for whole, *shares in islice(zip(batches(images, 16, seed=1, start=2), *streams, strict=True), 4):
        for part, pieces in zip(whole, zip(*shares, strict=True), strict=True):
            assert torch.equal(torch.cat(pieces), part)
    with pytest.raises(ValueError, match="a batch of 50 images has no 4 equal shares; set the batch size"):
        batches(images, 64, seed=1, share=(0, 4))


def test_one_gpu_is_not_named_for_several_processes():
    with pytest.raises(ValueError, match="device 'cuda:1' is one GPU for 2 processes; set device to 'cuda'"):
        Processes(0, 2).device("cuda:1")


@pytest.mark.parametrize("devices", ["0", "two", "-1", "1.5"])
def test_devices_are_a_whole_number(devices, capsys):
    assert main(["train", f"--devices={devices}"]) == 2
    assert capsys.readouterr().err == f"augnet: --devices must be a whole number from 1, found {devices!r}\n"


def test_only_the_first_process_speaks(capsys):
    for rank in range(2):
        with Processes(rank, 2).one_voice():
            print(f"process {rank}")
            print(f"error {rank}", file=sys.stderr)
    assert capsys.readouterr() == ("process 0\n", "error 0\n")
