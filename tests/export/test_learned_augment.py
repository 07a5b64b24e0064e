"""LearnedAugment keeps the contract of torchvision's v2 transforms, and does what was learned."""

import copy
import math
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from augnet import transforms as T
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.file import to_bytes
from augnet.export import LearnedAugment

EVERY = [member() for member in T.all_transforms()]


def augmenter(channels=3, **settings):
    """An augmenter that decides by the image: its head has weights."""
    torch.manual_seed(0)
    made = Augmenter(AugmenterConfig(**settings), channels)
    if made.head is not None:
        torch.nn.init.normal_(made.head.linear.weight, std=0.3)
    return made


def pixels(*shape, dtype=torch.uint8, seed=0):
    levels = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))
    return levels.to(torch.uint8) if dtype == torch.uint8 else (levels / 255).to(dtype)


def as_pil(*shape):
    return v2.functional.to_pil_image(pixels(*shape))


@pytest.fixture(scope="module")
def transform():
    return LearnedAugment(augmenter(residual_limit=0.1))


INPUTS = {
    "PIL RGB": as_pil(3, 20, 30),
    "PIL grey": as_pil(1, 20, 30),
    "uint8": pixels(3, 20, 30),
    "uint16": pixels(3, 20, 30).to(torch.int32).mul(257).to(torch.uint16),
    "float32": pixels(3, 20, 30, dtype=torch.float32),
    "float64": pixels(3, 20, 30, dtype=torch.float64),
    "float16": pixels(3, 20, 30, dtype=torch.float16),
    "bfloat16": pixels(3, 20, 30, dtype=torch.bfloat16),
    "grey": pixels(1, 20, 30),
    "one pixel": pixels(3, 1, 1),
    "large": pixels(3, 150, 101),
    "batch": pixels(4, 3, 20, 30),
    "batch of grey": pixels(4, 1, 20, 30),
    "more leading dimensions": pixels(2, 3, 3, 20, 30),
    "channels last": pixels(4, 3, 20, 30, dtype=torch.float32).contiguous(memory_format=torch.channels_last),
    "not contiguous": pixels(2, 3, 30, 20, 3).transpose(2, 4),
    "no images": pixels(0, 3, 20, 30),
    "Image": tv_tensors.Image(pixels(3, 20, 30)),
    "Image batch": tv_tensors.Image(pixels(4, 3, 20, 30)),
    "Video": tv_tensors.Video(pixels(5, 3, 20, 30)),
    "Video batch": tv_tensors.Video(pixels(2, 5, 3, 20, 30)),
    "no frames": tv_tensors.Video(pixels(0, 3, 20, 30)),
}


def as_array(picture):
    return np.array(picture) if isinstance(picture, PIL.Image.Image) else picture.float().numpy().copy()


@pytest.mark.parametrize("name", INPUTS)
def test_what_comes_out_is_of_the_kind_that_went_in(transform, name):
    torch.manual_seed(0)
    picture = INPUTS[name]
    before = as_array(picture)
    result = transform(picture)
    assert type(result) is type(picture)
    if isinstance(picture, PIL.Image.Image):
        assert (result.mode, result.size) == (picture.mode, picture.size)
    else:
        assert (result.dtype, result.shape, result.device) == (picture.dtype, picture.shape, picture.device)
    np.testing.assert_array_equal(as_array(picture), before)
    if before.size > 3:
        assert not np.array_equal(as_array(result), before)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("settings", [{"strength": 0}, {"p": 0.0}])
def test_strength_0_and_p_0_are_the_identity(name, settings):
    result = LearnedAugment(augmenter(residual_limit=0.1), **settings)(INPUTS[name])
    np.testing.assert_array_equal(as_array(result), as_array(INPUTS[name]))


def test_pixels_are_those_of_the_augmenter():
    """Same noise, same pixels, for all members of the family and the residual; bytes are rounded to the nearest."""
    made = augmenter(transforms=EVERY, residual_limit=0.1).double()
    levels = pixels(6, 3, 24, 20)
    images = levels.double() / 255
    torch.manual_seed(3)
    expected = made(images)
    torch.manual_seed(3)
    torch.testing.assert_close(LearnedAugment(made)(images), expected.detach(), atol=1e-6, rtol=0)
    torch.manual_seed(3)
    assert float((LearnedAugment(made)(levels) - 255 * expected.detach()).abs().max()) <= 0.5 + 1e-2


def test_any_structure_is_walked_and_labels_pass(transform):
    sample = {"image": tv_tensors.Image(pixels(3, 20, 30)), "of": [("cat", 3), torch.tensor(7)], "more": (None, 1.5)}
    result = transform(sample)
    assert result["of"] == [("cat", 3), torch.tensor(7)]
    assert result["more"] == (None, 1.5)
    image, label = transform(pixels(3, 20, 30), torch.tensor(4))
    assert (image.shape, label) == ((3, 20, 30), torch.tensor(4))
    assert transform("no image at all") == "no image at all"


def test_annotations_move_with_their_image():
    """Shifted right by a quarter of the width whatever the noise: a centre of tanh(0.2 · 10 · bias), and no spread."""
    made = Augmenter(AugmenterConfig(transforms=[T.TranslateX(limit=1.0)], gates="choices"), 1)
    with torch.no_grad():
        made.head.linear.bias[:2] = torch.tensor([math.atanh(0.25) / 2, -100.0])
    size = (20, 40)
    picture = pixels(1, *size)
    sample = {
        "image": tv_tensors.Image(picture),
        "mask": tv_tensors.Mask(picture[0]),
        "masks": tv_tensors.Mask(picture.expand(3, -1, -1)),
        "boxes": tv_tensors.BoundingBoxes([[5, 4, 9, 8]], format="XYXY", canvas_size=size),
        "points": tv_tensors.KeyPoints([[[5.0, 4.0], [9.0, 8.0]]], canvas_size=size),
    }
    result = LearnedAugment(made)(sample)
    assert torch.equal(result["image"][..., 10:], picture[..., :30])
    assert torch.equal(result["mask"], result["image"][0])
    assert torch.equal(result["masks"][2], result["image"][0])
    assert result["boxes"].tolist() == [[15, 4, 19, 8]]
    torch.testing.assert_close(
        result["points"].as_subclass(torch.Tensor), torch.tensor([[[15.0, 4], [19, 8]]]), atol=1e-5, rtol=0
    )
    for name, value in sample.items():
        assert type(result[name]) is type(value)


@pytest.mark.parametrize("kind", [tv_tensors.Image, tv_tensors.Video])
@pytest.mark.parametrize("masks", [1, 3])
def test_masks_of_a_batch_and_of_a_video_move_each_with_its_own(kind, masks):
    """Mirrors take whole pixels to whole pixels, so mask and image stay the same."""
    mirrors = LearnedAugment(augmenter(1, transforms=[T.MirrorLeftRight(), T.MirrorUpDown()], start_probability=0.5))
    batch = pixels(8, 1, 16, 16)
    torch.manual_seed(1)
    image, mask = mirrors(kind(batch), tv_tensors.Mask(batch.expand(-1, masks, -1, -1)))
    assert not torch.equal(image, batch)
    assert torch.equal(mask.as_subclass(torch.Tensor), image.as_subclass(torch.Tensor).expand(-1, masks, -1, -1))


def test_a_batch_has_a_draw_per_image_and_a_video_one_for_all_frames():
    still = pixels(1, 3, 16, 16).expand(8, -1, -1, -1)
    transform = LearnedAugment(augmenter(start_probability=0.9))
    assert len(transform(still).flatten(1).unique(dim=0)) == 8
    assert len(transform(tv_tensors.Video(still)).flatten(1).unique(dim=0)) == 1
    videos = transform(tv_tensors.Video(still.expand(5, -1, -1, -1, -1)))
    assert len(videos.flatten(0, 1).flatten(1).unique(dim=0)) == 5


def amounts_in(transform, images):
    return transform.make_params([images])["drawn"].amounts


def test_one_image_at_a_time_and_a_batch_have_the_same_distribution():
    """2,000 draws each: mean amounts, their sizes and shares of use within five standard errors."""
    transform = LearnedAugment(augmenter(), p=0.8)
    image = pixels(3, 16, 16)
    torch.manual_seed(0)
    single = torch.cat([amounts_in(transform, image) for _ in range(2000)])
    batch = amounts_in(transform, image.expand(2000, -1, -1, -1))
    for statistic in (lambda a: a, lambda a: a.abs(), lambda a: (a != 0).float()):
        one, many = statistic(single), statistic(batch)
        error = ((one.var(0) + many.var(0)) / 2000).sqrt() + 1e-9
        assert float(((one.mean(0) - many.mean(0)) / error).abs().max()) < 5


def test_p_is_the_share_of_images_that_are_augmented():
    transform = LearnedAugment(augmenter(start_probability=0.9), p=0.3)
    images = pixels(1, 3, 16, 16).expand(1000, -1, -1, -1)
    torch.manual_seed(0)
    changed = (transform(images) != images).flatten(1).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(("channels", "given"), [(3, 1), (1, 3)])
def test_grey_and_rgb_stand_in_for_one_another(channels, given):
    """Channels that are equal stay equal, but for noise, which is drawn for each."""
    members = [t for t in EVERY if not isinstance(t, T.GaussianNoise)]
    transform = LearnedAugment(augmenter(channels, transforms=members, residual_limit=0.1, start_probability=0.5))
    torch.manual_seed(0)
    result = transform(pixels(8, 1, 20, 20, dtype=torch.float32).expand(-1, given, -1, -1))
    assert result.shape == (8, given, 20, 20)
    torch.testing.assert_close(result, result[:, :1].expand(-1, given, -1, -1), atol=1e-5, rtol=0)


def test_what_only_changes_colours_leaves_grey_as_it_is():
    colours = LearnedAugment(augmenter(transforms=[t for t in EVERY if t.needs_rgb], start_probability=0.9))
    assert torch.equal(colours(pixels(4, 1, 8, 8)), pixels(4, 1, 8, 8))
    assert not torch.equal(colours(pixels(4, 3, 8, 8)), pixels(4, 3, 8, 8))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pixels(4, 20, 30), r"learned on images of 3 channel\(s\), found images of 4"),
        (pixels(2, 20, 30), r"found images of 2"),
        (PIL.Image.new("P", (4, 4)), r"PIL image of mode P; convert it first"),
        (PIL.Image.new("RGBA", (4, 4)), r"PIL image of mode RGBA"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), r"found torch.int64; convert them"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), r"found torch.bool"),
        (torch.full((3, 4, 4), 200.0), r"floats should lie in \[0, 1\], found 200 to 200; augment before normalising"),
        (torch.full((3, 4, 4), -2.1), r"found -2.1 to -2.1"),
        (torch.tensor(3), r"shape \(..., channels, height, width\), found \(\); if that is not the image"),
        (tv_tensors.Mask(torch.zeros(4, 4)), "there is no image to decide by, found only Mask"),
        (
            (tv_tensors.Image(pixels(2, 3, 4, 4)), tv_tensors.Image(pixels(3, 4, 4))),
            r"found \(2,\) and \(\); call once for each",
        ),
        (
            (pixels(2, 3, 4, 4), tv_tensors.BoundingBoxes([[0, 0, 2, 2]], format="XYXY", canvas_size=(4, 4))),
            r"BoundingBoxes of shape \(1, 4\) cannot be told apart for a batch \(2,\)",
        ),
        ((pixels(2, 3, 4, 4), tv_tensors.Mask(torch.zeros(4, 4))), "Mask of shape"),
    ],
)
def test_what_cannot_be_augmented_is_refused_in_a_sentence(transform, given, words):
    with pytest.raises(ValueError, match=words):
        transform(given)


@pytest.mark.parametrize("settings", [{"strength": -1}, {"strength": float("nan")}, {"strength": "1"}, {"p": 1.5}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="must be a"):
        LearnedAugment(augmenter(), **settings)


def test_weights_that_overflow_leave_images_as_they_are():
    made = augmenter()
    with torch.no_grad():
        for weights in made.unet.parameters():
            weights.mul_(1e12)
    images = pixels(4, 3, 16, 16)
    assert torch.equal(LearnedAugment(made)(images), images)


def test_it_survives_copies_and_pickles_and_does_not_follow_the_training():
    made = augmenter()
    transform = LearnedAugment(made, {"classes": ["a"]}, strength=0.7, p=0.9)
    with torch.no_grad():
        made.head.linear.bias.fill_(5)
    results = []
    for again in (transform, copy.deepcopy(transform), pickle.loads(pickle.dumps(transform))):
        torch.manual_seed(1)
        results.append(again(pixels(4, 3, 16, 16)))
        assert (again.strength, again.p, again.about) == (0.7, 0.9, {"classes": ["a"]})
        assert (again.augmenter.head.linear.bias < 5).all()
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert not any(weight.requires_grad for weight in transform.parameters())


def test_it_loads_from_a_file_and_from_the_folder_of_a_run(tmp_path):
    made, about = augmenter(), {"words": ["rotation ±14°", "blur 0 to 2"]}
    (tmp_path / "augmenter.safetensors").write_bytes(to_bytes(made, about))
    for path in (tmp_path, str(tmp_path / "augmenter.safetensors")):
        transform = LearnedAugment.load(path, strength=0.5, p=0.25)
        assert transform.about == about
        assert repr(transform) == "LearnedAugment(rotation ±14°, blur 0 to 2; strength=0.5, p=0.25)"
    with pytest.raises(FileNotFoundError, match="no augmenter at"):
        LearnedAugment.load(tmp_path / "signs.safetensors")


def test_it_says_what_was_learned():
    config = AugmenterConfig(
        transforms=[T.Rotate(limit=20)], start_spread=0.5, start_probability=0.3, residual_limit=0.1
    )
    made = Augmenter(config, 1)
    words = "rotation ±10° p 0.30, painted change up to 0.1 of full scale; strength=1, p=1"
    assert repr(LearnedAugment(made)) == f"LearnedAugment({words})"
    assert words in repr(torch.nn.Sequential(LearnedAugment(made)))
    painter = Augmenter(AugmenterConfig(transforms=[], residual_limit=0.1), 1)
    assert repr(LearnedAugment(painter)).startswith("LearnedAugment(painted change")


@pytest.mark.parametrize(
    ("settings", "said"), [({"strength": 0.0}, "strength=0, p=1"), ({"p": 0.0}, "strength=1, p=0")]
)
def test_what_changes_nothing_lists_no_amounts(settings, said):
    transform = LearnedAugment(augmenter(residual_limit=0.1), {"words": ["rotation ±14°"]}, **settings)
    assert repr(transform) == f"LearnedAugment(changes nothing; {said})"


def test_a_residual_alone_is_painted():
    painter = LearnedAugment(Augmenter(AugmenterConfig(transforms=[], residual_limit=0.2), 3))
    images = pixels(4, 3, 16, 16, dtype=torch.float32)
    change = (painter(images) - images).abs()
    assert 0 < float(change.max()) <= 0.2 + 1e-6


def test_a_path_in_place_of_an_augmenter_is_answered_with_the_way_to_read_it():
    with pytest.raises(TypeError, match=r"found 'signs\.safetensors'; to read a file, use LearnedAugment\.load"):
        LearnedAugment("signs.safetensors")


def test_an_array_alone_is_refused_and_beside_an_image_left_alone():
    transform, array = LearnedAugment(augmenter()), np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(TypeError, match="PIL images or tensors, found a NumPy array"):
        transform(array)
    image, same = transform(pixels(3, 8, 8), array)
    assert image.shape == (3, 8, 8)
    assert same is array
