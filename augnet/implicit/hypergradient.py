"""The gradient of a validation loss by hyperparameters, through the implicit function theorem.

    dL_val/dλ = ∂L_val/∂λ − pᵀ ∂²L_train/∂w∂λ,     p ≈ (∂²L_train/∂w²)⁻¹ ∂L_val/∂w

(Lorraine, Vicol and Duvenaud 2020). The hyperparameters may be of any kind: weight decays, example weights, pixels, or
the augmented images at which a trainer cuts the graph of its augmenter.

Symbols: w weights, λ hyperparameters, g = ∂L_train/∂w, H = ∂²L_train/∂w², b = ∂L_val/∂w, p ≈ H⁻¹b,
P = I − ggᵀ/(gᵀg) the projection on the complement of g.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from augnet.implicit.curvature import (
    CurvatureProducts,
    DifferenceProducts,
    GaussNewtonProducts,
    HessianProducts,
    HessianProductsInParts,
    Operator,
    flatten,
    gradient_of_sum,
    unflatten,
    zeros_for_unused,
)
from augnet.implicit.inverse import InverseHessian, Solution


class Hypergradient(NamedTuple):
    """What one outer step needs, and the inner step's gradient, which was computed on the way.

    Args:
        gradients: dL_val/dλ, one tensor per hyperparameter; zeros where neither loss depends on it.
        solution: p and how it was found; the next call's `start`.
        train_gradient: dL_train/dw, one tensor per weight, without a graph.
        val_gradient: dL_val/dw, one tensor per weight, without a graph; projected, if that was asked for.
        product: p, flat in the order of `flatten`; projected, if that was asked for.
    """

    gradients: list[Tensor]
    solution: Solution
    train_gradient: list[Tensor]
    val_gradient: list[Tensor]
    product: Tensor


def hypergradient(
    train_loss: Tensor | Sequence[Callable[[], Tensor]],
    val_loss: Tensor | Iterable[Tensor] | None,
    weights: Sequence[Tensor],
    hyperparameters: Sequence[Tensor],
    inverse: InverseHessian,
    *,
    start: Solution | None = None,
    diagonal: Tensor | None = None,
    project: bool = False,
    outputs: Tensor | None = None,
    val_gradient: Sequence[Tensor] | Tensor | None = None,
    average: Operator | None = None,
) -> Hypergradient:
    """Differentiate a validation loss by hyperparameters that act through trained weights.

    **Projection.** The implicit function theorem asks that g = 0, which a network in training never meets. Yet w is
    always stationary within the plane w + {δ : gᵀδ = 0}, because g has no component in it. There the theorem holds
    exactly: the best weights in that plane respond to λ by dw = −(PHP)⁺ P ∂g/∂λ, and `project=True` returns the
    hypergradient of that response. Right side, operator and start are projected. What is left out, the response along
    g, mostly says "a longer step in the same direction", which is the learning rate's business: a hyperparameter that
    only scales the training loss gets 0, where T1–T2 would enlarge it for ever.

    Its limits: a hyperparameter that moves the weights along g itself is not seen. With one weight the answer is
    always 0; in a narrow valley g lies along the floor, the very direction in which the weights respond most.
    And P does not fade as g does: a tiny g takes out as much as a large one, so near the minimum of a fixed training
    loss the answer lacks the response along g. Only a g of the size of rounding counts as 0.

    Args:
        train_loss: a function of `weights` and `hyperparameters`, its graph kept. Or parts that add up to it, each a
            function that computes its part anew, with the same noise every time: memory is then that of one part, and
            every product computes the training gradient again.
        val_loss: a function of `weights`, perhaps of `hyperparameters` too; None if `val_gradient` says it all. Or
            parts that add up to it: of an iterator, the graph of one is in memory at a time.
        weights: what the inner problem trains.
        hyperparameters: tensors that require gradients.
        inverse: how to approximate H⁻¹b.
        start: the solution of the last call, for a warm start.
        diagonal: one positive number per weight to precondition by, in the order of `flatten`, as
            `optimiser_diagonal` gives.
        project: leave out responses along the training gradient.
        outputs: the network's outputs that `train_loss` was computed from; only for Gauss–Newton curvature.
        val_gradient: b, one tensor per weight or flat in the order of `flatten`, if it is known already.
        average: averages a flat vector over devices; applied to g, b and every product with H. The gradients by
            hyperparameters stay those of this device's part of the training loss.

    Returns:
        The hypergradient. Neumann's K products cost K double backward passes, the mixed derivative included.

    Raises:
        ValueError: if neither loss depends on any hyperparameter, if there is neither `val_loss` nor `val_gradient`,
            or if Gauss–Newton curvature is asked for without `outputs`, or in parts.
    """
    weights, hyperparameters = list(weights), list(hyperparameters)
    val_gradient, direct = _validation(val_loss, val_gradient, weights, hyperparameters)
    if not isinstance(train_loss, Tensor):
        _refuse_gauss_newton(inverse, "which needs the graph of the whole training loss")
        g = zeros_for_unused(gradient_of_sum((part() for part in train_loss), weights), weights)
        in_parts = HessianProductsInParts(train_loss, weights, hyperparameters, inverse.planned(start))
        return _solve(in_parts, in_parts, flatten(g), val_gradient, direct, inverse, start, diagonal, project, average)
    g = zeros_for_unused(grad(train_loss, weights, create_graph=True, allow_unused=True), weights)
    if inverse.curvature == "gauss_newton":
        if outputs is None:
            raise ValueError(
                f"{type(inverse).__name__} is set to Gauss–Newton curvature but no outputs were given; "
                "pass outputs=, the tensor that the training loss was computed from"
            )
        products = HessianProducts(g, weights, hyperparameters)
        matrix: Operator = GaussNewtonProducts(train_loss, outputs, weights)
    else:
        matrix = products = HessianProducts(g, weights, hyperparameters, joint=inverse.planned(start))
    gradient = flatten(g).detach()
    return _solve(products, matrix, gradient, val_gradient, direct, inverse, start, diagonal, project, average)


def hypergradient_by_differences(
    train_loss: Callable[[], Tensor] | Sequence[Callable[[], Tensor]],
    val_loss: Tensor | Iterable[Tensor] | None,
    weights: Sequence[Tensor],
    hyperparameters: Sequence[Tensor],
    inverse: InverseHessian,
    *,
    epsilon: float | None = None,
    central: bool = True,
    start: Solution | None = None,
    diagonal: Tensor | None = None,
    project: bool = False,
    val_gradient: Sequence[Tensor] | Tensor | None = None,
    average: Operator | None = None,
) -> Hypergradient:
    """Do as `hypergradient` for a network without second derivatives: differences stand for double backward passes.

    Args:
        train_loss: computes the training loss anew at the current weights; same batch, same noise, every time. Or
            several functions that add up to it: memory is then that of one.
        epsilon: length of the move in weight space, relative to |w|; see `DifferenceProducts`.
        central: take central differences, two passes each; otherwise forward ones, one pass each.

    The other arguments and the errors are those of `hypergradient`; Gauss–Newton curvature is a ValueError.
    """
    weights, hyperparameters = list(weights), list(hyperparameters)
    _refuse_gauss_newton(inverse, "which needs a double backward pass")
    parts = [train_loss] if callable(train_loss) else list(train_loss)
    # The validation gradient first: the differences move the weights under its graph.
    val_gradient, direct = _validation(val_loss, val_gradient, weights, hyperparameters)
    here = gradient_of_sum((part() for part in parts), [*weights, *hyperparameters])
    flat = flatten(zeros_for_unused(here[: len(weights)], weights))
    # Views of one vector, which the projection needs too.
    g = unflatten(flat, weights)
    here = [*g, *here[len(weights) :]]
    products = DifferenceProducts(
        parts, weights, hyperparameters, inverse.planned(start), epsilon, None if central else here
    )
    return _solve(products, products, flat, val_gradient, direct, inverse, start, diagonal, project, average)


def _refuse_gauss_newton(inverse: InverseHessian, reason: str) -> None:
    if inverse.curvature == "gauss_newton":
        raise ValueError(
            f"{type(inverse).__name__} is set to Gauss–Newton curvature, {reason}; set its curvature to 'hessian'"
        )


def _validation(
    val_loss: Tensor | Iterable[Tensor] | None,
    val_gradient: Sequence[Tensor] | Tensor | None,
    weights: list[Tensor],
    hyperparameters: list[Tensor],
) -> tuple[Tensor, list[Tensor | None]]:
    """Return b, flat and in memory of its own, and ∂L_val/∂λ per hyperparameter or None where there is none."""
    if val_loss is None and val_gradient is None:
        raise ValueError("neither val_loss nor val_gradient was given; pass the validation loss or its gradient")
    direct: list[Tensor | None] = [None] * len(hyperparameters)
    found: Sequence[Tensor] | Tensor = [] if val_gradient is None else val_gradient
    if val_loss is not None:
        wanted = [*weights, *hyperparameters] if val_gradient is None else hyperparameters
        parts = gradient_of_sum([val_loss] if isinstance(val_loss, Tensor) else val_loss, wanted)
        direct = parts[len(wanted) - len(hyperparameters) :]
        if val_gradient is None:
            found = zeros_for_unused(parts[: len(weights)], weights)
    return found.detach().clone() if isinstance(found, Tensor) else flatten(found).detach(), direct


def _solve(
    products: CurvatureProducts,
    matrix: Operator,
    g: Tensor,
    val_gradient: Tensor,
    direct: list[Tensor | None],
    inverse: InverseHessian,
    start: Solution | None,
    diagonal: Tensor | None,
    project: bool,
    average: Operator | None,
) -> Hypergradient:
    """Solve Hp = b and put the hypergradient together."""
    averaged: Operator = average or (lambda v: v)
    gradient, b = averaged(g), averaged(val_gradient)
    if project:
        # A gradient of the size of rounding has no direction worth the name.
        off = _complement(gradient, least=torch.finfo(b.dtype).eps ** 0.75 * float(b.norm()))
        # Long vectors are kept once: b and the products are projected in place, and a warm start is not again.
        off(b, out=b)
        start = None if start is None else start._replace(next=off(start.next))

        def inside(v: Tensor) -> Tensor:
            return v if start is not None and v is start.next else off(v)

        def projected(v: Tensor) -> Tensor:
            product = averaged(matrix(inside(v)))
            return off(product, out=product)

        solution = inverse.solve(projected, b, start, diagonal)
        p = inside(solution.value)
    else:
        solution = inverse.solve(lambda v: averaged(matrix(v)), b, start, diagonal)
        p = solution.value
    mixed = products.mixed(p)
    if all(part is None for part in [*mixed, *direct]):
        raise ValueError(
            f"no gradient reaches any of the {len(mixed)} hyperparameters; was the training loss computed from them?"
        )
    gradients = [
        (torch.zeros_like(tensor) if ours is None else ours) - (torch.zeros_like(tensor) if theirs is None else theirs)
        for tensor, ours, theirs in zip(products.hyperparameters, direct, mixed, strict=True)
    ]
    return Hypergradient(gradients, solution, unflatten(gradient, products.weights), unflatten(b, products.weights), p)


def _complement(gradient: Tensor, least: float) -> Callable[..., Tensor]:
    """Return v ↦ Pv, with an `out` as torch's own functions have; the identity where |g| is not above `least`."""
    length = gradient.norm()
    if length <= least:
        return lambda v, out=None: v
    square = length * length
    return lambda v, out=None: torch.addcmul(v, gradient, (gradient @ v) / square, value=-1, out=out)
