"""Leaving transforms out, where it is known what that does."""

import math

import numpy as np
import pytest
import torch

from augnet import Augmenter, AugmenterConfig, Recipe, ScheduleConfig
from augnet import transforms as tf
from augnet.data import ImageSet
from augnet.show import leave_one_out
from augnet.show.decisions import at_step
from augnet.show.gain import quantile


@pytest.fixture
def task():
    """Three classes of noise with a brightness of their own; a linear classifier."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 3
    images = torch.randint(0, 60, (48, 1, 6, 6), generator=generator) + 80 * labels[:, None, None, None]
    data = ImageSet(images.byte(), labels)
    recipe = Recipe(schedule=ScheduleConfig(inner_steps=6, warmup=1, batch_size=16), device="cpu")
    return data, recipe


def build():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))


def policy(**often):
    """An augmenter of mirror and brightness, each as often as said and by a fixed spread."""
    config = AugmenterConfig(transforms=[tf.MirrorLeftRight(), tf.Brightness()], width=4, depth=1)
    row = {f"{name}.probability": share for name, share in often.items()}
    return at_step(Augmenter(config, 1).eval(), {**row, "Brightness.centre": 0.0, "Brightness.spread": 0.4})


def test_what_is_never_done_is_missed_by_nobody(task):
    """Without it the training is the same, step by step, so the difference is 0, and no error makes it more."""
    data, recipe = task
    # Below 0.01 no policy goes, so the noise of 6 steps of 16 images makes no mirror in these draws.
    mirror, brightness, both = leave_one_out(
        policy(MirrorLeftRight=0.01, Brightness=0.9), build, data, data, recipe, seeds=2
    )
    assert mirror[:2] == ("mirror left-right", 0.0)
    assert not mirror.sure
    assert brightness.difference != 0
    assert both.difference == pytest.approx(brightness.difference)


def test_brightness_that_is_the_class_must_not_be_changed(task):
    """The class is the brightness: changing it by up to its full range can only mislead, so the loss falls without."""
    data, recipe = task
    _, brightness, _ = leave_one_out(
        policy(MirrorLeftRight=0.01, Brightness=0.99), build, data, data, recipe, seeds=3, steps=60
    )
    assert brightness.difference < -2 * brightness.error < 0


@pytest.mark.parametrize("seeds", [2, 3])
def test_intervals_hold_all_at_once(seeds):
    """Of 20 effects that are all 0, against the same trainings, one page in 20 names any, or fewer."""
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(3000):
        losses = rng.normal(size=(seeds, 22))
        differences = losses[:, 1:-1] - losses[:, :1]
        error = math.sqrt(differences.var(axis=0, ddof=1).mean() / seeds)
        named += np.abs(differences.mean(axis=0)).max() > quantile(20, seeds) * error
    assert named / 3000 < 0.05


def test_the_time_that_it_will_take_is_said_once(task):
    data, recipe = task
    said = []
    leave_one_out(policy(MirrorLeftRight=0.5, Brightness=0.5), build, data, data, recipe, seeds=2, report=said.append)
    assert len(said) == 1
    assert said[0] > 0


def test_nothing_to_leave_out_is_refused(task):
    data, recipe = task
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 1)
    with pytest.raises(ValueError, match="needs transforms, steps and at least 2 seeds, found 0"):
        leave_one_out(painter, build, data, data, recipe, seeds=2)


def test_one_seed_is_refused_since_it_does_not_tell_chance(task):
    data, recipe = task
    with pytest.raises(ValueError, match="at least 2 seeds, found 2, 6 and 1"):
        leave_one_out(policy(MirrorLeftRight=0.5, Brightness=0.5), build, data, data, recipe, seeds=1)
