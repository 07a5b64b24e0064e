"""One learned image per class teaches a model more than one real image per class."""

import pytest
import torch

from augnet.data import Digits


@pytest.fixture(scope="module")
def splits():
    return Digits(size=8).load(seed=0)


@pytest.fixture(scope="module")
def learned(script, splits):
    return script.distil(splits, steps=1500)


def test_learned_images_teach_more_than_real_ones(script, splits, learned):
    generator = torch.Generator().manual_seed(0)
    draws = [script.real_images(splits.train, 10, generator) for _ in range(5)]
    best = max(script.accuracy_after(images, splits.test) for images in draws)
    assert script.accuracy_after(learned, splits.test) > best + 0.1


def test_learned_images_teach_more_than_means(script, splits, learned):
    means = script.mean_images(splits.train, 10)
    assert script.accuracy_after(learned, splits.test) > script.accuracy_after(means, splits.test)


def test_real_images_are_one_of_each_class(script, splits):
    drawn = script.real_images(splits.train, 10, torch.Generator().manual_seed(0))
    images, labels = splits.train.batch(range(len(splits.train)))
    for label, image in enumerate(drawn):
        assert (images[labels == label] == image).flatten(1).all(dim=1).any()


def test_black_images_teach_nothing(script, splits):
    """A linear model of black images has equal biases, so it says one class for all: a tenth is right."""
    black = torch.zeros(10, 1, 8, 8)
    assert script.accuracy_after(black, splits.test) == pytest.approx(0.1, abs=0.02)


def test_the_figure_shows_a_row_of_images_each(script, learned):
    figure = script.draw({"learned": learned, "the same": learned})
    assert len(figure.axes) == 20
