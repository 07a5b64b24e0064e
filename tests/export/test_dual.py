"""The albumentations transform: what moves, whose randomness, and what is refused."""

import math
import pickle

import albumentations as A
import numpy as np
import pytest
import torch

from augnet import transforms as T
from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.augmenter.file import to_bytes
from augnet.export import dual

BOXES = A.BboxParams(format="pascal_voc", label_fields=["labels"])
POINTS = A.KeypointParams(format="xyas", remove_invisible=False, angle_in_degrees=False)


def picture(*shape, dtype=np.uint8, seed=0):
    levels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return levels if dtype == np.uint8 else (levels / 255).astype(dtype)


def always(transform, magnitude, channels=1):
    """An augmenter that applies one transform at a fixed magnitude: tanh(0.2 · 10 · bias), without spread."""
    made = Augmenter(AugmenterConfig(transforms=[transform], gates="choices"), channels)
    with torch.no_grad():
        made.head.linear.bias[:2] = torch.tensor([math.atanh(magnitude) / 2, -100.0])
    return made


def learned(channels=3, **settings):
    torch.manual_seed(0)
    return Augmenter(AugmenterConfig(start_probability=0.9, **settings), channels)


@pytest.mark.parametrize("shape", [(20, 30, 3), (20, 30, 1), (20, 30)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_images_keep_their_kind(shape, dtype):
    image = picture(*shape, dtype=dtype)
    before = image.copy()
    result = A.Compose([dual(learned())], seed=0)(image=image)["image"]
    assert (result.shape, result.dtype) == (shape, dtype)
    assert not np.array_equal(result, before)
    np.testing.assert_array_equal(image, before)


def test_everything_moves_with_the_image():
    """Shifted right by a quarter of 40 pixels."""
    image = picture(20, 40)
    shift = A.Compose([dual(always(T.TranslateX(limit=1.0), 0.25))], bbox_params=BOXES, keypoint_params=POINTS)
    result = shift(
        image=image, mask=image.astype(np.int64) + 1000, masks=[image, image], bboxes=[[5, 4, 9, 8]], labels=["cat"],
        keypoints=[(5, 4, 0.5, 2.0)],
    )  # fmt: skip
    np.testing.assert_array_equal(result["image"][:, 10:], image[:, :30])
    np.testing.assert_array_equal(result["mask"], result["image"].astype(np.int64) + 1000)
    np.testing.assert_array_equal(result["masks"][1], result["image"])
    np.testing.assert_allclose(result["bboxes"], [[15, 4, 19, 8]], atol=1e-4)
    np.testing.assert_allclose(result["keypoints"], [(15, 4, 0.5, 2.0)], atol=1e-4)
    assert result["labels"] == ["cat"]


def test_the_arrow_of_a_key_point_turns_and_grows():
    """A quarter turn counter-clockwise takes an arrow to the right (angle 0) to one upwards: −90°, as y points down;
    enlarged by an octave it is twice as long."""
    point = {"image": picture(21, 21), "keypoints": [(10, 10, 0.0, 3.0)]}
    turned = A.Compose([dual(always(T.Rotate(limit=180), 0.5))], keypoint_params=POINTS)(**point)["keypoints"]
    np.testing.assert_allclose(turned, [(10, 10, 1.5 * math.pi, 3.0)], atol=1e-3)
    grown = A.Compose([dual(always(T.Scale(limit=2.0), 0.5))], keypoint_params=POINTS)(**point)["keypoints"]
    np.testing.assert_allclose(grown, [(10, 10, 0.0, 6.0)], atol=1e-3)


def test_randomness_is_that_of_albumentations():
    """The same seed, the same images, whatever torch's generator is at; one after another they differ."""
    image = picture(20, 30, 3)

    def draw(seed, torchs):
        torch.manual_seed(torchs)
        pipeline = A.Compose([A.HorizontalFlip(), dual(learned())], seed=seed)
        return np.stack([pipeline(image=image)["image"] for _ in range(4)])

    np.testing.assert_array_equal(draw(1, torchs=0), draw(1, torchs=9))
    assert len(np.unique(draw(1, torchs=0).reshape(4, -1), axis=0)) == 4
    assert not np.array_equal(draw(1, torchs=0), draw(2, torchs=0))
    pipeline, state = A.Compose([dual(learned())]), torch.get_rng_state()
    pipeline(image=image)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_one_sample_share_a_draw():
    images = np.stack([picture(20, 30, 3)] * 3)
    result = A.Compose([dual(learned())], seed=0)(images=images)["images"]
    np.testing.assert_array_equal(result[0], result[2])
    assert not np.array_equal(result[0], images[0])


@pytest.mark.parametrize("settings", [{"strength": 0.0}, {"p": 0.0}])
def test_no_strength_and_no_probability_are_no_change(settings):
    sample = {"image": picture(20, 30, 3), "mask": picture(20, 30), "bboxes": [[2, 3, 9, 9]], "labels": [1]}
    result = A.Compose([dual(learned(residual_limit=0.1), **settings)], bbox_params=BOXES)(**sample)
    for name in ("image", "mask"):
        np.testing.assert_array_equal(result[name], sample[name])
    np.testing.assert_allclose(result["bboxes"], sample["bboxes"], atol=1e-5)


def test_no_boxes_are_no_boxes():
    pipeline = A.Compose([dual(learned())], bbox_params=BOXES, keypoint_params=POINTS, seed=0)
    result = pipeline(image=picture(9, 9, 3), bboxes=[], labels=[], keypoints=[])
    assert (len(result["bboxes"]), len(result["keypoints"])) == (0, 0)


def test_it_reads_files_and_survives_pickling_and_saving(tmp_path):
    path = tmp_path / "augmenter.safetensors"
    path.write_bytes(to_bytes(learned(), {"words": ["rotation ±14°"]}))
    transform = dual(path, strength=0.5, p=0.75)
    assert repr(transform) == "LearnedDual(rotation ±14°; strength=0.5, p=0.75)"
    pipeline = A.Compose([transform], seed=3)
    expected = pipeline(image=picture(20, 30, 3))["image"]
    A.save(pipeline, tmp_path / "pipeline.json")
    for again in (pickle.loads(pickle.dumps(A.Compose([transform], seed=3))), A.load(tmp_path / "pipeline.json")):
        again.set_random_seed(3)
        np.testing.assert_array_equal(again(image=picture(20, 30, 3))["image"], expected)


@pytest.mark.parametrize(
    ("image", "words"),
    [(picture(8, 8, 2), "found images of 2"), (picture(8, 8, 3).astype(np.float32), "floats should lie in")],
)
def test_what_is_no_image_is_refused_in_a_sentence(image, words):
    with pytest.raises(ValueError, match=words):
        dual(learned())(image=image)


def test_settings_are_checked():
    with pytest.raises(ValueError, match="strength must be a number"):
        dual(learned(), strength=-1)
    with pytest.raises(ValueError, match="p must be a probability"):
        dual(learned(), p=2)


def test_without_albumentations_there_is_a_sentence(monkeypatch):
    """An entry of None in `sys.modules` is how Python marks what cannot be imported."""
    monkeypatch.setitem(__import__("sys").modules, "albumentations", None)
    monkeypatch.delitem(__import__("sys").modules, "augnet.export.albumentations_dual")
    with pytest.raises(ModuleNotFoundError, match="albumentations is not installed; run: pip install"):
        dual(learned())
