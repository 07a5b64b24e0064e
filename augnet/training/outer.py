"""The outer level: the augmenter's weights λ descend the validation loss, by the implicit function theorem.

Symbols: w classifier weights, x̃ = f_λ(x, ε) augmented images, x̂ the same cut off from λ.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from augnet.augmenter import Augmenter, Policy
from augnet.classifier import running_statistics_kept
from augnet.implicit import Hypergradient, Solution, flatten, optimiser_diagonal
from augnet.recipe import Recipe
from augnet.training.evaluation import NoiseMeter
from augnet.training.influence import BatchLoss, TurnedImages
from augnet.training.inner import InnerLevel, at_least_float32, channels_last
from augnet.training.optimisers import cosine, outer_optimiser
from augnet.training.parts import Part
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
        noise: how much is noise in the hypergradient by the policy's biases, or by all weights if there is no policy.
        notes: what was adapted, one sentence each.

    Raises:
        ValueError: if solver and classifier do not fit together.
    """

    def __init__(self, augmenter: Augmenter, recipe: Recipe, inner: InnerLevel, sample: Batch) -> None:
        self.augmenter, self.inner = augmenter, inner
        self.config, self.schedule, self.solver = recipe.outer, recipe.schedule, recipe.inverse_hessian
        self.differentiates_twice = recipe.differentiates_twice
        self.optimiser = outer_optimiser(augmenter, recipe.outer)
        self.teacher = Teacher(inner.classifier) if recipe.outer.label_safety else None
        self.validation_loss = ValidationLoss(recipe.outer.temperature)
        self.solution: Solution | None = None
        self.resets = self.skipped = 0
        self.noise = NoiseMeter()
        self.notes: list[str] = []
        self.by_differences = self._no_double_backward(sample)
        self.solver.check(sum(weight.numel() for weight in inner.weights))
        self.has_choices = any(transform.turned for transform in augmenter.transforms)

    def step(self, number: int, batch: Batch, val_batch: Batch, dropout_seed: int) -> TrainingGradient:
        """Update the augmenter, at classifier update `number` (from 0); leave the classifier as it is.

        The graph is cut at the augmented images x̂, so nothing of the augmenter is differentiated twice. Each image
        also gets a weight of 1: the hypergradient by it is the image's influence on the validation loss. With one of
        its choices turned, at a weight of 0, it has another influence, and the difference teaches the choice's
        probability.

        The validation batch passes in training mode, as the training batch does: with statistics of its own, since the
        running ones lag behind.
        """
        images, labels = batch
        parts = self.inner.parts(len(images))
        noise = self.draw_noise(len(images))
        augment = self.augmenter.augment_both_ways if self.has_choices else self.augmenter.augment
        # Of several parts no graph is kept: they are augmented again once it is known where they should go.
        with torch.set_grad_enabled(len(parts) == 1):
            first = [augment(part.of(images), part.of(noise)) for part in parts]
        augmented, policies, *choices = zip(*first, strict=True)
        cut = channels_last(torch.cat(augmented).detach()).requires_grad_()
        turned = TurnedImages.joined(*choices) if choices else None
        self.inner.classifier.train()
        val_losses, val_value = self._validation(*val_batch)
        batch_loss = BatchLoss(self.inner, parts, cut, turned, labels, dropout_seed)
        found, value = self._hypergradient(batch_loss, val_losses), batch_loss.whole()
        if not (math.isfinite(value) and math.isfinite(val_value)):
            return TrainingGradient(found.train_gradient, math.nan, val_value)
        # A solution that is not finite, or of a system without the metric, must not be the start of the next.
        self.resets += found.solution.diverged
        usable = math.isfinite(found.solution.next.norm()) and not self._without_moments()
        self.solution = found.solution if usable else None
        by_images, *influences = found.gradients
        if self.teacher is not None:
            slopes, costs = self._disagreement(self.teacher, parts, images, cut)
            by_images, influences[0] = by_images + slopes, influences[0] + costs
            if turned is not None:
                influences[1] = influences[1] + self._disagreement(self.teacher, parts, images, turned.images)[1]
        by_choice = None if turned is None else turned.sign * (influences[0] - influences[1])[:, None]
        self.optimiser.zero_grad()
        for part, result, policy in zip(parts, augmented, policies, strict=True):
            if len(parts) > 1:
                result, policy = self.augmenter.augment(part.of(images), part.of(noise))
            self._walk_back(part, result, policy, part.of(by_images), None if by_choice is None else part.of(by_choice))
        self._descend(number)
        return TrainingGradient(found.train_gradient, value, val_value)

    def draw_noise(self, count: int) -> Float[Tensor, "b n"]:
        """Draw noise for the whole batch, and return that of the `count` images that this process has of it."""
        processes = self.inner.processes
        return processes.share(self.augmenter.draw_noise(count * processes.count))

    def _validation(
        self, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b"]
    ) -> tuple[Iterator[Tensor], float]:
        """Return this process's validation loss, part by part, and the loss of the whole batch."""
        inner, parts = self.inner, self.inner.parts(len(images))

        def logits(part: Part) -> Tensor:
            with running_statistics_kept(inner.classifier), part.drawn(inner.device):
                return at_least_float32(inner.classifier(channels_last(part.of(images))))

        # Of several parts no graph is kept: the temperature is that of the whole batch, so they pass twice.
        with torch.set_grad_enabled(len(parts) == 1):
            found = [logits(part) for part in parts]
        gathered = inner.processes.gathered
        value = self.validation_loss.fit(gathered(torch.cat(found).detach()), gathered(labels))
        again = iter(found) if len(parts) == 1 else map(logits, parts)
        losses = (
            part.share * self.validation_loss(each, part.of(labels)) for part, each in zip(parts, again, strict=True)
        )
        return losses, value

    def _hypergradient(self, batch_loss: BatchLoss, val_losses: Iterator[Tensor]) -> Hypergradient:
        """Return the hypergradient by this process's images and by their example weights."""
        settings: dict[str, Any] = {
            "start": self.solution, "project": self.config.project, "average": self.inner.processes.average,
        }  # fmt: skip
        if self.config.precondition == "optimiser" and not self._without_moments():
            settings["diagonal"] = optimiser_diagonal(self.inner.optimiser, self.inner.weights)
        if self.by_differences:
            return batch_loss.by_differences(val_losses, self.solver, self.config.difference_step, **settings)
        return batch_loss.exactly(val_losses, self.solver, **settings)

    def _without_moments(self) -> bool:
        """Whether the metric is the optimiser's, which has none before its first step."""
        return self.config.precondition == "optimiser" and not self.inner.optimiser.state

    def _disagreement(
        self, teacher: Teacher, parts: list[Part], images: Float[Tensor, "b c h w"], augmented: Float[Tensor, "b c h w"]
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b"]]:
        """Return what label safety has in the hypergradient by augmented images, and in their influence."""
        weight = self.config.label_safety / len(images)
        found = [teacher.disagreement(channels_last(part.of(images)), part.of(augmented)) for part in parts]
        slopes, costs = (weight * torch.cat(each) for each in zip(*found, strict=True))
        return slopes, costs

    def _walk_back(
        self,
        part: Part,
        augmented: Float[Tensor, "b c h w"],
        policy: Policy | None,
        by_images: Float[Tensor, "b c h w"],
        by_choice: Float[Tensor, "b k"] | None,
    ) -> None:
        """Add what a part of the images has in the hypergradient to the gradients of the augmenter's weights."""
        roots, slopes = [augmented], [by_images]
        if policy is not None:
            roots.append(self._cost(policy))
            slopes.append(torch.full((), part.share, dtype=augmented.dtype, device=augmented.device))
        if policy is not None and by_choice is not None:
            roots.append(policy.probability)
            slopes.append(by_choice)
        live = [(r, s) for r, s in zip(roots, slopes, strict=True) if r.requires_grad]
        torch.autograd.backward([root for root, _ in live], [slope for _, slope in live])

    def _descend(self, number: int) -> None:
        reached = [weight for weight in self.augmenter.parameters() if weight.grad is not None]
        gradients = self.inner.processes.averages([weight.grad for weight in reached if weight.grad is not None])
        gradient = flatten(gradients)
        if not bool(gradient.isfinite().all()):
            self.skipped += 1
            return
        for weight, mean in zip(reached, gradients, strict=True):
            weight.grad = mean
        warmup, steps = self.schedule.warmup, self.schedule.inner_steps
        share = cosine(number - warmup, steps - warmup, self.config.rise)
        for group in self.optimiser.param_groups:
            group["lr"] = share * self.config.learning_rate
        self.optimiser.step()
        # The biases are what the policy is on average over images; most weights only tell images apart.
        head = self.augmenter.head
        self.noise.add(gradient if head is None or head.linear.bias.grad is None else head.linear.bias.grad)

    def _cost(self, policy: Policy) -> Float[Tensor, ""]:
        """Price of what is used, less the reward for spread; nats, mean over images."""
        cost = self.config.use_price * policy.use.sum(dim=-1).mean()
        if self.config.spread_reward:
            # A choice has no spread. A constant gradient to what stands in its place would be taken for signal.
            silent = [] if self.augmenter.head is None else self.augmenter.head.silenced
            spread, probability = torch.tensor(
                [[t not in silent and not t.choice, t not in silent] for t in self.augmenter.transforms],
                device=policy.spread.device,
            ).T
            reach = torch.where(spread, policy.spread, 1.0) * torch.where(probability, policy.probability, 1.0)
            cost = cost - self.config.spread_reward * reach.log().mean()
        return cost

    def _no_double_backward(self, sample: Batch) -> bool:
        if not self.differentiates_twice:
            return True
        gauss_newton = self.solver.curvature == "gauss_newton"
        images, labels = sample
        few = max(2, min(8, self.inner.config.micro_batch or 8))
        reason = why_not_twice(self.inner.classifier, images[:few], labels[:few])
        if reason and gauss_newton:
            raise ValueError(f"Gauss–Newton products need exact second derivatives, but {reason}")
        if reason:
            self.notes.append(f"{reason}; finite differences of gradients are taken instead")
        return reason is not None

    def state(self) -> dict[str, Any]:
        """Return everything that later steps depend on."""
        head = self.augmenter.head
        return {
            "augmenter": self.augmenter.state_dict(),
            "silenced": [] if head is None else [type(transform).__name__ for transform in head.silenced],
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
        if state["silenced"] and self.augmenter.head is not None:
            self.augmenter.head.silence([t for t in self.augmenter.transforms if type(t).__name__ in state["silenced"]])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.teacher is not None:
            self.teacher.model.load_state_dict(state["teacher"])
        solution = (state["solution"] or {}).items()
        # Copies: within a file tensors lie less aligned than torch has them, and sums of them round otherwise.
        placed: dict[str, Any] = {k: v.to(device, copy=True) if isinstance(v, Tensor) else v for k, v in solution}
        self.solution = Solution(**placed) if placed else None
        self.validation_loss.log_temperature = state["log_temperature"]
        meter: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in state["noise"].items()}
        self.noise = NoiseMeter(**meter)
        self.resets, self.skipped = state["resets"], state["skipped"]
