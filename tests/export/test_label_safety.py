"""Label safety: agreement by class and strength, what is unsafe, and what is proposed."""

import itertools
import json

import pytest
import torch

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.export.label_safety import THRESHOLD, ClassAgreement, LabelSafety, measure, measure_plain, wilson


class Halves(torch.nn.Module):
    """Sees which half of an image is the brightest: top (0), bottom (1) or left (2)."""

    def forward(self, images):
        height, width = images.shape[-2:]
        top, bottom = images[:, 0, : height // 2], images[:, 0, height // 2 :]
        left = images[:, 0, :, : width // 2]
        return torch.stack([half.mean((1, 2)) for half in (top, bottom, left)], -1)


def halves(count):
    """As many images of each class."""
    images = torch.full((3 * count, 1, 8, 8), 0.1)
    labels = torch.arange(3 * count) % 3
    images[labels == 0, :, :4] = 0.9
    images[labels == 1, :, 4:] = 0.9
    images[labels == 2, :, :, :4] = 0.9
    return images, labels


def mirrored(probability):
    """Turns images upside down, which makes a bottom of a top and leaves a left one alone."""
    config = AugmenterConfig(transforms=[tf.MirrorUpDown()], start_probability=probability)
    return Augmenter(config, 1).eval().requires_grad_(False)


def measured(probability, count=200, **settings):
    images, labels = halves(count)
    return measure(mirrored(probability), Halves(), images, labels, ("top", "bottom", "left"), **settings)


def test_agreement_is_the_share_of_draws_that_leave_the_class_as_it_is():
    """A mirror of probability 0.01 + 0.98 · 0.5 = 1/2, times the strength, changes two classes of three. Each image has
    4 draws of its own, so the mean of 200 has a standard error of √(p (1 − p) / 800). The three together keep 1 − 2p/3.
    """
    safety = measured(0.5)
    for strength, (top, bottom, left) in safety.classes.items():
        p = strength / 2
        error = (p * (1 - p) / 800) ** 0.5
        for one in (top, bottom):
            assert one.images == 200
            assert one.agreement == pytest.approx(1 - p, abs=4 * error)
        assert left.agreement == 1
        whole = safety.overall(strength)
        assert whole.images == 600
        assert whole.agreement == pytest.approx(1 - 2 * p / 3, abs=4 * error + 1e-9)


def test_unsafe_classes_are_named_with_the_largest_strength_that_is_safe():
    """1 − strength / 2 is below 3/4 by more than chance from 0.75 on, at 3/4 for 0.5, and above it for 0.25: of 200
    images 0.875 has an interval from 0.82 on."""
    safety = measured(0.5)
    assert {one.name for one in safety.unsafe(1.0)} == {"top", "bottom"}
    assert safety.unsafe(0.25) == []
    assert safety.largest_safe == 0.25
    warning = safety.warning(1.0)
    assert "'top' " in warning
    assert "'bottom' " in warning
    assert "'left'" not in warning
    assert warning.endswith("(below 75%); labels are shown to be safe up to strength 0.25")
    assert safety.warning(1.0, "try again").endswith("(below 75%); try again")
    # A strength between two that were measured is judged by the one above.
    assert {one.name for one in safety.unsafe(0.6)} == {"top", "bottom"}


def test_a_policy_that_harms_nobody_gives_no_warning():
    safety = measured(0.02)
    assert safety.warning(1.0) is None
    assert safety.largest_safe == 2.0


def test_where_no_strength_is_safe_the_warning_says_so():
    """Done nearly always at strength 1, the mirror is still done in a half of the draws at half of it."""
    assert "labels suffer at strength 0.5 already: " in measured(0.98, strengths=(0.5, 1.0)).warning(1.0)


def test_images_that_are_seen_wrongly_to_begin_with_do_not_count():
    images, labels = halves(20)
    safety = measure(mirrored(0.5), Halves(), images, torch.full_like(labels, 2), ("top", "bottom", "left"))
    assert [one.images for one in safety.classes[1.0]] == [0, 0, 20]
    assert safety.warning(1.0) is None
    wrong = measure(mirrored(0.5), Halves(), images[labels == 0], labels[labels == 0] + 1, ("top", "bottom"))
    assert [one.images for one in wrong.classes[1.0]] == [0, 0]


@pytest.mark.parametrize(("count", "unsafe"), [(1, 0), (2, 0), (4, 0), (5, 2)])
def test_a_few_images_make_no_class_unsafe(count, unsafe):
    """Of 5 that are all lost at strength 2, Wilson's upper limit is z² / (5 + z²) = 0.43."""
    assert len(measured(0.98, count=count).unsafe(2.0)) == unsafe


def agreements(*by_strength):
    """Make a result of (name, images, agreement) of each class, at strengths 1/2, 1 and so on."""
    return LabelSafety(
        classes={
            (place + 1) / 2: tuple(ClassAgreement(name=n, images=i, agreement=a) for n, i, a in classes)
            for place, classes in enumerate(by_strength)
        }
    )


@pytest.mark.parametrize(("images", "safe"), [(11, None), (12, 0.5)])
def test_safety_needs_twelve_images_that_all_agree(images, safe):
    """Wilson's lower limit of n of n is n / (n + 1.96²): 0.741 of 11 and 0.757 of 12."""
    found = agreements([("a", images, 1.0)])
    assert found.largest_safe == safe
    assert [one.name for one in found.untold] == ([] if safe else ["a"])


def test_classes_of_too_few_images_are_named_and_promise_nothing():
    """Of 14 images 0.55 has the interval 0.31 to 0.76, so it is neither shown to be safe nor to be unsafe; what 100
    images say stands by itself."""
    found = agreements([("many", 100, 0.95), ("few", 14, 0.55)], [("many", 100, 0.95), ("few", 14, 0.55)])
    assert found.warning(0.5) is None
    assert found.largest_safe == 1.0
    assert (
        found.proposal
        == "too few images to tell: 'few' (14); labels of all others are shown to be safe up to strength 1"
    )
    alone = agreements([("few", 14, 0.55)])
    assert alone.largest_safe is None
    assert alone.proposal == "too few images to tell: 'few' (14); no strength is shown to be safe"


def test_a_proposal_ends_where_the_evidence_does():
    """0.95 of 100 has an interval from 0.89 on, 0.80 one from 0.71 on; of 14 images 0.2 has one up to 0.46."""
    shown = ("many", 100, 0.95)
    assert agreements([shown], [("many", 100, 0.80)], [shown]).largest_safe == 0.5
    assert agreements([shown, ("few", 14, 0.7)], [shown, ("few", 14, 0.2)]).largest_safe == 0.5
    assert agreements([shown, ("few", 14, 0.2)]).largest_safe is None


def test_many_names_are_cut_short():
    found = agreements([(str(number), 3, 1.0) for number in range(8)])
    assert found.proposal.startswith("too few images to tell: '0' (3), '1' (3), '2' (3), '3' (3), '4' (3) and 3 more; ")


def test_a_plain_policy_is_measured_image_by_image():
    """Turned upside down always, two classes of three are lost; each other time, half of their copies are."""
    images, labels = halves(20)
    names = ("top", "bottom", "left")
    always = measure_plain(lambda image: image.flip(1), Halves(), images, labels, names, strength=0.5)
    assert [one.agreement for one in always.classes[0.5]] == [0, 0, 1]
    turns = itertools.cycle((True, False))

    def in_turns(image):
        return image.flip(1) if next(turns) else image

    half = measure_plain(in_turns, Halves(), images[:57], labels[:57], names)
    assert [one.agreement for one in half.classes[1.0]] == [0.5, 0.5, 1]


def test_the_interval_of_a_share_is_wilsons():
    """9 of 10: (0.5958, 0.9821), as in Brown, Cai and DasGupta (2001)'s formula with z = 1.96."""
    assert wilson(0.9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)


def test_the_header_holds_it_as_json():
    found = json.loads(json.dumps(measured(0.5, count=1, strengths=(0.5,)).as_json(), allow_nan=False))
    assert found["threshold"] == THRESHOLD
    assert found["largest_safe_strength"] is None
    assert found["too_few_images_to_tell"] == ["top", "bottom", "left"]
    assert found["images"] == {"top": 1, "bottom": 1, "left": 1}
    assert found["agreement"]["0.5"]["left"] == pytest.approx([1, 0.2065, 1], abs=1e-4)


def test_the_classifier_keeps_its_mode_and_the_same_seed_gives_the_same():
    images, labels = halves(4)
    classifier = Halves().train()
    first, second = (measure(mirrored(0.5), classifier, images, labels, ("a", "b", "c")) for _ in range(2))
    assert classifier.training
    assert isinstance(first, LabelSafety)
    assert first.as_json() == second.as_json()


@pytest.mark.parametrize("settings", [{"strengths": ()}, {"draws": 0}])
def test_nothing_to_measure_is_refused(settings):
    with pytest.raises(ValueError, match="label safety needs images, strengths and draws"):
        measured(0.5, count=2, **settings)
