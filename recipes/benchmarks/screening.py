"""What of a start matters: many of its numbers set low or high at once, in trainings that tell their effects apart.

    python recipes/benchmarks/screening.py path/to/signs.npz --set MirrorLeftRight=0.01 MirrorUpDown=0.01 \\
        --factors TranslateX+TranslateY=0.2:0.6 Rotate=0.01:0.2 GaussianNoise=0.01:0.2 spread=0.4:0.8
    python recipes/benchmarks/screening.py --effects recipes/benchmarks/screening.csv

The design is that of Plackett and Burman (1946) with 24 trainings for up to 23 factors: of each, half of the trainings
have it high, and of these half have any other high. So the effect of a factor, the mean where it is high less the mean
where it is low, is that of all trainings at once, with an error of 0.41 times the scatter of one of them; what two
factors do together is spread over the effects of the others. A factor is a probability of the default start, or of a
transform that is added, or of several ('+'); or the spread of all. Columns and signs are drawn anew for each data set.
Data, split, precision and settings are those of `set_by_hand.py`. The seed of a training is its number in the design.
Appends a row per training to --table, and leaves out what is there already.
"""

import argparse
import csv
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from measuring import append
from set_by_hand import bench_of, by_hand, given_data, parsed, retrained

from augnet.compare.learned import Learned

ROW = [1 if sign == "+" else -1 for sign in "+++++-+-++--++--+-+----"]
# Shrinks effects of a table that is not full; the larger, the more.
RIDGE = 0.5


class Factor(NamedTuple):
    """Names of probabilities, or "spread", and the two values that they have."""

    names: list[str]
    low: float
    high: float

    @classmethod
    def parse(cls, text: str) -> "Factor":
        """Read NAME[+NAME]=LOW:HIGH.

        Raises:
            argparse.ArgumentTypeError: if it is none.
        """
        try:
            names, values = text.split("=")
            low, high = map(float, values.split(":"))
            if not 0 < low < high < 1:
                raise ValueError
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"a factor is NAME=LOW:HIGH with 0 < LOW < HIGH < 1, such as Rotate=0.01:0.2, found {text!r}"
            ) from None
        return cls(names.split("+"), low, high)


def design(data: str) -> np.ndarray:
    """Build the 24×23 matrix of −1 and 1; its columns are orthogonal. Its order is of the data set's name."""
    rows = np.array([*(np.roll(ROW, shift) for shift in range(len(ROW))), [-1] * len(ROW)])
    rng = np.random.default_rng(list(data.encode()))
    rows = rows[:, rng.permutation(len(ROW))] * rng.choice([-1, 1], len(ROW))
    return rows[rng.permutation(len(rows))]


def levels_at(factors: list[Factor], data: str, run: int) -> dict[str, float]:
    """Say what each factor is in a run of the design."""
    signs = design(data)[run]
    return {"+".join(f.names): f.high if sign > 0 else f.low for f, sign in zip(factors, signs, strict=False)}


def effects(levels: list[dict[str, float]], results: list[float]) -> dict[str, float]:
    """Estimate what going from low to high does to a result, for every factor, by least squares.

    Of fewer trainings than a full design, effects are drawn towards 0 (ridge regression).
    """
    names = list(levels[0])
    columns = np.array([[each[name] for name in names] for each in levels])
    signs = np.sign(columns - (columns.min(0) + columns.max(0)) / 2)
    full = len(np.unique(signs, axis=0)) > len(ROW)
    signs, values = signs - signs.mean(0), np.array(results) - np.mean(results)
    ridge = 0.0 if full else RIDGE * len(levels) / 4
    found = 2 * np.linalg.solve(signs.T @ signs + ridge * np.eye(len(names)), signs.T @ values)
    return dict(zip(names, found.tolist(), strict=True))


def read(table: Path) -> dict[str, list[dict[str, str]]]:
    """Read trainings, by data set."""
    found: dict[str, list[dict[str, str]]] = {}
    with table.open() as file:
        for row in csv.DictReader(file):
            found.setdefault(row["data"], []).append(row)
    return found


def levels_of(row: dict[str, str]) -> dict[str, float]:
    """Read a row's levels."""
    return {name: float(value) for name, value in (each.split("=") for each in row["levels"].split())}


def print_effects(table: Path) -> None:
    """Print the effects of every factor, in points of accuracy and in hundredths of the loss's logarithm."""
    found = {}
    for data, rows in read(table).items():
        levels = [levels_of(row) for row in rows]
        accuracy = effects(levels, [float(row["accuracy"]) for row in rows])
        loss = effects(levels, [100 * np.log(float(row["loss"])) for row in rows])
        found[data] = {name: f"{accuracy[name]:+.2f} ({loss[name]:+.1f} %)" for name in accuracy}
    names = dict.fromkeys(name for each in found.values() for name in each)
    print("| from low to high |", " | ".join(found), "|")
    print("|---" * (1 + len(found)) + "|")
    for name in names:
        print(f"| {name} |", " | ".join(each.get(name, "") for each in found.values()), "|")


def main(arguments: list[str] | None = None) -> None:
    """Retrain, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given_data(parser, nargs="?")
    parser.add_argument("--factors", nargs="+", type=Factor.parse, default=[], metavar="NAME=LOW:HIGH")
    parser.add_argument("--runs", type=int, nargs="+", default=list(range(24)), choices=range(24), metavar="RUN")
    parser.add_argument("--table", type=Path, default=Path("screening.csv"))
    parser.add_argument("--effects", type=Path, metavar="TABLE", help="print the effects that a table shows")
    options, settings = parsed(parser, arguments)
    if options.effects:
        print_effects(options.effects)
        return
    if not options.data or not 1 <= len(options.factors) <= len(ROW):
        parser.error(f"name the data and from 1 to {len(ROW)} --factors, or a table with --effects")
    named = [
        *options.without,
        *(each.split("=")[0] for each in options.set),
        *(n for f in options.factors for n in f.names),
    ]
    if twice := sorted({name for name in named if named.count(name) > 1}):
        parser.error(f"{twice[0]} is named twice among --factors, --set and --without; leave it out of all but one")
    data = Path(options.data).stem
    fixed_by = " ".join([
        f"--train {options.train} --val {options.val} --split {options.split}",
        *(f"--{name} {' '.join(sorted(given))}" for name in ("set", "without") if (given := getattr(options, name))),
        *settings,
    ])  # fmt: skip
    done = {int(row["run"]): row for row in read(options.table).get(data, [])} if options.table.exists() else {}
    for run, row in done.items():
        if levels_of(row) != levels_at(options.factors, data, run) or row["settings"] != fixed_by:
            parser.error(f"{options.table} has trainings on {data} of another design or other settings; name another")
    torch.set_num_threads(1)
    bench, fixed = bench_of(options, settings)
    for run in sorted(set(options.runs) - set(done)):
        levels = levels_at(options.factors, data, run)
        each = {name: value for names, value in levels.items() for name in names.split("+")}
        spread = each.pop("spread", None)
        augmenter = by_hand({**fixed, **each}, options.without, bench.augmenter.channels, spread=spread)
        found = retrained(bench, Learned(), run, augmenter)
        row = {
            "data": data, "run": run, "levels": " ".join(f"{name}={value:g}" for name, value in levels.items()),
            "settings": fixed_by, "steps": found.steps, "accuracy": round(100 * found.measures.accuracy, 2),
            "loss": round(found.measures.loss, 4),
        }  # fmt: skip
        print(row, flush=True)
        append(row, options.table)


if __name__ == "__main__":
    main()
