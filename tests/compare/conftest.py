import pytest
import torch

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.compare.bench import Bench
from augnet.compare.measures import Measures
from augnet.compare.retraining import Result
from augnet.compare.summary import ArmSummary, Section, ranked
from augnet.data import Digits, ImageSet
from augnet.recipe import InnerConfig, Recipe, ScheduleConfig
from augnet.training import IFTTrainer


def bench_of(channels, height, width, **recipe):
    """Make a bench of random images in two classes that brightness tells apart, with an unlearned augmenter."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 128, (64, channels, height, width), generator=generator, dtype=torch.uint8)
    labels = torch.arange(64) % 2
    images += (labels * 127).to(torch.uint8)[:, None, None, None]
    config = AugmenterConfig(width=4, depth=2)
    return Bench(
        train=ImageSet(images[:40], labels[:40]),
        test=ImageSet(images[40:], labels[40:]),
        classes=("dark", "light"),
        recipe=Recipe(augmenter=config, schedule=ScheduleConfig(inner_steps=4, warmup=0, batch_size=8), **recipe),
        augmenter=Augmenter(config, channels),
        identity="of a test",
    )


@pytest.fixture
def make_bench():
    """Make a bench of images of a shape."""
    return bench_of


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """Train for a moment on digits of 8×8 pixels."""
    recipe = Recipe(
        data=Digits(size=8, train_size=120, val_size=60),
        augmenter=AugmenterConfig(width=4, depth=2),
        schedule=ScheduleConfig(inner_steps=12, outer_every=4, warmup=2, batch_size=16, val_batch_size=16),
        inner=InnerConfig(learning_rate=0.05),
        device="cpu",
    )
    return IFTTrainer(recipe, out=tmp_path_factory.mktemp("runs") / "tiny").fit()


@pytest.fixture
def section_of():
    """Make a section of accuracies by arm, one per seed; an arm's role is `fixed` unless its name says otherwise."""

    def make(images=1000, **accuracies):
        arms = []
        for name, values in accuracies.items():
            role = name if name in ("learned", "longer") else "fixed"
            results = tuple(
                Result(name, 10, seed, 1, Measures(value, 1 - value, 0.1, (round(value * images),)), 1.0, "k" * 16)
                for seed, value in enumerate(values)
            )
            arms.append(ArmSummary(name=name, role=role, results=results, images=images))
        judged = "learned" if "learned" in accuracies else None
        return Section(budget=1, copies=1, arms=ranked(arms), judged=judged)

    return make
