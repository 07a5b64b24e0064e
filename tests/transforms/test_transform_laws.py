"""Laws that every member of the family keeps."""

import pytest
import torch

from augnet.transforms import LinearColour, Warp, all_transforms, named, straight_through_clamp
from augnet.transforms import transform as family

TRANSFORMS = [member() for member in all_transforms()]
CHOICES = [transform for transform in TRANSFORMS if transform.choice]
RELAXED = [transform for transform in TRANSFORMS if transform.relaxed and not transform.choice]
EXACT = [transform for transform in TRANSFORMS if not transform.relaxed]


def each(transforms):
    return pytest.mark.parametrize("transform", transforms, ids=lambda transform: type(transform).__name__)


def channels_for(transform):
    return (3,) if transform.needs_rgb else (1, 3, 5)


def noise_for(transform, batch, seed=0, dtype=torch.float32):
    return 2 * torch.rand(batch, transform.draws, generator=torch.Generator().manual_seed(seed), dtype=dtype) - 1


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def smooth_images(batch, channels=3, height=12, width=9, seed=0):
    """Random images without sharp edges, in [0, 1], float64."""
    coarse = rand(batch, channels, 4, 4, seed=seed)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear", align_corners=True)


@each(TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_amount_zero_leaves_images_unchanged(transform, dtype):
    for channels in channels_for(transform):
        images = rand(3, channels, 10, 7, dtype=dtype)
        images[0] = images[0].round()  # black and white, where logarithms and clamps have their edges
        found = transform(images, torch.zeros(3, dtype=dtype), noise_for(transform, 3, dtype=dtype))
        torch.testing.assert_close(found, images, atol=1e-5, rtol=0)


@each(TRANSFORMS)
@pytest.mark.parametrize("size", [(4, 4), (5, 11), (16, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_stay_images(transform, size, dtype):
    """At both ends of the range: same shape and type, finite, within [0, 1]; also for flat images."""
    for channels in channels_for(transform):
        images = rand(4, channels, *size, dtype=dtype)
        images[1], images[2] = 0, 1
        for share in (-1.0, 0.5, 1.0) if transform.signed else (0.5, 1.0):
            amount = torch.full((4,), share * transform.limit, dtype=dtype)
            found = transform(images, amount, noise_for(transform, 4, dtype=dtype))
            assert found.shape == images.shape
            assert found.dtype == dtype
            assert found.isfinite().all()
            assert found.min() >= 0
            assert found.max() <= 1


@each(TRANSFORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(transform, dtype):
    for channels in channels_for(transform):
        images = rand(2, channels, 70, 90).to(dtype)
        noise = noise_for(transform, 2)
        unchanged = transform(images, torch.zeros(2), noise)
        torch.testing.assert_close(unchanged, images, atol=torch.finfo(dtype).eps, rtol=0)
        amount = torch.full((2,), 0.7 * transform.limit)
        found, expected = transform(images, amount, noise), transform(images.float(), amount, noise)
        assert torch.equal(found, expected.to(dtype))


@each(TRANSFORMS)
def test_what_is_not_finite_stays_with_its_image(transform):
    """A damaged pixel neither raises nor reaches another image."""
    images = rand(2, 3, 9, 8)
    noise, amount = noise_for(transform, 2), torch.full((2,), 0.7 * transform.limit, dtype=torch.float64)
    expected = transform(images, amount, noise)[1]
    images[0, 0, 4, 4] = torch.nan
    assert torch.equal(transform(images, amount, noise)[1], expected)


@each(TRANSFORMS)
def test_an_image_is_transformed_as_if_alone(transform):
    """No entry of the batch reads another's amount, noise or pixels, and nothing is remembered between calls."""
    images, noise = smooth_images(4), noise_for(transform, 4, dtype=torch.float64)
    amount = transform.limit * torch.tensor([0.2, 0.9, 0.5, 1.0], dtype=torch.float64)
    together = transform(images, amount, noise)
    alone = torch.cat([transform(images[i : i + 1], amount[i : i + 1], noise[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-9, rtol=0)


@each(TRANSFORMS)
def test_no_images_come_back_as_no_images(transform):
    for channels in channels_for(transform):
        images = rand(0, channels, 8, 8)
        assert transform(images, torch.zeros(0).double(), noise_for(transform, 0)).shape == images.shape


@each(TRANSFORMS)
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("size", [(12, 9), (70, 70)])
def test_a_plain_number_is_that_number_for_each_image(transform, count, size):
    """The arithmetic of one image in plain numbers is that of a batch, to rounding."""
    images, noise = smooth_images(count, 3, *size), noise_for(transform, count, dtype=torch.float64)
    for share in (0.0, 0.03, 0.4, 1.0, -0.7) if transform.signed else (0.0, 0.03, 0.4, 1.0):
        amount = share * transform.limit
        expected = transform.transform(images, torch.full((count,), amount, dtype=torch.float64), noise)
        torch.testing.assert_close(transform.transform(images, amount, noise), expected, atol=1e-12, rtol=0)


@each([transform for transform in TRANSFORMS if isinstance(transform, Warp | LinearColour)])
def test_a_matrix_of_plain_numbers_is_that_of_a_batch(transform):
    for share in (-0.7, 0.2, 0.9):
        amount = share * transform.limit
        column = torch.tensor([amount, 0.0], dtype=torch.float64)
        if isinstance(transform, Warp):
            found, expected = transform.matrix(amount, 20, 30), transform.matrix(column, 20, 30)[0].flatten()
        else:
            mean = rand(2, 3)
            found, expected = transform.matrix(amount, 3, mean[0].numpy()).ravel(), transform.matrix(column, 3, mean)
            expected = expected[0].flatten()
        assert list(found) == pytest.approx(expected.tolist(), abs=1e-12)


@each(EXACT)
def test_gradient_is_that_of_finite_differences(transform):
    """d⟨W, y(a)⟩/da by autograd against (⟨W, y(a + ε)⟩ − ⟨W, y(a − ε)⟩) / 2ε, before the clamp, in float64."""
    images, weights = smooth_images(6), rand(6, 3, 12, 9, seed=1)
    noise = noise_for(transform, 6, dtype=torch.float64)
    shares = torch.tensor([0.13, 0.31, 0.47, 0.62, 0.83, 0.97], dtype=torch.float64)
    signs = torch.tensor([1, -1, 1, -1, 1, -1]) if transform.signed else 1
    amount = (shares * signs * transform.limit).requires_grad_()

    def score(amount):
        return (transform.transform(images, amount, noise) * weights).sum((1, 2, 3))

    (found,) = torch.autograd.grad(score(amount).sum(), amount)
    step = 1e-6 * transform.limit
    with torch.no_grad():
        expected = (score(amount + step) - score(amount - step)) / (2 * step)
    torch.testing.assert_close(found, expected, atol=1e-5 / transform.limit, rtol=1e-4)
    assert (found != 0).all()


@each(CHOICES)
def test_gradient_of_a_choice_is_that_of_a_blend(transform):
    """For linear f, the blend x + a (y − x) has df/da = f(y) − f(x), whether the choice was made or not."""
    images, weights = smooth_images(4), rand(4, 3, 12, 9, seed=1)
    not_done, done = transform(images, torch.zeros(4)), transform(images, torch.ones(4))
    expected = ((done - not_done) * weights).sum((1, 2, 3))
    for chosen in (0.0, 1.0):
        amount = torch.full((4,), chosen, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad((transform(images, amount) * weights).sum(), amount)
        torch.testing.assert_close(found, expected)


@each(CHOICES)
def test_a_choice_is_done_or_not(transform):
    images = smooth_images(4)
    found = transform(images, torch.tensor([0.0, 0.4, 0.6, 1.0]))
    torch.testing.assert_close(found[:2], images[:2])
    torch.testing.assert_close(found[2:], transform(images, torch.ones(4))[2:])


@each(RELAXED)
def test_relaxed_gradient_has_the_right_sign_and_size_on_average(transform):
    """More rounding means a larger distance to the image. d E|y − x|²/da by autograd, averaged over amounts between two
    ends, is the difference quotient between the ends; rounding errors are uniform only roughly, so up to a factor of 2.
    """
    images = rand(32, 3, 16, 16)
    noise = noise_for(transform, 32, dtype=torch.float64)

    def distance(share):
        amount = torch.full((32,), share * transform.limit, dtype=torch.float64, requires_grad=True)
        value = (transform.transform(images, amount, noise) - images).square().mean()
        return value.detach(), torch.autograd.grad(value, amount)[0].sum()

    low, high = 0.35, 0.75
    slopes = torch.stack([distance(low + (high - low) * (i + 0.5) / 16)[1] for i in range(16)])
    quotient = (distance(high)[0] - distance(low)[0]) / ((high - low) * transform.limit)
    assert (slopes > 0).all()
    assert 0.5 < slopes.mean() / quotient < 2


@each(TRANSFORMS)
def test_gradients_are_finite_everywhere(transform):
    """To the amount and to the images, at 0 and both ends, for black, white and random images."""
    for share in (0.0, 1.0, -1.0) if transform.signed else (0.0, 1.0):
        images = rand(3, 3, 8, 6, dtype=torch.float32)
        images[1], images[2] = 0, 1
        images.requires_grad_()
        amount = torch.full((3,), share * transform.limit, requires_grad=True)
        found = transform(images, amount, noise_for(transform, 3))
        for gradient in torch.autograd.grad(found.square().sum(), (images, amount)):
            assert gradient.isfinite().all()


@each(TRANSFORMS)
def test_settings_are_words_and_defaults_are_sensible(transform):
    assert transform.unit
    assert transform.label
    assert transform.limit <= transform.maximum
    assert (type(transform).__doc__ or "").strip()


def test_there_are_many_members_and_labels_differ():
    assert len(TRANSFORMS) >= 22
    assert len({transform.label for transform in TRANSFORMS}) == len(TRANSFORMS)
    assert LinearColour not in all_transforms()


@each(TRANSFORMS)
@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_limit_must_be_positive_and_finite(transform, limit):
    with pytest.raises(ValueError, match="must be positive and finite"):
        type(transform)(limit=limit)


@each([transform for transform in TRANSFORMS if not transform.choice])
def test_limit_has_a_maximum(transform):
    type(transform)(limit=transform.maximum)
    with pytest.raises(ValueError, match="at most"):
        type(transform)(limit=transform.maximum * 1.01)


@each(CHOICES)
def test_a_choice_has_no_limit(transform):
    with pytest.raises(ValueError, match="done or not done"):
        type(transform)(limit=0.5)


@each([transform for transform in TRANSFORMS if transform.needs_rgb])
def test_grey_images_are_refused_where_colour_is_needed(transform):
    with pytest.raises(ValueError, match="have 1 channels"):
        transform(torch.rand(2, 1, 8, 8), torch.zeros(2))


@each([transform for transform in TRANSFORMS if transform.draws])
def test_missing_noise_is_refused(transform):
    for noise, found in ((None, "0"), (torch.zeros(2, transform.draws + 1), str(transform.draws + 1))):
        with pytest.raises(ValueError, match=f"got {found}"):
            transform(torch.rand(2, 3, 8, 8), torch.zeros(2), noise)


def test_a_name_finds_its_class():
    for member in all_transforms():
        assert named(member.__name__) is member


def test_a_misspelt_name_is_corrected():
    with pytest.raises(ValueError, match="did you mean Rotate"):
        named("rotat")
    with pytest.raises(ValueError, match=r"there is .*Rotate"):
        named("zzzz")


def test_straight_through_clamp_passes_the_gradient_of_saturated_values():
    values = torch.tensor([-3.3, 0.25, 3.3], requires_grad=True)
    clamped = straight_through_clamp(values)
    assert clamped.tolist() == [0, 0.25, 1]
    (gradient,) = torch.autograd.grad(clamped @ torch.tensor([1.0, 2.0, 3.0]), values)
    assert gradient.tolist() == [1, 2, 3]


def test_straight_through_choice_rounds():
    amount = torch.tensor([0.0, 0.49, 0.5, 1.0], requires_grad=True)
    chosen = family.straight_through_choice(amount)
    assert chosen.tolist() == [0, 0, 1, 1]
    assert torch.autograd.grad(chosen.sum(), amount)[0].tolist() == [1, 1, 1, 1]
