"""augnet learns the augmentation that a data set wants, from the validation loss, by gradient."""

import importlib
from types import ModuleType

from augnet.augmenter import Augmenter, AugmenterConfig, load, policies
from augnet.classifier import Classifier, ClassifierConfig
from augnet.data import from_datasets
from augnet.export import LearnedAugment
from augnet.implicit import hypergradient
from augnet.recipe import InnerConfig, OuterConfig, Recipe, ScheduleConfig
from augnet.training import IFTTrainer, Progress, Run, TrainingDiverged

__all__ = [
    "Augmenter",
    "AugmenterConfig",
    "Classifier",
    "ClassifierConfig",
    "IFTTrainer",
    "InnerConfig",
    "LearnedAugment",
    "OuterConfig",
    "Progress",
    "Recipe",
    "Run",
    "ScheduleConfig",
    "TrainingDiverged",
    "from_datasets",
    "hypergradient",
    "load",
    "policies",
]


def __getattr__(name: str) -> ModuleType:
    """Import `augnet.show` and `augnet.compare` when first used: they bring matplotlib, which takes a second."""
    if name in ("compare", "show"):
        return importlib.import_module(f"augnet.{name}")
    raise AttributeError(f"module 'augnet' has no attribute {name!r}")
