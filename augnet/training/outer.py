"""The outer level: the augmenter's weights λ descend the validation loss, by the implicit function theorem.

Symbols: w classifier weights, x̃ = f_λ(x, ε) augmented images, x̂ the same cut off from λ.
"""

import contextlib
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from augnet.augmenter import Augmenter, Policy
from augnet.classifier import running_statistics_kept
from augnet.implicit import Solution, hypergradient, hypergradient_by_differences, optimiser_diagonal
from augnet.recipe import Recipe
from augnet.training.evaluation import NoiseMeter
from augnet.training.inner import InnerLevel, channels_last
from augnet.training.optimisers import cosine, outer_optimiser
from augnet.training.second_derivative import why_not_twice
from augnet.training.teacher import Teacher
from augnet.training.validation import ValidationLoss

Batch = tuple[Tensor, Tensor]


class TrainingGradient(NamedTuple):
    """The gradient of the training loss by the classifier's weights, which an outer step computes on the way."""

    gradients: list[Tensor]
    loss: float
    val_loss: float


class OuterLevel:
    """Train an augmenter on the hypergradient.

    Args:
        augmenter: on its device already.
        recipe: solver, optimiser and schedule.
        inner: the classifier and its optimiser.
        sample: a few images and labels, to see whether the classifier can be differentiated twice.

    Attributes:
        solution: of the last inverse-Hessian-vector product, where the next one starts.
        resets: how often that product blew up and was started anew.
        skipped: hypergradients left out because they were not finite.
        noise: how much of the hypergradient is noise.
        notes: what was adapted, one sentence each.

    Raises:
        ValueError: if solver and classifier do not fit together.
    """

    def __init__(self, augmenter: Augmenter, recipe: Recipe, inner: InnerLevel, sample: Batch) -> None:
        self.augmenter, self.inner = augmenter, inner
        self.config, self.schedule, self.solver = recipe.outer, recipe.schedule, recipe.inverse_hessian
        self.optimiser = outer_optimiser(augmenter.parameters(), recipe.outer)
        self.teacher = Teacher(inner.classifier) if recipe.outer.label_safety else None
        self.validation_loss = ValidationLoss(recipe.outer.temperature)
        self.solution: Solution | None = None
        self.resets = self.skipped = 0
        self.noise = NoiseMeter()
        self.notes: list[str] = []
        self.by_differences = self._no_double_backward(sample)

    def step(self, number: int, batch: Batch, val_batch: Batch, dropout_seed: int) -> TrainingGradient:
        """Update the augmenter, at classifier update `number` (from 0); leave the classifier as it is.

        The graph is cut at the augmented images x̂, so nothing of the augmenter is differentiated twice. Each image
        also gets a weight of 1: the hypergradient by it is the image's influence on the validation loss, which
        teaches the probabilities of choices by their log-probability (Williams 1992).

        The validation batch passes in training mode, as the training batch does: with statistics of its own, since the
        running ones lag behind.
        """
        images, labels = batch
        classifier, weights = self.inner.classifier, self.inner.weights
        augmented, policy = self.augmenter.augment(images)
        cut = channels_last(augmented.detach()).requires_grad_()
        influence = torch.ones(len(images), device=images.device, requires_grad=True)
        classifier.train()
        with running_statistics_kept(classifier):
            val_logits = classifier(channels_last(val_batch[0])).float()
        val_loss, val_value = self.validation_loss(val_logits, val_batch[1])

        settings: dict[str, Any] = {"start": self.solution, "project": self.config.project}
        # Before its first step the optimiser holds no moments.
        if self.config.precondition == "optimiser" and self.inner.optimiser.state:
            settings["diagonal"] = optimiser_diagonal(self.inner.optimiser, weights)
        first: list[Tensor] = []

        def training_loss() -> Tensor:
            # The same dropout in every pass: a difference must be of the weights alone.
            torch.manual_seed(dropout_seed)
            # Only the first pass is the inner step's own, and moves running statistics.
            with running_statistics_kept(classifier) if first else contextlib.nullcontext():
                outputs = classifier(cut)
            loss = (influence * self.inner.losses(outputs, labels)).mean()
            first.extend([] if first else [loss.detach(), outputs])
            return loss

        if self.by_differences:
            found = hypergradient_by_differences(
                training_loss, val_loss, weights, [cut, influence], self.solver,
                epsilon=self.config.difference_step, central=False, **settings,
            )  # fmt: skip
        else:
            loss = training_loss()
            found = hypergradient(loss, val_loss, weights, [cut, influence], self.solver, outputs=first[1], **settings)
        value = first[0].item()
        if not (math.isfinite(value) and math.isfinite(val_value)):
            return TrainingGradient(found.train_gradient, math.nan, val_value)
        # A solution that is not finite must not be the start of the next.
        self.resets += found.solution.diverged
        self.solution = found.solution if bool(found.solution.next.isfinite().all()) else None
        by_images, by_influence = found.gradients
        if self.teacher is not None:
            cost_by_images, cost = self.teacher.disagreement(channels_last(images), cut)
            weight = self.config.label_safety / len(images)
            by_images = by_images + weight * cost_by_images
            by_influence = by_influence + weight * cost
        self._descend(number, augmented, policy, by_images, by_influence)
        return TrainingGradient(found.train_gradient, value, val_value)

    def _descend(
        self,
        number: int,
        augmented: Float[Tensor, "b c h w"],
        policy: Policy | None,
        by_images: Float[Tensor, "b c h w"],
        by_influence: Float[Tensor, "b"],
    ) -> None:
        roots, slopes = [augmented], [by_images]
        if policy is not None:
            # The mean is a baseline: it takes most of the variance away, for a bias of one in so many images.
            roots += [policy.log_probability, self._cost(policy)]
            slopes += [by_influence - by_influence.mean(), torch.ones((), device=augmented.device)]
        self.optimiser.zero_grad()
        live = [(r, s) for r, s in zip(roots, slopes, strict=True) if r.requires_grad]
        torch.autograd.backward([root for root, _ in live], [slope for _, slope in live])
        gradient = torch.cat([w.grad.flatten() for w in self.augmenter.parameters() if w.grad is not None])
        if not bool(gradient.isfinite().all()):
            self.skipped += 1
            return
        warmup, steps = self.schedule.warmup, self.schedule.inner_steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * cosine(number - warmup, steps - warmup, 0.0)
        self.optimiser.step()
        self.noise.add(gradient)

    def _cost(self, policy: Policy) -> Float[Tensor, ""]:
        """Price of what is used, less the reward for spread; nats, mean over images."""
        cost = self.config.use_price * policy.use.sum(dim=-1).mean()
        if self.config.spread_reward:
            cost = cost - self.config.spread_reward * (policy.probability * policy.spread).log().mean()
        return cost

    def _no_double_backward(self, sample: Batch) -> bool:
        gauss_newton = self.solver.curvature == "gauss_newton"
        if self.config.second_derivative == "differences" and not gauss_newton:
            return True
        images, labels = sample
        reason = why_not_twice(self.inner.classifier, images[:8], labels[:8])
        if reason and gauss_newton:
            raise ValueError(f"Gauss–Newton products need exact second derivatives, but {reason}")
        if reason:
            self.notes.append(f"{reason}; finite differences of gradients are taken instead")
        return reason is not None

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        return {
            "augmenter": self.augmenter.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "teacher": self.teacher and self.teacher.model.state_dict(),
            "solution": self.solution and self.solution._asdict(),
            "log_temperature": self.validation_loss.log_temperature,
            "noise": vars(self.noise),
            "resets": self.resets,
            "skipped": self.skipped,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `state` returned."""
        device = self.inner.device
        self.augmenter.load_state_dict(state["augmenter"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.teacher is not None:
            self.teacher.model.load_state_dict(state["teacher"])
        solution = (state["solution"] or {}).items()
        placed: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in solution}
        self.solution = Solution(**placed) if placed else None
        self.validation_loss.log_temperature = state["log_temperature"]
        self.noise = NoiseMeter(**state["noise"])
        if self.noise.mean is not None:
            self.noise.mean = self.noise.mean.to(device)
        self.resets, self.skipped = state["resets"], state["skipped"]
