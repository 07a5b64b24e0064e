"""Label safety, measured on a classifier whose every answer is known."""

import pytest
import torch

from augnet import Augmenter, AugmenterConfig
from augnet import transforms as tf
from augnet.show import label_safety
from augnet.show.safety import changed_by_choices, wilson


def left_or_right(images):
    """Tell whether the left half is brighter (class 0), or the right half (class 1); class 2 is bright throughout."""
    half = images.shape[-1] // 2
    left, right = images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))
    return torch.stack([left - right, right - left, torch.minimum(left, right) - 0.4], dim=1)


@pytest.fixture
def halves():
    """Six images: two bright at the left, two at the right, two throughout; and an augmenter of mirrors."""
    images = torch.zeros(6, 1, 8, 8)
    images[:2, ..., :4] = 1
    images[2:4, ..., 4:] = 1
    images[4:] = 1
    config = AugmenterConfig(transforms=[tf.MirrorLeftRight()], start_probability=0.5, width=4, depth=1)
    return Augmenter(config, 1).eval(), images, torch.tensor([0, 0, 1, 1, 2, 2])


def test_a_mirror_turns_left_into_right_and_leaves_the_rest(halves):
    assert changed_by_choices(*halves, left_or_right) == {"mirror left-right": [0, 1]}


def test_at_strength_0_nothing_is_lost_and_at_double_strength_every_image_is_mirrored(halves):
    """A mirror of probability one half is certain at strength 2: four of the six images then change their class."""
    found = label_safety(*halves, left_or_right)
    assert found.at(0.0) == 1
    assert found.at(2.0) == pytest.approx(2 / 6)


def test_images_that_were_misread_to_begin_with_do_not_count(halves):
    augmenter, images, labels = halves
    wrong = labels.clone()
    wrong[0] = 1
    assert len(label_safety(augmenter, images, wrong, left_or_right).labels) == 5


def test_a_classifier_that_is_always_wrong_can_lose_nothing(halves):
    augmenter, images, labels = halves
    with pytest.raises(ValueError, match="none of these 6 images rightly"):
        label_safety(augmenter, images, (labels + 1) % 3, left_or_right)


def test_the_interval_of_a_share_is_wilsons():
    """9 of 10: (0.5958, 0.9821), as in Brown, Cai and DasGupta (2001)'s formula with z = 1.96."""
    low, high = wilson(torch.tensor([0.9], dtype=torch.float64), 10)
    assert float(low) == pytest.approx(0.5958, abs=1e-4)
    assert float(high) == pytest.approx(0.9821, abs=1e-4)
