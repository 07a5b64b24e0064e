"""The order in which images are seen: a stateless endless stream for training, one pass for evaluation.

Batch number t is a function of (seed, t) alone, so a run that stopped resumes with the step number and nothing else.
"""

import random
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from augnet.data.images import LabelledImages, labelled

Batch = tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"], Int64[Tensor, "b"]]


def batches(
    dataset: Dataset, batch_size: int, seed: int, start: int = 0, workers: int = 0, share: tuple[int, int] = (0, 1)
) -> Iterator[Batch]:
    """Draw batches without end, each epoch in a fresh order.

    The last, incomplete batch of an epoch is dropped; a set smaller than `batch_size` is one batch.

    Args:
        dataset: items (image, label).
        batch_size: images per batch.
        seed: fixes the order of every epoch.
        start: number of the first batch; batch t is the same whatever the start.
        workers: processes that decode ahead; unused for images in memory. The order does not depend on it.
        share: which part of each batch to give, and of how many equal ones; the parts together are the batch. Random
            transforms of a user's own set are drawn anew for each.

    Returns:
        An endless iterator of images in [0, 1], labels, and positions in the data set.

    Raises:
        ValueError: if the set is empty, a number is out of range, or a batch has no such share.
    """
    images = labelled(dataset)
    _check(images, batch_size, workers)
    if seed < 0 or start < 0:
        raise ValueError(f"seed and start must be 0 or more, not {seed} and {start}")
    size, (part, parts) = min(batch_size, len(images)), share
    if size % parts:
        raise ValueError(
            f"a batch of {size} images has no {parts} equal shares; set the batch size to a multiple of {parts}, of at "
            f"most {len(images):,} images"
        )
    return _fetch(images, _Order(len(images), size, seed, start, part, parts), workers)


def all_batches(dataset: Dataset, batch_size: int, workers: int = 0) -> Iterator[Batch]:
    """Go once through a data set in its own order; the last batch may be smaller.

    Raises:
        ValueError: if the set is empty, or a number is out of range.
    """
    images = labelled(dataset)
    _check(images, batch_size, workers)
    return _fetch(images, torch.arange(len(images)).split(batch_size), workers)


class _Order:
    """The positions of one part of each batch of the endless stream, from batch `start` on."""

    def __init__(self, images: int, batch_size: int, seed: int, start: int, part: int, parts: int) -> None:
        self.images, self.batch_size, self.seed, self.start = images, batch_size, seed, start
        self.part, self.parts = part, parts

    def __iter__(self) -> Iterator[Int64[Tensor, "b"]]:
        per_epoch = self.images // self.batch_size
        first, place = divmod(self.start, per_epoch)
        for epoch in count(first):
            state = np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)
            order = torch.randperm(self.images, generator=torch.Generator().manual_seed(int(state[0])))
            for batch in order.split(self.batch_size)[place:per_epoch]:
                yield batch.chunk(self.parts)[self.part]
            place = 0


class _Batched(Dataset):
    """Answers a list of positions with a batch, so that a worker builds whole batches."""

    def __init__(self, images: LabelledImages) -> None:
        self.images = images

    def __getitem__(self, indices: Int64[Tensor, "b"]) -> Batch:
        if self.images.in_memory:
            return *self.images.batch(indices), indices
        with randomness_of(indices):
            return *self.images.batch(indices), indices


@contextmanager
def randomness_of(indices: Int64[Tensor, "b"]) -> Iterator[None]:
    """Draw the same random numbers for the same batch, in whatever process: a user's set may have random transforms."""
    # NumPy's legacy generator is meant: it is the global one that users' transforms draw from.
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    seed = int(np.random.SeedSequence(indices.tolist()).generate_state(1)[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


class _Answered(Dataset):
    """Hands a bad image's error over as an answer: raised in a worker it would arrive wrapped in a traceback."""

    def __init__(self, batched: _Batched) -> None:
        self.batched = batched

    def __getitem__(self, indices: Int64[Tensor, "b"]) -> Batch | ValueError:
        try:
            return self.batched[indices]
        except ValueError as error:
            return error


def _raised(answer: Batch | ValueError) -> Batch:
    if isinstance(answer, ValueError):
        raise answer
    return answer


def _deaf_to_ctrl_c(_: int) -> None:
    """Leave Ctrl-C, which a terminal sends to workers too, to the process that they serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _fetch(images: LabelledImages, order: Iterable[Int64[Tensor, "_"]], workers: int) -> Iterator[Batch]:
    if images.in_memory or workers == 0:
        return map(_Batched(images).__getitem__, order)
    # A generator of its own: the loader would otherwise draw from the global one and shift everybody's numbers.
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        _Answered(_Batched(images)),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        generator=generator,
        worker_init_fn=_deaf_to_ctrl_c,
    )
    return map(_raised, loader)


def _check(images: LabelledImages, batch_size: int, workers: int) -> None:
    if len(images) == 0:
        raise ValueError("the data set holds no images")
    if batch_size < 1 or workers < 0:
        raise ValueError(f"batch_size must be 1 or more and workers 0 or more, not {batch_size} and {workers}")
