"""Entries that move together: against the same problem with the common value written out, and whose kinds are whose."""

import pytest
import torch
from torch import nn

from augnet import Augmenter, AugmenterConfig, OuterConfig
from augnet.training.optimisers import LEAD, SharingAdam, outer_optimiser
from augnet.transforms import Brightness, Contrast, Erase, MirrorLeftRight, Rotate, Sharpness, ShearX

GROUPS = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 3.0, 0.0]], dtype=torch.float64)


def loss(shared, other):
    target = torch.arange(5.0, dtype=torch.float64)
    return ((shared - target) ** 2 * (1 + target)).sum() + (other * shared.sum() - 1) ** 2


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.9)}])
def test_it_is_adam_on_sums_of_own_and_common_values(settings):
    shared, other = nn.Parameter(torch.zeros(5).double()), nn.Parameter(torch.ones(()).double())
    own, common = nn.Parameter(torch.zeros(5).double()), nn.Parameter(torch.zeros(2).double())
    another = nn.Parameter(torch.ones(()).double())
    sharing = SharingAdam([shared, other], shared, GROUPS, **settings)
    plain = torch.optim.Adam([own, another, common], **settings)
    for _ in range(50):
        for optimiser, value in ((sharing, loss(shared, other)), (plain, loss(own + common @ GROUPS, another))):
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
    assert torch.allclose(shared, own + common @ GROUPS, rtol=0, atol=1e-12)
    assert torch.allclose(other, another, rtol=0, atol=1e-12)
    # And it made a difference.
    assert (common.abs() > 0.05).all()


def test_its_state_goes_on_where_it_stopped():
    def make():
        weights = nn.Parameter(torch.zeros(5).double())
        return weights, SharingAdam([weights], weights, GROUPS, lr=0.1)

    def steps(weights, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            loss(weights, 1.0).backward()
            optimiser.step()

    whole, optimiser = make()
    steps(whole, optimiser, 10)
    half, first = make()
    steps(half, first, 5)
    rest, second = make()
    rest.data.copy_(half.data)
    second.load_state_dict(first.state_dict())
    steps(rest, second, 5)
    assert torch.equal(rest, whole)


def test_transforms_of_a_kind_move_together_and_choices_on_their_own():
    """The first step of Adam is its learning rate, whatever the gradient."""
    transforms = [MirrorLeftRight(), Rotate(), ShearX(), Brightness(), Contrast(), Sharpness()]
    augmenter = Augmenter(AugmenterConfig(transforms=transforms), channels=3)
    optimiser = outer_optimiser(augmenter, OuterConfig())
    k, bias = len(transforms), augmenter.head.linear.bias
    before = bias.detach().clone()
    bias.grad = torch.zeros_like(bias)
    bias.grad[2 * k] = 1.0  # the probability of the mirror
    bias.grad[2 * k + 1] = 1.0  # that of Rotate
    optimiser.step()
    moved = (before - bias) / OuterConfig().learning_rate
    expected = torch.zeros_like(moved)
    expected[2 * k] = 1 + LEAD
    # With Rotate goes ShearX, and no colour.
    expected[2 * k + 1], expected[2 * k + 2] = 2, 1
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("transforms", [[], [Sharpness(), Erase()]])
def test_where_nothing_is_of_a_kind_nothing_is_shared(transforms):
    augmenter = Augmenter(AugmenterConfig(transforms=transforms, residual_limit=0.1), channels=1)
    assert type(outer_optimiser(augmenter, OuterConfig())) is torch.optim.Adam


def test_a_closure_computes_the_gradients_that_are_shared():
    found = []
    for with_closure in (False, True):
        weights = nn.Parameter(torch.zeros(5).double())
        optimiser = SharingAdam([weights], weights, GROUPS, lr=0.1)

        def gradients(weights=weights, optimiser=optimiser):
            optimiser.zero_grad()
            value = loss(weights, 1.0)
            value.backward()
            return value

        for _ in range(3):
            if with_closure:
                assert float(optimiser.step(gradients)) > 0
            else:
                gradients()
                optimiser.step()
        found.append(weights.detach())
    assert torch.equal(*found)
