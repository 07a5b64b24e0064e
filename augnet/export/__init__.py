"""What was learned, in the forms that other people's training code takes."""

from typing import TYPE_CHECKING

from augnet.augmenter import Augmenter
from augnet.export.label_safety import LabelSafety, measure
from augnet.export.learned_augment import LearnedAugment
from augnet.export.plain import PlainPolicy
from augnet.export.programs import onnx_program, torch_program
from augnet.export.target import Exported, Target, target_for

if TYPE_CHECKING:
    from pathlib import Path

    from augnet.export.albumentations_dual import LearnedDual

__all__ = [
    "Exported", "LabelSafety", "LearnedAugment", "PlainPolicy", "Target", "dual", "measure", "onnx_program",
    "target_for", "torch_program",
]  # fmt: skip


def dual(augmenter: "Augmenter | Path | str", *, strength: float | None = None, p: float = 1.0) -> "LearnedDual":
    """Make an `albumentations.DualTransform`, for a place in `albumentations.Compose`.

    Args:
        augmenter: an augmenter, its file, or the folder of a run.
        strength: 0 changes nothing, 1 is as learned, more goes up to the limits; by default that with which a file was
            exported, and 1 otherwise.
        p: probability that a sample is augmented at all.

    Raises:
        ModuleNotFoundError: if albumentations is not installed.
    """
    try:
        # Here, since importing albumentations takes a second.
        from augnet.export.albumentations_dual import LearnedDual
    except ModuleNotFoundError as error:
        if error.name != "albumentations":
            raise
        raise ModuleNotFoundError(
            "albumentations is not installed; run: pip install 'albumentations>=2.0.8,<3'", name=error.name
        ) from error
    return LearnedDual(augmenter, strength=strength, p=p)
