"""A fused chain against its members."""

import math

import pytest
import torch
from torch.nn.functional import interpolate

from augnet import transforms as T

EVERY = [member() for member in T.all_transforms()]


def picture(batch=3, channels=3, height=24, width=18, seed=0):
    coarse = torch.rand(batch, channels, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.3 + 0.4 * interpolate(coarse, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)


def draw(transforms, batch=3, share=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(batch, len(transforms), generator=generator, dtype=torch.float64)
    amounts = uniform * share * torch.tensor([transform.limit for transform in transforms], dtype=torch.float64)
    noise = torch.rand(batch, T.total_draws(transforms), generator=generator, dtype=torch.float64)
    return amounts, 2 * noise - 1


def one_after_another(transforms, images, amounts, noise):
    shares = noise.split([transform.draws for transform in transforms], dim=1)
    for transform, amount, share in zip(transforms, amounts.unbind(1), shares, strict=True):
        images = transform(images, amount, share)
    return images


def test_amounts_of_zero_leave_images_unchanged():
    images = picture()
    _, noise = draw(EVERY)
    found = T.apply(EVERY, images, torch.zeros(3, len(EVERY)), noise)
    torch.testing.assert_close(found, images, atol=1e-5, rtol=0)


def test_no_transforms_are_no_change():
    images = picture()
    torch.testing.assert_close(T.apply([], images, torch.zeros(3, 0), torch.zeros(3, 0)), images)


def test_colours_in_one_matrix_are_colours_one_after_another():
    """Exact as long as nothing saturates: small amounts on middle tones."""
    chain = [T.Contrast(), T.Hue(), T.Brightness(), T.Saturation(), T.Contrast(), T.Invert(), T.Temperature()]
    images, (amounts, noise) = picture(), draw(chain, share=0.1)
    amounts[:, 5] = torch.tensor([0.0, 1.0, 1.0])
    torch.testing.assert_close(T.apply(chain, images, amounts, noise), one_after_another(chain, images, amounts, noise))


def test_warps_in_one_grid_are_nearly_warps_one_after_another():
    """The same but for the blur of repeated interpolation, in the middle of a smooth image; the order matters."""
    chain = [T.Rotate(), T.TranslateX(), T.ShearY(), T.Scale(), T.MirrorLeftRight(), T.TiltX(), T.Aspect()]
    images = picture(height=64, width=48)
    amounts, noise = draw(chain, share=0.3)
    amounts[:, 4] = torch.tensor([0.0, 1.0, 1.0])
    middle = (..., slice(16, 48), slice(12, 36))
    fused = T.apply(chain, images, amounts, noise)
    expected = one_after_another(chain, images, amounts, noise)
    other_way = one_after_another(chain[::-1], images, amounts.flip(1), noise)
    assert (fused - expected)[middle].abs().max() < 0.01
    assert (other_way - expected)[middle].abs().max() > 0.05


def test_warp_matrix_is_the_product_in_list_order():
    """A shift and then a quarter turn of a square: the centre goes right and then up."""
    chain = [T.TranslateX(), T.Rotate(limit=90.0)]
    matrix = T.warp_matrix(chain, torch.tensor([[0.25, 90.0]], dtype=torch.float64), 10, 10)
    found = matrix[0] @ torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(found, torch.tensor([0.0, -0.5, 1.0], dtype=torch.float64))


def test_warp_matrix_inverts_what_is_sampled():
    chain = [transform for transform in EVERY if isinstance(transform, T.Warp)]
    amounts, _ = draw(chain)
    sampled = torch.eye(3, dtype=torch.float64)
    for transform, amount in zip(chain, amounts.unbind(1), strict=True):
        sampled = sampled @ transform.matrix(amount, 20, 30)
    torch.testing.assert_close(T.warp_matrix(chain, amounts, 20, 30), torch.linalg.inv(sampled))


def test_the_rest_comes_in_list_order_with_its_own_noise():
    chain = [T.Erase(), T.GaussianNoise(), T.Gamma(), T.MotionBlur(), T.Solarize(), T.JPEG(), T.Erase()]
    images, (amounts, noise) = picture(), draw(chain)
    torch.testing.assert_close(T.apply(chain, images, amounts, noise), one_after_another(chain, images, amounts, noise))


def test_elastic_joins_the_grid_with_its_own_noise():
    """Noise columns are dealt in list order, though the warp is applied first."""
    chain = [T.Erase(), T.Elastic(), T.GaussianNoise()]
    images, (amounts, noise) = picture(), draw(chain)
    expected = T.Elastic()(images, amounts[:, 1], noise[:, 3:35])
    expected = T.Erase()(expected, amounts[:, 0], noise[:, :3])
    expected = T.GaussianNoise()(expected, amounts[:, 2], noise[:, 35:])
    torch.testing.assert_close(T.apply(chain, images, amounts, noise), expected)


def test_every_amount_gets_a_gradient_but_choices_among_the_warps():
    images, (amounts, noise) = picture(), draw(EVERY)
    amounts.requires_grad_()
    found = T.apply(EVERY, images, amounts, noise)
    (gradient,) = torch.autograd.grad((found * picture(seed=1)).sum(), amounts)
    assert gradient.isfinite().all()
    for transform, column in zip(EVERY, gradient.unbind(1), strict=True):
        if isinstance(transform, T.Warp) and transform.choice:
            assert (column == 0).all()
        else:
            assert (column != 0).any(), type(transform).__name__


def test_grey_images_use_what_they_can():
    kept, left_out = T.usable(EVERY, channels=1)
    assert [type(transform).__name__ for transform in left_out] == ["Saturation", "Hue", "Temperature", "Greyscale"]
    assert T.usable(EVERY, channels=3) == (EVERY, [])
    images, (amounts, noise) = picture(channels=1), draw(kept)
    assert T.apply(kept, images, amounts, noise).shape == images.shape


def test_half_precision_is_only_for_storage():
    """bfloat16 images are computed in float32; under autocast nothing is rounded to bfloat16 on the way."""
    images, (amounts, noise) = picture().float(), draw(EVERY, share=0.2)
    expected = T.apply(EVERY, images, amounts, noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(T.apply(EVERY, images, amounts, noise), expected)
        blur = T.GaussianBlur()
        assert blur(images, amounts[:, 0] / 100).dtype == torch.float32
    stored = images.bfloat16()
    found = T.apply(EVERY, stored, amounts, noise)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, T.apply(EVERY, stored.float(), amounts, noise).bfloat16())


@pytest.mark.parametrize("size", [(24, 18), (160, 150)], ids=["together", "one by one"])
def test_passing_over_what_is_not_used_changes_nothing(size, monkeypatch):
    """A third of the amounts are 0; an image without any comes back bit for bit, and what was given is not written to.
    Rounding members are left out: at a tie the last bit decides."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    chain = [t for t in EVERY if not isinstance(t, T.Posterize | T.JPEG | T.Equalize | T.AutoContrast)]
    images, (amounts, noise) = picture(height=size[0], width=size[1]), draw(chain)
    amounts *= torch.rand(amounts.shape, generator=torch.Generator().manual_seed(1)) > 1 / 3
    amounts[1] = 0
    given = images.clone()
    found = T.apply(chain, images, amounts, noise, skip=True)
    torch.testing.assert_close(found, T.apply(chain, images, amounts, noise, skip=False), atol=1e-6, rtol=0)
    assert torch.equal(found[1], images[1])
    assert torch.equal(images, given)
    with torch.no_grad():
        assert torch.equal(T.apply(chain, images, amounts, noise), found)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_one_image_is_done_as_in_a_batch(channels):
    """One is done in plain numbers; rounding members are left out, as above."""
    chain = T.usable([t for t in EVERY if not isinstance(t, T.Posterize | T.JPEG | T.Equalize)], channels)[0]
    images, (amounts, noise) = picture(channels=channels), draw(chain)
    together = T.apply(chain, images, amounts, noise, skip=False)
    for i in range(3):
        row = slice(i, i + 1)
        alone = T.apply(chain, images[row], amounts[row], noise[row], skip=True)
        torch.testing.assert_close(alone, together[row], atol=1e-10, rtol=0)


def test_without_a_graph_the_pixels_are_those_with_one():
    """Bit for bit, so that a step that learns and one that doesn't see the same images."""
    images, (amounts, noise) = picture(), draw(EVERY)
    with_graph = T.apply(EVERY, images, amounts.clone().requires_grad_(), noise)
    assert torch.equal(with_graph, T.apply(EVERY, images, amounts, noise))


def test_columns_that_do_not_fit_are_refused():
    chain, images = [T.Rotate(), T.Erase()], picture()
    with pytest.raises(ValueError, match=r"amounts .* must have shape \(3, 2\)"):
        T.apply(chain, images, torch.zeros(3, 1), torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"noise .* must have shape \(3, 3\)"):
        T.apply(chain, images, torch.zeros(3, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="Hue need red, green and blue"):
        T.apply([T.Hue()], picture(channels=1), torch.zeros(3, 1), torch.zeros(3, 0))


def test_a_chain_of_everything_can_be_exported_for_any_batch_size():
    class Program(torch.nn.Module):
        def forward(self, images, amounts, noise):
            return T.apply(EVERY, images, amounts, noise)

    amounts, noise = draw(EVERY)
    any_size = {0: torch.export.Dim("batch")}
    program = torch.export.export(Program(), (picture(), amounts, noise), dynamic_shapes=(any_size,) * 3).module()
    images, (amounts, noise) = picture(5), draw(EVERY, batch=5)
    torch.testing.assert_close(program(images, amounts, noise), T.apply(EVERY, images, amounts, noise))


def test_no_images_give_no_images():
    chain = [T.Rotate(), T.Brightness(), T.Erase()]
    images = torch.zeros(0, 3, 8, 8)
    amounts, noise = torch.zeros(0, 3), torch.zeros(0, sum(t.draws for t in chain))
    for skip in (True, False):
        assert T.apply(chain, images, amounts, noise, skip=skip).shape == images.shape


def test_one_image_is_as_good_as_a_batch_where_types_differ_or_amounts_are_not_finite():
    """Noise of another type than the image, and an amount that a diverged network gave."""
    images, transforms = torch.rand(1, 3, 8, 8), [T.Elastic(), T.GaussianBlur()]
    noise = torch.rand(1, T.total_draws(transforms), dtype=torch.float64) * 2 - 1
    for amount in (0.5, math.nan):
        amounts = torch.tensor([[0.02, amount]], dtype=torch.float64)
        alone = T.apply(transforms, images, amounts, noise, skip=True)
        both = T.apply(transforms, images.repeat(2, 1, 1, 1), amounts.repeat(2, 1), noise.repeat(2, 1), skip=True)
        assert alone.dtype == torch.float32
        torch.testing.assert_close(alone, both[:1], atol=1e-5, rtol=0, equal_nan=True)
