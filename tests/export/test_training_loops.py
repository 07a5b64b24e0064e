"""Training code of other people's shape trains with LearnedAugment in it."""

import copy
import math

import albumentations as A
import numpy as np
import pytest
import torch
from timm.data import create_loader
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from augnet.augmenter import Augmenter, AugmenterConfig
from augnet.export import LearnedAugment, dual

LEARNED = LearnedAugment(Augmenter(AugmenterConfig(start_probability=0.9), 3))


class Pictures(Dataset):
    """Twelve times the same picture; its transform is an attribute, as torchvision's and timm's data sets have it."""

    def __init__(self, transform=None):
        self.transform = transform
        levels = torch.randint(256, (3, 24, 24), generator=torch.Generator().manual_seed(0))
        self.picture = v2.functional.to_pil_image(levels.to(torch.uint8))

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.transform(self.picture), index % 2


def train(model, loader):
    """Train as torchvision's reference script does, and see that it did."""
    before = copy.deepcopy(list(model.parameters()))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, labels in loader:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert math.isfinite(loss.item())
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def small_model(size):
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 4, stride=4), torch.nn.Flatten(), torch.nn.Linear(4 * (size // 4) ** 2, 2)
    )


def test_workers_draw_apart_and_the_same_for_the_same_seed():
    """Twelve times the same picture comes out twelve times different; so it does in a fresh process (spawn)."""
    transform = v2.Compose([LEARNED, v2.PILToTensor()])
    # A fresh process can import what is installed, and need not be able to import the tests.
    installed = FakeData(12, (3, 16, 16), transform=transform)

    def epoch(seed, workers=2, context="fork", dataset=None):
        torch.manual_seed(seed)
        dataset = dataset or Pictures(transform)
        loader = DataLoader(dataset, 3, num_workers=workers, multiprocessing_context=context)
        return torch.cat([images for images, _ in loader])

    found = epoch(seed=1)
    assert len(found.flatten(1).unique(dim=0)) == 12
    assert torch.equal(found, epoch(seed=1))
    assert not torch.equal(found, epoch(seed=2))
    forked, fresh = (epoch(seed=1, workers=1, context=kind, dataset=installed) for kind in ("fork", "spawn"))
    assert torch.equal(forked, fresh)


def test_workers_of_an_albumentations_pipeline_draw_apart():
    """Albumentations by itself gives all workers one generator, with a seed and without."""
    for pipeline in (
        A.Compose([dual(LEARNED.augmenter)], seed=1),
        A.Compose([dual(LEARNED.augmenter)]),
        dual(LEARNED.augmenter),
    ):

        def augmented(picture, pipeline=pipeline):
            return torch.from_numpy(pipeline(image=np.asarray(picture))["image"])

        def epoch(seed, augmented=augmented):
            torch.manual_seed(seed)
            loader = DataLoader(Pictures(augmented), 3, num_workers=2, multiprocessing_context="fork")
            return torch.cat([images for images, _ in loader])

        found = epoch(seed=1)
        assert len(found.flatten(1).unique(dim=0)) == 12
        assert torch.equal(found, epoch(seed=1))
        assert not torch.equal(found, epoch(seed=2))


def test_it_trains_in_a_loop_like_torchvisions_reference():
    preset = v2.Compose(
        [
            v2.RandomResizedCrop(16),
            v2.RandomHorizontalFlip(),
            LEARNED,
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)),
        ]
    )
    mixup = v2.MixUp(num_classes=2)
    train(small_model(16), DataLoader(Pictures(preset), 4, collate_fn=lambda batch: mixup(*default_collate(batch))))


def test_it_trains_as_a_layer_before_the_model():
    """Gradients reach the model and stop there."""
    model = torch.nn.Sequential(copy.deepcopy(LEARNED), *small_model(24))
    train(model, DataLoader(Pictures(v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)])), 4))
    assert all(weight.grad is None for weight in model[0].parameters())


@pytest.mark.parametrize("prefetcher", [True, False])
def test_it_trains_in_timms_loader(prefetcher):
    """timm puts its own transform into the data set; ours goes before it, and the pictures come out different."""
    loader = create_loader(
        Pictures(), (3, 24, 24), batch_size=4, is_training=True, use_prefetcher=prefetcher, num_workers=0,
        device=torch.device("cpu"), persistent_workers=False, no_aug=True,
    )  # fmt: skip
    loader.dataset.transform = v2.Compose([LEARNED, loader.dataset.transform])
    train(small_model(24), loader)
    images = torch.cat([images for images, _ in loader])
    assert len(images.flatten(1).unique(dim=0)) == 12
