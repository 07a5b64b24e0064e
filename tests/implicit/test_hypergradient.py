"""Hypergradients with known answers."""

import pytest
import torch
from torch.func import functional_call, hessian
from torch.func import grad as gradient_of

from augnet.family import members
from augnet.implicit import (
    ConjugateGradient,
    Exact,
    Identity,
    InverseHessian,
    Neumann,
    Nystrom,
    Solution,
    flatten,
    hypergradient,
    hypergradient_by_differences,
    unrolled_hypergradient,
)

SOLVERS = [Exact(), ConjugateGradient(steps=6), Neumann(steps=1500), Nystrom(rank=6, rho=1e-3)]


def name(inverse):
    return type(inverse).__name__


@pytest.mark.parametrize("inverse", SOLVERS, ids=name)
def test_hypergradient_of_a_quadratic_is_exact(quadratic, inverse):
    """train = w'Aw/2 - w'Bh, val = |w - t|²/2, so dval/dh = B'A⁻¹(w* - t); Nyström has A + ρI for A."""
    A, B, t, h, w = quadratic()
    damped = A + (inverse.rho if isinstance(inverse, Nystrom) else 0) * torch.eye(6, dtype=torch.float64)
    found = hypergradient(w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2, [w], [h], inverse)
    torch.testing.assert_close(
        found.gradients[0], B.T @ torch.linalg.solve(damped, (w - t).detach()), rtol=1e-10, atol=0
    )


def test_a_direct_dependence_is_added(quadratic):
    """val = |w - t|²/2 + |h|²/2 adds h; the gradients handed back are those of both losses by w."""
    A, B, t, h, w = quadratic()
    w = (w.detach() + 1).requires_grad_()
    val_loss = (w - t).square().sum() / 2 + h.square().sum() / 2
    found = hypergradient(w @ A @ w / 2 - w @ B @ h, val_loss, [w], [h], Exact())
    torch.testing.assert_close(found.gradients[0], (h + B.T @ torch.linalg.solve(A, w - t)).detach())
    torch.testing.assert_close(found.train_gradient[0], (A @ w - B @ h).detach())
    torch.testing.assert_close(found.val_gradient[0], (w - t).detach())
    assert not found.train_gradient[0].requires_grad


@pytest.mark.parametrize("flat", [True, False])
def test_a_validation_gradient_may_take_the_place_of_the_loss(quadratic, flat):
    """With b given flat or per weight and no loss, only the direct part is missing."""
    A, B, t, h, w = quadratic()
    b = (w - t).detach()
    found = hypergradient(w @ A @ w / 2 - w @ B @ h, None, [w], [h], Exact(), val_gradient=b if flat else [b])
    torch.testing.assert_close(found.gradients[0], B.T @ torch.linalg.solve(A, b))


def test_a_validation_loss_may_come_in_parts(quadratic):
    """Two thirds and one third of it, one after the other, give the hypergradient of the whole, direct part and all."""
    A, B, t, h, w = quadratic()

    def val_loss(share):
        return share * ((w - t).square().sum() / 2 + h.square().sum() / 2)

    found = hypergradient(w @ A @ w / 2 - w @ B @ h, (val_loss(s) for s in (2 / 3, 1 / 3)), [w], [h], Exact())
    torch.testing.assert_close(found.gradients[0], (h + B.T @ torch.linalg.solve(A, w - t)).detach())


def test_what_is_handed_over_is_not_projected_in_place(quadratic):
    """b, flat, which is also where the solve starts, stays as it was; what is handed back is perpendicular to g."""
    A, B, t, h, w = quadratic()
    w = (w.detach() + 1).requires_grad_()
    b = (w - t).detach()
    kept, start = b.clone(), Solution(b, b, torch.tensor(1.0), products=1)
    found = hypergradient(
        w @ A @ w / 2 - w @ B @ h, None, [w], [h], Neumann(steps=1, step_size=0.1), start=start, project=True,
        val_gradient=b,
    )  # fmt: skip
    assert torch.equal(b, kept)
    for ours in (found.val_gradient[0], found.product):
        assert abs(float(ours @ found.train_gradient[0])) < 1e-12 * float(ours.norm() * found.train_gradient[0].norm())


def test_weights_and_hyperparameters_that_a_loss_does_not_use_count_as_zero(quadratic):
    """Beside w stands a weight in no loss, and beside h a hyperparameter in none: zeros, and dval/dh as before."""
    A, B, t, h, w = quadratic()
    idle, ignored = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.ones(4, requires_grad=True)
    losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
    found = hypergradient(*losses, [idle, w], [h, ignored], ConjugateGradient(steps=6))
    torch.testing.assert_close(found.gradients[0], B.T @ torch.linalg.solve(A, (w - t).detach()))
    assert not found.gradients[1].any()
    assert not found.train_gradient[0].any()


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_neumann_is_the_unrolled_gradient_at_a_fixed_point(quadratic, steps):
    """At the minimum, K steps of learning rate α stay put, and their derivative is α Σ_{j<K} (I - αA)ʲ B."""
    A, B, t, h, w = quadratic()

    def train_loss(weights):
        return weights[0] @ A @ weights[0] / 2 - weights[0] @ B @ h

    def val_loss(weights):
        return (weights[0] - t).square().sum() / 2

    unrolled = unrolled_hypergradient(train_loss, val_loss, [w], [h], steps=steps, step_size=0.1)
    implicit = hypergradient(train_loss([w]), val_loss([w]), [w], [h], Neumann(steps=steps, step_size=0.1))
    torch.testing.assert_close(unrolled.weights[0], w.detach())
    torch.testing.assert_close(implicit.gradients[0], unrolled.gradients[0])


def test_unrolling_differentiates_by_the_learning_rate():
    """One step on w²/2 from 1 gives 1 - α; val = w, so dval/dα = -1."""
    alpha = torch.tensor(0.3, requires_grad=True)
    found = unrolled_hypergradient(
        lambda w: w[0] ** 2 / 2, lambda w: w[0], [torch.tensor(1.0)], [alpha], steps=1, step_size=alpha
    )
    assert float(found.gradients[0]) == pytest.approx(-1)
    assert float(found.weights[0]) == pytest.approx(0.7)


def test_unrolling_refuses_no_steps_and_no_influence():
    w, h = torch.tensor(1.0), torch.tensor(1.0, requires_grad=True)
    with pytest.raises(ValueError, match="steps is 0"):
        unrolled_hypergradient(lambda v: v[0] ** 2, lambda v: v[0], [w], [h], steps=0, step_size=0.1)
    with pytest.raises(ValueError, match="no gradient reaches any of the 1 hyperparameters"):
        unrolled_hypergradient(lambda v: v[0] ** 2, lambda v: v[0], [w], [h], steps=1, step_size=0.1)


def test_a_tanh_network_retrained_to_the_minimum_agrees():
    """30 weights, three log-decays, one per layer: difference the validation loss of two problems trained by Newton.

    The step of 1e-4 leaves an error of 1e-8; the claim is 1e-3 of the gradient.
    """
    generator = torch.Generator().manual_seed(3)
    x, val_x = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (40, 30))
    shapes = {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (1, 5)}
    sizes = [20, 5, 5]
    network = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1, bias=False)).double()
    noise = torch.randn(40, generator=generator, dtype=torch.float64)
    y, val_y = torch.sin(x.sum(1)) + 0.3 * noise, torch.sin(val_x.sum(1))

    def output(w, inputs):
        pieces = {key: p.view(s) for (key, s), p in zip(shapes.items(), w.split(sizes), strict=True)}
        return functional_call(network, pieces, (inputs,)).squeeze(1)

    def train_loss(w, log_decay):
        decay = torch.cat([log_decay[i].exp().expand(n) for i, n in enumerate(sizes)])
        return (output(w, x) - y).square().mean() + (decay * w * w).sum() / 2

    def val_loss(w):
        return (output(w, val_x) - val_y).square().mean()

    def trained(log_decay, w, damping):
        for _ in range(200):
            slope = gradient_of(train_loss)(w, log_decay)
            bend = hessian(train_loss)(w, log_decay) + damping * torch.eye(30, dtype=torch.float64)
            w = w - torch.linalg.solve(bend, slope)
            damping = damping * 0.8 if damping > 1e-12 else 0.0
            if slope.norm() < 1e-13:
                break
        return w

    log_decay = torch.tensor([-3.0, -3.5, -4.0], dtype=torch.float64, requires_grad=True)
    start = 0.5 * torch.randn(30, generator=generator, dtype=torch.float64)
    w = trained(log_decay.detach(), start, 10.0)
    assert torch.linalg.eigvalsh(hessian(train_loss)(w, log_decay.detach()))[0] > 0
    differences = []
    for move in 1e-4 * torch.eye(3, dtype=torch.float64):
        ahead, behind = (val_loss(trained(log_decay.detach() + sign * move, w, 0.0)) for sign in (1, -1))
        differences.append((ahead - behind) / 2e-4)
    w.requires_grad_()
    found = hypergradient(train_loss(w, log_decay), val_loss(w), [w], [log_decay], Exact()).gradients[0]
    torch.testing.assert_close(found, torch.stack(differences).detach(), rtol=1e-3, atol=1e-6)
    found = hypergradient_by_differences(lambda: train_loss(w, log_decay), val_loss(w), [w], [log_decay], Exact())
    torch.testing.assert_close(found.gradients[0], torch.stack(differences).detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("inverse", [Exact(), Neumann(steps=3), ConjugateGradient(), Identity()], ids=name)
@pytest.mark.parametrize("project", [False, True])
def test_differences_stand_for_double_backward(quadratic, inverse, project):
    """A cubic term makes H depend on w, so that a difference is not exact by luck; errors are about 1e-9."""
    A, B, t, h, w = quadratic()
    w = (w.detach() + 0.1).requires_grad_()

    def train_loss():
        return w @ A @ w / 2 - w @ B @ h + (w**3).sum() / 30

    val_loss = (w - t).square().sum() / 2
    exact = hypergradient(train_loss(), val_loss, [w], [h], inverse, project=project)
    val_loss = (w - t).square().sum() / 2
    found = hypergradient_by_differences(train_loss, val_loss, [w], [h], inverse, project=project)
    torch.testing.assert_close(found.gradients[0], exact.gradients[0], rtol=1e-6, atol=1e-7)
    assert found.solution.products == exact.solution.products


@pytest.mark.parametrize("inverse", [Exact(), Neumann(steps=3), Identity()], ids=name)
def test_forward_differences_are_exact_on_a_quadratic(quadratic, inverse):
    """The gradient is linear in w, so its difference over any step is its derivative."""
    A, B, t, h, w = quadratic()
    w = (w.detach() + 0.1).requires_grad_()
    calls = []

    def train_loss():
        calls.append(1)
        return w @ A @ w / 2 - w @ B @ h

    exact = hypergradient(train_loss(), (w - t).square().sum() / 2, [w], [h], inverse)
    calls.clear()
    found = hypergradient_by_differences(
        train_loss, (w - t).square().sum() / 2, [w], [h], inverse, epsilon=0.1, central=False
    )
    torch.testing.assert_close(found.gradients[0], exact.gradients[0], rtol=1e-8, atol=1e-10)
    # One pass for the gradient itself and one per product; the mixed derivative comes with Neumann's last.
    assert len(calls) == 1 + found.solution.products + (not isinstance(inverse, Neumann))


@pytest.mark.parametrize("inverse", [Exact(), Neumann(steps=2), ConjugateGradient(), Identity()], ids=name)
@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("by_differences", [False, True])
def test_parts_of_the_training_loss_give_the_hypergradient_of_their_sum(quadratic, inverse, project, by_differences):
    """Differentiation is linear; cold and warm. One part has no graph to h, one has a g without a graph."""
    A, B, t, h, w = quadratic(converged=False)
    parts = [lambda: w @ A @ w / 2, lambda: -w @ B @ h, lambda: (w**3).sum() / 30, lambda: w.sum()]
    found: list = [None, None]
    for _ in range(2):
        for number, losses in enumerate((parts, lambda: sum(part() for part in parts))):
            start = found[number] and found[number].solution
            problem = (w - t).square().sum() / 2, [w], [h], inverse
            if by_differences:
                found[number] = hypergradient_by_differences(losses, *problem, project=project, start=start)
            else:
                losses = losses if number == 0 else losses()
                found[number] = hypergradient(losses, *problem, project=project, start=start)
        # A difference divides the rounding of the sum, which depends on its order, by its step of 1e-5.
        rtol, atol = (1e-7, 1e-9) if by_differences else (1e-10, 0)
        for ours, theirs in zip(*found, strict=True):
            if not hasattr(ours, "value"):
                torch.testing.assert_close(ours, theirs, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "inverse", [Exact(curvature="gauss_newton"), ConjugateGradient(steps=4, curvature="gauss_newton")]
)
def test_gauss_newton_is_the_hessian_of_a_linear_model(inverse):
    """outputs = Xw, squared error to y + Zh: JᵀH_outJ = 2XᵀX/n = H, so either curvature gives the same answer."""
    generator = torch.Generator().manual_seed(0)
    X, Z = (torch.randn(12, n, generator=generator, dtype=torch.float64) for n in (4, 2))
    w = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    h = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    outputs = X @ w
    val_loss = w.square().sum()
    found = hypergradient((outputs - Z @ h).square().mean(), val_loss, [w], [h], inverse, outputs=outputs)
    expected = Z.T @ X @ torch.linalg.solve(X.T @ X, 2 * w.detach())
    torch.testing.assert_close(found.gradients[0], expected)


def test_the_average_is_applied_to_every_vector_of_weights(quadratic):
    """Two devices, the other one with twice the Hessian and twice the gradient: averages are 1.5 times ours.

    (1.5 A)⁻¹ (1.5 b) = A⁻¹ b, so the answer is unchanged, and the training gradient handed back is the average.
    """
    A, B, t, h, w = quadratic()
    w = (w.detach() + 1).requires_grad_()
    losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
    found = hypergradient(*losses, [w], [h], ConjugateGradient(steps=6), average=lambda v: 1.5 * v)
    torch.testing.assert_close(found.gradients[0], B.T @ torch.linalg.solve(A, (w - t).detach()))
    torch.testing.assert_close(found.train_gradient[0], 1.5 * (A @ w - B @ h).detach())


def test_a_warm_single_product_converges_from_call_to_call(quadratic):
    """The same problem 1,500 times, one product each: x ends at the exact solution (SOBA, all else frozen)."""
    A, B, t, h, w = quadratic()
    solution = None
    for _ in range(1500):
        losses = w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2
        found = hypergradient(*losses, [w], [h], Neumann(steps=1), start=solution)
        solution = found.solution
    torch.testing.assert_close(found.gradients[0], B.T @ torch.linalg.solve(A, (w - t).detach()))


@pytest.mark.parametrize("kind", members(InverseHessian))
def test_hyperparameters_out_of_reach_are_an_error(quadratic, kind):
    A, B, t, h, w = quadratic()
    other = torch.ones(2, requires_grad=True)
    with pytest.raises(ValueError, match="no gradient reaches any of the 1 hyperparameters"):
        hypergradient(w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2, [w], [other], kind())


def test_missing_arguments_are_named(quadratic):
    A, B, _, h, w = quadratic()
    train_loss = w @ A @ w / 2 - w @ B @ h
    with pytest.raises(ValueError, match="neither val_loss nor val_gradient was given"):
        hypergradient(train_loss, None, [w], [h], Exact())
    with pytest.raises(ValueError, match="no outputs were given"):
        hypergradient(train_loss, w.sum(), [w], [h], Exact(curvature="gauss_newton"))
    with pytest.raises(ValueError, match="needs the graph of the whole training loss"):
        hypergradient([lambda: train_loss], w.sum(), [w], [h], Exact(curvature="gauss_newton"))
    with pytest.raises(ValueError, match="needs a double backward pass"):
        hypergradient_by_differences(lambda: train_loss, w.sum(), [w], [h], Exact(curvature="gauss_newton"))


def test_float32_agrees_with_float64(quadratic):
    """Condition 16 and 24-bit numbers: five digits remain, and the number type stays what it was."""
    A, B, t, h, w = (tensor.detach().float() for tensor in quadratic())
    h, w = h.requires_grad_(), w.requires_grad_()
    found = hypergradient(w @ A @ w / 2 - w @ B @ h, (w - t).square().sum() / 2, [w], [h], Neumann(steps=300))
    assert flatten(found.gradients).dtype == torch.float32
    torch.testing.assert_close(found.gradients[0], B.T @ torch.linalg.solve(A, (w - t).detach()), rtol=1e-4, atol=1e-5)
