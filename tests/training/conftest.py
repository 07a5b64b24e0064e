from dataclasses import replace

import pytest

from augnet.augmenter import AugmenterConfig
from augnet.data import Digits
from augnet.recipe import OuterConfig, Recipe, ScheduleConfig


def quick_recipe(steps=24, significance=0.0, **settings):
    """Make a recipe of a few augmenter updates, which move every weight unless noise is asked to stay out."""
    settings["outer"] = replace(settings.get("outer", OuterConfig()), significance=significance)
    return Recipe(
        **{
            "data": Digits(size=8, train_size=200, val_size=100),
            "augmenter": AugmenterConfig(width=4, depth=2),
            "schedule": ScheduleConfig(inner_steps=steps, outer_every=4, warmup=4, batch_size=16, val_batch_size=16),
            "checkpoint_every": 5,
            **settings,
        }
    )


@pytest.fixture
def quick():
    """Make a recipe that trains in seconds on 8×8 digits."""
    return quick_recipe
