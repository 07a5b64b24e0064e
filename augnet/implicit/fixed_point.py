"""Hypergradients of what acts through the update rule: learning rates, momenta, decays of the optimiser.

No training loss holds a learning rate, so `hypergradient` cannot see it. But training is a map s ← s − u(s, λ), and
where it comes to rest u(s, λ) = 0. The implicit function theorem of that equation gives

    dL_val/dλ = ∂L_val/∂λ − pᵀ ∂u/∂λ,     p ≈ (∂u/∂s)⁻ᵀ ∂L_val/∂s

(Clarke, Oldewage and Hernández-Lobato 2022). With u = ∂L_train/∂w this is `hypergradient`.

Symbols: s state of training (the weights, and whatever else the optimiser keeps, such as velocities), u what a step
takes away from it, λ hyperparameters, b = ∂L_val/∂s.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.autograd import grad

from augnet.implicit.curvature import HessianProducts, flatten, zeros_for_unused
from augnet.implicit.hypergradient import Hypergradient
from augnet.implicit.inverse import InverseHessian, Solution


def update_hypergradient(
    update: Sequence[Tensor],
    val_loss: Tensor,
    state: Sequence[Tensor],
    hyperparameters: Sequence[Tensor],
    inverse: InverseHessian,
    *,
    start: Solution | None = None,
) -> Hypergradient:
    """Differentiate a validation loss by hyperparameters that act through one step of training.

    `Neumann(steps=K, step_size=1.0)` gives pᵀ = bᵀ Σ_{j<K} (I − ∂u/∂s)ʲ: K steps looked back upon, as if all had been
    taken where training now stands. It converges wherever training itself does, so there is no α to choose. At rest
    nothing depends on a learning rate, and the answer for it is 0; what it says of one on the way there is how much
    further the next K steps could have gone, and a step that would pay off only later is not seen.

    Args:
        update: u, one tensor like each of `state`, its graph kept (take the training gradient with `create_graph`).
        val_loss: a function of the state, perhaps of the hyperparameters too.
        state: s, tensors that require gradients. With momentum it has the velocities too.
        hyperparameters: λ, tensors that require gradients.
        inverse: how to approximate the product with (∂u/∂s)⁻ᵀ. A velocity in the state, or a learning rate per weight,
            makes ∂u/∂s unsymmetric: only `Identity` and `Neumann` are right then.
        start: the solution of the last call, for a warm start.

    Returns:
        The hypergradient; its `train_gradient` is u.

    Raises:
        ValueError: if neither the update nor the validation loss depends on any hyperparameter, an update is not
            shaped like its part of the state, or Gauss–Newton curvature is asked for.
    """
    state, hyperparameters = list(state), list(hyperparameters)
    if inverse.curvature == "gauss_newton":
        raise ValueError(
            f"{type(inverse).__name__} is set to Gauss–Newton curvature, which an update has not; set its curvature to "
            "'hessian'"
        )
    found, wanted = [tuple(part.shape) for part in update], [tuple(part.shape) for part in state]
    if found != wanted:
        raise ValueError(f"the update has shapes {found} but the state {wanted}; give one update per part of the state")
    parts = grad(val_loss, [*state, *hyperparameters], allow_unused=True)
    b = zeros_for_unused(parts[: len(state)], state)
    products = HessianProducts(update, state, hyperparameters, joint=inverse.planned(start))
    solution = inverse.solve(products, flatten(b), start)
    influence = products.mixed(solution.value)
    direct = parts[len(state) :]
    if all(part is None for part in [*influence, *direct]):
        raise ValueError(
            f"neither the update nor the validation loss depends on any of the {len(hyperparameters)} hyperparameters; "
            "was the update computed from them?"
        )
    sides = [zeros_for_unused(side, hyperparameters) for side in (direct, influence)]
    gradients = [ours - theirs for ours, theirs in zip(*sides, strict=True)]
    return Hypergradient(gradients, solution, [part.detach() for part in update], b, solution.value)
