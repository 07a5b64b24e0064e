"""What all arms of a comparison share: images, classifier, optimiser, batches."""

import contextlib
import hashlib
import importlib.metadata
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import ConcatDataset

from augnet.augmenter import Augmenter
from augnet.classifier import Classifier
from augnet.data import DataSource, ImageSet, LabelledImages, SampleSet
from augnet.data.sources import fingerprint
from augnet.recipe import Recipe, as_plain
from augnet.training import Run
from augnet.training.device import device_named

# Packages that images and weights go through: another version may give another result.
PACKAGES = ("augnet", "torch", "torchvision", "timm", "albumentations")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Images and settings that every arm of a comparison is tried with.

    Args:
        train: the run's training and validation images.
        test: images that nothing has learned from.
        classes: name of each label.
        recipe: of the run.
        augmenter: what the run learned.
        identity: digest of all that decides the result of an arm, beside the arm, its steps and its seed.
        own: makes a fresh classifier, where the run trained a module of the user's own.
    """

    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]
    recipe: Recipe
    augmenter: Augmenter
    identity: str
    own: Callable[[], nn.Module] | None = None

    @classmethod
    def of_run(
        cls, run: Run, data: DataSource | None = None, classifier: Callable[[], nn.Module] | None = None
    ) -> "Bench":
        """Take images and settings from a run.

        Args:
            run: has come to its end.
            data: its images; only where they came from Python.
            classifier: makes a fresh one; only where the run trained a module of the user's own.

        Raises:
            ValueError: if the run is unfinished or lacks test images, or its data or classifier are not those it had.
        """
        if not run.finished:
            raise ValueError(
                f"{run.path} has not come to its end, so there is nothing to compare yet; go on with it: "
                f"augnet train --resume {run.path}"
            )
        recipe, record = run.recipe, run.record
        splits = run.splits(data)
        if splits.test is None:
            raise ValueError(
                f"the data of {run.path} have no test images, and what learned from images cannot be judged on them; "
                "train again with a share set apart, such as --data.test_size 0.2"
            )
        train = _joined(splits.train, splits.val)
        # A set that is read at each access shows nothing but its labels.
        seen = [fingerprint(train, splits.test), *([] if train.in_memory else [splits.fingerprint, str(recipe.seed)])]
        settings = [as_plain(recipe.classifier), as_plain(recipe.inner), recipe.schedule.batch_size]
        bench = cls(
            train=train,
            test=splits.test,
            classes=splits.classes,
            recipe=recipe,
            augmenter=run.augmenter(),
            identity=digest(
                [seen, settings, None if classifier is None else _described(classifier()), _made_with(recipe)]
            ),
            own=classifier,
        )
        found = sum(w.numel() for w in bench.classifier().parameters() if w.requires_grad)
        if found != record["weights"]:
            raise ValueError(
                f"{run.path} trained a classifier of {record['weights']:,} weights, found one of {found:,}; if it was "
                "a module of your own, compare from Python: augnet.compare.compare(run, classifier=...)"
            )
        return bench

    def classifier(self) -> nn.Module:
        """Make a fresh classifier; its weights come from torch's global generator."""
        if self.own is not None:
            return self.own()
        channels, height, width = self.train.shape
        return Classifier.build(self.recipe.classifier, len(self.classes), channels, (height, width))

    @property
    def pretrained(self) -> bool:
        """Whether classifiers start from published weights."""
        return self.recipe.classifier.pretrained and self.own is None


def digest(what: Any) -> str:
    """Hash anything that JSON can hold."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _described(module: nn.Module) -> list[str]:
    """Give a module's layers, and the code of those classes that are not of torch, torchvision or timm."""
    own = {
        type(m) for m in module.modules() if type(m).__module__.split(".")[0] not in ("torch", "torchvision", "timm")
    }
    codes = []
    for kind in own:
        # Without a file, as typed into an interpreter, there is none.
        with contextlib.suppress(OSError, TypeError):
            codes.append(inspect.getsource(kind))
    return [re.sub(r"0x[0-9a-f]+", "", str(module)), *sorted(codes)]


def _made_with(recipe: Recipe) -> list[str]:
    """Name the kind of device and the versions; not the builds, which differ between machines (2.11.0+cpu)."""
    versions = [importlib.metadata.version(package).partition("+")[0] for package in PACKAGES]
    return [device_named(recipe.device).type, *versions]


def _joined(*parts: LabelledImages) -> LabelledImages:
    """Make one set of several; images in memory in an order that does not depend on how they were split.

    So fixed arms give the same results for runs whose seeds split the same images differently.
    """
    labels = torch.cat([part.labels for part in parts])
    held = [part.images for part in parts if isinstance(part, ImageSet)]
    if len(held) < len(parts):
        return SampleSet(ConcatDataset(parts), labels)
    images = torch.cat(held)
    names = [hashlib.sha256(image.data).digest() for image in images.contiguous().numpy()]
    order = np.lexsort((labels.numpy(), np.array(names, dtype="S32")))
    return ImageSet(images, labels).take(order)
