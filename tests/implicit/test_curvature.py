"""Products with curvature, against matrices written out."""

import pytest
import torch
from torch import Tensor, nn

from augnet.implicit import (
    DifferenceProducts,
    GaussNewtonProducts,
    HessianProducts,
    Neumann,
    flatten,
    hypergradient,
    jacobi_diagonal,
    largest_eigenvalue,
    optimiser_diagonal,
    twice_differentiable,
    unflatten,
)


class Setting:
    """A tanh network of 3 inputs, 2 hidden units and 2 outputs, with one scale per input as hyperparameter."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.shapes = [(2, 3), (2,), (2, 2)]
        self.flat = torch.randn(12, generator=generator, dtype=torch.float64)
        self.x = torch.randn(7, 3, generator=generator, dtype=torch.float64)
        self.y = torch.randint(0, 2, (7,), generator=generator)
        self.scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
        self.v = torch.randn(12, generator=generator, dtype=torch.float64)
        like = [torch.empty(shape, dtype=torch.float64) for shape in self.shapes]
        self.weights = [piece.clone().requires_grad_() for piece in unflatten(self.flat, like)]

    def outputs(self, weights: list[Tensor], scale: Tensor) -> Tensor:
        first, bias, second = weights
        return torch.tanh((self.x * scale) @ first.T + bias) @ second.T

    def loss(self) -> Tensor:
        return nn.functional.cross_entropy(self.outputs(self.weights, self.scale), self.y)

    def loss_of(self, flat: Tensor, scale: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.outputs(unflatten(flat, self.weights), scale), self.y)


def test_unflatten_is_the_inverse_of_flatten():
    """flatten lays (2, 3), () and (4,) end to end; unflatten cuts the 11 entries back."""
    tensors = [torch.randn(2, 3), torch.tensor(5.0), torch.arange(4.0)]
    back = unflatten(flatten(tensors), tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, back, strict=True))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_kernels_are_laid_channels_last_however_they_lie_in_memory(layout):
    """The entries of a (1, 2, 1, 3) kernel, numbered in order, go pixel by pixel: 0 and 3, 1 and 4, 2 and 5."""
    kernel = torch.arange(6.0).view(1, 2, 1, 3).contiguous(memory_format=layout)
    flat = flatten([kernel, torch.tensor([9.0])])
    assert flat.tolist() == [0, 3, 1, 4, 2, 5, 9]
    assert torch.equal(unflatten(flat[:6], [kernel])[0], kernel)


def test_unflatten_names_a_vector_of_the_wrong_length():
    with pytest.raises(ValueError, match="the vector has 5 entries but the 2 tensors have 6"):
        unflatten(torch.zeros(5), [torch.zeros(2), torch.zeros(4)])


@pytest.mark.parametrize("joint", [None, 1])
def test_hessian_products_and_mixed_derivatives_agree_with_dense_ones(joint):
    """torch.func gives H and ∂²L/∂w∂λ as matrices; the products must be Hv and vᵀ ∂²L/∂w∂λ, however computed."""
    s = Setting()
    g = torch.autograd.grad(s.loss(), s.weights, create_graph=True)
    products = HessianProducts(g, s.weights, [s.scale], joint)
    dense = torch.func.hessian(s.loss_of)(s.flat, s.scale.detach())
    mixed = torch.func.jacrev(torch.func.grad(s.loss_of), argnums=1)(s.flat, s.scale.detach())
    torch.testing.assert_close(products(s.v), dense @ s.v)
    torch.testing.assert_close(products.mixed(s.v)[0], s.v @ mixed)
    torch.testing.assert_close(products.mixed(2 * s.v)[0], 2 * s.v @ mixed)


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("warm", [False, True])
def test_neumann_needs_no_pass_beyond_its_products(monkeypatch, warm, project):
    """K = 3 products are 3 double backward passes: the mixed derivative comes out of the last one."""
    s, seen = Setting(), []
    derivative = HessianProducts._derivative
    monkeypatch.setattr(HessianProducts, "_derivative", lambda *a: seen.append(len(a[2])) or derivative(*a))
    inverse = Neumann(steps=3, step_size=0.1)
    solution = None
    for _ in range(2 if warm else 1):
        seen.clear()
        val_loss = flatten(s.weights).square().sum()
        found = hypergradient(s.loss(), val_loss, s.weights, [s.scale], inverse, start=solution, project=project)
        solution = found.solution
    assert len(seen) == solution.products
    assert seen == [3, 3, 4]


def test_gauss_newton_products_are_those_of_the_dense_matrix():
    """JᵀH_out J, from torch.func's Jacobian (14 outputs, 12 weights) and the loss's Hessian in the outputs."""
    s = Setting()
    outputs = s.outputs(s.weights, s.scale)
    products = GaussNewtonProducts(nn.functional.cross_entropy(outputs, s.y), outputs, s.weights)
    jacobian = torch.func.jacrev(lambda flat: s.outputs(unflatten(flat, s.weights), s.scale).reshape(-1))(s.flat)
    of_outputs = torch.func.hessian(lambda o: nn.functional.cross_entropy(o.view(7, 2), s.y))(outputs.reshape(-1))
    torch.testing.assert_close(products(s.v), (jacobian.T @ of_outputs @ jacobian @ s.v).detach())


def test_gauss_newton_refuses_outputs_that_the_loss_does_not_use():
    s = Setting()
    with pytest.raises(ValueError, match="does not depend on the given outputs"):
        GaussNewtonProducts(s.loss(), s.outputs(s.weights, s.scale), s.weights)


def test_differences_agree_with_double_backward_and_put_the_weights_back():
    """Central differences err by ε² times a third derivative: 1e-9 or so at ε = cbrt(2e-16)."""
    s = Setting()
    before = [weight.detach().clone() for weight in s.weights]
    exact = HessianProducts(torch.autograd.grad(s.loss(), s.weights, create_graph=True), s.weights, [s.scale])
    expected, expected_mixed = exact(s.v), exact.mixed(s.v)[0]
    products = DifferenceProducts(s.loss, s.weights, [s.scale], joint=1)
    torch.testing.assert_close(products(s.v), expected, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(products.mixed(s.v)[0], expected_mixed, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(products.mixed(3 * s.v)[0], 3 * expected_mixed, rtol=1e-7, atol=1e-8)
    assert all(torch.equal(a, b) for a, b in zip(before, s.weights, strict=True))


def test_weights_are_put_back_when_the_loss_fails():
    s = Setting()
    before = [weight.detach().clone() for weight in s.weights]

    def fails() -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        DifferenceProducts(fails, s.weights)(s.v)
    assert all(torch.equal(a, b) for a, b in zip(before, s.weights, strict=True))


def test_a_difference_along_zero_is_zero():
    s = Setting()
    assert not DifferenceProducts(s.loss, s.weights)(torch.zeros(12, dtype=torch.float64)).any()


def test_power_iteration_finds_the_largest_eigenvalue():
    """diag(1, 2, 8): the error of 30 products is below (2/8)^60."""
    matrix = torch.diag(torch.tensor([1.0, 2.0, 8.0], dtype=torch.float64))
    value, top = largest_eigenvalue(lambda v: matrix @ v, torch.ones(3, dtype=torch.float64), 30)
    assert value == pytest.approx(8, rel=1e-12)
    torch.testing.assert_close(top, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))


def test_jacobi_diagonal_of_a_diagonal_matrix_is_exact_and_positive():
    """z ⊙ Dz = D for signs z, so one probe is enough; -3 counts as 3, and 0 as a hundredth of the mean 2."""
    d = torch.tensor([1.0, -3.0, 4.0, 0.0], dtype=torch.float64)
    found = jacobi_diagonal(lambda v: d * v, d, probes=1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found, torch.tensor([1.0, 3.0, 4.0, 0.02], dtype=torch.float64))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_optimiser_diagonal_is_the_divisor_of_the_step(kind):
    """After one step from gradient g the corrected second moment of Adam is g²; RMSprop's is (1 - 0.99) g²."""
    weights = [torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)]
    optimizer = kind(weights, lr=0.1)
    weights[0].grad, weights[1].grad = torch.tensor([3.0, -4.0]), torch.tensor([0.0])
    optimizer.step()
    share = 0.1 if kind is torch.optim.RMSprop else 1.0
    torch.testing.assert_close(optimiser_diagonal(optimizer, weights), torch.tensor([3.0, 4.0, 0.0]) * share + 1e-8)


def test_optimiser_diagonal_refuses_plain_gradient_descent():
    weight = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match="SGD holds no second moment for weight 0; take Adam"):
        optimiser_diagonal(torch.optim.SGD([weight], lr=0.1), [weight])


@pytest.mark.parametrize("distance", [5e-9, 5e-11])
def test_a_kink_nearby_is_no_missing_second_derivative(distance):
    """Of the many ReLUs of a network some lie that near their kinks; the slope there changes by 10⁴."""
    weight = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    assert twice_differentiable(lambda: (weight**2 + 1e4 * (weight - 1 - distance).relu()).sum(), [weight]) is None


def test_twice_differentiable_gives_the_reason():
    """tanh has a second derivative; torch has none of hardsigmoid, and says so in a RuntimeError."""
    weight = torch.ones(3, requires_grad=True)
    assert twice_differentiable(lambda: torch.tanh(weight).sum(), [weight]) is None
    reason = twice_differentiable(lambda: nn.functional.hardsigmoid(weight).square().sum(), [weight])
    assert "has no second derivative" in reason
    assert "hardsigmoid_backward" in reason
