"""Print the table of the README, by how much learned is above each arm, and averages, from the results that are kept.

    python recipes/benchmarks/compared.py

`compared_*.csv` are what `augnet compare` writes as results.csv, of runs that the README lists; `--known` reads them.
Differences are paired by seed, with Student's 95 % interval over seeds (`augnet.compare.intervals`), and again without
seed 0, which begins with the weights that the run began with. Arms are compared at the steps of the run, and at others
below.
"""

import csv
from collections import defaultdict
from pathlib import Path

from augnet.compare.intervals import interval
from augnet.compare.verdict import in_points, percent, signed

HERE = Path(__file__).parent
DATA = {
    "gtsrb": "GTSRB traffic signs, 3,000",
    "cifar10": "CIFAR-10, 3,000",
    "cifar10_5000": "CIFAR-10, 5,000",
    "fashion_mnist": "Fashion-MNIST, 2,000",
    "digits": "digits, 300",
    "mnist": "MNIST, 600",
    "letters": "letters, 562 classes, 4,498",
}
ARMS = {
    "learned": "learned",
    "none": "none",
    "mirror_crop": "mirror + crop",
    "TrivialAugmentWide": "TrivialAugment",
    "RandAugment": "RandAugment",
    "AutoAugment": "AutoAugment",
    "AugMix": "AugMix",
    "albumentations": "albumentations",
    "mirror_crop+TrivialAugmentWide": "mirror + crop + TrivialAugment",
    "uniform": "unlearned",
}
AVERAGED = ("gtsrb", "cifar10")
# By how many trainings a mean stands out, where they are not five.
MARKS = {1: "({})", 2: "{}‡", 3: "{}†", 4: "{}†"}
Accuracies = dict[int, float]


def read(path: Path) -> tuple[dict[tuple[str, int], Accuracies], int]:
    """Read accuracies by seed of each arm and number of steps, and how many images they are of."""
    found: dict[tuple[str, int], Accuracies] = defaultdict(dict)
    images = 0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            found[row["arm"], int(row["steps"])][int(row["seed"])] = float(row["accuracy"])
            right = sum(map(int, row["right"].split()))
            images = round(right / float(row["accuracy"])) if right else images
    return found, images


def means(found: dict[tuple[str, int], Accuracies], steps: int) -> dict[str, str]:
    """Write the mean of each arm, marked by its number of trainings; the best with three or more stands out."""
    there = {arm: found[arm, steps] for arm in ARMS if (arm, steps) in found}
    text = {arm: percent(sum(each.values()) / len(each)) for arm, each in there.items()}
    best = max(float(text[arm]) for arm, each in there.items() if len(each) >= 3)
    bold = {arm: f"**{text[arm]}**" if float(text[arm]) == best and len(there[arm]) >= 3 else text[arm] for arm in text}
    return {arm: MARKS.get(len(there[arm]), "{}").format(bold[arm]) for arm in there}


def differences(found: dict[tuple[str, int], Accuracies], steps: int, images: int) -> list[str]:
    """Say by how much learned is above each arm, by the seeds that they have in common."""
    lines = []
    for arm in ARMS:
        mine, theirs = found["learned", steps], found.get((arm, steps), {})
        common = sorted(mine.keys() & theirs.keys())
        if arm == "learned" or not common:
            continue
        each = {seed: mine[seed] - theirs[seed] for seed in common}
        whole = interval(list(each.values()), 1 / images)
        ends = f"{in_points(whole)}; {len(common)} seeds" if len(common) > 1 else "1 seed"
        line = f"{ARMS[arm]}: {signed(whole.mean)} ({ends})"
        rest = [value for seed, value in each.items() if seed]
        if len(rest) > 1:
            without = interval(rest, 1 / images)
            line += f", without seed 0 {signed(without.mean)} ({in_points(without)})"
        lines.append(line)
    return lines


def averages() -> list[str]:
    """Average the means of arms over the two data sets that want opposite things, the best first."""
    tables = [read(HERE / f"compared_{name}.csv")[0] for name in AVERAGED]
    steps = min(steps for arm, steps in tables[0] if arm == "learned")
    each = {arm: [table[arm, steps] for table in tables] for arm in ARMS if all((arm, steps) in t for t in tables)}
    found = {arm: sum(sum(a.values()) / len(a) for a in both) / len(both) for arm, both in each.items()}
    return [f"{ARMS[arm]} {percent(found[arm])}" for arm in sorted(found, key=found.__getitem__, reverse=True)]


def main() -> None:
    """Print it."""
    print("|".join(["", " data, images ", *(f" {name} " for name in ARMS.values()), ""]))
    print("|" + "---|" * (1 + len(ARMS)))
    notes = []
    for name, label in DATA.items():
        found, images = read(HERE / f"compared_{name}.csv")
        lengths = sorted({steps for arm, steps in found if arm == "learned"})
        cells = means(found, lengths[0])
        print("|".join(["", f" {label} ", *(f" {cells.get(arm, '')} ".replace("  ", " ") for arm in ARMS), ""]))
        notes += [f"\n{label}, {lengths[0]:,} steps, learned above", *differences(found, lengths[0], images)]
        for longer in lengths[1:]:
            each = {arm: found[arm, longer] for arm in ARMS if (arm, longer) in found}
            told = (f"{ARMS[arm]} {percent(sum(a.values()) / len(a))} ({len(a)})" for arm, a in each.items())
            notes += [f"{longer:,} steps (trainings): {', '.join(told)}", *differences(found, longer, images)]
    print("\n".join(notes))
    print(f"\nOn the average of {' and '.join(DATA[name] for name in AVERAGED)}: {', '.join(averages())}")


if __name__ == "__main__":
    main()
