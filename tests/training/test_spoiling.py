"""Transforms that spoil labels: found where they do, left alone where they do not, and used no more."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.policy import GAIN, LEAST_PROBABILITY
from augnet.data import ImageSet, from_datasets
from augnet.recipe import OuterConfig, ScheduleConfig
from augnet.training import IFTTrainer
from augnet.training.settling import settled
from augnet.training.spoiling import spoiling
from augnet.transforms import Brightness, Contrast, Erase, Gamma, Invert, MirrorLeftRight, Rotate


class Bright(nn.Module):
    """Tell bright images from dark ones, always rightly."""

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


class Guess(nn.Module):
    """Answer by whether one pixel is an odd number of 255ths."""

    def forward(self, images):
        odd = (255 * images[:, 0, 0, 0]).round() % 2
        return torch.stack([1 - odd, odd], dim=1)


def halves(count, seed=0):
    """Make dark images of class 0 and bright ones of class 1, as many of each."""
    labels = torch.arange(count) % 2
    noise = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return ImageSet((255 * (0.45 * noise + 0.55 * labels[:, None, None, None])).to(torch.uint8), labels)


def augmenter_of(*transforms, **settings):
    return Augmenter(AugmenterConfig(transforms=list(transforms), width=4, depth=2, **settings), 1)


def found(augmenter, classifier, images, least_skill=0.75, ripe=0.0):
    """Give what `spoiling` finds: shares of skill by transform."""
    kept = spoiling(augmenter, classifier, images, least_skill=least_skill, ripe=ripe, seed=0, workers=0).tolist()
    return {t: share for t, share in zip(augmenter.transforms, kept, strict=True) if not math.isnan(share)}


def test_what_turns_every_label_round_keeps_less_than_nothing():
    """Under inversion accuracy is 0, which is 0.5 below guessing, and before it was 0.5 above."""
    augmenter = augmenter_of(Invert(), MirrorLeftRight(), Rotate())
    assert found(augmenter, Bright(), halves(200)) == {Invert(): -1.0}
    assert found(augmenter, Bright(), halves(200), least_skill=0) == {}


def test_how_far_a_transform_goes_is_what_matters():
    """Of 0.9 to either side, what is dark (0.22 on average) is carried across from 0.28 on, what is bright likewise."""
    brightness = Brightness(limit=1.0)
    assert found(augmenter_of(brightness, start_spread=0.01), Bright(), halves(1000)) == {}
    kept = found(augmenter_of(brightness, start_spread=0.9), Bright(), halves(1000))
    assert kept == {brightness: pytest.approx(1 - 2 * (0.9 - 0.28) / 1.8, abs=0.1)}
    assert found(augmenter_of(brightness, start_spread=0.9), Bright(), halves(1000), least_skill=0.2) == {}


@pytest.mark.parametrize("gates", ["all", "choices"])
def test_every_transform_is_looked_at_alone(gates):
    """The others, ungated ones too, do nothing meanwhile."""
    augmenter = augmenter_of(Erase(), Brightness(limit=1.0), MirrorLeftRight(), gates=gates, start_spread=0.9)
    assert list(found(augmenter, Bright(), halves(400))) == [Brightness(limit=1.0)]


def test_nothing_is_said_of_a_classifier_that_guesses_nor_of_few_images():
    augmenter = augmenter_of(Invert(), MirrorLeftRight())
    assert found(augmenter, Guess(), halves(400)) == {}
    assert found(augmenter, Bright(), halves(6)) == {}


@pytest.mark.parametrize(("ripe", "says"), [(0.3, True), (0.5, False), (0.9, False)])
def test_nothing_is_said_before_a_classifier_is_ripe(ripe, says):
    """Right of three in four images it has half of all skill there is above guessing."""
    images = halves(400)
    wrong = torch.arange(400) % 8 < 2
    images = ImageSet(images.images, torch.where(wrong, 1 - images.labels, images.labels))
    assert bool(found(augmenter_of(Invert(), MirrorLeftRight()), Bright(), images, ripe=ripe)) == says


def test_guessing_the_most_frequent_class_is_no_skill():
    """Where nine in ten are dark, guessing has 0.9, and an accuracy of 0 is nine times as far below as 1 is above."""
    images = halves(360).take([*range(0, 360, 2), *range(1, 41, 2)])
    assert found(augmenter_of(Invert(), MirrorLeftRight()), Bright(), images) == {Invert(): pytest.approx(-9.0)}


class SeesThrough(nn.Module):
    """Tell bright from dark by one row, also of inverted images whose first row is dark as they are."""

    def forward(self, images):
        inverted = images[:, 0, 0].mean(dim=1) > 0.95
        bright = ((images[:, 0, 4].mean(dim=1) > 0.5) ^ inverted).float()
        return torch.stack([0.5 - bright, bright - 0.5], dim=1)


def test_near_copies_say_the_same_only_once():
    """Of 12 films of 30 images three are misread once inverted: a share of 0.5, but of too few films to be sure."""
    labels, film = torch.arange(360) % 2, torch.arange(360) // 30
    pixels = torch.where(labels == 1, 200, 50).to(torch.uint8)[:, None, None, None].repeat(1, 1, 8, 8)
    pixels[film >= 3, :, 0] = 7
    augmenter = augmenter_of(Invert(), MirrorLeftRight())
    assert found(augmenter, SeesThrough(), ImageSet(pixels, labels)) == {Invert(): pytest.approx(0.5)}
    assert found(augmenter, SeesThrough(), ImageSet(pixels, labels, film)) == {}


def test_looking_leaves_no_trace():
    augmenter, classifier = augmenter_of(MirrorLeftRight(), Rotate()), Bright().train()
    before = torch.random.get_rng_state(), [w.clone() for w in augmenter.parameters()]
    assert found(augmenter, classifier, halves(300)) == {}
    assert classifier.training
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert all(torch.equal(w, b) for w, b in zip(augmenter.parameters(), before[1], strict=True))


@pytest.mark.parametrize("gates", ["all", "choices"])
def test_what_is_silenced_is_never_applied_and_the_rest_stays(gates):
    augmenter = augmenter_of(Invert(), MirrorLeftRight(), Brightness(), gates=gates)
    images = torch.rand(64, 1, 8, 8)
    noise = augmenter.draw_noise(64)
    with torch.no_grad():
        augmenter.head.linear.weight.normal_()
        before = augmenter.policy(images, noise)
        augmenter.head.silence([Brightness()])
        augmenter.head.silence([Invert()])
        after = augmenter.policy(images, noise)
    assert augmenter.head.silenced == [Invert(), Brightness()]
    for name in ("centre", "spread", "probability", "amounts"):
        assert torch.equal(getattr(after, name)[:, 1], getattr(before, name)[:, 1])
    assert not after.use[:, [0, 2]].any()
    assert not after.amounts[:, [0, 2]].any()
    assert torch.equal(augmenter.amounts(images, noise), after.amounts)
    assert augmenter.summary(images)[2].words == "brightness off"


@pytest.mark.parametrize("reward", [0.0, 0.01])
@pytest.mark.parametrize("gates", ["all", "choices"])
def test_later_updates_do_not_bring_it_back(spoilt, gates, reward):
    """Neither by momentum, nor by what is common to transforms of a kind, nor by a reward for spread."""
    recipe = replace(
        spoilt,
        augmenter=replace(
            spoilt.augmenter, gates=gates, transforms=[Brightness(), Gamma(), Contrast(), MirrorLeftRight()]
        ),
        outer=OuterConfig(learning_rate=0.05, significance=0.0, spread_reward=reward, least_skill=0.0),
    )
    trainer = IFTTrainer(recipe)
    trainer.fit(lambda progress: trainer.stop() if progress.step >= 60 else None)
    trainer.augmenter.head.silence([Brightness(), Contrast()])
    trainer.fit()
    learned = trainer.learned()
    assert [item.use for item in learned][::2] == [0, 0]
    assert all(math.isfinite(value) for item in learned for value in item[1:])
    assert [item.use > 0 for item in learned][1::2] == [True, True]


@pytest.fixture
def spoilt(quick):
    """Make a recipe whose images are told apart by their brightness, and whose augmenter inverts some."""
    return quick(
        data=from_datasets(halves(128), halves(128, seed=1)),
        augmenter=AugmenterConfig(transforms=[Invert(), MirrorLeftRight()], width=4, depth=2, start_probability=0.3),
        schedule=ScheduleConfig(inner_steps=160, outer_every=2, warmup=4, batch_size=16, val_batch_size=16),
        outer=OuterConfig(learning_rate=0.0),
        checkpoint_every=30,
    )


def test_a_training_leaves_out_what_spoils_labels_and_says_so(spoilt, tmp_path):
    said = []
    run = IFTTrainer(spoilt, out=tmp_path / "run").fit(lambda progress: said.extend(progress.warnings))
    (sentence,) = [s for s in said if "labels suffer" in s]
    assert sentence.startswith("labels suffer, so left out from here on: negative p 0.30 (keeps 0%); of its accuracy")
    assert [type(t).__name__ for t in run.augmenter().transforms] == ["MirrorLeftRight"]
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["left_out"], record["spoiling"]) == ([], ["negative"])
    assert record["in_words"].endswith("left out for spoiling labels: negative")
    assert [alarm["sentence"] for alarm in record["alarms"]].count(sentence) == 1
    rows = run.metrics
    assert (rows[0]["Invert.probability"], rows[-1]["Invert.probability"]) == (pytest.approx(0.3, abs=0.01), 0)


def test_a_resumed_training_leaves_out_the_same(spoilt, tmp_path):
    whole = IFTTrainer(spoilt, out=tmp_path / "whole")
    whole.fit()
    broken = IFTTrainer(spoilt, out=tmp_path / "broken")
    broken.fit(lambda progress: broken.stop() if progress.step >= 100 else None)
    resumed = IFTTrainer.resume(tmp_path / "broken", recipe=spoilt)
    assert resumed.augmenter.head.silenced == [Invert()]
    run = resumed.fit()
    for one, other in zip(whole.augmenter.parameters(), resumed.augmenter.parameters(), strict=True):
        assert torch.equal(one, other)
    assert len(run.augmenter().transforms) == 1


def test_what_spoils_labels_is_left_out_however_seldom_it_began(spoilt, tmp_path):
    recipe = replace(spoilt, augmenter=replace(spoilt.augmenter, start_probability=0.025))
    run = IFTTrainer(recipe, out=tmp_path / "run").fit()
    assert [type(t).__name__ for t in run.augmenter().transforms] == ["MirrorLeftRight"]


def test_where_nothing_would_be_left_all_is_at_its_least_and_no_collapse_is_said(spoilt, tmp_path):
    recipe = replace(spoilt, augmenter=replace(spoilt.augmenter, transforms=[Invert()]))
    run = IFTTrainer(recipe, out=tmp_path / "run").fit()
    (item,) = run.augmenter().summary(torch.rand(8, 1, 8, 8))
    assert item.probability == pytest.approx(LEAST_PROBABILITY)
    assert (run.record["left_out"], run.record["spoiling"]) == ([], ["negative"])
    assert not any("collapse" in alarm["sentence"] for alarm in run.record["alarms"])


def test_what_was_learned_down_stays_where_nothing_else_is_left():
    augmenter = augmenter_of(Invert(), Rotate())
    with torch.no_grad():
        augmenter.head.linear.bias[5] = -5 / GAIN
    augmenter.head.silence([Invert()])
    kept, unwanted = settled(augmenter, torch.rand(8, 1, 8, 8))
    assert (kept.transforms, [item.transform for item in unwanted]) == ([Rotate()], [Invert()])
