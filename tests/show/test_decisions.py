"""What an augmenter decides, as numbers."""

import pytest
import torch

from augnet import Augmenter, AugmenterConfig
from augnet.show.decisions import at_step, decide


def test_an_augmenter_of_a_training_step_does_what_the_row_says_to_every_image(augmenter):
    row = {
        "MirrorLeftRight.probability": 0.2,
        "Rotate.probability": 0.5, "Rotate.centre": -6.0, "Rotate.spread": 12.0,
        "Brightness.probability": 0.9, "Brightness.centre": 0.1, "Brightness.spread": 0.3,
        "Erase.probability": 0.05, "Erase.centre": 0.0, "Erase.spread": 0.25,
    }  # fmt: skip
    (policy,) = decide(at_step(augmenter, row), torch.rand(7, 3, 8, 8), 1)
    limit = torch.tensor([transform.limit for transform in augmenter.transforms])
    for column, name in enumerate(["MirrorLeftRight", "Rotate", "Brightness", "Erase"]):
        for part in ("centre", "spread"):
            expected = torch.full((7,), row.get(f"{name}.{part}", 0.0)) / limit[column]
            # A choice has a probability and nothing else.
            if name != "MirrorLeftRight":
                torch.testing.assert_close(getattr(policy, part)[:, column], expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(policy.probability[:, column], torch.full((7,), row[f"{name}.probability"]))


def test_the_augmenter_itself_stays_as_it_is(augmenter):
    before = {name: tensor.clone() for name, tensor in augmenter.state_dict().items()}
    at_step(augmenter, {f"{type(t).__name__}.probability": 0.5 for t in augmenter.transforms})
    assert augmenter.config.residual_limit == 0.1
    for name, tensor in augmenter.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_an_augmenter_without_transforms_has_no_earlier_self():
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 1)
    with pytest.raises(ValueError, match="no transforms"):
        at_step(painter, {})
