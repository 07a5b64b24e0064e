"""Joint training of a classifier, the inner level, and its augmenter, the outer level.

Nothing random is kept from step to step: noise, batches and dropout of step t are functions of the seed and t. So a
run that was killed and resumed ends in the same weights, bit for bit, as one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from augnet.augmenter import Augmenter, Learned
from augnet.classifier import Classifier, make_twice_differentiable
from augnet.data import DataSource, batches
from augnet.recipe import Recipe
from augnet.training.alarms import EARLY, Alarms
from augnet.training.fitness import look_once
from augnet.training.folder import RunFolder
from augnet.training.inner import PATIENCE, InnerLevel
from augnet.training.outer import Batch, OuterLevel
from augnet.training.parallel import Processes, refuse_wrapped
from augnet.training.progress import Progress, Watch
from augnet.training.run import Run
from augnet.training.signals import heeded, unheeded
from augnet.training.spoiling import silence, spoiling

# Of checkpoints; goes up when what they hold changes.
FORMAT = 5
REPORTS = 30
# Reports at which one looks for transforms that spoil labels, as at the end, and the share of all skill that there must
# be by then. After a quarter of a training on 562 letters a classifier does not know solarized ones yet, as it will.
LOOKS = {REPORTS // 4: 0.75, REPORTS // 2: 0.0}


class TrainingDiverged(RuntimeError):
    """The loss stayed non-finite; the last good state is saved."""


class IFTTrainer:
    """Train a classifier and, by the implicit function theorem, the augmenter of its images.

    Under torchrun every process makes the same trainer and takes an equal share of each batch. Gradients are averaged,
    so that the training is that of one process up to rounding; batch norm sees the statistics of a share, and its
    running ones are averaged. Only the first process writes the run folder.

    Args:
        recipe: every setting; `Recipe(data=augnet.from_datasets(train, val))` takes data sets of your own.
        out: run folder to make; None keeps nothing on disk.
        classifier: a module of your own from images in [0, 1] (b, c, h, w) to logits (b, classes), in place of the
            recipe's.

    Attributes:
        step: classifier updates made so far.
        processes: those that train together; one of one, but for torchrun.
        inner: the classifier and its optimiser.
        outer: the augmenter, its optimiser and the last inverse-Hessian-vector product.
        notes: what the trainer adapted or left out, one sentence each.

    Raises:
        FileExistsError: if `out` exists.
        ValueError: if data, model and settings do not fit together.
        ConnectionError: here and in `fit`, if another process is gone.
    """

    def __init__(
        self, recipe: Recipe | None = None, *, out: Path | str | None = None, classifier: nn.Module | None = None
    ) -> None:
        self.recipe = recipe = recipe or Recipe()
        if not isinstance(recipe.data, DataSource):
            found = "none" if recipe.data is None else type(recipe.data).__name__
            raise ValueError(
                f"the recipe's data must be a source of images, found {found}; set Recipe(data=...), with data sets of "
                "your own to augnet.from_datasets(train, val)"
            )
        self.processes = Processes.joined()
        self.device = self.processes.device(recipe.device)
        if out is not None:
            RunFolder.refuse_existing(Path(out))
            # The first process makes the folder once the others have seen that there was none.
            self.processes.wait()
        own = classifier is not None
        with self.processes.first_ahead():
            self.splits = splits = recipe.data.load(recipe.seed)
            torch.manual_seed(self._seed("weights"))
            self.classifier: nn.Module = (
                Classifier.build(recipe.classifier, len(splits.classes), splits.channels, splits.size)
                if classifier is None
                else classifier
            )
        # Convolutions on CPU are faster so, and it is for its weights to say.
        self.augmenter = (
            Augmenter(recipe.augmenter, splits.channels).to(self.device).to(memory_format=torch.channels_last)
        )
        self.notes = [*splits.notes, *getattr(self.classifier, "notes", ()), *self.augmenter.left_out]
        if recipe.differentiates_twice:
            self.notes += make_twice_differentiable(self.classifier)
        refuse_wrapped(self.classifier)
        # A module of the user's may have other weights in every process.
        self.processes.follow_first(self.classifier.state_dict().values())
        self.inner = InnerLevel(
            self.classifier, recipe.inner, recipe.schedule.inner_steps, recipe.classifier.pretrained and not own,
            self.device, self.processes,
        )  # fmt: skip
        self.watch = Watch(splits, recipe.outer.watch, self._seed("watch"), self.device, recipe.workers)
        look_once(self.inner, self.watch, len(splits.train), len(splits.classes), recipe.schedule)
        self.outer = OuterLevel(self.augmenter, recipe, self.inner, self.watch.sample)
        self.notes += self.outer.notes
        updates = recipe.schedule.outer_steps_before(recipe.schedule.inner_steps)
        if updates < EARLY:
            self.notes.append(
                f"the augmenter is updated {updates} time{'s' * (updates != 1)} in all, so that little is learned; "
                "raise schedule.inner_steps, or lower schedule.warmup or schedule.outer_every"
            )
        self.alarms = Alarms()
        self.step, self.skipped, self.last_validation_loss = 0, 0, math.nan
        self.losses: list[float] = []  # since the last report
        self.seconds = {"inner": 0.0, "outer": 0.0, "reports": 0.0}
        self._stopping = False
        self.folder = None if out is None or not self.processes.first else RunFolder.make(Path(out), recipe, self)

    @classmethod
    def resume(
        cls, path: Path | str, *, recipe: Recipe | None = None, classifier: nn.Module | None = None
    ) -> "IFTTrainer":
        """Go on with a run where its last checkpoint left it.

        Args:
            path: the run folder.
            recipe: the recipe that the run must have; needed, for its data, where data sets came from Python.
            classifier: as in the constructor, if it was given there.

        Raises:
            FileNotFoundError: if there is no run or no checkpoint at `path`.
            ValueError: if the checkpoint belongs to another recipe or to other data.
        """
        folder = RunFolder(Path(path))
        trainer = cls(folder.recipe(recipe), classifier=classifier)
        folder.restore(trainer)
        if trainer.processes.first:
            folder.reopen(trainer.step)
            trainer.folder = folder
        return trainer

    def fit(self, report: Callable[[Progress], None] | None = None) -> Run | None:
        """Train to the end, or until `stop` is called.

        Args:
            report: called 30 to 60 times with what is known.

        Returns:
            The run; None where this process keeps nothing on disk.

        Raises:
            TrainingDiverged: if the loss stays non-finite.
            KeyboardInterrupt: after Ctrl-C, once the step that was under way is made and, with a run folder, saved.
        """
        with heeded(unheeded(), self.stop) as received:
            try:
                run = self._fit(report)
            finally:
                self._stopping = False
        if self.processes.any(bool(received)):
            raise KeyboardInterrupt(f"stopped at step {self.step:,} of {self.recipe.schedule.inner_steps:,}")
        return run

    def _fit(self, report: Callable[[Progress], None] | None) -> Run | None:
        schedule, total = self.recipe.schedule, self.recipe.schedule.inner_steps
        every = max(1, total // REPORTS)
        train, val = self._streams()
        bad, images_seen, since = 0, 0, time.perf_counter()
        # A killed run leaves a first checkpoint however early it died.
        if self.folder and self.step == 0:
            self.folder.save(self)
        # A process that stopped by itself would leave the others waiting for it.
        while self.step < total and not self.processes.any(self._stopping):
            began = time.perf_counter()
            images, labels, _ = next(train)
            batch = self._to_device(images, labels)
            outer = schedule.is_outer(self.step)
            self._prepare_step()
            buffers = [buffer.clone() for buffer in self.classifier.buffers()]
            if outer:
                val_images, val_labels, _ = next(val)
                loss, self.last_validation_loss = self.outer_step(batch, self._to_device(val_images, val_labels))
            else:
                loss = self.inner_step(batch)
            bad = 0 if math.isfinite(loss) else bad + 1
            if bad:
                # A step that is left out leaves no trace in running statistics either.
                for buffer, kept in zip(self.classifier.buffers(), buffers, strict=True):
                    buffer.copy_(kept)
            self.skipped += bad > 0
            if bad == PATIENCE:
                # Steps that are left out change nothing, so this is the last good state.
                if self.folder:
                    self.folder.save(self)
                rate = self.inner.optimiser.param_groups[0]["initial_lr"]
                raise TrainingDiverged(
                    f"the loss was not finite in {PATIENCE} steps in a row, at step {self.step}"
                    f"{f'; the last good state is in {self.folder.path}' if self.folder else ''}; "
                    f"lower inner.learning_rate (now {rate:g})"
                )
            self.losses += [loss] if bad == 0 else []
            self.step += 1
            images_seen += len(labels) * self.processes.count
            ended = time.perf_counter()
            self.seconds["outer" if outer else "inner"] += ended - began
            if self.step % every == 0 or self.step == total:
                ripe = 0.0 if self.step == total else LOOKS.get(self.step // every)
                progress = self._progress(images_seen / (time.perf_counter() - since), ripe)
                images_seen, since = 0, time.perf_counter()
                self.losses.clear()
                if self.folder:
                    self.folder.add_row(progress)
                if report:
                    report(progress)
            self.seconds["reports"] += time.perf_counter() - ended
            if self.folder and self.step % self.recipe.checkpoint_every == 0:
                self.folder.save(self)
        if self.folder is None:
            return None
        self.folder.save(self)
        if self.step == total:
            self.folder.finish(self)
        return Run(self.folder.path)

    def stop(self) -> None:
        """End `fit` after the step that is under way, with a checkpoint; before it begins, at once."""
        self._stopping = True

    def inner_step(self, batch: Batch) -> float:
        """Update the classifier on one augmented batch, of which this is the process's share; return its loss."""
        images, labels = batch
        noise, parts = self.outer.draw_noise(len(images)), self.inner.parts(len(images))
        with torch.no_grad():
            augmented = torch.cat([self.augmenter(part.of(images), part.of(noise)) for part in parts])
        return self._followed(self.inner.step(self.step, augmented, labels))

    def outer_step(self, batch: Batch, val_batch: Batch) -> tuple[float, float]:
        """Update the augmenter and, with the training gradient computed on the way, the classifier.

        Returns:
            Training loss and validation loss; the training loss is nan if the classifier was not updated.
        """
        found = self.outer.step(self.step, batch, val_batch, self._seed("dropout", self.step))
        return self._followed(self.inner.descend(self.step, found.gradients, found.loss)), found.val_loss

    def _followed(self, loss: float) -> float:
        if self.outer.teacher is not None and math.isfinite(loss):
            self.outer.teacher.follow(self.classifier)
        return loss

    def _progress(self, images_per_second: float, ripe: float | None) -> Progress:
        silenced = [] if ripe is None else self._silence_spoilers(ripe)
        learned, outer = self.learned(), self.outer
        kept_loss, overfitting = self.watch.losses(self.classifier)
        warnings = self.alarms.check(
            self.step,
            resets=outer.resets,
            noise=outer.noise.share,
            outer_steps=self.recipe.schedule.outer_steps_before(self.step),
            learned=learned,
            overfitting=overfitting,
            agreement=self.watch.agreement(self.classifier, self.augmenter),
            skipped=self.skipped + outer.skipped,
        )
        return Progress(
            step=self.step,
            training_loss=sum(self.losses) / len(self.losses) if self.losses else math.nan,
            validation_loss=self.last_validation_loss,
            watched_loss=kept_loss,
            hypergradient_norm=math.nan if outer.noise.last is None else outer.noise.last,
            hypergradient_noise=outer.noise.share,
            residual=math.nan if outer.solution is None else float(outer.solution.residual),
            images_per_second=images_per_second,
            learned=learned,
            warnings=silenced + warnings,
        )

    def _silence_spoilers(self, ripe: float) -> list[str]:
        """Leave out what spoils labels from here on."""
        if self.recipe.schedule.outer_steps_before(self.step) <= EARLY:
            return []
        kept = spoiling(
            self.augmenter, self.classifier, self.splits.val, least_skill=self.recipe.outer.least_skill,
            ripe=ripe, seed=self._seed("spoiling", self.step), workers=self.recipe.workers,
        )  # fmt: skip
        self.processes.follow_first([kept])
        return silence(self.augmenter, self.learned(), kept, self.recipe.outer.least_skill)

    @property
    def path(self) -> Path | None:
        """The run folder; None where this process keeps nothing on disk."""
        return None if self.folder is None else self.folder.path

    def learned(self) -> list[Learned]:
        """Average the policy over a fixed sample of training images."""
        return self.augmenter.summary(self.watch.sample[0])

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "format": FORMAT,
            "step": self.step,
            "inner": self.inner.state(),
            "outer": self.outer.state(),
            "alarms": self.alarms.state,
            "skipped": self.skipped,
            "losses": list(self.losses),
            "last_validation_loss": self.last_validation_loss,
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned.

        Raises:
            ValueError: if another version of augnet wrote it.
        """
        if (found := state.get("format", 1)) != FORMAT:
            raise ValueError(
                f"the checkpoint has format {found}, but this version of augnet goes on from format {FORMAT} only; "
                "train anew, or go on with the version that began"
            )
        self.step, self.skipped = state["step"], state["skipped"]
        self.inner.load_state(state["inner"])
        self.outer.load_state(state["outer"])
        self.alarms.state, self.seconds = state["alarms"], state["seconds"]
        self.losses, self.last_validation_loss = state["losses"], state["last_validation_loss"]

    def _streams(self) -> tuple[Iterator, Iterator]:
        schedule, seed, workers = self.recipe.schedule, self._seed("batches"), self.recipe.workers
        outer_steps, share = schedule.outer_steps_before(self.step), (self.processes.rank, self.processes.count)
        train = batches(self.splits.train, schedule.batch_size, seed, self.step, workers, share)
        return train, batches(self.watch.val, schedule.val_batch_size, seed + 1, outer_steps, workers, share)

    def _prepare_step(self) -> None:
        torch.manual_seed(self._seed("step", self.step))

    def _seed(self, purpose: str, number: int = 0) -> int:
        key = [self.recipe.seed, *purpose.encode(), number]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])

    def _to_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
