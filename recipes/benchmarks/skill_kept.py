"""How much of a classifier's skill is left under each transform of finished runs, alone and always.

    python recipes/benchmarks/skill_kept.py runs/signs runs/letters

Skill is accuracy above that of guessing the most frequent class; images are those of validation. A transform that
leaves less than `outer.least_skill` in the middle or at the end of a training is left out (`augnet.training.spoiling`).
"""

import argparse
import csv
import math
from pathlib import Path

import torch

from augnet.training import Run
from augnet.training.spoiling import spoiling

SHOWN = 3
HERE = Path(__file__).parent


def kept(folder: Path) -> list[tuple[str, float]]:
    """Give transforms and what they leave, the least first; those under which no loss is seen are not among them."""
    run = Run(folder)
    augmenter, images = run.augmenter(), run.splits().val
    found = spoiling(augmenter, run.classifier(), images, least_skill=0.999, ripe=0.0, seed=0, workers=0)
    pairs = zip(augmenter.transforms, found.tolist(), strict=True)
    return sorted(((t.label, share) for t, share in pairs if not math.isnan(share)), key=lambda pair: pair[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=HERE / "skill_kept.csv")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = [(folder.name, label, round(share, 3)) for folder in asked.runs for label, share in kept(folder)]
    for folder in asked.runs:
        least = [f"{label} {share:.2f}" for name, label, share in rows if name == folder.name][:SHOWN]
        print(f"{folder.name}: {', '.join(least) or 'no loss is seen under any'}")
    with asked.out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("run", "transform", "kept"), *rows])


if __name__ == "__main__":
    main()
