"""The hypergradient without the response along the training gradient: what it is, and where it fails."""

import pytest
import torch

from augnet.implicit import ConjugateGradient, Exact, Identity, Neumann, hypergradient


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "inverse", [Exact(), ConjugateGradient(steps=5), Neumann(steps=1500)], ids=lambda i: type(i).__name__
)
def test_it_is_the_hypergradient_of_training_within_the_plane(quadratic, inverse, seed):
    """Training that may not move along g(w₀), anywhere in space: differences of the retrained validation loss agree.

    With Q an orthonormal basis of the plane, w(h) = w₀ + Qz minimises w'Aw/2 - w'Bh at z = (Q'AQ)⁻¹Q'(Bh - Aw₀), which
    is 0 at the h we stand at, although w₀ is not converged. val = |w - t|²/2 is quadratic, so differences are exact.
    """
    A, B, t, h, w = quadratic(seed, converged=False)
    g = (A @ w - B @ h).detach()
    basis = torch.linalg.svd(g[None])[2][1:].T

    def retrained(h):
        return w + basis @ torch.linalg.solve(basis.T @ A @ basis, basis.T @ (B @ h - A @ w))

    torch.testing.assert_close(retrained(h), w)
    moves = 1e-3 * torch.eye(3, dtype=torch.float64)
    expected = [((retrained(h + d) - t).square().sum() - (retrained(h - d) - t).square().sum()) / 4e-3 for d in moves]
    losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
    found = hypergradient(*losses, [w], [h], inverse, project=True)
    torch.testing.assert_close(found.gradients[0], torch.stack(expected).detach(), rtol=1e-8, atol=1e-9)
    assert abs(float(found.solution.value @ g)) < 1e-9


def test_a_warm_start_is_projected_on_the_plane_of_the_new_gradient(quadratic):
    """The last solution lies in the plane of another g; left as it is, the part along the new g would never shrink."""
    A, B, t, h, w = quadratic(0, converged=False)
    losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
    cold = hypergradient(*losses, [w], [h], Neumann(steps=1500), project=True)
    start = cold.solution._replace(next=cold.solution.next + 5 * cold.train_gradient[0])
    losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
    warm = hypergradient(*losses, [w], [h], Neumann(steps=1), start=start, project=True)
    torch.testing.assert_close(warm.gradients[0], cold.gradients[0])
    torch.testing.assert_close(warm.solution.value, cold.solution.value)


@pytest.mark.parametrize("inverse", [Identity(), Neumann(steps=3), ConjugateGradient()], ids=lambda i: type(i).__name__)
def test_a_scale_of_the_training_loss_gets_nothing(quadratic, inverse):
    """train = exp(s) f(w): the minimum does not depend on s, so 0 is right; ∂g/∂s = g, and Pg = 0.

    Without the projection T1–T2 answers -b'g, which calls a larger loss progress whenever b'g > 0.
    """
    A, _, t, _, w = quadratic(1, converged=False)
    s = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def losses():
        return s.exp() * (w @ A @ w) / 2, (w - 0.1 * t).square().sum() / 2

    projected = hypergradient(*losses(), [w], [s], inverse, project=True)
    plain = hypergradient(*losses(), [w], [s], inverse)
    assert abs(float(projected.gradients[0])) < 1e-12 * float(plain.gradients[0].abs())
    assert float(plain.gradients[0]) < 0


def test_it_rights_the_sign_of_t1_t2():
    """train = exp(λ) |w - λu|²/2 at λ = 0, w = (1, 0), u = (0, 1), val = |w - t|²/2 with t = (-2, -1).

    Trained out, w* = λu and dval/dλ = (0 - t)'u = 1. Now g = (1, 0), b = (3, 1), ∂g/∂λ = g - u = (1, -1): T1–T2 gives
    -b'(1, -1) = -2, because λ enlarges the step. Projected, Pb = (0, 1) and the answer is 1.
    """
    w = torch.tensor([1.0, 0.0], requires_grad=True)
    u, t = torch.tensor([0.0, 1.0]), torch.tensor([-2.0, -1.0])
    hyperparameter = torch.zeros((), requires_grad=True)

    def losses():
        return hyperparameter.exp() * (w - hyperparameter * u).square().sum() / 2, (w - t).square().sum() / 2

    assert float(hypergradient(*losses(), [w], [hyperparameter], Identity()).gradients[0]) == -2
    assert float(hypergradient(*losses(), [w], [hyperparameter], Identity(), project=True).gradients[0]) == 1


def test_its_limit_is_a_response_along_the_gradient():
    """train = |w - λu|²/2 from w = 0: the weights go to λu along g = -λu and nowhere else.

    dval/dλ = b'u, which the plain solve finds and the projection takes out whole.
    """
    w = torch.zeros(3, requires_grad=True)
    u, t = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([-1.0, 0.0, 4.0])
    hyperparameter = torch.ones((), requires_grad=True)

    def losses():
        return (w - hyperparameter * u).square().sum() / 2, (w - t).square().sum() / 2

    assert float(hypergradient(*losses(), [w], [hyperparameter], Exact()).gradients[0]) == pytest.approx(1)
    projected = hypergradient(*losses(), [w], [hyperparameter], Exact(), project=True)
    assert float(projected.gradients[0]) == pytest.approx(0, abs=1e-6)


def test_it_changes_nothing_at_the_minimum_but_does_right_beside_it(quadratic):
    """At g = 0 (up to rounding) both agree. A step of 1e-6 along the lowest eigenvector e leaves g along e.

    The projection then takes out all of e: the answer is that of A⁻¹ without e, however small g is.
    """
    A, B, t, h, minimum = quadratic(2)
    values, vectors = torch.linalg.eigh(A)
    for step in (0.0, 1e-6):
        w = (minimum + step * vectors[:, 0]).detach().requires_grad_()
        losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
        found = hypergradient(*losses, [w], [h], Exact(), project=True).gradients[0]
        kept = slice(1 if step else 0, None)
        inverse = vectors[:, kept] @ torch.diag(1 / values[kept]) @ vectors[:, kept].T
        torch.testing.assert_close(found, B.T @ inverse @ (w - t).detach(), rtol=1e-6, atol=1e-6)
