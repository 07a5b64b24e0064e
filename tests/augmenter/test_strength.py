"""Strength: from nothing over what was learned to the limits."""

import pytest
import torch

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig

CONFIG = AugmenterConfig(
    transforms=[tf.Rotate(limit=40), tf.GaussianBlur(limit=0.1), tf.MirrorLeftRight()], residual_limit=0.1
)


@pytest.fixture
def augmenter():
    torch.manual_seed(0)
    made = Augmenter(CONFIG, 3)
    torch.nn.init.normal_(made.head.linear.weight)
    return made


IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def noise(augmenter, count=4):
    return augmenter.draw_noise(count, torch.Generator().manual_seed(2))


def test_strength_1_is_bit_for_bit_what_training_does(augmenter):
    """Values and gradients; a strength next to 1 gives nearly, but not exactly, the same."""
    results = []
    for strength in ({}, {"strength": 1.0}, {"strength": 1}, {"strength": 1.0001}):
        augmented, policy = augmenter.augment(IMAGES, noise(augmenter), **strength)
        loss = augmented.square().sum() + policy.probability.sum()
        results.append([augmented, *policy, *torch.autograd.grad(loss, augmenter.parameters())])
    for same in results[1:3]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], same, strict=True))
    torch.testing.assert_close(results[3][0], results[0][0], atol=1e-2, rtol=0)
    assert not torch.equal(results[3][0], results[0][0])


@pytest.mark.parametrize("strength", [0.25, 0.5])
def test_amounts_residual_and_choices_scale(augmenter, strength):
    """Below the limits an amount is proportional; over many draws a choice is made in proportion."""
    whole = augmenter.policy(IMAGES, noise(augmenter))
    part = augmenter.policy(IMAGES, noise(augmenter), strength)
    below = (whole.amounts[:, 0].abs() < 39.9) & (whole.amounts[:, 0] != 0)
    torch.testing.assert_close(part.amounts[below, 0], strength * whole.amounts[below, 0])
    torch.testing.assert_close(part.spread, strength * whole.spread)
    torch.testing.assert_close(part.probability[:, :2], whole.probability[:, :2])
    torch.testing.assert_close(part.probability[:, 2], strength * whole.probability[:, 2])
    drawn = augmenter.policy(IMAGES[:1].expand(4000, -1, -1, -1), noise(augmenter, 4000), strength).amounts[:, 2]
    assert drawn.mean().item() == pytest.approx(strength * whole.probability[0, 2].item(), abs=0.03)
    residual = augmenter.residual(IMAGES, noise(augmenter))
    torch.testing.assert_close(augmenter.residual(IMAGES, noise(augmenter), strength), strength * residual)


def test_strength_0_changes_nothing(augmenter):
    policy = augmenter.policy(IMAGES, noise(augmenter), 0.0)
    assert not policy.amounts.any()
    torch.testing.assert_close(augmenter(IMAGES, noise(augmenter), 0.0), IMAGES, atol=1e-5, rtol=0)


def test_above_1_limits_hold(augmenter):
    policy = augmenter.policy(IMAGES[:1].expand(200, -1, -1, -1), noise(augmenter, 200), 1e6)
    assert policy.amounts[:, 0].abs().unique().tolist() == [0, 40]
    assert policy.amounts[:, 1].unique().tolist() == pytest.approx([0, 0.1])
    assert bool((policy.amounts[:, 2] == 1).all())
    assert augmenter.residual(IMAGES, noise(augmenter), 1e6).abs().max().item() <= 0.1 + 1e-6


@pytest.mark.parametrize("transform", [tf.MirrorLeftRight(), tf.Greyscale(), tf.Invert()])
@pytest.mark.parametrize("dice", [-1.0, 0.0, 1.0])
def test_a_choice_that_strength_makes_certain_stays_finite_wherever_the_dice_fall(transform, dice):
    """Dice of just 1, the end of their range, never fall below a probability."""
    augmenter = Augmenter(AugmenterConfig(transforms=[transform], start_probability=0.6), 3)
    drawn = noise(augmenter)
    drawn[:, augmenter.config.noise_channels + 1] = dice
    policy = augmenter.policy(IMAGES, drawn, 2.0)
    assert policy.probability.unique().tolist() == [1.0]
    assert policy.amounts.unique().tolist() == [float(dice < 1)]
    assert torch.equal(policy.amounts, augmenter.amounts(IMAGES, drawn, 2.0))
    assert bool(augmenter(IMAGES, drawn, 2.0).isfinite().all())


@pytest.mark.parametrize("strength", [-0.1, float("nan"), float("inf"), "1", None])
def test_what_is_no_strength_is_refused(augmenter, strength):
    with pytest.raises(ValueError, match=r"strength must be a number of at least 0 \(0 changes nothing"):
        augmenter(IMAGES, strength=strength)


def test_a_strength_can_be_exported(augmenter):
    class Program(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.augmenter = augmenter

        def forward(self, images, noise):
            return self.augmenter(images, noise, 0.5)

    program = torch.export.export(Program(), (IMAGES, noise(augmenter))).module()
    expected = augmenter(IMAGES, noise(augmenter), 0.5)
    torch.testing.assert_close(program(IMAGES, noise(augmenter)), expected, atol=1e-5, rtol=0)
