"""Constants are built once, and serve every program that asks for them."""

import pytest
import torch

from augnet.transforms.constants import constant, middles


@pytest.fixture
def built():
    """Make a constant that notes each time that it is built."""
    times = []

    @constant
    def ones(count, *, like):
        times.append(count)
        return torch.ones(count, dtype=like.dtype, device=like.device)

    return ones, times


def test_a_constant_is_built_once_for_each_size_and_type(built):
    ones, times = built
    assert ones(3, like=torch.zeros(1)) is ones(3, like=torch.rand(5, 5))
    assert ones(3, like=torch.zeros(1).double()).dtype == torch.float64
    assert len(ones(4, like=torch.zeros(1))) == 4
    assert times == [3, 3, 4]


def test_sizes_that_are_no_longer_asked_for_are_forgotten(built):
    ones, times = built
    for count in range(1, 40):
        ones(count, like=torch.zeros(1))
    ones(1, like=torch.zeros(1))
    assert times.count(1) == 2


def test_what_inference_asks_for_first_can_be_trained_with(built):
    """A tensor born in inference mode is refused by the backward pass."""
    ones, _ = built
    weights = torch.full((3,), 2.0, requires_grad=True)
    with torch.inference_mode():
        ones(3, like=weights)
    assert torch.autograd.grad((weights * ones(3, like=weights)).sum(), weights)[0].tolist() == [1, 1, 1]


def test_a_traced_program_builds_its_own(built):
    """Sizes are symbols there, and what it builds has no values to keep."""
    ones, times = built

    class Program(torch.nn.Module):
        def forward(self, x):
            return x + ones(x.shape[0], like=x)

    any_size = {0: torch.export.Dim("size")}
    program = torch.export.export(Program(), (torch.zeros(4),), dynamic_shapes=(any_size,)).module()
    assert program(torch.zeros(7)).tolist() == [1] * 7
    assert len(times) >= 1
    assert type(ones(4, like=torch.zeros(1))) is torch.Tensor


def test_middles_lie_between_the_edges():
    """Four pixels, each half a unit wide, from −1 to 1."""
    assert middles(4, like=torch.zeros(1)).tolist() == [-0.75, -0.25, 0.25, 0.75]
