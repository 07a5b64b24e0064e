"""What is known of a training while it runs: the report that becomes a row of metrics.csv and a line on the screen."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from augnet.augmenter import Augmenter, Learned
from augnet.data import LabelledImages, Splits, batches
from augnet.training.evaluation import agreement, score

# Images whose policy and agreement are looked at for a report.
SAMPLE = 128
# Images of each part of the validation set that are scored for a report.
LOOKED_AT = 512
# Images below which a standard error says nothing: of two losses it is now and then nearly 0 by chance.
FEWEST = 8


class Progress(NamedTuple):
    """What is known at a step.

    Args:
        step: classifier updates made.
        training_loss: on augmented images; mean since the last report.
        validation_loss: on the last validation batch.
        watched_loss: on validation images that the augmenter does not learn from.
        hypergradient_norm: of the last outer step, by the policy's biases.
        hypergradient_noise: share of noise in the mean square of the hypergradient, averaged over its entries, 0 to 1.
        residual: of the last inverse-Hessian-vector product.
        images_per_second: since the last report.
        learned: the policy averaged over a fixed sample of training images.
        warnings: alarms that went off, one sentence each.
    """

    step: int
    training_loss: float
    validation_loss: float
    watched_loss: float
    hypergradient_norm: float
    hypergradient_noise: float
    residual: float
    images_per_second: float
    learned: list[Learned]
    warnings: list[str]

    def row(self) -> dict[str, float]:
        """Flatten into the columns of metrics.csv; `Rotate.spread` and the like are in the transform's unit."""
        row: dict[str, float] = {n: v for n, v in self._asdict().items() if n not in ("learned", "warnings")}
        for item in self.learned:
            name = type(item.transform).__name__
            row[f"{name}.probability"] = item.probability
            if not item.transform.choice:
                row |= {f"{name}.centre": item.centre, f"{name}.spread": item.spread}
        return row


class Watch:
    """Images that are looked at for reports, and a part of the validation images that nothing learns from.

    Args:
        splits: the run's images.
        share: of the validation images to keep from learning.
        seed: decides which.
        device: where the classifier is.
        workers: processes that decode images that do not fit into memory.

    Attributes:
        val: the validation images that the augmenter learns from.
    """

    sample: tuple[Float[Tensor, "b c h w"], Int64[Tensor, "b"]]

    def __init__(self, splits: Splits, share: float, seed: int, device: torch.device, workers: int) -> None:
        self.device, self.workers = device, workers
        generator = torch.Generator().manual_seed(seed)
        groups = torch.arange(len(splits.val)) if splits.val.groups is None else splits.val.groups
        names = groups.unique()
        names = names[torch.randperm(len(names), generator=generator)]
        # Whole groups, or the part that is kept would hold near-copies of the part that is used.
        is_kept = torch.isin(groups, names[: round(share * len(names))])
        kept, used = is_kept.nonzero()[:, 0], (~is_kept).nonzero()[:, 0]
        none = min(len(kept), len(used)) < FEWEST
        if none:
            kept = used = torch.arange(len(splits.val))
        self.val: LabelledImages = splits.val.take(used)
        # Drawn, since images may lie in the order of their classes.
        few = used[torch.randperm(len(used), generator=generator)][: min(len(kept), LOOKED_AT)]
        self.used = splits.val.take(few)
        kept = kept[torch.randperm(len(kept), generator=generator)][:LOOKED_AT]
        # The same images twice where none are kept: overfitting cannot be seen then.
        self.kept = self.used if none else splits.val.take(kept)
        images, labels, _ = next(batches(splits.train, SAMPLE, seed))
        self.sample = images.to(device, memory_format=torch.channels_last), labels.to(device)

    def losses(self, classifier: nn.Module) -> tuple[float, float]:
        """Return the loss on the kept part, and by how many standard errors it exceeds that on a used part."""
        kept, used = (score(classifier, part, self.device, self.workers) for part in (self.kept, self.used))
        spread = math.hypot(kept.standard_error, used.standard_error)
        return kept.loss, (kept.loss - used.loss) / spread if spread > 0 else 0.0

    def agreement(self, classifier: nn.Module, augmenter: Augmenter) -> float:
        """Return the share of rightly classified images that still are once augmented, by noise of a fixed seed."""
        images, labels = self.sample
        with torch.no_grad():
            augmented = augmenter(images, augmenter.draw_noise(len(images), torch.Generator().manual_seed(0)))
        return agreement(classifier, images, augmented, labels)
