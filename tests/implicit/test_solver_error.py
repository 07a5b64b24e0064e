"""Part of the table that recipes/benchmarks/solver_error.py prints: its numbers must not get worse."""

import runpy
from pathlib import Path

import pytest
import torch

from augnet.implicit import ConjugateGradient, Identity, Neumann

SCRIPT = Path(__file__).parents[2] / "recipes" / "benchmarks" / "solver_error.py"


@pytest.fixture(scope="module")
def bench():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def digits(bench):
    return bench["digits_problem"]()


def test_the_problem_is_trained_out(digits):
    """The exact hypergradient is one only at a minimum, and the table was made at condition 735."""
    (g,) = torch.autograd.grad(digits.train_loss(digits.weights), digits.weights)
    values = torch.linalg.eigvalsh(digits.hessian)
    assert float(g.norm()) < 1e-14
    assert float(values[-1] / values[0]) == pytest.approx(735, rel=0.01)


@pytest.mark.parametrize(("products", "error"), [(1, 0.92), (5, 0.69), (20, 0.35), (100, 0.07)])
def test_cold_neumann(digits, products, error):
    largest = float(torch.linalg.eigvalsh(digits.hessian)[-1])
    assert digits.error(Neumann(steps=products, step_size=1.9 / largest)) < error


@pytest.mark.parametrize(("products", "error"), [(5, 0.41), (20, 0.04), (100, 1e-6)])
def test_conjugate_gradients(digits, products, error):
    assert digits.error(ConjugateGradient(steps=products)) < error


@pytest.mark.parametrize(("products", "error"), [(5, 0.25), (20, 4e-3), (100, 5e-14)])
def test_conjugate_gradients_with_the_diagonal(digits, products, error):
    assert digits.error(ConjugateGradient(steps=products), diagonal=digits.hessian.diagonal()) < error


@pytest.mark.parametrize(("products", "error"), [(1, 0.025), (5, 0.022), (20, 0.015), (100, 4e-3)])
def test_warm_neumann(bench, digits, products, error):
    largest = float(torch.linalg.eigvalsh(digits.hessian)[-1])
    assert digits.error(Neumann(steps=products, step_size=1.9 / largest), bench["warm_start"](digits)) < error


@pytest.mark.parametrize(("products", "error"), [(1, 0.026), (5, 0.014), (20, 6e-4), (100, 9e-9)])
def test_warm_conjugate_gradients(bench, digits, products, error):
    inverse = ConjugateGradient(steps=max(products - 1, 1))
    assert digits.error(inverse, bench["warm_start"](digits)) < error


def test_the_automatic_step_is_not_far_behind_the_best(digits):
    """It takes 0.7/L where 1.9/L is the fastest: 2.7 times the products at worst, so 100 of it beat 35 of the best."""
    largest = float(torch.linalg.eigvalsh(digits.hessian)[-1])
    assert digits.error(Neumann(steps=100)) < digits.error(Neumann(steps=35, step_size=1.9 / largest))
    assert digits.error(Neumann(steps=5)) < digits.error(Identity())
