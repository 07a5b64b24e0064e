"""The augmenter: sizes, laws of the policy, gradients, and its file."""

import pytest
import torch

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig, default_transforms, load
from augnet.augmenter.file import to_bytes
from augnet.augmenter.policy import LEAST_PROBABILITY

PAPER = AugmenterConfig(transforms=[], residual_limit=1.0, depth=2, width=8, noise_channels=1)


def images(count=6, channels=3, height=16, width=16, seed=0):
    return torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(seed))


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


def test_log_probability_is_that_of_the_choices_drawn():
    """Over both outcomes of one choice the probabilities sum to 1, and their gradients to 0."""
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.MirrorUpDown()]), 3)
    x = images(1)
    outcomes = [augmenter.policy(x, torch.tensor([[0.0, 0.0, dice]])) for dice in (-1.0, 1.0)]
    assert {float(p.amounts) for p in outcomes} == {0.0, 1.0}
    total = sum(p.log_probability.exp() for p in outcomes)
    torch.testing.assert_close(total, torch.ones(1))
    gradients = torch.autograd.grad(total.sum(), augmenter.head.parameters())
    assert all(float(g.abs().max()) < 1e-6 for g in gradients)


def test_every_weight_gets_a_gradient_once_the_head_has_weights():
    augmenter = Augmenter(AugmenterConfig(residual_limit=0.1), 3)
    torch.nn.init.normal_(augmenter.head.linear.weight, generator=torch.Generator().manual_seed(0))
    augmented, policy = augmenter.augment(images())
    (augmented.square().sum() + policy.log_probability.sum()).backward()
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
