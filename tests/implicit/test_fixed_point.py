"""Hypergradients through an update rule, with known answers."""

import pytest
import torch

from augnet.implicit import Exact, Identity, Neumann, hypergradient, unrolled_hypergradient, update_hypergradient


def val(w, t):
    return (w - t).square().sum() / 2


@pytest.mark.parametrize("inverse", [Identity(), Neumann(steps=4, step_size=1.0)], ids=lambda i: type(i).__name__)
@pytest.mark.parametrize("converged", [True, False])
def test_an_update_along_the_training_gradient_gives_the_hypergradient_of_its_loss(quadratic, inverse, converged):
    """u = αg makes ∂u/∂w = αH and ∂u/∂h = α∂g/∂h: Σ (I - αH)ʲ α, which is Neumann's answer for g with step size α."""
    A, B, t, h, w = quadratic(converged=converged)
    rate = 0.1
    usual = Neumann(steps=4, step_size=rate) if isinstance(inverse, Neumann) else inverse
    expected = hypergradient(w @ A @ w / 2 - w @ B @ h, val(w, t), [w], [h], usual)
    found = update_hypergradient([rate * (A @ w - B @ h)], val(w, t), [w], [h], inverse)
    scale = 1 if isinstance(inverse, Neumann) else rate
    torch.testing.assert_close(found.gradients[0], scale * expected.gradients[0])


def test_momentum_as_a_part_of_the_state_agrees_with_the_fixed_point(quadratic):
    """v ← μv + Aw - c + ξw, w ← w - ηv rests at v = 0, w = (A + ξI)⁻¹c, whatever η and μ.

    So dval/dξ = -(w - t)'(A + ξI)⁻¹w, dval/dc = (A + ξI)⁻¹(w - t), and 0 for η and μ. The derivative of the update is
    not symmetric, so a product with it instead of its transpose would be found out.
    """
    A, _, t, _, _ = quadratic()
    c = torch.linspace(-1, 1, 6, dtype=torch.float64).requires_grad_()
    rate, momentum, decay = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.1, 0.8, 0.3))
    damped = (A + decay * torch.eye(6, dtype=torch.float64)).detach()
    w = torch.linalg.solve(damped, c).detach().requires_grad_()
    v = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    moved = momentum * v + A @ w - c + decay * w
    found = update_hypergradient(
        [rate * moved, v - moved], val(w, t), [w, v], [c, decay, rate, momentum], Neumann(steps=400, step_size=1.0)
    )
    response = torch.linalg.solve(damped, w - t).detach()
    expected = [response, -(w.detach() @ response), torch.zeros(()), torch.zeros(())]
    for part, answer in zip(found.gradients, expected, strict=True):
        torch.testing.assert_close(part, answer.double(), rtol=1e-9, atol=1e-9)


def test_one_term_is_what_the_next_step_would_gain(quadratic):
    """With one term dval/dη = -b'g: the slope of val(w - ηg) at η = 0, which unrolling one step of size 0 gives too."""
    A, B, t, h, w = quadratic(converged=False)
    rate = torch.zeros((), dtype=torch.float64, requires_grad=True)
    unrolled = unrolled_hypergradient(
        lambda weights: weights[0] @ A @ weights[0] / 2 - weights[0] @ B @ h.detach(),
        lambda weights: val(weights[0], t),
        [w], [rate], steps=1, step_size=rate,
    )  # fmt: skip
    found = update_hypergradient([rate * (A @ w - B @ h)], val(w, t), [w], [rate], Neumann(steps=1, step_size=1.0))
    torch.testing.assert_close(found.gradients[0], unrolled.gradients[0])


def test_a_direct_dependence_is_added_and_an_idle_hyperparameter_gets_zero(quadratic):
    """val = |w - t|²/2 + |h|²/2 adds h; a hyperparameter in neither update nor loss gets zeros."""
    A, B, t, h, w = quadratic()
    idle = torch.ones(4, requires_grad=True)
    val_loss = val(w, t) + h.square().sum() / 2
    found = update_hypergradient([A @ w - B @ h], val_loss, [w], [h, idle], Exact())
    torch.testing.assert_close(found.gradients[0], (h + B.T @ torch.linalg.solve(A, w - t)).detach())
    assert not found.gradients[1].any()
    torch.testing.assert_close(found.val_gradient[0], (w - t).detach())


def test_no_influence_and_updates_of_another_shape_are_refused():
    w, h = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="depends on any of the 1 hyperparameters"):
        update_hypergradient([0.1 * w], w.sum(), [w], [h], Identity())
    with pytest.raises(ValueError, match=r"the update has shapes \[\(1,\)\] but the state \[\(2,\)\]"):
        update_hypergradient([h * 1], w.sum(), [w], [h], Identity())
