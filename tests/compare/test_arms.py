"""The family of arms: every member takes grey and RGB images of any shape, and its name leads back to it."""

from dataclasses import replace

import pytest
import torch

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.compare.arm import mirror_crop
from augnet.compare.fixed import NoAugmentation
from augnet.compare.learned import Learned, LearnedPlain, Uniform
from augnet.compare.naming import all_arms, arm_named, chosen
from augnet.compare.own import Own
from augnet.compare.study import usable
from augnet.export.learned_augment import LearnedAugment

ARMS = [*all_arms(), Learned(strength=0.5), Learned(mirror_crop=True)]
OWN = """
from __future__ import annotations
from dataclasses import dataclass

import albumentations as A
import torch
from torchvision.transforms import v2

import augnet

halves = lambda image: image // 2
as_pil = lambda image: image.point(lambda value: value // 2)
@dataclass
class Divide:
    by: int

    def __call__(self, image):
        return image // self.by

divided = Divide(2)
floats = v2.Compose([v2.Lambda(halves), v2.ToDtype(torch.float32, scale=True)])
pipeline = A.Compose([A.HorizontalFlip()])
at_times = v2.RandomApply([as_pil], p=0.5)
dual = augnet.export.dual("digits")
smaller = v2.CenterCrop(4)
normalised = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5], [0.1])])
broken = lambda image: 1 / 0
number = 3
"""


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 10)], ids=str)
@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_an_arm_keeps_shape_and_range_and_follows_its_seed(make_bench, arm, shape):
    bench = make_bench(*shape)
    images, _ = bench.train.batch(range(6))

    def augmented(seed):
        augment = arm.augmentation(bench, seed)
        torch.manual_seed(seed)
        return augment(images)

    first = augmented(1)
    assert first.shape == images.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    torch.testing.assert_close(augmented(1), first, rtol=0, atol=0)
    if isinstance(arm, NoAugmentation):
        torch.testing.assert_close(first, images, rtol=0, atol=0)
    else:
        assert not torch.equal(torch.stack([augmented(seed) for seed in range(2, 6)]), images.expand(4, -1, -1, -1, -1))


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_a_name_leads_back_to_its_arm(arm):
    assert arm_named(arm.name) == arm


def test_names_are_known_in_any_spelling_and_taken_once():
    arms, longer = chosen(["trivial-augment-wide", "TrivialAugmentWide", Uniform(), "Longer", "mirror_crop+none"])
    assert [arm.name for arm in arms] == ["TrivialAugmentWide", "uniform", "mirror_crop+none"]
    assert longer
    assert chosen(["none"]) == ([NoAugmentation()], False)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lerned", "there is no arm 'lerned'; did you mean learned"),
        ("loger", "did you mean longer"),
        ("mirror_crop+trivial", "there is no arm 'trivial'"),
        ("learned@much", "a strength is a number, such as learned@0.5, found 'learned@much'"),
        ("none@0.5", "none has no strength"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, words):
    with pytest.raises(ValueError, match=words):
        arm_named(name)


def test_a_crop_of_a_mirrored_image_holds_its_pixels_and_black(make_bench):
    """Padded by one pixel of 8, a crop has at most one black row and column; the rest is the image or its mirror."""
    bench = make_bench(1, 8, 8)
    ramp = torch.arange(64, dtype=torch.uint8).add(100).view(1, 1, 8, 8)
    torch.manual_seed(0)
    crops = mirror_crop(bench)(ramp.expand(200, -1, -1, -1))
    padded = torch.nn.functional.pad(torch.cat([ramp, ramp.flip(-1)]), (1, 1, 1, 1))[:, 0]
    windows = padded.unfold(1, 8, 1).unfold(2, 8, 1).reshape(-1, 8, 8)
    assert len(windows) == 18
    found = {int((windows == crop[0]).all(dim=(1, 2)).nonzero()[0]) for crop in crops}
    assert len(found) == 18


def test_learned_at_strength_0_changes_nothing(make_bench):
    bench = make_bench(3, 8, 8)
    images, _ = bench.train.batch(range(6))
    torch.testing.assert_close(Learned(strength=0.0).augmentation(bench, 0)(images), images, rtol=0, atol=0)


def test_unlearned_transforms_paint_nothing(make_bench):
    """Where the run may paint too, `uniform` is what it is where the run may not; of painting alone nothing is left."""
    bench = make_bench(1, 8, 8)
    painting = replace(bench.recipe.augmenter, residual_limit=0.5)
    other = replace(bench, recipe=replace(bench.recipe, augmenter=painting), augmenter=Augmenter(painting, 1))
    assert Uniform().identity(other) == Uniform().identity(bench)
    nothing = replace(painting, transforms=[])
    alone = replace(bench, recipe=replace(bench.recipe, augmenter=nothing), augmenter=Augmenter(nothing, 1))
    working, notes = usable([Uniform(), NoAugmentation()], alone, strict=False)
    assert working == [NoAugmentation()]
    assert notes[0].startswith("uniform is left out: the run has no transforms")


def test_the_learned_arm_does_what_the_exported_transform_does_with_independent_draws(make_bench):
    """Antithetic draws mirror as often as not in any batch of 64; of independent ones the counts vary by √(64 / 4)."""
    bench = make_bench(1, 8, 8)
    config = replace(bench.augmenter.config, transforms=[tf.MirrorLeftRight()], start_probability=0.5)
    bench = replace(bench, augmenter=Augmenter(config, 1))
    image = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(64, -1, -1, -1)

    def mirrored(transform):
        return torch.stack([(transform(image) != image).any(dim=(1, 2, 3)).sum() for _ in range(100)]).double()

    torch.manual_seed(0)
    assert mirrored(LearnedAugment(bench.augmenter)).std() < 1
    assert mirrored(Learned().build(bench, 0)).std() == pytest.approx(4, rel=0.25)


def test_a_plain_policy_of_a_residual_alone_is_refused(make_bench):
    bench = make_bench(1, 8, 8)
    residual = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1, width=4, depth=2), 1)
    object.__setattr__(bench, "augmenter", residual)
    with pytest.raises(ValueError, match="has no transforms, so no plain policy"):
        LearnedPlain().augmentation(bench, 0)


@pytest.mark.parametrize("name", ["halves", "as_pil", "floats", "divided"])
def test_a_transform_of_ones_own_gets_what_it_takes(make_bench, own_file, name):
    """All halve values of 8 bits, rounding down: of tensors, of PIL images, and giving floats."""
    bench = make_bench(3, 8, 8)
    images, _ = bench.train.batch(range(4))
    found = Own(where=f"{own_file}:{name}").augmentation(bench, 0)(images)
    torch.testing.assert_close(found, (images * 255).round().div(2).floor() / 255)


def test_an_albumentations_pipeline_of_ones_own_follows_the_seed(make_bench, own_file):
    bench = make_bench(1, 8, 8)
    images, _ = bench.train.batch(range(20))
    arm = Own(where=f"{own_file}:pipeline")
    first, again, other = (arm.augmentation(bench, seed)(images) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    mirrored = (first == images.flip(-1)).all(dim=(1, 2, 3))
    assert (mirrored ^ (first == images).all(dim=(1, 2, 3))).all()


def test_a_transform_that_refuses_tensors_only_now_and_then_is_given_images(make_bench, own_file):
    bench = make_bench(1, 8, 8)
    images = bench.train.batch(range(40))[0]
    for seed in range(4):
        torch.manual_seed(seed)
        assert Own(where=f"{own_file}:at_times").augmentation(bench, 0)(images).shape == images.shape


def test_augnets_own_transform_for_albumentations_is_one(make_bench, own_file):
    bench = make_bench(1, 8, 8)
    images = bench.train.batch(range(4))[0]
    assert Own(where=f"{own_file}:dual").augmentation(bench, 0)(images).shape == images.shape


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smaller", r"made images of shape \(4, 1, 4, 4\) from \(4, 1, 8, 8\)"),
        ("normalised", r"float images must lie in \[0, 1\]"),
        ("broken", r"mine.py:broken fails on an image of shape \(1, 8, 8\) \(ZeroDivisionError"),
        ("number", r"'number' of .*mine.py cannot be called, it is of type int; name a transform"),
        ("Divide", r"mine.py:Divide is a class; name an instance of it"),
        ("halfs", "has no transform 'halfs'; did you mean halves"),
    ],
)
def test_a_transform_that_cannot_be_used_is_explained(make_bench, own_file, name, words):
    bench = make_bench(1, 8, 8)
    images, _ = bench.train.batch(range(4))
    with pytest.raises(ValueError, match=words):
        Own(where=f"{own_file}:{name}").augmentation(bench, 0)(images)


def test_a_missing_file_or_module_is_named(make_bench, own_file):
    bench = make_bench(1, 8, 8)
    with pytest.raises(FileNotFoundError, match=r"there is no file 'none.py'"):
        Own(where="none.py:transform").build(bench, 0)
    with pytest.raises(ValueError, match=r"there is no module 'no.such.module'"):
        Own(where="no.such.module:transform").build(bench, 0)
    own_file.write_text("import nothing_of_the_kind")
    with pytest.raises(ValueError, match=r"cannot be imported .ModuleNotFoundError"):
        Own(where=f"{own_file}:halves").build(bench, 0)


def test_an_own_transform_that_was_edited_is_another_arm(make_bench, own_file):
    bench = make_bench(1, 8, 8)
    arm = Own(where=f"{own_file}:halves")
    before = arm.identity(bench)
    own_file.write_text(OWN.replace("// 2", "// 3"))
    assert arm.identity(bench) != before
