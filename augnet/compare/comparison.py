"""The comparison of a run with fixed augmentation: what is trained, what comes of it, and the verdict.

Every arm trains a fresh classifier on the run's training and validation images, with the run's classifier, optimiser,
schedule and batch size, and is tested once. The arms share their seeds. Learning has a cost of its own, which
retraining hides; so the best fixed arm is also trained for longer, by as many steps as fit into the time of the whole
joint run. How many that is follows from the run's own clock: its seconds over those of a step that updates the
classifier alone.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from augnet.compare.arm import Arm
from augnet.compare.bench import Bench
from augnet.compare.naming import arm_named, chosen
from augnet.compare.processes import Processes
from augnet.compare.results import Results, read
from augnet.compare.retraining import key_of
from augnet.compare.study import Study, Tell, usable
from augnet.compare.summary import Section
from augnet.compare.verdict import Verdict, judge
from augnet.data import DataSource
from augnet.training import Run
from augnet.training.device import device_named

# Processes that share a GPU by default.
ON_A_GPU = 4


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What learning the augmentation has cost.

    Args:
        seconds: of the joint run.
        share: of them that the augmenter took, beyond the classifier's own training; None as for `steps`.
        steps: classifier updates, with the augmentation and without learning it, that fit into the same time; None
            where every step of the run updated the augmenter, so that nobody knows what others take.
    """

    seconds: float
    share: float | None
    steps: int | None

    @classmethod
    def of_run(cls, run: Run) -> "Learning":
        """Read it from a run's record."""
        record, schedule = run.record, run.recipe.schedule
        seconds = sum(record["seconds"].values())
        plain_steps = schedule.inner_steps - schedule.outer_steps_before(schedule.inner_steps)
        plain = record["seconds"]["inner"] / plain_steps if plain_steps else 0.0
        steps = round(seconds / plain) if plain > 0 else None
        return cls(seconds=seconds, share=record["share_of_learning_to_augment"], steps=steps)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a comparison came to.

    Args:
        run: path of the run.
        sections: one per budget and number of views, those asked for first.
        learning: what learning cost.
        steps: of the run.
        classes: name of each label.
        train_images: how many each classifier was trained on.
        test_images: of each class.
        notes: what was left out, one sentence each.
        out: folder with results.csv and what was written beside it.
    """

    run: Path
    sections: tuple[Section, ...]
    learning: Learning
    steps: int
    classes: tuple[str, ...]
    train_images: int
    test_images: tuple[int, ...]
    notes: tuple[str, ...]
    out: Path

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the first section that has one."""
        return next((verdict for section in self.sections if (verdict := judge(section))), None)


def compare(
    run: Run | Path | str,
    *,
    arms: Iterable[str | Arm] | None = None,
    seeds: int = 5,
    budgets: Sequence[float] = (1,),
    copies: int = 1,
    jobs: int | None = None,
    out: Path | str | None = None,
    known: Iterable[Path | str] = (),
    data: DataSource | None = None,
    classifier: Callable[[], nn.Module] | None = None,
    tell: Tell = lambda _: None,
) -> Comparison:
    """Retrain from scratch with what a run learned and with fixed augmentation, and judge.

    What was trained before, for this folder or for the tables in `known`, is not trained again, and is compared too
    if there are all the seeds asked for: arms that are not named, and budgets of which there is a verdict to give.

    Args:
        run: a run that has come to its end, or its folder.
        arms: names or members; all by default. `longer` stands for the best fixed one, trained for longer.
        seeds: trainings of each arm, with seeds from 0.
        budgets: steps, in multiples of the run's.
        copies: also average predictions over so many views of each test image.
        jobs: processes; by default one per core, on a GPU at most 4. With 1 all is done in this process.
        out: folder to write to; `comparison` in the run folder by default.
        known: further tables of results to read, such as those of fixed arms on the same images.
        data: the run's images, where they came from Python.
        classifier: makes a fresh classifier, where the run trained a module of the user's own.
        tell: called with a sentence on what is done.

    Raises:
        ValueError: if the run cannot be compared, an arm is unknown or fails, or a number makes no sense.
        ChildProcessError: if a process died.
    """
    _check(seeds, budgets, copies, jobs)
    known = list(known)
    run = run if isinstance(run, Run) else Run(run)
    asked, longer = chosen(arms)
    if not asked:
        raise ValueError("name at least one arm to train, such as learned,none")
    bench = Bench.of_run(run, data, classifier)
    learning = Learning.of_run(run)
    working, notes = usable(asked, bench, strict=arms is not None)
    extra = 0
    if longer and learning.steps is None:
        notes.append("nothing is trained for longer: every step of the run updated the augmenter, and what it would "
                     "have taken without is not known")  # fmt: skip
    elif longer:
        extra = learning.steps or 0
    out = Path(out or run.path / "comparison")
    out.mkdir(parents=True, exist_ok=True)
    lengths = {budget: max(1, round(budget * run.recipe.schedule.inner_steps)) for budget in budgets}
    with Processes(bench, jobs or _default_jobs(bench)) as processes:
        results = Results(out / "results.csv", [Path(path) for path in known])
        keys = {arm.name: key_of(bench, arm) for arm in working}
        others = _others_known(results, bench, keys)
        keys |= {arm.name: key for arm, key in others.items()}
        for path in known:
            rows = list(read(Path(path)))
            fit = sum(row.key in keys.values() for row in rows)
            tell(f"{fit:,} of the {len(rows):,} trainings of {path} are of these images, settings and packages")
        study = Study(
            bench=bench, seeds=seeds, copies=copies, processes=processes, tell=tell, keys=keys, results=results
        )
        study.train(
            [(arm, steps) for steps in lengths.values() for arm in working],
            ahead=sum(steps + extra for steps in lengths.values()) if extra else 0,
        )
        everyone = [*working, *others]
        if extra:
            best = [(study.best_fixed(everyone, steps), steps + extra) for steps in lengths.values()]
            study.train([(arm, steps) for arm, steps in best if arm is not None])
            if all(arm is None for arm, _ in best):
                notes.append("nothing is trained for longer: there is no fixed arm")
        before = {n / run.recipe.schedule.inner_steps: n for n in results.lengths if n not in lengths.values()}
        longest = learning.steps or 0
        sections = [
            study.section(everyone, budget, steps, views, longest)
            for views in study.views
            for budget, steps in lengths.items()
        ] + [
            study.section(everyone, budget, steps, views, longest)
            for views in study.views
            for budget, steps in before.items()
            if study.to_judge(everyone, steps, views)
        ]
        notes += study.left_out(others, set(lengths.values()))
        notes += study.more_seeds(everyone, {section.steps for section in sections if section.arms})
    per_class = torch.bincount(bench.test.labels, minlength=len(bench.classes))
    return Comparison(
        run=run.path,
        sections=tuple(sections),
        learning=learning,
        steps=run.recipe.schedule.inner_steps,
        classes=bench.classes,
        train_images=len(bench.train),
        test_images=tuple(per_class.tolist()),
        notes=tuple(notes),
        out=out,
    )


def _others_known(results: Results, bench: Bench, named: Iterable[str]) -> dict[Arm, str]:
    """Give the arms that there are any results of, beside those already named, with their keys."""
    others = {}
    for name in sorted({result.arm for result in results.found.values()} - set(named)):
        # A transform of the user's may be gone, or another arm's table come from a newer version.
        with contextlib.suppress(ValueError, FileNotFoundError):
            arm = arm_named(name)
            others[arm] = key_of(bench, arm)
    return others


def _check(seeds: int, budgets: Sequence[float], copies: int, jobs: int | None) -> None:
    for name, value in (("seeds", seeds), ("copies", copies), ("jobs", 1 if jobs is None else jobs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, found {value}")
    if not budgets or not all(0 < budget < math.inf for budget in budgets):
        raise ValueError(f"budgets must be multiples of the run's steps, above 0, found {list(budgets)}")


def _default_jobs(bench: Bench) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if device_named(bench.recipe.device).type == "cpu" else min(cores, ON_A_GPU)
