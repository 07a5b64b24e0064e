"""Filters and corruptions against their moments, a JPEG file and plain statistics."""

import io
import math

import kornia
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d, pad

from augnet import transforms as T
from augnet.transforms.corruption import normal_pattern


def spot(height=33, width=33):
    images = torch.zeros(1, 1, height, width, dtype=torch.float64)
    images[..., height // 2, width // 2] = 1
    return images


def picture(height=12, width=9, channels=3, seed=0):
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(kernel):
    """Sum, variance along x, variance along y and covariance of an image of one spot, in pixels."""
    y = (torch.arange(kernel.shape[-2]) - kernel.shape[-2] // 2)[:, None]
    x = (torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2)[None]
    return [float((kernel * factor).sum()) for factor in (1, x * x, y * y, x * y)]


@pytest.mark.parametrize("channels", [1, 3])
def test_dilation_is_dilation_at_one_and_erosion_at_minus_one(channels):
    images, square = picture(channels=channels), torch.ones(3, 3, dtype=torch.float64)
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(T.Dilation()(images, one), kornia.morphology.dilation(images, square))
    torch.testing.assert_close(T.Dilation()(images, -one), kornia.morphology.erosion(images, square))
    halfway = (images + kornia.morphology.erosion(images, square)) / 2
    torch.testing.assert_close(T.Dilation()(images, -one / 2), halfway)


def test_the_gradient_of_dilation_goes_to_the_pixels_it_took():
    images, amount = picture().requires_grad_(), torch.tensor([1.0, -1.0], dtype=torch.float64)
    weights = torch.linspace(0, 1, images.numel(), dtype=torch.float64).view_as(images)
    light, dark = max_pool2d(images[:1], 3, 1, 1), -max_pool2d(-images[1:], 3, 1, 1)
    (expected,) = torch.autograd.grad((weights * torch.cat((light, dark))).sum(), images)
    (found,) = torch.autograd.grad((weights * T.Dilation().transform(images, amount)).sum(), images)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_gaussian_blur_has_its_variance_and_is_round(sigma):
    """The discrete Gaussian's variance is σ² exactly, also below a pixel; it is never negative and keeps the sum."""
    found = T.GaussianBlur(limit=0.5).transform(spot(), torch.tensor([sigma / 33], dtype=torch.float64))
    assert moments(found) == pytest.approx([1, sigma**2, sigma**2, 0], abs=1e-6)
    assert found.min() > -1e-12


def test_gaussian_blurs_add_their_variances():
    images, blur = picture(), T.GaussianBlur(limit=0.5)

    def blurred(images, pixels):
        return blur(images, torch.full((2,), pixels / 9, dtype=torch.float64))

    torch.testing.assert_close(blurred(blurred(images, 0.6), 0.8), blurred(images, 1.0))


def test_gaussian_blur_agrees_with_a_sampled_gaussian_where_that_is_good():
    """At σ = 2 the two differ for wave ω by exp(4 (cos ω − 1)) − exp(−2 ω²), at most 0.02 of what that wave has."""
    images = interpolate(picture(6, 6), (40, 40), mode="bilinear")
    found = T.GaussianBlur(limit=0.5)(images, torch.full((2,), 2 / 40, dtype=torch.float64))
    expected = kornia.filters.gaussian_blur2d(images, (21, 21), (2.0, 2.0))
    torch.testing.assert_close(found[..., 10:-10, 10:-10], expected[..., 10:-10, 10:-10], atol=4e-3, rtol=0)


@pytest.mark.parametrize("transform", [T.GaussianBlur(), T.MotionBlur()], ids=["Gaussian", "motion"])
def test_blurs_keep_the_mean_colour(transform):
    """The border is a mirror, so no light is lost (along a slanted line a little is, in the corners)."""
    images = picture()
    noise = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    found = transform.transform(images, torch.full((2,), transform.limit, dtype=torch.float64), noise)
    torch.testing.assert_close(found.mean((2, 3)), images.mean((2, 3)))


@pytest.mark.parametrize("turn", [-1.0, -0.4, 0.0, 0.3, 0.5])
def test_motion_blur_is_a_line(turn):
    """Points evenly on a line of length L and angle θ: variances L² cos²θ / 12 and L² sin²θ / 12, covariance
    L² sin θ cos θ / 12. The spot is a Gaussian of σ = 2 (sharper things ring, which ruins moments), whose variance 4 is
    added."""
    length, angle = 6.0, turn * math.pi / 2
    soft = T.GaussianBlur(limit=0.5).transform(spot(49, 49), torch.tensor([2 / 49], dtype=torch.float64))
    amount, noise = torch.tensor([length / 49], dtype=torch.float64), torch.tensor([[turn]], dtype=torch.float64)
    found = moments(T.MotionBlur(limit=0.5).transform(soft, amount, noise))
    along = length**2 / 12
    cos, sin = math.cos(angle), math.sin(angle)
    assert found == pytest.approx([1, 4 + along * cos**2, 4 + along * sin**2, along * sin * cos], abs=1e-3)


def test_sharpness_works_on_the_difference_to_the_neighbourhood():
    images = picture()
    mean = avg_pool2d(pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    for amount in (-1.0, -0.5, 0.7):
        found = T.Sharpness(limit=1.0).transform(images, torch.full((2,), amount, dtype=torch.float64))
        torch.testing.assert_close(found, images + amount * (images - mean))


def test_noise_is_standard_normal_and_independent():
    """A million numbers: moments 0, 1, 0, 3 within five standard errors, and no correlation between
    neighbours, channels or images, even of images whose keys are almost equal."""
    keys = 2 * torch.rand(64, 2, generator=torch.Generator().manual_seed(0)) - 1
    keys[1::2] = keys[::2]
    keys[1::4, 0] += 1e-6
    keys[3::4, 1] += 1e-6
    pattern = normal_pattern(keys, 4 * 64 * 64).double()
    count = pattern.numel()
    assert abs(pattern.mean()) < 5 / count**0.5
    assert abs(pattern.square().mean() - 1) < 5 * (2 / count) ** 0.5
    assert abs(pattern.pow(3).mean()) < 5 * (15 / count) ** 0.5
    assert abs(pattern.pow(4).mean() - 3) < 5 * (96 / count) ** 0.5
    tiles = pattern.view(64, 4, 64, 64)
    for first, second in (
        (tiles[..., 1:], tiles[..., :-1]),
        (tiles[..., 1:, :], tiles[..., :-1, :]),
        (tiles[:, 1:], tiles[:, :-1]),
        (tiles[:, 2:], tiles[:, :-2]),
        (tiles[1:], tiles[:-1]),
        (tiles[1::2], tiles[::2]),
        (tiles[1:].square() - 1, tiles[:-1].square() - 1),
        (tiles[:, 2:].square() - 1, tiles[:, :-2].square() - 1),
    ):
        assert abs((first * second).mean()) < 5 * (first * second).std() / first.numel() ** 0.5


def test_noise_has_no_waves():
    """The power of every wave of a white pattern is exponential with mean 1, so over 64·64·64 waves the largest is
    below log(64³) + 10 with probability 1 − e⁻¹⁰."""
    keys = 2 * torch.rand(64, 2, generator=torch.Generator().manual_seed(1)) - 1
    power = torch.fft.fft2(normal_pattern(keys, 64 * 64).view(64, 64, 64)).abs().square() / 64**2
    # Waves that are their own conjugate have real amplitudes, hence twice the tail.
    assert power.max() < 2 * (math.log(64**3) + 10)
    assert (power.mean(0).flatten()[1:] < 1 + 8 * (2 / 64) ** 0.5).all()


def test_noise_is_the_same_for_the_same_draws_and_scales_with_the_amount():
    images, draws = torch.full((2, 3, 16, 16), 0.5), torch.tensor([[0.1, -0.7], [0.1, -0.7]])
    found = T.GaussianNoise().transform(images, torch.tensor([0.1, 0.2]), draws) - 0.5
    torch.testing.assert_close(2 * found[0], found[1])
    assert found[0].std().item() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("quality", [75, 50, 20])
def test_jpeg_is_nearly_the_file(quality):
    """Pillow rounds pixels and steps to whole numbers and clips in between, so two 255ths on average remain."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = (0.25 + 0.5 * interpolate(coarse, (21, 40), mode="bilinear")).mul(255).round() / 255
    file = io.BytesIO()
    pixels = (images[0].permute(1, 2, 0).numpy() * 255).round().astype("uint8")
    Image.fromarray(pixels).save(file, "jpeg", quality=quality, subsampling=0)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    found = T.JPEG()(images, torch.tensor([1 - quality / 100]))[0]
    assert (found - expected).abs().mean() < 2 / 255
    assert (found - expected).abs().mean() < 0.7 * (images[0] - expected).abs().mean()


def test_erase_hides_its_share_of_the_image():
    """Black left, white right, a square of half the side in the middle: a quarter of all pixels become 0.5."""
    images = torch.zeros(1, 1, 16, 16)
    images[..., 8:] = 1
    found = T.Erase()(images, torch.tensor([0.5]), torch.zeros(1, 3))
    assert (found == 0.5).sum() == 64
    assert (found[..., 4:12, 4:12] == 0.5).all()


def test_erase_half_hides_pixels_at_its_edge():
    """Side 0.3 of 10 pixels, centred at 0.5: from pixel 3.5 to 6.5, so pixels 3 and 6 are half covered."""
    images = torch.ones(1, 1, 10, 10, dtype=torch.float64)
    images[..., :5, :] = 0
    found = T.Erase()(images, torch.tensor([0.3], dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64))
    change = (found - images).abs()[0, 0] / 0.5
    expected = torch.tensor([0, 0, 0, 0.5, 1, 1, 0.5, 0, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(change, expected[:, None] * expected)


def test_erase_is_where_its_noise_says():
    images = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    changed = (T.Erase()(images, torch.tensor([0.1]), torch.tensor([[0.5, -0.5, 0.0]])) - images)[0, 0] != 0
    rows, columns = changed.nonzero().double().mean(0)
    assert (float(columns), float(rows)) == pytest.approx((14.5, 4.5), abs=0.6)
