"""`augnet train`: settings in, a progress bar, and what was learned."""

import argparse
import contextlib
import dataclasses
import inspect
import json
import math
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import DefaultHelpFormatter
from tqdm import tqdm

from augnet.augmenter import change_in_words
from augnet.data import source_from
from augnet.nearest import nearest
from augnet.recipe import FAMILIES, Recipe, as_plain, settings_parser
from augnet.training import IFTTrainer, Progress, Run, TrainingDiverged
from augnet.training.parallel import Processes, launch
from augnet.training.signals import heeded

STOPPING = (signal.SIGINT, signal.SIGTERM)
# Settings that belong to no group.
TOP = {"recipe", *(field.name for field in dataclasses.fields(Recipe))}
RESIDUAL = "a residual without transforms"
UNMOVED = "no transform has changed by a tenth since the start"


def train(arguments: list[str]) -> int:
    """Learn an augmenter and a classifier from labelled images.

    augnet train [DATA] [--model NAME] [--out FOLDER] [--root FOLDER] [--recipe FILE] [SETTINGS]
    augnet train --resume RUN
    torchrun --nproc-per-node N -m augnet train ...

      DATA             a folder of class folders (with train/ val/ test/ inside, or without), an .npz archive, the name
                       of a torchvision data set, or hf:NAME; the digits of scikit-learn by default
      --model NAME     any timm model; short for --classifier.name
      --out FOLDER     run folder to write; runs/DATA by default
      --root FOLDER    where a torchvision data set lies
      --resume RUN     go on with a run that was stopped or killed
      --devices N      train in N processes of this machine, each on its GPU or, without one, on the CPU; torchrun does
                       so over several machines
      --recipe FILE    settings in YAML; what follows on the command line wins
    """
    if {"-h", "--help"} & set(arguments):
        usage = "augnet train [DATA] [SETTINGS]"
        settings_parser(usage=usage, description=inspect.getdoc(train), formatter_class=_Manual).print_help()
        return 0
    own, settings = _split(arguments, ("model", "out", "root", "resume", "devices"))
    devices, processes = own.pop("devices", "1"), Processes.joined()
    if not devices.isdecimal() or int(devices) < 1:
        raise ValueError(f"--devices must be a whole number from 1, found {devices!r}")
    if int(devices) > processes.count == 1:
        return launch(int(devices), ["train", *arguments])
    with processes.one_voice():
        return _train(own, settings)


def _train(own: dict[str, str], settings: list[str]) -> int:
    if "resume" in own:
        _refuse_beside_resume(own, settings)
        trainer = IFTTrainer.resume(own["resume"])
    else:
        trainer = _begin(own, settings)
    with (
        _kept_if_learned(trainer, new="resume" not in own),
        heeded(STOPPING, trainer.stop) as signals,
        _bar(trainer) as report,
    ):
        run = trainer.fit(report)
    if run is None:
        return 0
    # Without a signal of its own, another process was told to stop.
    return _finished(run) if run.finished else _stopped(trainer, signals[0] if signals else signal.SIGTERM)


class _Manual(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keep the lines of the description as they are written."""


def _split(arguments: list[str], names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Take DATA and the options of these names out of the arguments; the rest are settings of the recipe.

    Every option takes one value, so whatever follows neither `--name` nor a value is DATA.
    """
    own: dict[str, str] = {}
    settings: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        if not argument.startswith("--"):
            if argument.startswith("-"):
                raise ValueError(f"options have two dashes, found {argument!r}; `augnet train --help` lists them")
            if "data" in own:
                raise ValueError(f"one DATA is enough, found {own['data']!r} and {argument!r}")
            own["data"] = argument
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals:
            family = FAMILIES.get(name.removesuffix(".help"))
            if family and name.removesuffix(".help") in TOP and not queue:
                known = ", ".join(member.__name__ for member in family())
                raise ValueError(f"{argument} wants the name of one behind it: {known}")
            if not queue or queue[0].startswith("--"):
                raise ValueError(f"{argument} lacks its value; `augnet train --help` explains it")
            value = queue.pop(0)
        meant = nearest(f"--{name}", [f"--{each}" for each in names])
        if name in names:
            own[name] = value
        elif name not in TOP and "." not in name and "did you mean" in meant:
            raise ValueError(f"there is no option --{name}{meant}")
        else:
            settings += [f"--{name}={value}"]
    return own, settings


def _begin(own: dict[str, str], settings: list[str]) -> IFTTrainer:
    """Make a trainer of what the command line said."""
    recipes = [s for s in settings if s.startswith("--recipe=")]
    others = [s for s in settings if not s.startswith("--recipe=")]
    if "data" in own and (run := Path(own["data"]) / "recipe.yaml").is_file():
        raise ValueError(
            f"{own['data']!r} is a run, not images; go on with it by --resume, or learn like it: --recipe {run}"
        )
    # DATA stands for a whole source, and must come before settings of single fields of it.
    if "data" in own:
        recipes.append(f"--data={json.dumps(as_plain(source_from(own['data'], own.get('root'))))}")
    elif "root" in own:
        raise ValueError("--root says where a torchvision data set lies, but no DATA was named")
    if "model" in own:
        recipes.append(f"--classifier.name={own['model']}")
    recipe = Recipe.parse([*recipes, *others])
    return IFTTrainer(recipe, out=own.get("out") or _free_folder(own.get("data") or type(recipe.data).__name__.lower()))


def _free_folder(data: str) -> Path:
    """Name a run folder after the data, with a number where it is taken."""
    # Resolved, so that "." and ".." have names.
    path = Path(data).expanduser().resolve()
    name = (path.parent.name or path.stem) if path.stem == "train" else path.stem or "run"
    for number in range(1, 10_000):
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            return folder
    raise ValueError(f"runs/ has 10,000 runs of {name}; name another folder with --out")


def _refuse_beside_resume(own: dict[str, str], settings: list[str]) -> None:
    surplus = [name for name in own if name != "resume"] + [s[2:].partition("=")[0] for s in settings]
    if surplus:
        raise ValueError(
            f"--resume goes on with the recipe of {own['resume']}, so {', '.join(surplus)} cannot be set; "
            "start a new run"
        )


@contextlib.contextmanager
def _bar(trainer: IFTTrainer) -> Iterator[Callable[[Progress], None]]:
    """Show a progress bar if somebody looks, and now and then a line in words."""
    splits, total = trainer.splits, trainer.recipe.schedule.inner_steps
    print(
        f"{len(splits.train):,} training, {len(splits.val):,} validation and {len(splits.test or ()):,} test images of "
        f"{len(splits.classes)} classes, {splits.size[1]}×{splits.size[0]} pixels · run folder {trainer.path}"
    )
    if trainer.step:
        print(
            f"going on at step {trainer.step:,} of {total:,}"
            if trainer.step < total
            else "this run has come to its end"
        )
    for note in trainer.notes:
        print(f"note: {note}")
    if not splits.test:
        print("note: no test images, so there will be nothing to compare on; a run with --data.test_size has some")
    lines, start, kept = 0, trainer.augmenter.start(), len(trainer.watch.kept)
    # Where there are few, all are learned from.
    watched = f"loss on {kept:,} {'watched ' if kept < len(splits.val) else ''}validation images"
    # In a file, a bar would be a line for each of its states.
    settings: dict[str, Any] = {"unit": "step", "dynamic_ncols": True, "smoothing": 0.05, "disable": None}
    with tqdm(total=total, initial=trainer.step, **settings) as bar:

        def report(progress: Progress) -> None:
            nonlocal lines
            lines += 1
            bar.update(progress.step - bar.n)
            shown = {
                "training loss {:.3f}": progress.training_loss,
                "validation loss {:.3f}": progress.validation_loss,
                "hypergradient norm {:.1e}": progress.hypergradient_norm,
                "{:,.0f} images/s": progress.images_per_second,
            }
            # Before the first augmenter update there is no hypergradient to speak of.
            bar.set_postfix_str(", ".join(form.format(value) for form, value in shown.items() if not math.isnan(value)))
            for warning in progress.warnings:
                bar.write(f"warning: {warning}")
            if lines % 6 == 0:
                losses = f"training loss {progress.training_loss:.3f}, {watched} {progress.watched_loss:.3f}"
                words = change_in_words(progress.learned, start) or (UNMOVED if start else RESIDUAL)
                bar.write(f"step {progress.step:,} of {total:,} · {losses} · {words}")

        yield report


@contextlib.contextmanager
def _kept_if_learned(trainer: IFTTrainer, new: bool) -> Iterator[None]:
    """Where training ends in an error, remove a new run that learned nothing, and say how to go on with any other."""
    try:
        yield
    except BaseException as error:
        if new and trainer.step == 0 and trainer.folder:
            trainer.folder.discard()
        elif not isinstance(error, TrainingDiverged):
            print(f"the last checkpoint is kept; go on with: {_resume(trainer)}")
        raise


def _resume(trainer: IFTTrainer) -> str:
    return f"augnet train --resume {shlex.quote(str(trainer.path))}"


def _stopped(trainer: IFTTrainer, number: int) -> int:
    total = trainer.recipe.schedule.inner_steps
    print(f"stopped at step {trainer.step:,} of {total:,} and saved; go on with: {_resume(trainer)}")
    return 128 + number


def _finished(run: Run) -> int:
    record = run.record
    test = f", test {record['test_accuracy']:.1%}" if record["test_accuracy"] is not None else ", no test images"
    seconds = sum(record["seconds"].values())
    share = record["share_of_learning_to_augment"]
    learning = "" if share is None else f", of which learning the augmenter took {share:.0%}"
    print(f"accuracy    validation {record['validation_accuracy']:.1%}{test}")
    print(f"learned     {record['changed'] or (UNMOVED if record['in_words'] else RESIDUAL)}")
    print(f"policy      {record['in_words'] or RESIDUAL}")
    print(f"cost        {seconds:,.0f} s{learning}")
    print(f"run folder  {run.path}")
    path = shlex.quote(str(run.path))
    # Without test images there is nothing to compare on.
    last = f"augnet compare {path}" if record["test_accuracy"] is not None else "train with --data.test_size to compare"
    print(f"next        augnet show {path} · augnet export {path} · {last}")
    return 0
