"""Weights come to rest where derivatives vanish."""

import pytest
import torch

from augnet.implicit import minimise


def test_the_minimum_of_a_quadratic_is_the_solution_of_its_system():
    """w'Aw/2 − w'b is least at A⁻¹b."""
    generator = torch.Generator().manual_seed(0)
    factor, b = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, 6), (6,)))
    A, w = factor @ factor.T + torch.eye(6), torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert minimise(lambda: w @ A @ w / 2 - w @ b, [w]) < 1e-8
    torch.testing.assert_close(w.detach(), torch.linalg.solve(A, b))


def test_what_the_loss_does_not_depend_on_stays():
    w, other = torch.ones(2, dtype=torch.float64, requires_grad=True), torch.ones(1, requires_grad=True)
    minimise(lambda: (w - 3).square().sum(), [w, other])
    assert w.tolist() == pytest.approx([3, 3])
    assert other == 1


def test_a_loss_without_a_minimum_is_refused():
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match="does it have a minimum"):
        minimise(lambda: -w.exp().sum(), [w])
