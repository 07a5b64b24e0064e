"""The augmenter: sizes, laws of the policy, gradients, and its file."""

import itertools

import pytest
import torch

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig, Learned, change_in_words, default_transforms, load
from augnet.augmenter.file import to_bytes
from augnet.augmenter.policy import GAIN, LEAST_PROBABILITY
from augnet.transforms import fuse

PAPER = AugmenterConfig(transforms=[], residual_limit=1.0, depth=2, width=8, noise_channels=1)


def images(count=6, channels=3, height=16, width=16, seed=0):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "config",
    [
        AugmenterConfig(),
        AugmenterConfig(start_spread=0.3, start_probability=0.4),
        AugmenterConfig(gates="choices", start_probability=0.2),
    ],
)
def test_the_start_is_what_an_untrained_augmenter_does(config):
    augmenter = Augmenter(config, 3)
    for said, found in zip(augmenter.start(), augmenter.summary(images()), strict=True):
        assert said.transform == found.transform
        assert said[1:] == pytest.approx(found[1:], abs=1e-5)
        assert said.use == pytest.approx(found.use, abs=1e-5)
    assert change_in_words(augmenter.summary(images()), augmenter.start()) == ""


def test_what_changed_is_said_the_largest_change_first():
    rotate, mirror, blur = tf.Rotate(limit=30), tf.MirrorLeftRight(), tf.GaussianBlur()
    start = [Learned(rotate, 0.0, 18.0, 0.11), Learned(mirror, 0.0, 0.6, 0.3), Learned(blur, 0.0, 0.03, 0.11)]
    learned = [Learned(rotate, 0.0, 18.0, 0.2), Learned(mirror, 0.0, 0.6, 0.62), Learned(blur, 0.0, 0.03, 0.115)]
    said = change_in_words(learned, start)
    assert said == "mirror left-right p 0.62 from p 0.30, rotation ±18° p 0.20 from ±18° p 0.11"
    assert change_in_words(learned, start, most=1) == "mirror left-right p 0.62 from p 0.30; less far: rotation"
    # Half as far, twice as often: as much use, and yet another policy. So is a centre that has moved.
    for other in (Learned(rotate, 0.0, 9.0, 0.22), Learned(rotate, 6.0, 12.0, 0.11)):
        assert change_in_words([other], start).startswith("rotation")
    # What was left out in the end is not among what was learned.
    assert change_in_words(learned[:1], start) == "rotation ±18° p 0.20 from ±18° p 0.11"


def test_the_papers_augmenter_has_6659_hyperparameters():
    """Convolutions 4→8→8, 8→16→16, up 16→8, 16→8→8, 8→3: 880 + 3,488 + 520 + 1,744 + 27 weights and biases."""
    augmenter = Augmenter(PAPER, channels=3)
    assert sum(w.numel() for w in augmenter.parameters()) == 880 + 3488 + 520 + 1744 + 27 == 6659


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (16, 16), (33, 20), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_size_and_channels_stay_images(size, channels):
    augmenter = Augmenter(AugmenterConfig(residual_limit=0.2), channels)
    x = images(3, channels, *size)
    y = augmenter(x)
    assert y.shape == x.shape
    assert bool(y.isfinite().all())
    assert 0 <= float(y.min()) <= float(y.max()) <= 1


def test_same_noise_same_images_and_other_noise_other_images():
    augmenter = Augmenter(AugmenterConfig(), 3)
    noise = augmenter.draw_noise(6, torch.Generator().manual_seed(1))
    torch.testing.assert_close(augmenter(images(), noise), augmenter(images(), noise), rtol=0, atol=0)
    assert not torch.equal(augmenter(images(), noise), augmenter(images(), noise.roll(1, 0)))


def test_noise_is_antithetic():
    """The halves cancel, so every centre is balanced within a batch."""
    noise = Augmenter(AugmenterConfig(), 3).draw_noise(8)
    torch.testing.assert_close(noise[:4], -noise[4:], rtol=0, atol=0)


def test_a_choice_is_made_as_often_as_its_probability_says():
    config = AugmenterConfig(transforms=[tf.MirrorLeftRight(), tf.Rotate()], start_probability=0.3)
    augmenter = Augmenter(config, 3)
    policy = augmenter.policy(images(1).expand(20_000, -1, -1, -1), augmenter.draw_noise(20_000))
    expected = LEAST_PROBABILITY + (1 - 2 * LEAST_PROBABILITY) * 0.3
    assert float(policy.probability[0, 0]) == pytest.approx(expected, abs=1e-5)
    assert float(policy.amounts[:, 0].mean()) == pytest.approx(expected, abs=0.015)


def test_amounts_fill_centre_and_spread_and_no_more():
    torch.manual_seed(0)
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate(limit=40)], start_spread=0.25), 3)
    amounts = augmenter.policy(images(1).expand(4000, -1, -1, -1)).amounts
    assert float(amounts.max()) == pytest.approx(10, abs=0.1)
    assert float(amounts.min()) == pytest.approx(-10, abs=0.1)


def test_a_turned_choice_tells_its_slope():
    """Summed over all outcomes (i, j) of two choices and over which of them is turned, each as often as it comes, the
    estimate is the exact slope of the mean: for the first choice q (f11 - f01) + (1 - q) (f10 - f00), q that of the
    second. A choice is turned in proportion to its variance.
    """
    augmenter = Augmenter(
        AugmenterConfig(transforms=[tf.MirrorUpDown(), tf.Rotate(), tf.MirrorLeftRight()]), 3
    ).double()
    with torch.no_grad():
        augmenter.head.linear.bias[-3:] = torch.tensor([-0.1, 0.0, 0.05])
    x = images(1).double()
    weights = torch.rand(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def noise(first, second, turned):
        magnitudes = [0.9, 0.3, -0.9] if turned == 0 else [-0.9, 0.3, 0.9]
        dice = [1 - 2 * first, -1.0, 1 - 2 * second]
        return torch.tensor([[0.0, *magnitudes, *dice]], dtype=torch.float64)

    f, estimate = {}, torch.zeros(3, dtype=torch.float64)
    p, _, q = augmenter.policy(x, noise(0, 0, 0)).probability[0]
    variances = p * (1 - p), q * (1 - q)
    for i, j, turned in itertools.product((0, 1), (0, 1), (0, 1)):
        before, policy, now, sign = augmenter.augment_both_ways(x, noise(i, j, turned))
        assert [bool(policy.amounts[0, 0]), bool(policy.amounts[0, 2])] == [i, j]
        f[i, j] = (weights * before).sum()
        assert int(sign[0].nonzero()) == 2 * turned
        often = (p if i else 1 - p) * (q if j else 1 - q) * variances[turned] / sum(variances)
        estimate += often * (f[i, j] - (weights * now).sum()) * sign[0]
    torch.testing.assert_close(estimate[0], q * (f[1, 1] - f[0, 1]) + (1 - q) * (f[1, 0] - f[0, 0]))
    torch.testing.assert_close(estimate[2], p * (f[1, 1] - f[1, 0]) + (1 - p) * (f[0, 1] - f[0, 0]))
    assert estimate[1] == 0


def test_choices_are_turned_in_proportion_to_their_variances():
    members = [tf.MirrorLeftRight(), tf.Rotate(), tf.MirrorUpDown(), tf.QuarterTurn()]
    augmenter = Augmenter(AugmenterConfig(transforms=members), 3)
    x = images(1).expand(4000, -1, -1, -1)
    noise = augmenter.draw_noise(len(x), torch.Generator().manual_seed(0))
    _, policy, _, sign = augmenter.augment_both_ways(x, noise)
    p = policy.probability[0, [0, 2, 3]]
    variances = p * (1 - p)
    often = (sign != 0).float().mean(0)
    assert often[1] == 0
    torch.testing.assert_close(often[[0, 2, 3]], variances / variances.sum(), rtol=0, atol=0.03)


def test_noise_at_its_end_turns_a_choice_and_what_is_always_done_is_left_alone():
    members = [tf.Rotate(), tf.MirrorLeftRight(), tf.MirrorUpDown()]
    augmenter = Augmenter(AugmenterConfig(transforms=members, gates="choices"), 3)
    noise = augmenter.draw_noise(8)
    noise[:, 1:4] = -1
    sign = augmenter.augment_both_ways(images(8), noise)[-1]
    assert ((sign != 0).sum(1) == 1).all()
    assert not sign[:, 0].any()
    assert sign.isfinite().all()


def test_both_ways_are_that_of_augment_and_that_with_the_choice_turned():
    """The mirror is the only choice; all other amounts, their draws and what is painted are the same both ways."""
    members = [t for t in default_transforms() if not t.choice or isinstance(t, tf.MirrorLeftRight)]
    augmenter, x = Augmenter(AugmenterConfig(transforms=members, residual_limit=0.1), 3), images(32)
    noise = augmenter.draw_noise(len(x), torch.Generator().manual_seed(0))
    augmented, policy, turned, sign = augmenter.augment_both_ways(x, noise)
    torch.testing.assert_close((augmented, policy), augmenter.augment(x, noise), rtol=0, atol=0)
    amounts, mirrored = policy.amounts.detach().clone(), policy.amounts[:, 0] != 0
    assert 0 < mirrored.sum() < len(x)
    amounts[:, 0] = (~mirrored).float()
    painted = augmenter.residual(x, noise).detach()
    with torch.no_grad():
        moved = fuse.apply(augmenter.transforms, x, amounts, augmenter.draws(noise))
    torch.testing.assert_close(turned, (moved + painted).clamp(0, 1), rtol=0, atol=0)
    assert sign[:, 0].tolist() == (2 * mirrored - 1.0).tolist()
    assert not sign[:, 1:].any()
    assert augmented.requires_grad
    assert not turned.requires_grad


def test_without_some_transforms_the_others_are_decided_as_before():
    members = [tf.MirrorLeftRight(), tf.Rotate(), tf.GaussianNoise(), tf.MirrorUpDown(), tf.Erase()]
    augmenter = Augmenter(AugmenterConfig(transforms=members, residual_limit=0.1), 3).double().eval()
    for weight in augmenter.head.parameters():
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(0))
    other = augmenter.without([tf.MirrorLeftRight(), tf.GaussianNoise()])
    assert other.transforms == [tf.Rotate(), tf.MirrorUpDown(), tf.Erase()]
    assert (other.training, other.like.dtype) == (False, torch.float64)
    x, kept = images(8).double(), [1, 3, 4]
    noise = augmenter.draw_noise(8)
    magnitudes, dice = noise[:, 1:6][:, kept], noise[:, 6:11][:, kept]
    same = torch.cat([noise[:, :1], magnitudes, dice, noise[:, 13:]], 1)
    assert same.shape[1] == other.noise_size
    torch.testing.assert_close(other.amounts(x, same), augmenter.amounts(x, noise)[:, kept])
    torch.testing.assert_close(other.residual(x, same), augmenter.residual(x, noise))
    assert other.without(other.transforms).head is None


def test_something_must_be_left_to_do():
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()]), 3)
    with pytest.raises(ValueError, match="nothing to do"):
        augmenter.without([tf.Rotate()])


@pytest.mark.parametrize("transform", [tf.Invert(), tf.Greyscale()])
@pytest.mark.parametrize("start", [0.1, 0.5, 0.8])
def test_a_choice_of_colour_learns_from_the_slope_of_its_blend(transform, start):
    """The mean over both outcomes of the slope of f is f(done) - f(not done), times that of the probability
    p = LEAST + (1 - 2 LEAST) sigmoid(GAIN b): exactly where f is quadratic, as the trapezoid rule is.
    """
    augmenter = Augmenter(AugmenterConfig(transforms=[transform], start_probability=start), 3).double()
    x, noise = images(1).double(), augmenter.draw_noise(1).double()
    weigh = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x)
    found, ends = 0.0, {}
    for done in (False, True):
        noise[:, 2] = -1.0 if done else 0.999
        policy, y = augmenter.policy(x, noise), augmenter(x, noise)
        assert policy.amounts.tolist() == [[float(done)]]
        chance = float(policy.probability.detach()) if done else 1 - float(policy.probability.detach())
        value = (weigh * y).square().sum()
        ends[done] = float(value.detach())
        (slope,) = torch.autograd.grad(value, augmenter.head.linear.bias)
        found = found + chance * slope
    expected = GAIN * (1 - 2 * LEAST_PROBABILITY) * start * (1 - start) * (ends[True] - ends[False])
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, expected], dtype=x.dtype), rtol=1e-5, atol=1e-9)


def test_what_is_turned_are_the_choices_that_move_pixels_and_no_gradient_teaches_them():
    augmenter, x = Augmenter(AugmenterConfig(), 3), images(32)
    augmenter(x, augmenter.draw_noise(32)).square().sum().backward()
    slopes = augmenter.head.linear.bias.grad.view(3, -1)[2].tolist()
    turned = {type(t) for t in augmenter.transforms if t.turned}
    assert turned == {tf.MirrorLeftRight, tf.MirrorUpDown}
    assert {type(t) for t, slope in zip(augmenter.transforms, slopes, strict=True) if slope == 0} == turned
    assert {type(t) for t in augmenter.transforms if t.choice} == turned | {tf.Greyscale}


def test_what_has_no_choice_has_none_to_turn():
    augmenter, x = Augmenter(AugmenterConfig(transforms=[tf.Rotate(), tf.Invert()]), 3), images()
    with pytest.raises(ValueError, match="none of this augmenter's transforms is a choice that can be turned"):
        augmenter.augment_both_ways(x, augmenter.draw_noise(len(x)))


def test_an_augmenter_without_transforms_has_nothing_to_turn():
    with pytest.raises(ValueError, match="no transforms, so there is nothing to turn"):
        Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 3).augment_both_ways(images(), None)


def test_transforms_start_as_often_as_is_customary_unless_one_number_is_given():
    members = [tf.MirrorLeftRight(), tf.TranslateX(), tf.Hue(), tf.Rotate()]
    for asked, expected in ((None, [0.3, 0.4, 0.25, 0.1]), (0.7, [0.7, 0.7, 0.7, 0.7])):
        augmenter = Augmenter(AugmenterConfig(transforms=members, start_probability=asked), 3)
        floor = LEAST_PROBABILITY
        wanted = floor + (1 - 2 * floor) * torch.tensor(expected)
        torch.testing.assert_close(augmenter.policy(images(1)).probability[0].detach(), wanted)


def test_every_weight_gets_a_gradient_once_the_head_has_weights():
    augmenter = Augmenter(AugmenterConfig(residual_limit=0.1), 3)
    torch.nn.init.normal_(augmenter.head.linear.weight, generator=torch.Generator().manual_seed(0))
    augmented, policy = augmenter.augment(images())
    (augmented.square().sum() + policy.probability.sum()).backward()
    reached = {name for name, w in augmenter.named_parameters() if w.grad is not None and float(w.grad.abs().max()) > 0}
    assert reached == {name for name, _ in augmenter.named_parameters()}


def test_members_that_need_colour_are_left_out_of_grey_images_and_named():
    augmenter = Augmenter(AugmenterConfig(), 1)
    assert not any(t.needs_rgb for t in augmenter.transforms)
    assert any("Hue is left out" in sentence for sentence in augmenter.left_out)


def test_the_policy_depends_on_the_image_once_it_has_learned_to():
    augmenter = Augmenter(AugmenterConfig(), 3)
    noise = augmenter.draw_noise(1).expand(2, -1)
    pair = torch.stack([torch.zeros(3, 16, 16), images(1)[0]])
    assert torch.equal(*augmenter.policy(pair, noise).spread)
    torch.nn.init.normal_(augmenter.head.linear.weight)
    assert not torch.allclose(*augmenter.policy(pair, noise).spread)


def test_a_file_gives_back_the_augmenter(tmp_path):
    augmenter = Augmenter(AugmenterConfig(residual_limit=0.1, width=4), 3)
    torch.nn.init.normal_(augmenter.head.linear.weight)
    path = tmp_path / "augmenter.safetensors"
    path.write_bytes(to_bytes(augmenter, {"classes": ["a", "b"]}))
    again, about = load(path)
    assert about == {"classes": ["a", "b"]}
    noise = augmenter.draw_noise(6)
    torch.testing.assert_close(again(images(), noise), augmenter(images(), noise), rtol=0, atol=0)


@pytest.mark.parametrize("content", [b"", b"not a file of weights", b"\xff" * 100])
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not an augmenter's file or is damaged"):
        load(path)


def test_a_file_of_non_finite_weights_is_refused(tmp_path):
    augmenter = Augmenter(AugmenterConfig(), 3)
    torch.nn.init.constant_(augmenter.head.linear.weight, float("nan"))
    path = tmp_path / "a.safetensors"
    path.write_bytes(to_bytes(augmenter))
    with pytest.raises(ValueError, match="not finite"):
        load(path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"transforms": []}, "nothing to do"),
        ({"start_spread": 0.0}, "start_spread must lie between 0 and 1"),
        ({"residual_limit": 2.0}, r"residual_limit must lie in \[0, 1\]"),
        ({"depth": 0}, "depth must be at least 1"),
    ],
)
def test_settings_check_themselves(settings, words):
    with pytest.raises(ValueError, match=words):
        AugmenterConfig(**settings)


def test_the_wrong_number_of_channels_is_named():
    with pytest.raises(ValueError, match="for 3 channels, found images of 1"):
        Augmenter(AugmenterConfig(), 3)(images(2, 1))


def test_default_transforms_are_many_and_distinct():
    names = [type(t).__name__ for t in default_transforms()]
    assert len(names) == len(set(names)) >= 15
