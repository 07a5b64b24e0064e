"""`augnet compare`: whether what was learned is any better."""

import argparse
from pathlib import Path

from augnet.cli.arguments import Parser


def compare(arguments: list[str]) -> int:
    """Retrain classifiers from scratch with what was learned and with fixed augmentation, and judge.

    augnet compare RUN [--seeds 5] [--arms A,B,...] [--budgets 1,4] [--copies 1] [--jobs N] [--out FOLDER]

    Arms are none, mirror_crop, TrivialAugmentWide, RandAugment, AutoAugment, AugMix (these four also as
    mirror_crop+NAME), albumentations (a usual pipeline), uniform (the run's own transforms, unlearned), learned,
    learned_plain (without what depends on the image), longer (the best fixed one, trained for as long as learning
    took, too), and transforms of your own: file.py:NAME or module:NAME. learned@0.5 has half the strength.

    Writes comparison.md, .json, .csv, .png, and results.csv with every training. What was trained already is not
    trained again, and stays in the table where it has all the seeds asked for: after Ctrl-C, or to add seeds, arms or
    budgets, run it again. A transform of your own is known by its file: after changing what that imports, give --out.
    """
    # These take seconds to import, which other verbs need not pay.
    from augnet import compare as comparing
    from augnet.compare.writing import conclusion, heading, table

    parser = Parser(compare)
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a run that has come to its end")
    parser.add_argument("--seeds", metavar="N", type=int, default=5, help="trainings of each arm (5)")
    parser.add_argument("--arms", metavar="A,B,...", type=_list, help="all by default")
    parser.add_argument(
        "--budgets", metavar="B,...", type=_numbers, default=[1.0], help="steps, in multiples of the run's (1)"
    )
    parser.add_argument(
        "--copies", metavar="N", type=int, default=1, help="also average predictions over N views of a test image"
    )
    parser.add_argument("--jobs", metavar="N", type=int, help="processes; by default one per core, on a GPU 4")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="RUN/comparison by default")
    parser.add_argument(
        "--known", metavar="FILE", type=_list, default=[], help="results.csv of other comparisons on the same images"
    )
    options = vars(parser.parse_args(arguments))
    try:
        found = comparing.compare(options.pop("run"), **options, tell=lambda sentence: print(sentence, flush=True))
    except KeyboardInterrupt:
        print("what was trained, if anything, is kept; the same command goes on", flush=True)
        raise
    for section in found.sections:
        print(f"\n{heading(section)}\n", *table(section), f"\n{conclusion(section)}", sep="\n")
    print("", *(f"note: {note}" for note in found.notes), sep="\n")
    comparing.write(found)
    print(f"wrote {found.out / 'comparison.md'}, .json, .csv and .png")
    return 0


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in _list(text)]
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"invalid value {text!r}; give numbers with commas between, such as 1,4"
        ) from error
