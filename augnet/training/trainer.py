"""Joint training of a classifier and its augmenter.

Symbols: w classifier weights, λ augmenter weights, x̃ = f_λ(x, ε) augmented images, x̂ the same cut off from λ.

Nothing random is kept from step to step: noise, batches and dropout of step t are functions of the seed and t. So a
run that was killed and resumed ends in the same weights, bit for bit, as one that was not.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from augnet.augmenter import Augmenter, Learned
from augnet.classifier import Classifier, make_twice_differentiable, running_statistics_kept
from augnet.data import DataSource, batches
from augnet.implicit import (
    Solution,
    hypergradient,
    hypergradient_by_differences,
    optimiser_diagonal,
    zeros_for_unused,
)
from augnet.recipe import Recipe
from augnet.training.alarms import Alarms
from augnet.training.device import device_named
from augnet.training.evaluation import NoiseMeter
from augnet.training.optimisers import cosine, inner_optimiser, outer_optimiser
from augnet.training.progress import Progress, Watch
from augnet.training.run import Run, RunFolder
from augnet.training.second_derivative import why_not_twice
from augnet.training.teacher import Teacher
from augnet.training.validation import ValidationLoss

# Non-finite steps in a row after which a training gives up.
PATIENCE = 5
REPORTS = 50


class TrainingDiverged(RuntimeError):
    """The loss stayed non-finite; the last good state is saved."""


class IFTTrainer:
    """Train a classifier and, by the implicit function theorem, the augmenter of its images.

    Args:
        recipe: every setting; `Recipe(data=augnet.from_datasets(train, val))` takes data sets of your own.
        out: run folder to make; None keeps nothing on disk.
        classifier: a module of your own from images in [0, 1] (b, c, h, w) to logits (b, classes), in place of the
            recipe's.

    Attributes:
        step: classifier updates made so far.
        notes: what the trainer adapted or left out, one sentence each.

    Raises:
        FileExistsError: if `out` exists.
        ValueError: if data, model and settings do not fit together.
    """

    def __init__(
        self, recipe: Recipe | None = None, *, out: Path | str | None = None, classifier: nn.Module | None = None
    ) -> None:
        self.recipe = recipe = recipe or Recipe()
        if recipe.data is None:
            raise ValueError("the recipe has no data; set Recipe(data=...), such as augnet.from_datasets(train, val)")
        if not isinstance(recipe.data, DataSource):
            raise ValueError(
                f"the recipe's data must be a source of images, found {type(recipe.data).__name__}; wrap data sets of "
                "your own: Recipe(data=augnet.from_datasets(train, val))"
            )
        self.device = device_named(recipe.device)
        if out is not None:
            RunFolder.refuse_existing(Path(out))
        self.splits = splits = recipe.data.load(recipe.seed)
        torch.manual_seed(self._seed("weights"))
        own = classifier is not None
        self.classifier: nn.Module = (
            Classifier.build(recipe.classifier, len(splits.classes), splits.channels, splits.size)
            if classifier is None
            else classifier
        )
        self.augmenter = Augmenter(recipe.augmenter, splits.channels).to(self.device)
        skipped = [f"{len(splits.skipped)} unreadable files are left out: {', '.join(splits.skipped[:3])}"]
        self.notes = [
            *(skipped if splits.skipped else []),
            *splits.notes,
            *getattr(self.classifier, "notes", ()),
            *self.augmenter.left_out,
        ]
        self.notes += make_twice_differentiable(self.classifier)
        # Convolutions on CPU are faster on channels-last images.
        self.classifier.to(self.device).to(memory_format=torch.channels_last)
        self.weights = [w for w in self.classifier.parameters() if w.requires_grad]
        if not self.weights:
            raise ValueError("the classifier has no weight to train; set requires_grad on those that it should learn")
        self.inner = inner_optimiser(self.classifier, recipe.inner, recipe.classifier.pretrained and not own)
        self.outer = outer_optimiser(self.augmenter.parameters(), recipe.outer)
        self.teacher = Teacher(self.classifier) if recipe.outer.label_safety else None
        self.watch = Watch(splits, recipe.outer.watch, self._seed("watch"), self.device, recipe.workers)
        self.by_differences = self._no_double_backward()
        self.alarms = Alarms()
        self.step = 0
        self.solution: Solution | None = None
        self.validation_loss = ValidationLoss(recipe.outer.temperature)
        self.noise = NoiseMeter()
        self.skipped = 0
        self.resets = 0
        self.losses: list[float] = []  # since the last report
        self.last_validation_loss = math.nan
        self.seconds = {"inner": 0.0, "outer": 0.0, "reports": 0.0}
        self._stopping = False
        self.folder = None if out is None else RunFolder.make(Path(out), recipe, self)

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
        trainer.folder = folder
        folder.restore(trainer)
        return trainer

    def fit(self, report: Callable[[Progress], None] | None = None) -> Run | None:
        """Train to the end, or until `stop` is called.

        Args:
            report: called 50 to 100 times with what is known.

        Returns:
            The run; None where the trainer keeps nothing on disk.

        Raises:
            TrainingDiverged: if the loss stays non-finite.
        """
        schedule, total = self.recipe.schedule, self.recipe.schedule.inner_steps
        every = max(1, total // REPORTS)
        train, val = self._streams()
        bad, images_seen, since = 0, 0, time.perf_counter()
        self._stopping = False
        # A killed run leaves a first checkpoint however early it died.
        if self.folder and self.step == 0:
            self.folder.save(self)
        while self.step < total and not self._stopping:
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
                raise TrainingDiverged(self._diverged_sentence())
            self.losses += [loss] if bad == 0 else []
            self.step += 1
            images_seen += len(labels)
            ended = time.perf_counter()
            self.seconds["outer" if outer else "inner"] += ended - began
            if self.step % every == 0 or self.step == total:
                progress = self._progress(images_seen / (time.perf_counter() - since))
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
        """End `fit` after the step that is under way, with a checkpoint."""
        self._stopping = True

    def inner_step(self, batch: tuple[Tensor, Tensor]) -> float:
        """Update the classifier on one augmented batch; return its training loss."""
        images, labels = batch
        with torch.no_grad():
            augmented = self._channels_last(self.augmenter(images))
        self.classifier.train()
        half = self.recipe.inner.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            loss = self._loss(self.classifier(augmented), labels).mean()
        gradient = torch.autograd.grad(loss, self.weights, allow_unused=True)
        return self._descend(zeros_for_unused(gradient, self.weights), loss.item())

    def outer_step(self, batch: tuple[Tensor, Tensor], val_batch: tuple[Tensor, Tensor]) -> tuple[float, float]:
        """Update the augmenter and, with the training gradient computed on the way, the classifier.

        The graph is cut at the augmented images x̂, so nothing of the augmenter is differentiated twice. Each image
        also gets a weight of 1: the hypergradient by it is the image's influence on the validation loss, which
        teaches the probabilities of choices by their log-probability (Williams 1992).

        The validation batch passes in training mode, as the training batch does: with statistics of its own, since the
        running ones lag behind.

        Returns:
            Training loss and validation loss; the training loss is nan if the classifier was not updated.
        """
        images, labels = batch
        augmented, policy = self.augmenter.augment(images)
        cut = self._channels_last(augmented.detach()).requires_grad_()
        influence = torch.ones(len(images), device=self.device, requires_grad=True)
        self.classifier.train()
        with running_statistics_kept(self.classifier):
            val_logits = self.classifier(self._channels_last(val_batch[0])).float()
        val_loss, val_value = self.validation_loss(val_logits, val_batch[1])

        settings: dict[str, Any] = {"start": self.solution, "project": self.recipe.outer.project}
        # Before its first step the optimiser holds no moments.
        if self.recipe.outer.precondition == "optimiser" and self.inner.state:
            settings["diagonal"] = optimiser_diagonal(self.inner, self.weights)
        first: list[Tensor] = []

        def training_loss() -> Tensor:
            # The same dropout in every pass: a difference must be of the weights alone.
            torch.manual_seed(self._seed("dropout", self.step))
            # Only the first pass is the inner step's own, and moves running statistics.
            with running_statistics_kept(self.classifier) if first else contextlib.nullcontext():
                outputs = self.classifier(cut)
            loss = (influence * self._loss(outputs, labels)).mean()
            first.extend([] if first else [loss.detach(), outputs])
            return loss

        solver, wanted = self.recipe.inverse_hessian, [cut, influence]
        if self.by_differences:
            found = hypergradient_by_differences(
                training_loss, val_loss, self.weights, wanted, solver,
                epsilon=self.recipe.outer.difference_step, central=False, **settings,
            )  # fmt: skip
        else:
            loss = training_loss()
            found = hypergradient(loss, val_loss, self.weights, wanted, solver, outputs=first[1], **settings)
        value = first[0].item()
        if not (math.isfinite(value) and math.isfinite(val_value)):
            return math.nan, val_value
        # A solution that is not finite must not be the start of the next.
        self.resets += found.solution.diverged
        self.solution = found.solution if bool(found.solution.next.isfinite().all()) else None
        by_images, by_influence = found.gradients
        if self.teacher is not None:
            cost_by_images, cost = self.teacher.disagreement(self._channels_last(images), cut)
            weight = self.recipe.outer.label_safety / len(images)
            by_images = by_images + weight * cost_by_images
            by_influence = by_influence + weight * cost
        self._descend_hypergradient(augmented, policy, by_images, by_influence)
        return self._descend(found.train_gradient, value), val_value

    def _descend_hypergradient(self, augmented: Tensor, policy: Any, by_images: Tensor, by_influence: Tensor) -> None:
        roots, slopes = [augmented], [by_images]
        if policy is not None:
            roots.append(policy.log_probability)
            # The mean is a baseline: it takes most of the variance away, for a bias of one in so many images.
            slopes.append(by_influence - by_influence.mean())
            if self.recipe.outer.spread_reward:
                roots.append((policy.probability * policy.spread).log().mean())
                slopes.append(torch.tensor(-self.recipe.outer.spread_reward, device=self.device))
        self.outer.zero_grad()
        live = [(r, s) for r, s in zip(roots, slopes, strict=True) if r.requires_grad]
        torch.autograd.backward([root for root, _ in live], [slope for _, slope in live])
        gradient = torch.cat([w.grad.flatten() for w in self.augmenter.parameters() if w.grad is not None])
        if not bool(gradient.isfinite().all()):
            self.skipped += 1
            return
        schedule = self.recipe.schedule
        share = cosine(self.step - schedule.warmup, schedule.inner_steps - schedule.warmup, 0.0)
        for group in self.outer.param_groups:
            group["lr"] = share * self.recipe.outer.learning_rate
        self.outer.step()
        self.noise.add(gradient)

    def _descend(self, gradients: Sequence[Tensor], loss: float) -> float:
        """Update the classifier and return its loss; if loss or gradient is not finite, do not, and return nan."""
        if not math.isfinite(loss) or not all(bool(gradient.isfinite().all()) for gradient in gradients):
            return math.nan
        recipe = self.recipe
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.grad = gradient
        if recipe.inner.gradient_clip:
            nn.utils.clip_grad_norm_(self.weights, recipe.inner.gradient_clip)
        share = cosine(self.step, recipe.schedule.inner_steps, recipe.inner.warmup)
        for group in self.inner.param_groups:
            group["lr"] = share * group["initial_lr"]
        self.inner.step()
        self.inner.zero_grad()
        if self.teacher is not None:
            self.teacher.follow(self.classifier)
        return loss

    def _loss(self, logits: Float[Tensor, "b classes"], labels: Tensor) -> Float[Tensor, "b"]:
        return F.cross_entropy(
            logits.float(), labels, reduction="none", label_smoothing=self.recipe.inner.label_smoothing
        )

    def _progress(self, images_per_second: float) -> Progress:
        learned = self.learned()
        kept_loss, overfitting = self.watch.losses(self.classifier)
        warnings = self.alarms.check(
            self.step,
            resets=self.resets,
            noise=self.noise.share,
            outer_steps=self.recipe.schedule.outer_steps_before(self.step),
            learned=learned,
            overfitting=overfitting,
            agreement=self.watch.agreement(self.classifier, self.augmenter),
            skipped=self.skipped,
        )
        return Progress(
            step=self.step,
            training_loss=sum(self.losses) / len(self.losses) if self.losses else math.nan,
            validation_loss=self.last_validation_loss,
            watched_loss=kept_loss,
            hypergradient_norm=math.nan if self.noise.last is None else self.noise.last,
            hypergradient_noise=self.noise.share,
            residual=math.nan if self.solution is None else float(self.solution.residual),
            images_per_second=images_per_second,
            learned=learned,
            warnings=warnings,
        )

    @property
    def path(self) -> Path | None:
        """The run folder; None where nothing is kept on disk."""
        return None if self.folder is None else self.folder.path

    def learned(self) -> list[Learned]:
        """Average the policy over a fixed sample of training images."""
        return self.augmenter.summary(self.watch.sample[0])

    def share_of_learning(self) -> float:
        """Share of the time so far that learning the augmenter cost: what outer steps took beyond inner ones."""
        outer = self.recipe.schedule.outer_steps_before(self.step)
        plain = self.seconds["inner"] / max(1, self.step - outer)
        return (self.seconds["outer"] - outer * plain) / max(1e-9, sum(self.seconds.values()))

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        return {
            "step": self.step,
            "classifier": self.classifier.state_dict(),
            "augmenter": self.augmenter.state_dict(),
            "teacher": self.teacher and self.teacher.model.state_dict(),
            "inner": self.inner.state_dict(),
            "outer": self.outer.state_dict(),
            "solution": self.solution and self.solution._asdict(),
            "log_temperature": self.validation_loss.log_temperature,
            "noise": vars(self.noise),
            "alarms": self.alarms.state,
            "skipped": self.skipped,
            "resets": self.resets,
            "losses": list(self.losses),
            "last_validation_loss": self.last_validation_loss,
            "seconds": self.seconds,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        self.step = state["step"]
        self.classifier.load_state_dict(state["classifier"])
        self.augmenter.load_state_dict(state["augmenter"])
        if self.teacher is not None:
            self.teacher.model.load_state_dict(state["teacher"])
        self.inner.load_state_dict(state["inner"])
        self.outer.load_state_dict(state["outer"])
        solution = (state["solution"] or {}).items()
        placed: dict[str, Any] = {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in solution}
        self.solution = Solution(**placed) if placed else None
        self.validation_loss.log_temperature = state["log_temperature"]
        self.noise = NoiseMeter(**state["noise"])
        if self.noise.mean is not None:
            self.noise.mean = self.noise.mean.to(self.device)
        self.alarms.state = state["alarms"]
        self.skipped, self.resets = state["skipped"], state["resets"]
        self.losses, self.last_validation_loss = state["losses"], state["last_validation_loss"]
        self.seconds = state["seconds"]

    def _no_double_backward(self) -> bool:
        gauss_newton = self.recipe.inverse_hessian.curvature == "gauss_newton"
        if self.recipe.outer.second_derivative == "differences" and not gauss_newton:
            return True
        images, labels = self.watch.sample
        reason = why_not_twice(self.classifier, images[:8], labels[:8])
        if reason and gauss_newton:
            raise ValueError(f"Gauss–Newton products need exact second derivatives, but {reason}")
        if reason:
            self.notes.append(f"{reason}; finite differences of gradients are taken instead")
        return reason is not None

    def _streams(self) -> tuple[Iterator, Iterator]:
        schedule, seed, workers = self.recipe.schedule, self._seed("batches"), self.recipe.workers
        train = batches(self.splits.train, schedule.batch_size, seed, self.step, workers)
        outer_steps = schedule.outer_steps_before(self.step)
        return train, batches(self.watch.val, schedule.val_batch_size, seed + 1, outer_steps, workers)

    def _prepare_step(self) -> None:
        torch.manual_seed(self._seed("step", self.step))

    def _seed(self, purpose: str, number: int = 0) -> int:
        key = [self.recipe.seed, *purpose.encode(), number]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0])

    def _to_device(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def _channels_last(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last)

    def _diverged_sentence(self) -> str:
        kept = f"; the last good state is in {self.folder.path}" if self.folder else ""
        return (
            f"the loss was not finite in {PATIENCE} steps in a row, at step {self.step}{kept}; "
            f"lower inner.learning_rate (now {self.inner.param_groups[0]['initial_lr']:g})"
        )
