"""What moves and how far: entries that move together, against the same problem with the common value written out, whose
kinds are whose, and steps that are shortened where gradients disagree.
"""

import pytest
import torch
from torch import nn

from augnet import Augmenter, AugmenterConfig, OuterConfig
from augnet.training.optimisers import LEAD, LEAST, SharingAdam, ShrinkingAdam, outer_optimiser
from augnet.transforms import Brightness, Contrast, Erase, Invert, MirrorLeftRight, Rotate, Sharpness, ShearX

GROUPS = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 3.0, 0.0]], dtype=torch.float64)


def loss(shared, other):
    target = torch.arange(5.0, dtype=torch.float64)
    return ((shared - target) ** 2 * (1 + target)).sum() + (other * shared.sum() - 1) ** 2


@pytest.mark.parametrize("settings", [{"lr": 0.1}, {"lr": 0.01, "betas": (0.5, 0.9)}])
def test_it_is_adam_on_sums_of_own_and_common_values(settings):
    shared, other = nn.Parameter(torch.zeros(5).double()), nn.Parameter(torch.ones(()).double())
    own, common = nn.Parameter(torch.zeros(5).double()), nn.Parameter(torch.zeros(2).double())
    another = nn.Parameter(torch.ones(()).double())
    sharing = SharingAdam([shared, other], 0.0, shared=shared, groups=GROUPS, **settings)
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
        return weights, SharingAdam([weights], 2.0, shared=weights, groups=GROUPS, lr=0.1)

    def steps(weights, optimiser, count):
        for _ in range(count):
            optimiser.zero_grad()
            loss(weights, 1.0).backward()
            optimiser.step()

    whole, optimiser = make()
    steps(whole, optimiser, 3 * LEAST)
    half, first = make()
    steps(half, first, 2 * LEAST)
    rest, second = make()
    rest.data.copy_(half.data)
    second.load_state_dict(first.state_dict())
    steps(rest, second, LEAST)
    assert torch.equal(rest, whole)
    assert whole.any()


def test_transforms_of_a_kind_move_together_and_choices_on_their_own():
    """The first step of Adam is its learning rate, whatever the gradient."""
    transforms = [MirrorLeftRight(), Rotate(), ShearX(), Brightness(), Contrast(), Sharpness(), Invert()]
    augmenter = Augmenter(AugmenterConfig(transforms=transforms), channels=3)
    optimiser = outer_optimiser(augmenter, OuterConfig(significance=0))
    k, bias = len(transforms), augmenter.head.linear.bias
    before = bias.detach().clone()
    bias.grad = torch.zeros_like(bias)
    bias.grad[2 * k] = 1.0  # the probability of the mirror
    bias.grad[2 * k + 1] = 1.0  # that of Rotate
    bias.grad[k + 3] = -1.0  # the spread of Brightness
    bias.grad[2 * k + 3] = 1.0  # its probability
    optimiser.step()
    moved = (before - bias) / OuterConfig().learning_rate
    expected = torch.zeros_like(moved)
    expected[2 * k] = 1 + LEAD
    # With Rotate goes ShearX, and with Brightness all colours; but a negative has no spread.
    expected[2 * k + 1], expected[2 * k + 2] = 2, 1
    expected[k + 3], expected[k + 4] = -2, -1
    expected[2 * k + 3], expected[2 * k + 4], expected[2 * k + 6] = 2, 1, 1
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("transforms", [[], [Sharpness(), Erase()]])
def test_where_nothing_is_of_a_kind_nothing_is_shared(transforms):
    augmenter = Augmenter(AugmenterConfig(transforms=transforms, residual_limit=0.1), channels=1)
    assert type(outer_optimiser(augmenter, OuterConfig())) is ShrinkingAdam


def test_a_closure_computes_the_gradients_that_are_shared():
    found = []
    for with_closure in (False, True):
        weights = nn.Parameter(torch.zeros(5).double())
        optimiser = SharingAdam([weights], 2.0, shared=weights, groups=GROUPS, lr=0.1)

        def gradients(weights=weights, optimiser=optimiser):
            optimiser.zero_grad()
            value = loss(weights, 1.0)
            value.backward()
            return value

        for _ in range(2 * LEAST):
            if with_closure:
                assert float(optimiser.step(gradients)) > 0
            else:
                gradients()
                optimiser.step()
        found.append(weights.detach())
    assert torch.equal(*found)
    assert found[0].any()


def follow(optimiser, weights, gradients):
    """Step along these gradients; return where the weights were on the way."""
    path = [weights.detach().clone()]
    for gradient in gradients:
        weights.grad = gradient.clone()
        optimiser.step()
        path.append(weights.detach().clone())
    return torch.stack(path)


def test_every_step_is_that_of_adam_times_what_is_shown():
    """Entries whose gradients agree, hardly do, and don't; the share is 1 - z² / t², and nothing below 0."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 3, dtype=torch.float64, generator=generator)
    gradients = noise * torch.tensor([0.0, 0.5, 1.0]) + torch.tensor([1.0, 0.2, 0.0])
    for z in (0.0, 1.5):
        shrunk, plain = (nn.Parameter(torch.zeros(3).double()) for _ in range(2))
        steps = follow(ShrinkingAdam([shrunk], z, lr=0.1), shrunk, gradients).diff(dim=0)
        whole = follow(torch.optim.Adam([plain], lr=0.1), plain, gradients).diff(dim=0)
        for count in range(1, 61):
            mean, deviation = gradients[:count].mean(0), gradients[:count].std(0, correction=int(count > 1))
            share = (1 - (z * deviation / mean).square() / count).clamp(min=0) * (count >= LEAST)
            expected = whole[count - 1] * (share if z else 1)
            torch.testing.assert_close(steps[count - 1], expected, rtol=1e-6, atol=1e-12)
    assert steps[LEAST:, 0].all()
    assert not steps[LEAST:, 2].all()


def test_what_has_no_gradient_stays():
    weights = nn.Parameter(torch.ones(2))
    follow(ShrinkingAdam([weights], 2.0, lr=0.1), weights, [torch.tensor([0.0, 1.0])] * 2 * LEAST)
    assert weights[0] == 1
    assert weights[1] < 1


def test_noise_moves_no_entry_but_the_trusted_ones():
    """Gradients that turn their sign every time; trusted entries, and groups of none but these, go as Adam goes."""
    trusted = torch.tensor([False, False, False, True, False])
    groups = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 0.0]], dtype=torch.float64)
    weights, plain = (nn.Parameter(torch.zeros(5).double()) for _ in range(2))
    gradients = [torch.full((5,), (-1.0) ** number).double() for number in range(3 * LEAST)]
    found = follow(
        SharingAdam([weights], 2.0, shared=weights, groups=groups, trusted=trusted, lr=0.1), weights, gradients
    )
    freely = follow(SharingAdam([plain], 0.0, shared=plain, groups=groups, lr=0.1), plain, gradients)
    assert not found[:, ~trusted].any()
    assert torch.equal(found[:, trusted], freely[:, trusted])
    assert found[1:, trusted].all()


def test_of_a_policy_choices_that_are_turned_are_trusted_and_nothing_else():
    transforms = [MirrorLeftRight(), Rotate(), ShearX(), Brightness(), Invert(), Sharpness()]
    augmenter = Augmenter(AugmenterConfig(transforms=transforms), channels=3)
    before = {name: weight.detach().clone() for name, weight in augmenter.named_parameters()}
    optimiser = outer_optimiser(augmenter, OuterConfig())
    for number in range(2 * LEAST):
        for weight in augmenter.parameters():
            weight.grad = torch.full_like(weight, (-1.0) ** number)
        optimiser.step()
    moved = {name: (weight - before[name]).nonzero().tolist() for name, weight in augmenter.named_parameters()}
    assert moved.pop("head.linear.bias") == [[2 * len(transforms)]]
    assert not any(moved.values())
