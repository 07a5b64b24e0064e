"""The learned augmenter as an albumentations transform."""

import random
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import torch
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.export.drawn import Drawn, augment, draw
from augnet.export.learned_augment import LearnedAugment
from augnet.export.motion import Motion, move_mask
from augnet.export.pixels import to_plain


class LearnedDual(A.DualTransform):
    """Augment numpy images (h, w, c) or (h, w), uint8 or floats in [0, 1]; masks, boxes and key points move along.

    `augnet.export.dual` makes one. Randomness comes from albumentations: `A.Compose([...], seed=1)`. The workers of a
    `DataLoader` draw apart, and anew each epoch, by torch's seed; the rest of an albumentations pipeline does not. All
    `images` of a sample share the draw of the first.

    Args:
        augmenter: an augmenter, its file, or the folder of a run.
        strength: 0 changes nothing, 1 is as learned, more goes up to the limits; by default that with which a file was
            exported, and 1 otherwise.
        p: probability that a sample is augmented at all.
    """

    def __init__(self, augmenter: Augmenter | Path | str, strength: float | None = None, p: float = 1.0) -> None:
        if isinstance(augmenter, Augmenter):
            learned = LearnedAugment(augmenter, strength=1.0 if strength is None else strength, p=p)
        else:
            learned = LearnedAugment.load(augmenter, strength=strength, p=p)
        super().__init__(p=p)
        self.learned = learned
        # What `A.save` writes and `A.load` hands over.
        self.augmenter = augmenter if isinstance(augmenter, Augmenter) else str(augmenter)
        self.strength = learned.strength
        self.worker_seed: int | None = None

    def __call__(self, *args: Any, force_apply: bool = False, **kwargs: Any) -> Any:
        """Augment a sample."""
        # A worker begins with a copy of the generator of all others, in every epoch.
        worker = torch.utils.data.get_worker_info()
        if worker is not None and worker.seed != self.worker_seed:
            self.worker_seed = worker.seed
            own = int(self.random_generator.integers(2**32))
            sequence = np.random.SeedSequence((worker.seed, own))
            self.set_random_state(np.random.default_rng(sequence), random.Random(int(sequence.generate_state(1)[0])))
        return super().__call__(*args, force_apply=force_apply, **kwargs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.learned.extra_repr()})"

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draw for the sample's image, or the first of its images."""
        augmenter = self.learned.augmenter
        image = data["image"] if "image" in data else data["images"][0]
        noise = torch.from_numpy(self.random_generator.uniform(-1, 1, (1, augmenter.noise_size))).float()
        with torch.no_grad():
            drawn = draw(augmenter, to_plain(_planes(image)), strength=self.strength, noise=noise)
        draws = augmenter.draws(drawn.noise).double()
        motion = Motion(augmenter.transforms, drawn.amounts.double(), draws, image.shape[:2])
        return {"drawn": drawn, "motion": motion}

    @torch.no_grad()
    def apply(self, img: np.ndarray, drawn: Drawn, **params: Any) -> np.ndarray:
        """Augment one image."""
        return _as_array(augment(self.learned.augmenter, _planes(img), drawn, strength=self.strength), img)

    def apply_to_mask(self, mask: np.ndarray, motion: Motion, **params: Any) -> np.ndarray:
        """Move the labels of one mask."""
        return mask if motion.still else _as_array(move_mask(_planes(mask), motion), mask)

    def apply_to_bboxes(self, bboxes: np.ndarray, motion: Motion, **params: Any) -> np.ndarray:
        """Put a box around where the corners of each come to lie; coordinates are shares of the image."""
        if not bboxes.size:
            return bboxes
        corners = bboxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        moved = ((_moved(2 * corners - 1, motion) + 1) / 2).reshape(-1, 4, 2)
        return np.concatenate((moved.min(1), moved.max(1), bboxes[:, 4:]), 1, dtype=bboxes.dtype)

    def apply_to_keypoints(self, keypoints: np.ndarray, motion: Motion, **params: Any) -> np.ndarray:
        """Move points (x, y, z, angle, scale) in pixels; angle and scale are those of an arrow of one pixel there."""
        if not keypoints.size:
            return keypoints
        half = np.array((motion.size[1] / 2, motion.size[0] / 2))
        foot, angle = keypoints[:, :2], keypoints[:, 3]
        tip = foot + np.stack((np.cos(angle), np.sin(angle)), 1)
        foot, tip = ((_moved((end + 0.5) / half - 1, motion) + 1) * half - 0.5 for end in (foot, tip))
        x, y = (tip - foot).T
        arrow = np.stack((keypoints[:, 2], np.arctan2(y, x) % (2 * np.pi), keypoints[:, 4] * np.hypot(x, y)), 1)
        return np.concatenate((foot, arrow, keypoints[:, 5:]), 1, dtype=keypoints.dtype)


def _planes(image: np.ndarray) -> Tensor:
    """Read (h, w) or (h, w, c) as a batch of one, (1, c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)))[None]


def _as_array(planes: Tensor, like: np.ndarray) -> np.ndarray:
    return planes[0].permute(1, 2, 0).reshape(like.shape).numpy()


def _moved(points: np.ndarray, motion: Motion) -> np.ndarray:
    return motion.points(torch.from_numpy(points.astype(np.float64))[None])[0].numpy()
