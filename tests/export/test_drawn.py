"""Batches that are worked on in pieces are as those that are not."""

import pytest
import torch

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig, default_transforms
from augnet.export.drawn import augment, draw
from augnet.transforms import fuse


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
@pytest.mark.parametrize("large", [0, 2**40])
def test_pieces_change_nothing(monkeypatch, large, dtype):
    """One image and all five at a time; one of them is left as it is, bit for bit."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    torch.manual_seed(0)
    # Curves with steps, on either side of which roundings of another type may lie, would tell the types apart.
    smooth = [t for t in default_transforms() if not isinstance(t, tf.Posterize | tf.Equalize)]
    made = Augmenter(AugmenterConfig(transforms=smooth, start_probability=0.5, residual_limit=0.1), 3)
    levels = torch.randint(256, (5, 3, 20, 24))
    images = levels.to(dtype) if dtype == torch.uint8 else (levels / 255).to(dtype)
    noise = made.draw_noise(5)
    with torch.no_grad():
        rows = draw(made, images, noise=noise)
        rows = rows._replace(amounts=rows.amounts * torch.tensor([[1.0], [1], [0], [1], [1]]))
        rows = rows._replace(chosen=torch.tensor([True, True, False, True, True]))
        expected = augment(made, images.double() / (255 if dtype == torch.uint8 else 1), rows)
        monkeypatch.setattr(fuse, "LARGE", large)
        torch.testing.assert_close(draw(made, images, noise=noise).amounts[[0, 1, 3, 4]], rows.amounts[[0, 1, 3, 4]])
        found = augment(made, images, rows)
    assert found.dtype == dtype
    assert torch.equal(found[2], images[2])
    scale, rounding = (255, 0.51) if dtype == torch.uint8 else (1, 1e-3 if dtype == torch.float16 else 1e-5)
    assert float((found.double() - scale * expected).abs().max()) <= rounding


def test_steps_are_the_same_in_pieces(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    torch.manual_seed(0)
    made = Augmenter(AugmenterConfig(transforms=[tf.Equalize(), tf.Posterize()], start_probability=0.5), 3)
    images = torch.randint(256, (5, 3, 20, 24), dtype=torch.uint8)
    rows, found = draw(made, images, noise=made.draw_noise(5)), []
    for large in (0, 2**40):
        monkeypatch.setattr(fuse, "LARGE", large)
        found.append(augment(made, images, rows))
    assert torch.equal(*found)
    assert not torch.equal(found[0], images)
