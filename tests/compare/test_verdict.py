"""Verdicts on made-up results whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from augnet.compare.summary import judged_of
from augnet.compare.verdict import in_points, judge, signed


def test_a_plain_gain_is_to_be_used(section_of):
    """Paired differences .03, .04, .05: mean .04, Student's reach 4.303 × .01 / √3 = .0248."""
    verdict = judge(section_of(learned=[0.93, 0.84, 0.95], none=[0.90, 0.80, 0.90], crop=[0.5, 0.5, 0.5]))
    assert verdict.decision == "use it"
    assert verdict.sentence == (
        "use it: learned has 90.7 % test accuracy against 86.7 % with none, the best of 2 that are not learned, +4.0 "
        "points (95 % interval +1.5 to +6.5, 3 seeds of 10 steps)"
    )
    np.testing.assert_allclose(verdict.difference[:3], (0.04, 0.04 - 0.02484, 0.04 + 0.02484), atol=1e-5)


def test_a_plain_loss_names_what_to_use_instead(section_of):
    verdict = judge(section_of(learned=[0.80, 0.81, 0.79], none=[0.7, 0.7, 0.7], crop=[0.90, 0.92, 0.91]))
    assert verdict.decision == "don't use it"
    assert verdict.sentence.startswith("don't use it, use crop: learned has 80.0 % test accuracy against 91.0 %")


def test_the_luckiest_of_many_is_no_reason_to_drop_what_was_learned(section_of):
    """The same loss, of about −.02 ± .011, of one other and of the best of ten."""
    one = {"learned": [0.80, 0.81, 0.79, 0.80], "none": [0.82, 0.82, 0.82, 0.82]}
    assert judge(section_of(**one)).decision == "don't use it"
    verdict = judge(section_of(**one, **{f"other{i}": [0.7] * 4 for i in range(9)}))
    assert verdict.decision == "no difference found"
    assert "(95 % interval −3.3 to −0.7, as may be by luck of the best of so many, 4 seeds" in verdict.sentence


def test_of_ten_equal_arms_hardly_one_verdict_in_forty_advises_against_the_learned_one(section_of):
    rng = np.random.default_rng(0)
    against = 0
    for _ in range(800):
        arms = rng.normal(0.8, 0.01, (11, 5)).tolist()
        verdict = judge(section_of(images=10**6, learned=arms[0], **{f"arm{i}": arms[i] for i in range(1, 11)}))
        against += verdict.decision == "don't use it"
    assert against / 800 < 0.025


def test_pairing_finds_what_means_alone_would_not(section_of):
    """Seeds differ by 20 points and arms by 1: unpaired intervals overlap, paired ones exclude 0."""
    section = section_of(learned=[0.61, 0.715, 0.81, 0.905], none=[0.60, 0.70, 0.80, 0.90])
    learned, none = section.arms
    assert learned.accuracy.low < none.accuracy.mean
    assert judge(section).decision == "use it"


def test_a_difference_that_changes_its_sign_is_none(section_of):
    assert judge(section_of(learned=[0.9, 0.8, 0.9], none=[0.8, 0.9, 0.8])).decision == "no difference found"


@pytest.mark.parametrize(("seeds", "words"), [(1, "(1 seed of 10 steps, which may"), (2, "(2 seeds of 10")])
def test_fewer_than_three_seeds_find_nothing_even_if_they_agree(section_of, seeds, words):
    verdict = judge(section_of(learned=[0.9] * seeds, none=[0.5] * seeds))
    assert verdict.decision == "no difference found"
    assert words in verdict.sentence


def test_training_for_longer_is_an_alternative_too(section_of):
    verdict = judge(section_of(learned=[0.8] * 3, none=[0.7] * 3, longer=[0.9] * 3))
    assert verdict.decision == "don't use it"
    assert verdict.against == "longer for longer (10 steps)"


def test_of_several_learned_arms_plain_learned_or_else_the_first_one_named_is_judged(section_of):
    assert judged_of(["learned@2", "learned_plain", "learned"]) == "learned"
    assert judged_of(["learned@2", "learned_plain"]) == "learned@2"
    assert judged_of([]) is None
    section = section_of(learned=[0.7] * 3, none=[0.8] * 3)
    better = replace(section.learned, name="better", results=section.others[0].results)
    assert replace(section, arms=(better, *section.arms)).learned.name == "learned"


def test_without_a_learned_arm_or_without_others_there_is_no_verdict(section_of):
    assert judge(section_of(none=[0.5] * 3, crop=[0.6] * 3)) is None
    assert judge(section_of(learned=[0.5] * 3)) is None


def test_class_accuracies_are_shares_of_the_classes_images(section_of):
    section = section_of(images=10, learned=[0.8, 0.6])
    np.testing.assert_allclose(section.learned.class_accuracy([10]), [0.7])
    assert np.isnan(section.learned.class_accuracy([0])).all()


def test_classes_differ_beyond_chance_or_not_at_all(section_of):
    """Paired differences of one class of 1,000 images: 3, 4 and 5 points; as one of 50 they could be chance."""
    section = section_of(learned=[0.93, 0.84, 0.95], none=[0.90, 0.80, 0.90])
    learned, none = section.learned, section.others[0]
    (alone,), (of_many,) = (learned.above_by_class(none, [1000], among) for among in (1, 50))
    np.testing.assert_allclose(alone[:3], (0.04, 0.04 - 0.02484, 0.04 + 0.02484), atol=1e-5)
    assert of_many.low < 0 < alone.low
    # Of 10 images a difference of one, three times over, is still one image.
    few = section_of(images=10, learned=[0.9] * 3, none=[0.8] * 3)
    (found,) = few.learned.above_by_class(few.others[0], [10], 1)
    assert found.low < 0


def test_numbers_are_written_in_points(section_of):
    assert [signed(x) for x in (0.0123, -0.0123, 0.0001, -0.0001)] == ["+1.2", "−1.2", "0.0", "0.0"]
    verdict = judge(section_of(images=100, learned=[0.9] * 3, none=[0.8] * 3))
    # One image of 100 is 1 point: seeds that agree leave 4.303 × 1 / √12 / √3 = .72 of it.
    assert in_points(verdict.difference) == "+9.3 to +10.7"
