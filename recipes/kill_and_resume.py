"""Kill a training with SIGKILL at random moments, resume it, and compare its weights with those of a whole run.

    python recipes/kill_and_resume.py --times 10

Prints one row per kill. Moments are drawn over the whole run, its start-up and its last checkpoint included.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = ["--schedule.inner_steps", "150", "--schedule.warmup", "20", "--checkpoint_every", "20"]


def augnet(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "augnet", "train", *arguments]


def weights(run: Path) -> tuple[bytes, ...]:
    return tuple((run / f"{name}.safetensors").read_bytes() for name in ("augmenter", "classifier"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        began = time.perf_counter()
        subprocess.run(augnet("--out", str(whole), *SETTINGS), check=True, capture_output=True)
        seconds = time.perf_counter() - began
        print(f"uninterrupted run: {seconds:.1f} s\n")
        print("| kill | after s | was at | weights the same |\n|---|---|---|---|")
        failures = 0
        for number in range(1, options.times + 1):
            run = Path(folder) / f"killed{number}"
            process = subprocess.Popen(
                augnet("--out", str(run), *SETTINGS), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            moment = random.uniform(0, seconds)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            process.wait()
            began_checkpoint = (run / "resume" / "state.safetensors").exists()
            # Killed before its first checkpoint there is nothing to resume: the run is begun again.
            again = ("--resume", str(run)) if began_checkpoint else ("--out", str(run) + "b", *SETTINGS)
            subprocess.run(augnet(*again), check=True, capture_output=True)
            run = run if began_checkpoint else Path(str(run) + "b")
            same = weights(run) == weights(whole)
            failures += not same
            where = "training" if began_checkpoint else "start-up"
            print(f"| {number} | {moment:.1f} | {where} | {same} |", flush=True)
        sys.exit(failures > 0)


if __name__ == "__main__":
    main()
