"""What choices do to classes, measured on a classifier whose every answer is known."""

import pytest
import torch

from augnet import Augmenter, AugmenterConfig
from augnet import transforms as tf
from augnet.show.safety import changed_by_choices


def left_or_right(images):
    """Tell whether the left half is brighter (class 0), or the right half (class 1); class 2 is bright throughout."""
    half = images.shape[-1] // 2
    left, right = images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))
    return torch.stack([left - right, right - left, torch.minimum(left, right) - 0.4], dim=1)


@pytest.fixture
def halves():
    """Fifteen images: five bright at the left, five at the right, five throughout; and an augmenter of mirrors."""
    images = torch.zeros(15, 1, 8, 8)
    images[:5, ..., :4] = 1
    images[5:10, ..., 4:] = 1
    images[10:] = 1
    config = AugmenterConfig(transforms=[tf.MirrorLeftRight()], start_probability=0.5, width=4, depth=1)
    return Augmenter(config, 1).eval(), images, torch.arange(15) // 5


def test_a_mirror_turns_left_into_right_and_leaves_the_rest(halves):
    assert changed_by_choices(*halves, left_or_right) == {"mirror left-right": [0, 1]}


def test_of_a_class_of_four_images_nothing_is_said(halves):
    augmenter, images, labels = halves
    assert changed_by_choices(augmenter, images[1:], labels[1:], left_or_right) == {"mirror left-right": [1]}


def test_of_a_choice_of_which_no_class_tells_nothing_is_said(halves):
    augmenter, images, labels = halves
    assert changed_by_choices(augmenter, images[::2], labels[::2], left_or_right) == {}


def test_a_classifier_that_is_always_wrong_can_lose_nothing(halves):
    augmenter, images, labels = halves
    with pytest.raises(ValueError, match="none of these 15 images rightly"):
        changed_by_choices(augmenter, images, (labels + 1) % 3, left_or_right)
