"""The doing of a comparison: which trainings are still to be made, how long they will take, and making them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from augnet.compare.arm import Arm
from augnet.compare.bench import Bench
from augnet.compare.processes import Processes
from augnet.compare.results import Results
from augnet.compare.retraining import Result, Training, randomness_of, retrain, seconds_per_step
from augnet.compare.summary import ArmSummary, Role, Section, judged_of, ranked
from augnet.compare.verdict import percent

# A prediction costs about a third of an update, which goes through the classifier backwards, too.
PREDICTION = 1 / 3
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Study:
    """Trainings of some arms with the same seeds.

    Args:
        bench: what all arms share.
        keys: by name of the arm, taken once, so that a transform which is edited meanwhile is not taken for another.
        seeds: trainings of each arm.
        copies: views of each test image.
        results: what is known already, and where results are kept.
        processes: that do the work.
        tell: called with a sentence on what is done.
    """

    bench: Bench
    keys: Mapping[str, str]
    seeds: int
    copies: int
    results: Results
    processes: Processes
    tell: Tell

    def train(self, lengths: Iterable[tuple[Arm, int]], ahead: int = 0) -> None:
        """Train what is not known yet, one seed after the other.

        Args:
            lengths: arms with their steps.
            ahead: steps that will be asked for later, of each seed; they only count for the estimate.

        Raises:
            ValueError: if a training fails.
            ChildProcessError: if a process dies.
        """
        lengths = list(lengths)
        # Budgets that are nearly the same come to the same steps.
        plan = dict.fromkeys(
            Training(arm, steps, seed, self.copies, self.keys[arm.name])
            for seed in range(self.seeds)
            for arm, steps in lengths
        )
        left = [each for each in plan if any(self._known(*each[:3], views) is None for views in self.views)]
        if not left:
            return
        known = f", {len(plan) - len(left):,} more are known" if len(left) < len(plan) else ""
        trainings = "1 training" if len(left) == 1 else f"{len(left):,} trainings"
        self.tell(f"{trainings} to make{known}; timing a few steps of each arm")
        self.tell(f"all will take about {self._estimate(left, ahead)}, {self.processes.jobs} at a time")
        for number, (training, results) in enumerate(self.processes.run(retrain, left), 1):
            self.results.add(result for result in results if self._known(*training[:3], result.copies) is None)
            first = results[0]
            self.tell(
                f"{number:,} of {len(left):,} · {first.arm} · seed {first.seed} · {first.steps:,} steps · "
                f"{percent(first.measures.accuracy)} % · {spell(first.seconds)}"
            )

    def summary(self, arm: Arm, steps: int, views: int, role: Role) -> ArmSummary:
        """Gather an arm's results."""
        results = self._results(arm, steps, views)
        return ArmSummary(name=arm.name, role=role, results=results, images=len(self.bench.test))

    def section(self, arms: Sequence[Arm], budget: float, steps: int, views: int, extra: int = 0) -> Section:
        """Gather the results at one budget of all arms that have every seed there.

        Args:
            arms: to look for.
            budget: multiple of the run's steps.
            steps: the same in steps.
            views: of each test image.
            extra: steps on top with which a fixed arm counts as trained for longer; 0 leaves them out.
        """
        there = self._complete(arms, steps, views)
        found = [self.summary(arm, steps, views, "learned" if arm.learned else "fixed") for arm in there]
        # Which one was the best, and was trained for longer, may have changed since.
        fixed = [arm for arm in there if extra and not arm.learned]
        found += [
            self.summary(arm, steps + extra, views, "longer") for arm in self._complete(fixed, steps + extra, views)
        ]
        judged = judged_of([arm.name for arm in there if arm.learned])
        return Section(budget=budget, copies=views, arms=ranked(found), judged=judged)

    def best_fixed(self, arms: Sequence[Arm], steps: int) -> Arm | None:
        """Find the fixed arm that is best on images as they are, whatever the number of views."""
        fixed = {arm.name: arm for arm in self._complete(arms, steps, 1) if not arm.learned}
        best = ranked([self.summary(arm, steps, 1, "fixed") for arm in fixed.values()])
        return fixed[best[0].name] if best else None

    def to_judge(self, arms: Sequence[Arm], steps: int, views: int) -> bool:
        """Whether a learned and a fixed arm have every seed."""
        return len({arm.learned for arm in self._complete(arms, steps, views)}) == 2

    def left_out(self, arms: Iterable[Arm], lengths: Iterable[int]) -> list[str]:
        """Say which arms have some seeds at these steps, but not all."""
        found = []
        for steps in sorted(lengths):
            for arm in arms:
                have = len(self._results(arm, steps, 1))
                if 0 < have < self.seeds:
                    found.append(
                        f"{arm.name} is left out at {steps:,} steps, where it has {have} of {self.seeds} seeds; name "
                        "it to train it"
                    )
        return found

    def more_seeds(self, arms: Iterable[Arm], lengths: Iterable[int]) -> list[str]:
        """Say of which arms in the table more seeds are known than were asked for, so that it lacks them."""
        found = []
        for steps in sorted(lengths):
            complete = self._complete(arms, steps, 1)
            more = [arm.name for arm in complete if self._known(arm, steps, self.seeds, 1) is not None]
            if more:
                seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
                found.append(
                    f"the table is of {seeds}, but more are known of {', '.join(more)} at {steps:,} steps; raise "
                    "--seeds to see them"
                )
        return found

    @property
    def views(self) -> list[int]:
        """Numbers of views that there are results for."""
        return sorted({1, self.copies})

    def _complete(self, arms: Iterable[Arm], steps: int, views: int) -> list[Arm]:
        """List the arms that have every seed."""
        return [arm for arm in arms if len(self._results(arm, steps, views)) == self.seeds]

    def _results(self, arm: Arm, steps: int, views: int) -> tuple[Result, ...]:
        """Look up what is known of an arm, in the order of seeds."""
        found = (self._known(arm, steps, seed, views) for seed in range(self.seeds))
        return tuple(result for result in found if result is not None)

    def _known(self, arm: Arm, steps: int, seed: int, views: int) -> Result | None:
        return self.results.get(self.keys[arm.name], steps, seed, views)

    def _estimate(self, left: list[Training], ahead: int) -> str:
        """Say how long trainings will take, from a few steps with each arm."""
        first = {each.arm.name: each for each in reversed(left)}
        steps = {each.arm.name: s for each, s in self.processes.run(seconds_per_step, list(first.values()))}
        testing = self.copies * PREDICTION * len(self.bench.test) / self.bench.recipe.schedule.batch_size
        total = sum((each.steps + testing) * steps[each.arm.name] for each in left)
        total += ahead * self.seeds * sum(steps.values()) / len(steps)
        return spell(total / min(self.processes.jobs, len(left)))


def usable(arms: Iterable[Arm], bench: Bench, strict: bool) -> tuple[list[Arm], list[str]]:
    """Try every arm on two images.

    Args:
        arms: to try.
        bench: what all arms share.
        strict: whether an arm that fails is an error; otherwise it is left out.

    Returns:
        The arms that work, and a sentence for each that does not.

    Raises:
        ValueError: if an arm fails.
    """
    images, _ = bench.train.batch(torch.arange(2))
    working, notes = [], []
    for arm in arms:
        try:
            with randomness_of(torch.tensor([0])):
                arm.augmentation(bench, 0)(images)
            working.append(arm)
        except ValueError as error:
            if strict:
                raise ValueError(f"{arm.name} cannot be compared: {error}") from error
            notes.append(f"{arm.name} is left out: {error}")
    return working, notes


def spell(seconds: float) -> str:
    """Write a time in the units that a person would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
