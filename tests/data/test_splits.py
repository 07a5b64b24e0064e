"""Cuts are stratified, respect groups, and never move the test part."""

import numpy as np
import pytest
import torch

from augnet.data import ImageSet
from augnet.data.splits import Pool, choose, cut


def numbered_images(labels, groups=None):
    """Images whose first pixels spell their own number, so that parts can be compared."""
    numbers = torch.arange(len(labels))
    pixels = torch.stack([numbers // 256, numbers % 256], dim=-1).to(torch.uint8).reshape(-1, 1, 1, 2)
    return ImageSet(pixels, np.asarray(labels), groups)


def pool(labels, groups=None, **parts):
    names = tuple(f"class {i}" for i in range(max(labels) + 1))
    return Pool(train=numbered_images(labels, groups), classes=names, fingerprint="", **parts)


def numbers(images):
    return (images.images[:, 0, 0, 0].long() * 256 + images.images[:, 0, 0, 1]).tolist()


LABELS = [0] * 60 + [1] * 30 + [2] * 10
# Ten groups per class, of 6, 3 and 1 images.
GROUPS = [i // 6 for i in range(60)] + [10 + i // 3 for i in range(30)] + [20 + i for i in range(10)]


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["single", "grouped"])
def test_no_image_is_on_two_sides_and_none_is_lost(groups):
    splits = cut(pool(LABELS, groups), seed=0, val_size=20, test_size=20)
    parts = (splits.train, splits.val, splits.test)
    assert sorted(number for part in parts for number in numbers(part)) == list(range(100))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["single", "grouped"])
def test_classes_keep_their_proportions(groups):
    """A fifth of 60, 30 and 10 images is 12, 6 and 2; the groups of 6, 3 and 1 allow it exactly."""
    splits = cut(pool(LABELS, groups), seed=0, val_size=20)
    assert splits.val.labels.bincount().tolist() == [12, 6, 2]


def test_no_group_is_on_both_sides():
    splits = cut(pool(LABELS, GROUPS), seed=4, val_size=25, train_size=50, test_size=0.2)
    sides = [set(part.groups.tolist()) for part in (splits.train, splits.val, splits.test)]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_the_validation_part_changes_with_the_seed_and_the_test_part_does_not():
    first, second, again = (cut(pool(LABELS), seed, val_size=20, test_size=20) for seed in (0, 1, 0))
    assert numbers(first.test) == numbers(second.test)
    assert numbers(first.val) != numbers(second.val)
    assert numbers(first.val) == numbers(again.val)


@pytest.mark.parametrize(
    ("images", "sizes", "expected"),
    [
        (300, {}, (200, 100)),
        (300, {"train_size": 100}, (100, 50)),
        (300, {"train_size": 250}, (250, 50)),
        (300, {"val_size": 0.1}, (270, 30)),
        (300, {"val_size": 30, "train_size": 40}, (40, 30)),
        (20_000, {}, (15_000, 5_000)),
    ],
)
def test_sizes(images, sizes, expected):
    """By default a third of the images used validates (with 100 for training, 50), at most 5,000."""
    splits = cut(pool([i % 2 for i in range(images)]), 0, **sizes)
    assert (len(splits.train), len(splits.val)) == expected
    assert splits.notes == ()


def test_every_class_is_on_every_side_even_if_its_share_is_below_one_image():
    """Of 98 + 2 images, 10 hold 0.2 of the rare class: it gets one, and one stays."""
    splits = cut(pool([0] * 98 + [1] * 2), seed=0, val_size=10)
    assert splits.val.labels.bincount().tolist() == [9, 1]
    assert splits.train.labels.bincount().tolist() == [89, 1]


def test_a_class_of_two_images_leaves_none_for_the_test_part_and_a_note_says_so():
    splits = cut(pool([0] * 98 + [1] * 2), seed=0, test_size=10)
    assert 1 not in splits.test.labels
    assert splits.notes == ("no test image of class 'class 1'",)


def test_sizes_that_groups_do_not_allow_are_met_as_nearly_as_they_can_be():
    """Groups of four, two classes: 10 images are not to be had; 8 and 12 are equally near, and 8 comes first."""
    groups = [i // 4 for i in range(80)]
    splits = cut(pool([0] * 40 + [1] * 40, groups), seed=0, val_size=10)
    assert len(splits.val) == 8
    assert splits.notes == ("8 validation images instead of 10, because groups and classes are kept whole",)


def test_groups_of_several_classes_are_kept_whole():
    """Twenty patients with three images of each of two classes: six patients are nearest to a third of 120."""
    labels, groups = [i % 2 for i in range(120)], [i // 6 for i in range(120)]
    splits = cut(pool(labels, groups), seed=0)
    assert splits.val.labels.bincount().tolist() == [21, 21]
    assert len(set(splits.val.groups.tolist())) == 7


@pytest.mark.parametrize("seed", range(20))
def test_random_groups_keep_the_promises(seed):
    """Whatever the groups: every class on both sides, no group on both, the total within half the largest group."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 40, 400)
    labels = (groups + rng.integers(0, 2, 400)) % 5
    chosen = choose(labels, groups, 100, [seed], keep=1)
    others = np.setdiff1d(np.arange(400), chosen)
    assert not set(groups[chosen]) & set(groups[others])
    assert set(labels[chosen]) == set(labels[others]) == set(range(5))
    assert abs(len(chosen) - 100) <= np.bincount(groups).max() / 2


def test_given_validation_images_are_used_as_they_are():
    val = numbered_images([0, 1, 1])
    splits = cut(pool([0] * 5 + [1], val=val), seed=0)
    assert splits.val is val
    assert len(splits.train) == 6


def test_a_size_takes_a_part_of_given_validation_images():
    splits = cut(pool([0, 1], val=numbered_images([0, 1] * 10)), seed=0, val_size=0.5)
    assert splits.val.labels.bincount().tolist() == [5, 5]


def test_splits_describe_the_images():
    splits = cut(pool(LABELS), seed=0)
    assert (splits.channels, splits.size, splits.test) == (1, (1, 2), None)


def test_splits_give_every_part_whole():
    splits = cut(pool(LABELS), seed=0, test_size=10)
    for part, (images, labels) in zip((splits.train, splits.val, splits.test), splits.tensors(), strict=True):
        torch.testing.assert_close(images * 255, part.images.float())
        assert torch.equal(labels, part.labels)


def test_parts_without_test_images_are_not_given():
    with pytest.raises(ValueError, match="the data sets no test images apart"):
        cut(pool(LABELS), seed=0).tensors()


@pytest.mark.parametrize(
    ("labels", "groups", "sizes", "message"),
    [
        ([0, 0, 1], None, {}, "class 'class 1' has one image"),
        ([0] * 4 + [1] * 4, [0, 1, 2, 3, 4, 4, 4, 4], {}, "all 4 images of class 'class 1' are in one group"),
        ([0] * 4, None, {}, "one class only"),
        ([0, 0, 2, 2], None, {}, "class 'class 1' has no training image"),
        (LABELS, None, {"val_size": 101}, "val_size asks for 101 images, but there are 100"),
        (LABELS, None, {"val_size": 98}, "too few to train"),
        (LABELS, None, {"val_size": 2}, "val_size comes to 2 images, fewer than the 3 classes"),
        (LABELS, None, {"val_size": 50, "train_size": 51}, "train_size asks for 51 images, but there are 50"),
        (LABELS, None, {"test_size": 1000}, "test_size asks for 1000"),
    ],
)
def test_data_that_cannot_be_cut_as_asked_are_refused(labels, groups, sizes, message):
    with pytest.raises(ValueError, match=message):
        cut(pool(labels, groups), 0, **sizes)


def test_a_test_part_is_not_cut_where_there_is_one():
    with pytest.raises(ValueError, match="2 test images of its own"):
        cut(pool(LABELS, test=numbered_images([0, 1])), 0, test_size=10)


def test_a_label_without_a_name_is_refused():
    with pytest.raises(ValueError, match="test label 3 is out of range: there are 3 classes"):
        pool(LABELS, test=numbered_images([0, 3]))


def test_parts_of_different_shapes_are_refused():
    square = ImageSet(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), [0, 1])
    with pytest.raises(ValueError, match="test images have shape"):
        pool(LABELS, test=square)


def test_images_of_twelve_bits_in_files_of_sixteen_are_said_to_be_dark():
    """Divided by 257 they reach 15 of 255."""
    pixels = torch.randint(0, 16, (12, 1, 4, 4), dtype=torch.uint8)
    pixels[:, :, 0, 0] = 15
    labels, named = torch.arange(12) % 2, ("a", "b")
    dark, light = (
        cut(Pool(train=ImageSet(times * pixels, labels), classes=named, fingerprint=""), 0).notes for times in (1, 17)
    )
    assert dark == (
        "the brightest pixel of 8 training images is at 5.9% of full scale; if they have fewer bits than their "
        "files, scale them",
    )
    assert light == ()


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        cut(pool(LABELS), -1)
