"""One transform at a time, and a walk through the noise."""

import io

import pytest
import torch
from PIL import Image

from augnet import transforms as tf
from augnet.augmenter import Learned
from augnet.show.strip import strip_amounts, together
from augnet.show.walk import animation, noise_walk, walked


def test_a_strip_goes_two_spreads_to_either_side_within_the_limits():
    rotate = Learned(tf.Rotate(limit=30.0), centre=5.0, spread=15.0, probability=0.1)
    torch.testing.assert_close(strip_amounts([rotate])[0], torch.linspace(-25.0, 30.0, 5))


def test_a_strip_of_amounts_without_a_sign_begins_at_none():
    blur = Learned(tf.GaussianBlur(limit=0.05), centre=-0.01, spread=0.01, probability=1.0)
    torch.testing.assert_close(strip_amounts([blur])[0], torch.linspace(0, 0.03, 5))


def test_a_strip_of_a_choice_is_not_done_then_done():
    mirror = Learned(tf.MirrorLeftRight(), centre=0.0, spread=0.6, probability=0.4)
    assert strip_amounts([mirror])[0].tolist() == [0, 0, 0, 1, 1]


def test_with_everything_switched_off_the_image_stays_as_it_is(augmenter):
    image = torch.rand(3, 8, 8)
    amounts = strip_amounts(augmenter.summary(image[None]))
    torch.testing.assert_close(together(augmenter, image, amounts, []), image.expand(5, -1, -1, -1), atol=1e-5, rtol=0)


def test_a_switched_on_mirror_mirrors_where_the_strip_has_it_done(augmenter):
    image = torch.rand(3, 8, 8)
    shown = together(augmenter, image, strip_amounts(augmenter.summary(image[None])), [0])
    torch.testing.assert_close(shown[0], image, atol=1e-5, rtol=0)
    torch.testing.assert_close(shown[4], image.flip(-1), atol=1e-5, rtol=0)


def test_a_walk_is_closed_and_smooth(augmenter):
    """The step from the last place to the first is no longer than the longest other."""
    places = noise_walk(augmenter, 60)
    steps = (places.roll(-1, dims=0) - places).abs().amax(dim=1)
    assert float(steps[-1]) <= float(steps[:-1].max()) + 1e-6
    assert float(steps.max()) < 0.35
    assert float(places.abs().max()) < 1


def test_a_walk_is_everywhere_distributed_as_noise_is(augmenter):
    """Uniform on (−1, 1): mean 0, variance 1/3; of 11 numbers in 400 walks, at the tenth place."""
    noise = torch.cat([noise_walk(augmenter, 20, seed)[9] for seed in range(400)])
    assert abs(float(noise.mean())) < 0.03
    assert float(noise.square().mean()) == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("form", ["WEBP", "GIF"])
def test_an_animation_has_as_many_frames_as_the_walk_has_places(augmenter, form):
    picture = Image.open(io.BytesIO(animation(augmenter, torch.rand(2, 3, 8, 8), frames=7, form=form)))
    assert picture.format == form
    assert picture.n_frames == 7


def test_every_image_walks_a_path_of_its_own(augmenter):
    image = torch.rand(1, 3, 8, 8).expand(2, -1, -1, -1)
    first, second = walked(augmenter, image, 6)
    assert not torch.allclose(first, second)
