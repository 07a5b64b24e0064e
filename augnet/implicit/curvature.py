"""Products with the curvature of a training loss.

Everything the solvers know of a network is made here: a function from vector to vector. Four classes make one,
each from something else: `HessianProducts` from a gradient that kept its graph, `HessianProductsInParts` from a loss
too large for that, `GaussNewtonProducts` from a network's outputs, `DifferenceProducts` from a loss that can be
computed again (for networks without second derivatives).

Symbols: w weights (p numbers in all), λ hyperparameters, L training loss, g = ∂L/∂w, H = ∂²L/∂w²,
J = ∂outputs/∂w, v a vector like w.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import grad

Operator = Callable[[Tensor], Tensor]


def flatten(tensors: Iterable[Tensor]) -> Float[Tensor, "p"]:
    """Lay the entries of all tensors end to end; those of four dimensions channels last, which is how the kernels of
    convolutions lie in memory wherever speed matters.
    """
    return torch.cat([(t.permute(0, 2, 3, 1) if t.ndim == 4 else t).reshape(-1) for t in tensors])


def unflatten(vector: Float[Tensor, "p"], like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a vector into pieces of the shapes and number types of `like`: the inverse of `flatten`.

    Raises:
        ValueError: if the vector has another number of entries than `like`.
    """
    sizes = [tensor.numel() for tensor in like]
    if vector.numel() != sum(sizes):
        raise ValueError(
            f"the vector has {vector.numel()} entries but the {len(sizes)} tensors have {sum(sizes)}; "
            "was it made for other weights?"
        )
    return [
        _shaped(piece, tensor.shape).to(tensor.dtype) for piece, tensor in zip(vector.split(sizes), like, strict=True)
    ]


def _shaped(piece: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return piece.view(shape)
    first, channels, height, width = shape
    return piece.view(first, height, width, channels).permute(0, 3, 1, 2)


def zeros_for_unused(gradients: Iterable[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Put zeros where autograd answered None, which it does for tensors that a loss does not use."""
    return [torch.zeros_like(t) if g is None else g for g, t in zip(gradients, like, strict=True)]


def gradient_of_sum(losses: Iterable[Tensor], inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Differentiate the sum of losses, one after the other: of an iterator, one graph is in memory at a time."""
    return _sums(grad(loss, inputs, allow_unused=True) for loss in losses)


def _sums(terms: Iterable[Sequence[Tensor | None]]) -> list[Tensor | None]:
    """Add lists entry by entry; None counts as zero."""
    total: list[Tensor | None] = []
    for term in terms:
        pairs = zip(total or [None] * len(term), term, strict=True)
        total = [b if a is None else a if b is None else a + b for a, b in pairs]
    return total


class CurvatureProducts(ABC):
    """Products Hv, and mixed derivatives ∂⟨v, g⟩/∂λ.

    One pass can answer both questions. Product number `joint` does so, and `mixed` at the same vector is then free:
    this is how K Neumann terms cost K double backward passes and not K + 1.

    Args:
        weights: what g is taken by.
        hyperparameters: tensors that require gradients, leaves or not.
        joint: which product, counted from 1, also brings the mixed derivative; None for none.
    """

    def __init__(self, weights: Sequence[Tensor], hyperparameters: Sequence[Tensor], joint: int | None) -> None:
        self.weights, self.hyperparameters, self.joint = list(weights), list(hyperparameters), joint
        self.count = 0
        self._last: tuple[Tensor, list[Tensor | None]] | None = None

    def __call__(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        self.count += 1
        joint = self.count == self.joint
        parts = self._derivative(vector, [*self.weights, *self.hyperparameters] if joint else self.weights)
        if joint:
            self._last = vector, parts[len(self.weights) :]
        return flatten(zeros_for_unused(parts[: len(self.weights)], self.weights))

    def mixed(self, vector: Float[Tensor, "p"]) -> list[Tensor | None]:
        """Return ∂⟨v, g⟩/∂λ, one tensor per hyperparameter; None for those that g does not depend on."""
        if self._last is not None and (self._last[0] is vector or torch.equal(self._last[0], vector)):
            return self._last[1]
        return self._derivative(vector, self.hyperparameters)

    @abstractmethod
    def _derivative(self, vector: Tensor, inputs: list[Tensor]) -> list[Tensor | None]:
        """Return ∂⟨v, g⟩/∂input for every input."""


class HessianProducts(CurvatureProducts):
    """Products by a second backward pass through g.

    Args:
        gradient: g, one tensor per weight, computed with `create_graph=True`.
        weights, hyperparameters, joint: as in `CurvatureProducts`.
    """

    def __init__(
        self,
        gradient: Sequence[Tensor],
        weights: Sequence[Tensor],
        hyperparameters: Sequence[Tensor] = (),
        joint: int | None = None,
    ) -> None:
        super().__init__(weights, hyperparameters, joint)
        self.gradient = list(gradient)

    def _derivative(self, vector: Tensor, inputs: list[Tensor]) -> list[Tensor | None]:
        # A part of g without a graph is constant (a loss linear in that weight): its derivative is zero.
        pairs = [
            (g, v) for g, v in zip(self.gradient, unflatten(vector, self.gradient), strict=True) if g.requires_grad
        ]
        if not pairs or not inputs:
            return [None] * len(inputs)
        parts, directions = zip(*pairs, strict=True)
        return list(grad(parts, inputs, grad_outputs=directions, retain_graph=True, allow_unused=True))


class HessianProductsInParts(CurvatureProducts):
    """Products with the Hessian of a sum, part by part: memory is that of one part, and each product costs the passes
    of its gradient again.

    Args:
        parts: each computes a part of the training loss anew; the same images and the same noise every time.
        weights, hyperparameters, joint: as in `CurvatureProducts`.
    """

    def __init__(
        self,
        parts: Sequence[Callable[[], Tensor]],
        weights: Sequence[Tensor],
        hyperparameters: Sequence[Tensor] = (),
        joint: int | None = None,
    ) -> None:
        super().__init__(weights, hyperparameters, joint)
        self.parts = list(parts)

    def _derivative(self, vector: Tensor, inputs: list[Tensor]) -> list[Tensor | None]:
        return _sums(self._derivative_of(part(), vector, inputs) for part in self.parts)

    def _derivative_of(self, loss: Tensor, vector: Tensor, inputs: list[Tensor]) -> list[Tensor | None]:
        g = zeros_for_unused(grad(loss, self.weights, create_graph=True, allow_unused=True), self.weights)
        return HessianProducts(g, self.weights)._derivative(vector, inputs)


class GaussNewtonProducts:
    """Products JᵀH_out J v, with H_out the Hessian of the loss in the network's outputs.

    Positive semi-definite whenever the loss is convex in the outputs, so conjugate gradients never meet negative
    curvature. What does not pass through the outputs, such as weight decay, is not in it: give it as damping.
    J v comes from two backward passes, the second through a stand-in for the outputs' gradient.

    Args:
        loss: a function of `outputs`, its graph kept.
        outputs: what the network gave, its graph kept.
        weights: what J is taken by.

    Raises:
        ValueError: if the loss does not depend on `outputs`.
    """

    def __init__(self, loss: Tensor, outputs: Tensor, weights: Sequence[Tensor]) -> None:
        self.outputs, self.weights = outputs, list(weights)
        (slope,) = grad(loss, [outputs], create_graph=True, allow_unused=True)
        if slope is None:
            raise ValueError(
                "the training loss does not depend on the given outputs; "
                "hand over the very tensor that the loss was computed from"
            )
        self.slope = slope
        self.stand_in = torch.zeros_like(outputs, requires_grad=True)
        backward = grad(outputs, self.weights, self.stand_in, create_graph=True, allow_unused=True)
        self.backward = zeros_for_unused(backward, self.weights)

    def __call__(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        pairs = [(t, v) for t, v in zip(self.backward, unflatten(vector, self.weights), strict=True) if t.requires_grad]
        if not pairs or not self.slope.requires_grad:
            return torch.zeros_like(vector)
        parts, directions = zip(*pairs, strict=True)
        (forward,) = grad(parts, [self.stand_in], directions, retain_graph=True)
        (curved,) = grad(self.slope, [self.outputs], forward, retain_graph=True)
        product = grad(self.outputs, self.weights, curved, retain_graph=True, allow_unused=True)
        return flatten(zeros_for_unused(product, self.weights))


class DifferenceProducts(CurvatureProducts):
    """Products by differences of gradients: no double backward pass, so two thirds of the memory and less time.

    Central differences cost two plain training gradients each; forward ones cost one, because the gradient at w itself
    is known. The weights move in place along v and are put back exactly; graphs recorded through them before can
    then no longer be walked backward. For a network of ReLUs and batch norm the step is what matters: by the cosine of
    an augmenter's policy gradient with the exact one, on digits, forward steps of 1 % of |w| gave 0.27 and of 3 % 0.22,
    central ones 0.62 and 0.60 (`recipes/benchmarks/difference_step.py`).

    Args:
        loss: computes the training loss anew at the current weights; the same batch and the same noise every time. Or
            several of them, whose sum is the training loss: memory is then that of one.
        weights: leaves, moved in place.
        hyperparameters, joint: as in `CurvatureProducts`.
        epsilon: length of the move, relative to |w| (or to 1 if that is more). By default the cube root of the machine
            epsilon, which balances rounding against the change of curvature for a smooth loss.
        here: gradients at w by weights and hyperparameters, for forward differences; None for central ones.
    """

    def __init__(
        self,
        loss: Callable[[], Tensor] | Sequence[Callable[[], Tensor]],
        weights: Sequence[Tensor],
        hyperparameters: Sequence[Tensor] = (),
        joint: int | None = None,
        epsilon: float | None = None,
        here: Sequence[Tensor | None] | None = None,
    ) -> None:
        super().__init__(weights, hyperparameters, joint)
        self.parts = [loss] if callable(loss) else list(loss)
        w = torch.stack(torch._foreach_norm([x.detach() for x in self.weights]))
        relative = torch.finfo(w.dtype).eps ** (1 / 3) if epsilon is None else epsilon
        self.epsilon = relative * w.norm().clamp_min(1.0)
        self.here = None if here is None else list(here)

    def _derivative(self, vector: Tensor, inputs: list[Tensor]) -> list[Tensor | None]:
        length = vector.norm()
        if length == 0:
            return [torch.zeros_like(tensor) for tensor in inputs]
        step = self.epsilon / length
        moves = unflatten(vector, self.weights)
        kept = [weight.detach().clone() for weight in self.weights]
        try:
            ahead = self._gradient_at(kept, moves, step, inputs)
            if self.here is None:
                behind, distance = self._gradient_at(kept, moves, -step, inputs), 2 * step
            else:
                known = zip([*self.weights, *self.hyperparameters], self.here, strict=True)
                gradients = {id(tensor): gradient for tensor, gradient in known}
                behind, distance = [gradients[id(tensor)] for tensor in inputs], step
        finally:
            with torch.no_grad():
                for weight, value in zip(self.weights, kept, strict=True):
                    weight.copy_(value)
        return [None if a is None or b is None else a.sub(b).div_(distance) for a, b in zip(ahead, behind, strict=True)]

    def _gradient_at(
        self, kept: list[Tensor], moves: list[Tensor], step: Tensor, inputs: list[Tensor]
    ) -> list[Tensor | None]:
        with torch.no_grad():
            for weight, value, move in zip(self.weights, kept, moves, strict=True):
                torch.addcmul(value, move, step, out=weight)
        return gradient_of_sum((part() for part in self.parts), inputs)


# Relative distance up to which two second derivatives are the same; a part left out is a distance of order one.
SAME = 0.05
SHORT = (1e-8, 1e-9, 1e-10, 1e-11, 1e-12)


def twice_differentiable(
    loss: Callable[[], Tensor], weights: Sequence[Tensor], hyperparameters: Sequence[Tensor] = ()
) -> str | None:
    """Try a double backward pass and say why it fails.

    In float64 it is also held against differences of gradients: a custom function that is differentiable only once can
    make autograd leave a part of the second derivative out without a word. A ReLU exactly at its kink looks the same;
    where blocks start as the identity, move the weights a little first.

    Args:
        loss: computes the training loss of a tiny batch; the same batch and noise every time.
        weights: what the gradient is taken by, twice.
        hyperparameters: what the mixed derivative is taken by.

    Returns:
        None if it works; otherwise the reason, as one sentence to show to a user.
    """
    try:
        g = zeros_for_unused(grad(loss(), weights, create_graph=True, allow_unused=True), weights)
        products = HessianProducts(g, weights, hyperparameters, joint=1)
        vector = flatten(g).detach() + 1e-3
        found = products(vector)
        if found.dtype == torch.float64:
            # Short steps, within which a network is nearly quadratic; float64 has the digits for them. A kink that lies
            # within one by chance, as among many ReLUs, lies beyond a shorter one.
            each = (DifferenceProducts(loss, weights, epsilon=step)(vector) for step in SHORT)
            if not any(bool((found - expected).norm() <= SAME * expected.norm()) for expected in each):
                raise RuntimeError("autograd's second derivative is not that of its first")
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        return f"the model has no second derivative ({reason})"
    return None


def largest_eigenvalue(operator: Operator, start: Float[Tensor, "p"], products: int) -> tuple[float, Tensor]:
    """Estimate the largest eigenvalue in absolute value by power iteration.

    Returns:
        The estimate, which approaches from below, and the unit vector to go on from.
    """
    top, estimate = start / start.norm().clamp_min(torch.finfo(start.dtype).tiny), 0.0
    for _ in range(products):
        image = operator(top)
        size = image.norm()
        estimate = float(size)
        top = image / size.clamp_min(torch.finfo(start.dtype).tiny)
    return estimate, top
