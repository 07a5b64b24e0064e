"""The stream of batches is a function of (seed, t), whatever the start and however it is read."""

from itertools import islice

import pytest
import torch
from torch.utils.data import TensorDataset

from augnet.data import FileSet, ImageSet, SampleSet, all_batches, batches

PIXELS = torch.arange(10, dtype=torch.uint8).reshape(10, 1, 1, 1).expand(10, 3, 2, 2).contiguous()
IMAGES = ImageSet(PIXELS, torch.arange(10))
LAZY = SampleSet(TensorDataset(PIXELS, torch.arange(10)), torch.arange(10))


def order(stream, number):
    return [indices.tolist() for _, _, indices in islice(stream, number)]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 7, 300])
def test_a_stream_from_the_middle_is_the_tail_of_the_stream(start):
    whole = order(batches(IMAGES, 4, seed=3), start + 5)
    assert order(batches(IMAGES, 4, seed=3, start=start), 5) == whole[start:]


def test_an_epoch_sees_no_image_twice_and_drops_the_rest():
    """10 images in batches of 3: three batches of nine different images, then a new order."""
    seen = torch.tensor(order(batches(IMAGES, 3, seed=0), 6))
    first, second = seen[:3].flatten().tolist(), seen[3:].flatten().tolist()
    assert len(set(first)) == len(set(second)) == 9
    assert first != second


def test_every_image_is_dropped_equally_often():
    """Nine of ten images are seen in each epoch; over 1,000 epochs each is missed 100 ± 30 times (3 σ = 28)."""
    seen = torch.tensor(order(batches(IMAGES, 9, seed=1), 1000)).flatten().bincount()
    assert (1000 - seen).sub(100).abs().max() < 30


def test_seeds_give_different_orders():
    assert order(batches(IMAGES, 5, seed=0), 2) != order(batches(IMAGES, 5, seed=1), 2)


def test_a_set_smaller_than_a_batch_is_one_batch():
    images, labels, indices = next(batches(IMAGES, 64, seed=0))
    assert images.shape == (10, 3, 2, 2)
    assert sorted(indices.tolist()) == sorted(labels.tolist()) == list(range(10))


def test_images_labels_and_positions_belong_together():
    images, labels, indices = next(batches(IMAGES, 4, seed=0))
    torch.testing.assert_close(images[:, 0, 0, 0] * 255, indices.float())
    assert torch.equal(labels, indices)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)


def test_workers_change_neither_order_nor_content():
    alone = list(islice(batches(LAZY, 4, seed=5, start=1), 4))
    helped = list(islice(batches(LAZY, 4, seed=5, start=1, workers=1), 4))
    for ours, theirs in zip(alone, helped, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("images", [IMAGES, LAZY], ids=["memory", "lazy"])
def test_drawing_batches_leaves_the_global_generator_alone(images, workers):
    before = torch.random.get_rng_state()
    next(batches(images, 4, seed=0, workers=workers))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_pass_sees_every_image_in_order():
    passes = list(all_batches(IMAGES, 4))
    assert [len(labels) for _, labels, _ in passes] == [4, 4, 2]
    assert torch.cat([labels for _, labels, _ in passes]).tolist() == list(range(10))


def test_any_data_set_of_pairs_may_be_drawn_from():
    floats = TensorDataset(PIXELS / 255, torch.arange(10))
    ours, theirs = next(batches(IMAGES, 4, seed=2)), next(batches(floats, 4, seed=2))
    torch.testing.assert_close(ours[0], theirs[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"workers": -1}, "workers 0 or more"),
        ({"seed": -1}, "seed and start"),
        ({"start": -1}, "seed and start"),
        ({"dataset": IMAGES.take([])}, "no images"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        batches(**{"dataset": IMAGES, "batch_size": 4, "seed": 0, **settings})


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_image_is_the_same_sentence_from_a_worker(tmp_path, workers):
    """Raised in a worker, an error would arrive with that process's traceback in its text."""
    (tmp_path / "a.png").write_text("no image")
    images = FileSet([tmp_path / "a.png"] * 4, [0, 1, 0, 1], size=4, channels=1)
    with pytest.raises(ValueError, match=r"^cannot read '.*a\.png' as an image \(cannot identify image file '.*'\)$"):
        next(batches(images, 2, seed=0, workers=workers))
