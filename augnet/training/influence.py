"""How the validation loss changes with augmented images, and with the weight of each in the training loss.

Symbols: those of outer.py; g training gradient.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from augnet.classifier import running_statistics_kept
from augnet.implicit import (
    HessianProducts,
    Hypergradient,
    InverseHessian,
    gradient_of_sum,
    hypergradient,
    hypergradient_by_differences,
    zeros_for_unused,
)
from augnet.training.inner import InnerLevel, channels_last
from augnet.training.parts import Part


class TurnedImages(NamedTuple):
    """Training images as they would be with one choice of each turned, such as a mirror: done if it was not, and back.

    Args:
        images: (b, c, h, w).
        sign: how their influence tells of the probability of each choice, (b, k); see `Augmenter.augment_both_ways`.
        weight: of each in the training loss, 0; the hypergradient by it is the image's influence, (b,).
    """

    images: Tensor
    sign: Tensor
    weight: Tensor

    @classmethod
    def joined(cls, images: tuple[Tensor, ...], sign: tuple[Tensor, ...]) -> "TurnedImages":
        """Put parts together."""
        together = channels_last(torch.cat(images))
        return cls(together, torch.cat(sign), together.new_zeros(len(together), requires_grad=True))


class BatchLoss:
    """The training loss of one batch: a function of the classifier's weights w, of its images and of example weights.

    Each image has an example weight of 1; the hypergradient by it is the image's influence on the validation loss. Both
    methods give the hypergradient by this process's images, by their example weights and, if there are any, by those of
    the turned images. What the augmenter makes of it is the outer level's.

    Args:
        inner: the classifier and its loss.
        parts: in which the batch passes through the classifier.
        images: x̂, a leaf.
        turned: the same with a choice turned; None where there are no choices that can be turned.
        labels: of the images.
        dropout_seed: the same numbers for every pass.
    """

    def __init__(
        self,
        inner: InnerLevel,
        parts: list[Part],
        images: Float[Tensor, "b c h w"],
        turned: TurnedImages | None,
        labels: Int64[Tensor, "b"],
        dropout_seed: int,
    ) -> None:
        self.inner, self.parts, self.images, self.turned = inner, parts, images, turned
        self.labels, self.dropout_seed = labels, dropout_seed
        self.example_weights = torch.ones(len(images), dtype=images.dtype, device=images.device, requires_grad=True)
        self.values: dict[Part, Tensor] = {}

    def whole(self) -> float:
        """Return the loss of the whole batch, known behind a hypergradient: processes exchange their parts."""
        return self.inner.whole_loss(list(self.values.values()))

    def by_differences(
        self, val_losses: Iterator[Tensor], inverse: InverseHessian, epsilon: float, **settings: Any
    ) -> Hypergradient:
        """Take differences of gradients over a step of `epsilon` times the norm of the weights."""
        # The same forward difference for both influences of an image, so that both miss the same.
        inputs = [self.images, self.example_weights, *([] if self.turned is None else [self.turned.weight])]
        passes = [partial(self._loss_with_turned, part) for part in self.parts]
        return hypergradient_by_differences(
            passes, val_losses, self.inner.weights, inputs, inverse, epsilon=epsilon, central=False, **settings
        )

    def exactly(self, val_losses: Iterator[Tensor], inverse: InverseHessian, **settings: Any) -> Hypergradient:
        """Take double backward passes."""
        weights, inputs = self.inner.weights, [self.images, self.example_weights]
        if len(self.parts) > 1:
            passes = [lambda part=part: self._loss(part)[0] for part in self.parts]
            found = hypergradient(passes, val_losses, weights, inputs, inverse, **settings)
        else:
            # First, since it holds its graph, and the training pass is about to make one.
            settings["val_gradient"] = zeros_for_unused(gradient_of_sum(val_losses, weights), weights)
            loss, outputs = self._loss(self.parts[0])
            found = hypergradient(loss, None, weights, inputs, inverse, outputs=outputs, **settings)
            # Their graph would be kept while the turned images pass.
            del loss, outputs
        if self.turned is not None:
            each = [self._influence(part, self.turned.images, found.product) for part in self.parts]
            found.gradients.append(torch.cat(each))
        return found

    def _loss(self, part: Part) -> tuple[Tensor, Tensor]:
        """Return the share of a part in the training loss, and what the classifier gives."""
        # Only the first pass is the inner step's own, and moves running statistics.
        outputs = self._outputs(part, self.images, moving=part not in self.values)
        loss = part.share * (part.of(self.example_weights) * self.inner.losses(outputs, part.of(self.labels))).mean()
        self.values.setdefault(part, loss.detach())
        return loss, outputs

    def _loss_with_turned(self, part: Part) -> Tensor:
        if self.turned is None:
            return self._loss(part)[0]
        # What has no weight moves no gradient by the classifier's weights, so no pass need go back. It goes first,
        # before the other keeps its graph.
        with torch.no_grad():
            losses = self.inner.losses(self._outputs(part, self.turned.images), part.of(self.labels))
        return self._loss(part)[0] + (part.of(self.turned.weight) * losses).sum() / len(self.labels)

    def _outputs(self, part: Part, images: Float[Tensor, "b c h w"], moving: bool = False) -> Tensor:
        """Pass a part of the images through the classifier, with the same dropout every time: a difference of two
        passes must be of the weights alone. Running statistics move where asked to.
        """
        torch.manual_seed(self.dropout_seed)
        kept = contextlib.nullcontext() if moving else running_statistics_kept(self.inner.classifier)
        with kept, part.drawn(self.inner.device):
            return self.inner.classifier(part.of(images))

    def _influence(self, part: Part, images: Float[Tensor, "b c h w"], product: Tensor) -> Float[Tensor, "b"]:
        """Return the influence that a part of the images would have if they looked like this, by double backward."""
        losses = self.inner.losses(self._outputs(part, images), part.of(self.labels))
        example_weights = torch.ones_like(losses, requires_grad=True)
        loss, weights = (example_weights * losses).sum() / len(self.labels), self.inner.weights
        g = zeros_for_unused(torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True), weights)
        (slope,) = HessianProducts(g, weights, [example_weights]).mixed(product)
        return torch.zeros_like(example_weights) if slope is None else -slope
