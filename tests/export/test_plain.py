"""Plain policies: what is fitted, how far it is from what was learned, and what each operation does to pixels."""

import json
import pickle

import albumentations
import pytest
import torch
from torchvision import tv_tensors

from augnet import transforms as tf
from augnet.augmenter import Augmenter, AugmenterConfig, Policy
from augnet.export import albumentations_json, operations, torchvision_code
from augnet.export.plain import DRAWS, PlainPolicy, Step
from augnet.export.target import target_for

FAMILY = [member() for member in tf.all_transforms() if member.__module__.startswith("augnet.")]
DRAWN = (tf.Elastic, tf.MotionBlur, tf.GaussianNoise, tf.Erase)


def each(transforms):
    return pytest.mark.parametrize("transform", transforms, ids=lambda transform: type(transform).__name__)


def smooth_images(count=1, channels=3, height=40, width=32, seed=0):
    """Images without sharp edges and not of full contrast, that 8 bits hold exactly."""
    coarse = torch.rand(count, channels, 6, 6, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return ((0.1 + 0.8 * fine.clamp(0, 1)) * 255).round() / 255


def amounts_of(transform):
    """Give amounts to compare at, on both sides where there are two."""
    if transform.choice:
        return [1.0]
    return [share * transform.limit for share in ((0.7, -0.7) if transform.signed else (0.7,))]


def always(transform, amount, images):
    """A policy of one transform, always at the same amount."""
    step = Step(transform, 1.0, amount, amount, 0.0, 0.0)
    colour = tuple(images.mean((0, 2, 3)).tolist())
    return PlainPolicy(steps=(step,), left_out=(), size=tuple(images.shape[-2:]), colour=colour)


def done(transform, amount, images, seed=0):
    """What augnet does, with the numbers that the operation draws for itself after `manual_seed(seed)`."""
    torch.manual_seed(seed)
    torch.rand(2)
    noise = 2 * torch.rand(1, transform.draws) - 1
    return transform(images, torch.full((1,), amount), noise)


def by_torchvision(transform, amount, images, seed=0):
    torch.manual_seed(seed)
    return always(transform, amount, images).transform()(images[0])[None]


def by_albumentations(transform, amount, images, seed=0):
    pipeline = albumentations.from_dict(json.loads(albumentations_json.to_json(always(transform, amount, images))))
    pipeline.set_random_seed(seed)
    pixels = (images[0].permute(1, 2, 0) * 255).round().byte().numpy()
    return torch.from_numpy(pipeline(image=pixels)["image"]).permute(2, 0, 1)[None] / 255


def distance(one, other):
    return float((one - other).abs().mean())


@each(FAMILY)
def test_every_transform_has_a_torchvision_counterpart_of_the_same_pixels(transform):
    """To single precision where it is the same, and much nearer than no change where it is like it."""
    images = smooth_images()
    for amount in amounts_of(transform):
        expected, found = done(transform, amount, images), by_torchvision(transform, amount, images)
        assert found.shape == images.shape
        if isinstance(transform, tf.GaussianNoise):
            middle = (expected > 0.1) & (expected < 0.9) & (found > 0.1) & (found < 0.9)
            assert float((found - images)[middle].std()) == pytest.approx(
                float((expected - images)[middle].std()), rel=0.1
            )
        elif type(transform) in (tf.Equalize, tf.JPEG):
            # Libraries define them differently; the size of the change agrees.
            assert 1 / 3 < distance(found, images) / distance(expected, images) < 3
        elif type(transform) in torchvision_code.NEAR:
            assert distance(found, expected) < distance(expected, images) / 3
        else:
            torch.testing.assert_close(found, expected, atol=3e-4, rtol=0)


@each([t for t in FAMILY if type(t) in albumentations_json.COUNTERPARTS])
def test_an_albumentations_counterpart_does_the_same_or_like_it(transform):
    """Three roundings to 8 bits apart, two pixels off the border, where it is the same. Where it is only like it:
    nearer to the same amount than to the opposite one or, drawn 30 times, a change of like size.
    """
    images = smooth_images()
    for amount in amounts_of(transform):
        expected, found = done(transform, amount, images), by_albumentations(transform, amount, images)
        if type(transform) not in albumentations_json.NEAR and not isinstance(transform, tf.GaussianNoise):
            inner = (..., slice(2, -2), slice(2, -2))
            torch.testing.assert_close(found[inner], expected[inner], atol=3 / 255, rtol=0)
        elif transform.signed:
            opposite = done(transform, -amount, images)
            mean = torch.stack([by_albumentations(transform, amount, images, seed) for seed in range(10)]).mean(0)
            assert distance(mean, expected) < distance(mean, opposite)
        else:
            theirs = [distance(by_albumentations(transform, amount, images, seed), images) for seed in range(30)]
            ours = [distance(done(transform, amount, images, seed), images) for seed in range(30)]
            assert 1 / 3 < sum(theirs) / sum(ours) < 3


def test_what_albumentations_lacks_is_listed():
    names = {type(t).__name__ for t in FAMILY if type(t) not in albumentations_json.COUNTERPARTS}
    assert names == {"Temperature", "TiltX", "TiltY"}
    images = smooth_images()
    policy = always(tf.TiltX(), 0.1, images)
    assert albumentations_json.without_counterpart(policy) == list(policy.steps)
    assert len(albumentations_json.pipeline(policy)) == 0


@each(FAMILY)
def test_the_whole_range_of_a_transform_runs_in_both_libraries(transform):
    """Ends of the range, 0 among them, break no kernel size and no fixed bound."""
    images = smooth_images(height=16, width=16)
    low = 1.0 if transform.choice else -transform.limit if transform.signed else 0.0
    step = Step(transform, 1.0, low, transform.limit, 0.0, 0.0)
    policy = PlainPolicy(steps=(step,), left_out=(), size=(16, 16), colour=(0.5, 0.5, 0.5))
    pipeline, transform_ = albumentations_json.pipeline(policy), policy.transform()
    pixels = (images[0].permute(1, 2, 0) * 255).byte().numpy()
    for seed in range(8):
        torch.manual_seed(seed)
        found = transform_(images[0])
        assert bool(found.isfinite().all())
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
        assert pipeline(image=pixels)["image"].shape == pixels.shape


def test_code_and_object_are_the_same_transform():
    """The same seed, the same pixels; for every member at once, each half of the time."""
    steps = tuple(
        Step(t, 0.5, 1.0 if t.choice else 0.2 * t.limit, 1.0 if t.choice else 0.4 * t.limit, 0.0, 0.0) for t in FAMILY
    )
    policy = PlainPolicy(steps=steps, left_out=(), size=(40, 32), colour=(0.5, 0.5, 0.5))
    written: dict = {}
    exec(policy.code(["Anything."]), written)
    assert "augnet" not in policy.code().replace("# augnet", "")
    image = smooth_images()[0]
    for seed in range(5):
        torch.manual_seed(seed)
        expected = policy.transform()(image)
        torch.manual_seed(seed)
        torch.testing.assert_close(written["transform"](image), expected, rtol=0, atol=0)
    again = pickle.loads(pickle.dumps(policy.transform()))
    torch.manual_seed(0)
    first = policy.transform()(image)
    torch.manual_seed(0)
    assert torch.equal(again(image), first)


@each(FAMILY)
def test_a_grey_image_stays_grey(transform):
    image = smooth_images(channels=1)
    for amount in amounts_of(transform):
        assert by_torchvision(transform, amount, image).shape == image.shape


def test_boxes_are_not_left_behind_in_silence():
    policy = always(tf.Rotate(), 10.0, smooth_images())
    boxes = tv_tensors.BoundingBoxes([[1, 1, 4, 4]], format="XYXY", canvas_size=(40, 32))
    with pytest.raises(TypeError, match="moves images alone"):
        policy.transform()(tv_tensors.Image(smooth_images()[0]), boxes)


def test_a_transform_of_ones_own_is_named_as_left_out():
    class Dim(tf.LinearColour):
        limit = 0.5
        unit, label = "of light", "dimming"

        @staticmethod
        def parts(channels):
            return torch.eye(channels, channels + 1, dtype=torch.float64)[None]

        def shares(self, amount, mean):
            return (1.0,)

    code = always(Dim(limit=0.5), 0.25, smooth_images()).code()
    assert "# Left out, having no counterpart: dimming +0.25 to +0.25 of light, p 1.00, use 0.50." in code
    exec(code, {})


def test_the_policy_that_an_untrained_augmenter_has_is_found_exactly():
    """It is the same for all images: rotation of ± spread · limit, a rectangle of 0 to spread · limit, gates of one
    probability: 0.01 + 0.98 · 0.3. Warps come first, then linear colour, then all else.
    """
    members = [tf.Erase(limit=0.5), tf.Contrast(limit=0.4), tf.Rotate(limit=40), tf.MirrorLeftRight()]
    augmenter = Augmenter(AugmenterConfig(transforms=members, start_spread=0.25, start_probability=0.3), 3)
    policy = PlainPolicy.fit(augmenter, smooth_images(6))
    assert [type(step.transform) for step in policy.steps] == [tf.Rotate, tf.MirrorLeftRight, tf.Contrast, tf.Erase]
    assert policy.left_out == ()
    for step, low, high in zip(policy.steps, (-10, 1, -0.1, 0), (10, 1, 0.1, 0.125), strict=True):
        assert step.probability == pytest.approx(0.01 + 0.98 * 0.3, abs=5e-4)
        assert (step.low, step.high) == pytest.approx((low, high), abs=2e-3 * step.transform.limit)
        assert step.loss < 1e-3
        assert step.loss_by_image < 1e-3
    half = PlainPolicy.fit(augmenter, smooth_images(6), strength=0.5)
    assert half.steps[0].high == pytest.approx(5, abs=0.1)
    assert half.steps[1].probability == pytest.approx((0.01 + 0.98 * 0.3) / 2, abs=1e-3)


class Decided(Augmenter):
    """An augmenter that rotates one image in two to one side and the other to the other side, always, by half."""

    def policy(self, images, noise=None, strength=1.0):
        centre = torch.tensor([0.5, -0.5]).repeat(len(images) // 2)[:, None]
        nothing, ones = torch.zeros_like(centre), torch.ones_like(centre)
        return Policy(centre, nothing, ones, 30 * centre, ones)


def test_the_loss_is_that_of_a_policy_that_knows_nothing_of_the_image():
    """Amounts ± 1/2, in shares of the limit: the mean is 0 and E|X − X'| = 1/2, so the width is 3 · 1/2 and the range
    ± 3/4. From U(−3/4, 3/4) to both points the distance is E||U| − 1/2| = 5/24, and to one of them
    E|U − 1/2| = 13/24.
    """
    augmenter = Decided(AugmenterConfig(transforms=[tf.Rotate(limit=30)]), 3)
    (step,) = PlainPolicy.fit(augmenter, smooth_images(4)).steps
    assert step.probability == 1
    assert (step.low, step.high) == pytest.approx((-22.5, 22.5), abs=0.1)
    assert step.loss == pytest.approx(5 / 24, abs=3e-3)
    assert step.loss_by_image == pytest.approx(13 / 24, abs=3e-3)
    assert DRAWS > 1


def test_what_is_hardly_used_is_left_out_and_named():
    members = [tf.Rotate(), tf.MirrorUpDown()]
    augmenter = Augmenter(AugmenterConfig(transforms=members, start_probability=0.005), 3)
    policy = PlainPolicy.fit(augmenter, smooth_images(2))
    assert policy.steps == ()
    assert "# Left out, with hardly any use: mirror up-down p 0.01." in policy.code()
    image = smooth_images()[0]
    assert torch.equal(policy.transform()(image), image)
    assert "left out, its use is 0.01" in "\n".join(policy.table())


def test_what_cannot_be_fitted_is_refused():
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 3)
    with pytest.raises(ValueError, match="paints a residual and has no transforms, so no plain policy is like it"):
        PlainPolicy.fit(painter, smooth_images())
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()]), 3)
    for images in (smooth_images(channels=1), smooth_images()[:0]):
        with pytest.raises(ValueError, match=r"fitted to images of 3 channel\(s\), found shape"):
            PlainPolicy.fit(augmenter, images)


def test_every_function_of_the_operations_is_a_counterpart_or_serves_one():
    named = {function.__name__ for function in torchvision_code.AMOUNTS.values()}
    serving = {"reflected", "affine", "project"}
    functions = {
        name
        for name, value in vars(operations).items()
        if callable(value) and getattr(value, "__module__", "") == operations.__name__ and name != "Sometimes"
    }
    assert functions == named | serving


@pytest.mark.parametrize(("strength", "painted"), [(0.5, "0.05"), (1.0, "0.1"), (2.0, "0.1")])
@pytest.mark.parametrize("ending", [".py", ".json"])
def test_what_is_painted_is_left_out_and_said_to_be(ending, strength, painted):
    """A residual is scaled by the strength, up to its limit."""
    augmenter = Augmenter(AugmenterConfig(transforms=[tf.Rotate()], residual_limit=0.1, width=4, depth=1), 3).eval()
    exported = target_for(f"a{ending}", strength=strength).export(augmenter, {}, smooth_images(4))
    sentence = f"Left out: painted change up to {painted} of full scale."
    assert sentence in exported.report
    assert ending == ".json" or f"# {sentence}".encode() in exported.content
