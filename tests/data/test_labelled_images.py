"""Sets of labelled images, in memory, in files and of other data sets, behave alike."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from augnet.data import FileSet, ImageSet, LabelledImages, SampleSet
from augnet.data.images import label_tensor, labelled
from augnet.family import members

PIXELS = torch.arange(6 * 16, dtype=torch.uint8).reshape(6, 1, 4, 4)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
GROUPS = torch.tensor([0, 0, 1, 1, 2, 2])


def example(kind, folder):
    """Make the six images in each kind of set."""
    if kind is ImageSet:
        return ImageSet(PIXELS, LABELS, GROUPS)
    if kind is SampleSet:
        return SampleSet(TensorDataset(PIXELS, LABELS), LABELS, groups=GROUPS)
    paths = [folder / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, PIXELS, strict=True):
        Image.fromarray(image[0].numpy()).save(path)
    return FileSet(paths, LABELS, size=None, channels=1, groups=GROUPS)


@pytest.fixture(params=members(LabelledImages), ids=lambda kind: kind.__name__)
def images(request, tmp_path):
    return example(request.param, tmp_path)


def test_an_item_is_an_image_and_its_label(images):
    assert len(images) == 6
    assert images.shape == (1, 4, 4)
    image, label = images[4]
    assert torch.equal(image, PIXELS[4])
    assert (label, type(label)) == (1, int)


def test_a_batch_is_in_the_unit_range_and_in_the_order_asked(images):
    pixels, labels = images.batch([5, 0])
    torch.testing.assert_close(pixels, PIXELS[[5, 0]] / 255)
    assert (pixels.dtype, labels.tolist()) == (torch.float32, [2, 0])


def test_taking_twice_is_taking_from_what_was_taken(images):
    """Of [4, 2, 0], positions [2, 0] are 0 and 4; labels and groups go along."""
    twice = images.take([4, 2, 0]).take(np.array([2, 0]))
    assert torch.equal(twice[1][0], PIXELS[4])
    assert twice.labels.tolist() == LABELS[[0, 4]].tolist()
    assert twice.groups.tolist() == GROUPS[[0, 4]].tolist()


def test_a_subset_of_labelled_images_stays_of_their_kind():
    subset = labelled(Subset(example(ImageSet, None), [3, 1]))
    assert isinstance(subset, ImageSet)
    assert subset.labels.tolist() == [0, 1]


def test_kept_targets_are_used_only_where_they_agree_with_the_items():
    """A target_transform (here: plus 10) makes `targets` differ from what the items say; the items are right."""

    class Kept:
        def __init__(self, shift):
            self.targets, self.shift, self.reads = [0, 1, 2], shift, 0

        def __len__(self):
            return 3

        def __getitem__(self, index):
            self.reads += 1
            return PIXELS[index], index + self.shift

    agreeing = Kept(0)
    assert labelled(agreeing).labels.tolist() == [0, 1, 2]
    assert agreeing.reads == 3
    assert labelled(Kept(10)).labels.tolist() == [10, 11, 12]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], "label -1 is negative"),
        ([0.0, 1.0], "labels are float64, not whole numbers"),
        ([True, False], "labels are bool"),
        ([[0, 1], [1, 0]], r"labels have shape \(2, 2\)"),
        (["cat", "dog"], "labels are text"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        label_tensor(np.array(labels))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16])
def test_labels_of_any_whole_type_are_taken(kind):
    assert label_tensor(np.array([3, 658], dtype=np.int64).clip(0, np.iinfo(kind).max).astype(kind))[0] == 3


def test_a_column_of_labels_is_flattened():
    assert label_tensor(np.array([[3], [1]], dtype=np.uint8)).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageSet(PIXELS, LABELS[:5]), "6 images for 5 labels"),
        (lambda: ImageSet(PIXELS, LABELS, GROUPS[:5]), "5 groups for 6 labels"),
        (lambda: ImageSet(PIXELS / 255, LABELS), "must be uint8"),
        (lambda: ImageSet(PIXELS[0], LABELS), r"not torch.uint8 of shape \(1, 4, 4\)"),
        (lambda: FileSet([], LABELS, None, 1), "0 files for 6 labels"),
        (lambda: labelled(TensorDataset(PIXELS)), r"not \(image, label\)"),
        (lambda: labelled(TensorDataset(PIXELS, LABELS.float())), "not a whole number"),
        (lambda: labelled(TensorDataset(PIXELS[:0], LABELS[:0])), "holds no images"),
        (lambda: labelled(iter([])), "map-style"),
    ],
)
def test_sets_that_do_not_fit_together_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_images_of_different_shapes_do_not_make_a_batch():
    mixed = SampleSet([(PIXELS[0], 0), (PIXELS[1].repeat(3, 1, 1), 1)], [0, 1])
    with pytest.raises(ValueError, match=r"differ in shape.*convert them to the same channels"):
        mixed.batch([0, 1])
    sizes = SampleSet([(PIXELS[0], 0), (PIXELS[1][..., :3], 1)], [0, 1])
    with pytest.raises(ValueError, match=r"differ in shape.*set `size`"):
        sizes.batch([0, 1])
