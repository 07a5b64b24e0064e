"""Colour and tone against values worked out by hand."""

import kornia
import pytest
import torch

from augnet import transforms as T


def picture(channels=3, seed=0):
    values = torch.rand(2, channels, 6, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.3 + 0.4 * values


def both(value):
    return torch.full((2,), value, dtype=torch.float64)


def luma(images):
    return kornia.color.rgb_to_grayscale(images)


def test_brightness_adds():
    images = picture()
    torch.testing.assert_close(T.Brightness()(images, both(0.1)), images + 0.1)


def test_contrast_spreads_about_the_mean_grey():
    images = picture()
    middle = luma(images).mean((2, 3), keepdim=True)
    torch.testing.assert_close(T.Contrast()(images, both(0.3)), middle + 1.3 * (images - middle))
    torch.testing.assert_close(T.Contrast(limit=1.0)(images, both(-1.0)), middle.expand_as(images))


def test_contrast_of_grey_images_uses_their_own_mean():
    images = picture(channels=1)
    middle = images.mean((2, 3), keepdim=True)
    torch.testing.assert_close(T.Contrast()(images, both(0.3)), middle + 1.3 * (images - middle))


def test_no_saturation_is_grey():
    images = picture()
    torch.testing.assert_close(T.Saturation(limit=1.0)(images, both(-1.0)), luma(images).expand_as(images))
    torch.testing.assert_close(T.Greyscale()(images, both(1.0)), luma(images).expand_as(images))


@pytest.mark.parametrize("degrees", [-170.0, -20.0, 35.0, 120.0])
def test_hue_turns_and_keeps_brightness(degrees):
    """Greys stay; luma stays; turning on and back is no turn; the colour axes turn into each other."""
    images, hue = picture(), T.Hue(limit=180.0)
    turned = hue.transform(images, both(degrees))
    torch.testing.assert_close(luma(turned), luma(images))
    torch.testing.assert_close(hue.transform(turned, both(-degrees)), images)
    grey = luma(images).expand_as(images)
    torch.testing.assert_close(hue.transform(grey, both(degrees)), grey, atol=2e-4, rtol=0)


def test_hue_goes_the_way_of_the_colour_circle():
    """A third of a circle takes pure red to mostly green (positive) or mostly blue (negative)."""
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 4, 4)
    for degrees, strongest in ((120.0, 1), (-120.0, 2)):
        found = T.Hue(limit=180.0).transform(red, torch.tensor([degrees]))[0, :, 0, 0]
        assert found.argmax() == strongest


def test_warm_light_is_red():
    """One octave of red over blue: √2 times the red, 1/√2 times the blue."""
    images = picture()
    found = T.Temperature(limit=1.0).transform(images, both(1.0))
    factors = torch.tensor([2**0.5, 1, 2**-0.5], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(found, images * factors)


def test_the_negative_is_one_minus():
    images = picture()
    torch.testing.assert_close(T.Invert()(images, both(1.0)), 1 - images)


def test_gamma_is_a_power():
    images = picture()
    torch.testing.assert_close(T.Gamma()(images, both(1.0)), images**2)
    torch.testing.assert_close(T.Gamma()(images, both(-1.0)), images**0.5)
    torch.testing.assert_close(T.Gamma()(images, both(0.6)), kornia.enhance.adjust_gamma(images, 2**0.6))


def test_solarize_inverts_the_bright_only():
    """Threshold 0.5: below it nothing changes, from 0.6 on values are inverted in full."""
    images = torch.tensor([0.2, 0.49, 0.6, 0.9, 1.0])[None, None, None].expand(1, 1, 5, 5)
    found = T.Solarize()(images, torch.tensor([0.5]))[0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.2, 0.49, 0.4, 0.1, 0.0]))


def test_posterize_leaves_few_levels():
    """δ = (2⁶ − 1)/255 = 63/255, so [0, 1] holds round(1/δ) + 1 = 5 levels."""
    images = torch.linspace(0, 1, 1024).view(1, 1, 32, 32)
    found = T.Posterize(limit=7.0)(images, torch.tensor([6.0]))
    levels = (found.flatten() * 255 / 63).round().unique()
    assert levels.tolist() == [0, 1, 2, 3, 4]
    assert (found - images).abs().max() <= 63 / 255 / 2 + 1e-6


def test_posterize_gradient_is_that_of_uniform_rounding_error():
    """E e² = δ²/12 with δ = (2ᵃ − 1)/255, so dE e²/da = (δ/6) · 2ᵃ ln 2 / 255."""
    images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    amount = torch.full((8,), 3.3, dtype=torch.float64, requires_grad=True)
    loss = (T.Posterize().transform(images, amount) - images).square().mean()
    (found,) = torch.autograd.grad(loss, amount)
    step = (2**3.3 - 1) / 255
    expected = step / 6 * 2**3.3 * 0.6931471805599453 / 255
    assert found.sum().item() == pytest.approx(expected, rel=0.02)


def test_equalize_spreads_values_evenly():
    """256 different levels, whatever their spacing, become 0/255, 1/255, ..., 255/255 in the same order."""
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    images = (order / 255).view(1, 1, 16, 16)
    torch.testing.assert_close(T.Equalize()(images, torch.ones(1)), images)
    dark = (order // 2 / 255).view(1, 1, 16, 16)
    found = T.Equalize()(dark, torch.ones(1))
    torch.testing.assert_close(found, ((order // 2) / 127).view(1, 1, 16, 16), atol=1e-6, rtol=0)


def test_equalize_leaves_flat_channels():
    images = torch.full((1, 2, 8, 8), 0.3)
    torch.testing.assert_close(T.Equalize()(images, torch.ones(1)), images)
    torch.testing.assert_close(T.AutoContrast()(images, torch.ones(1)), images)


def test_automatic_contrast_reaches_black_and_white():
    images = picture()
    found = T.AutoContrast()(images, both(1.0))
    torch.testing.assert_close(found.amin((2, 3)), torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(found.amax((2, 3)), torch.ones(2, 3, dtype=torch.float64))
    torch.testing.assert_close(T.AutoContrast()(images, both(0.5)), (images + found) / 2)
