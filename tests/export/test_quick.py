"""The decision about one image in numpy is that of torch."""

import copy
import gc
import pickle

import pytest
import torch

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.export import LearnedAugment
from augnet.export.drawn import draw
from augnet.export.quick import decision


def learned(dtype=torch.float64, channels=3, **settings):
    torch.manual_seed(0)
    made = Augmenter(AugmenterConfig(**settings), channels).to(dtype)
    torch.nn.init.normal_(made.head.linear.weight, std=0.3)
    return made.eval()


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (7, 9), (1, 1), (40, 13)])
@pytest.mark.parametrize("settings", [{}, {"gates": "choices", "noise_channels": 0}, {"depth": 1}, {"depth": 6}])
def test_amounts_are_those_of_the_augmenter(size, settings):
    """To the last digits, at every strength and size, even ones that do not halve."""
    made = learned(channels=2, width=4, **settings)
    generator = torch.Generator().manual_seed(1)
    for strength in (0.0, 0.5, 1.0, 3.0):
        image = torch.rand(1, 2, *size, generator=generator, dtype=torch.float64)
        noise = made.draw_noise(1, generator)
        found = decision(made)(image, noise, strength)
        torch.testing.assert_close(found, made.policy(image, noise, strength).amounts, atol=1e-12, rtol=0)
        assert torch.equal(made.amounts(image, noise, strength), made.policy(image, noise, strength).amounts)


def test_single_precision_is_near():
    made = learned(torch.float32)
    image, noise = torch.rand(1, 3, 32, 32), made.draw_noise(1)
    expected, found = made.amounts(image, noise), decision(made)(image, noise)
    torch.testing.assert_close(found / made.head.limit, expected / made.head.limit, atol=1e-6, rtol=0)


def test_one_image_of_a_batch_is_augmented_as_it_is_alone():
    made = learned(start_probability=0.5)
    images, noise = torch.rand(4, 3, 20, 20, dtype=torch.float64), made.draw_noise(4)
    together = draw(made, images, noise=noise).amounts
    alone = torch.cat([draw(made, images[i : i + 1], noise=noise[i : i + 1]).amounts for i in range(4)])
    torch.testing.assert_close(alone, together, atol=1e-12, rtol=0)


def test_it_follows_the_weights():
    """Written to in place, copied, pickled, or turned into another type."""
    made = learned(torch.float32)
    image, noise = torch.rand(1, 3, 16, 16), made.draw_noise(1)
    before = decision(made)(image, noise)
    with torch.no_grad():
        made.head.linear.bias.add_(0.1)
    for follower in (made, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        found = decision(follower)(image, noise)
        assert not torch.allclose(found, before)
        torch.testing.assert_close(found, made.amounts(image, noise), atol=1e-4, rtol=0)
    double = copy.deepcopy(made)
    decision(double)
    double.double()
    assert decision(double)(image.double(), noise.double()).dtype == torch.float64


def test_what_numpy_does_not_have_is_left_to_torch():
    assert decision(Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 3)) is None
    assert decision(learned(working_size=33)) is None
    made = learned(torch.bfloat16)
    assert decision(made) is None
    assert LearnedAugment(made)(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape == (3, 8, 8)


def test_it_keeps_no_augmenter_alive():
    from augnet.export.quick import _made

    made = learned()
    decision(made)
    # What other tests left goes first.
    gc.collect()
    count = len(_made)
    del made
    gc.collect()
    assert len(_made) == count - 1


def test_weights_that_are_replaced_or_shared_with_a_process_are_followed():
    """`assign` puts other tensors in place, and memory that is shared moves."""
    made, other = learned(start_probability=0.5), learned(start_probability=0.9)
    image = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    noise = made.draw_noise(1)
    before = decision(made)(image, noise)
    made.share_memory()
    torch.testing.assert_close(decision(made)(image, noise), before, atol=1e-12, rtol=0)
    made.load_state_dict({name: w.clone() for name, w in other.state_dict().items()}, assign=True)
    torch.testing.assert_close(decision(made)(image, noise), other.amounts(image, noise), atol=1e-12, rtol=0)
