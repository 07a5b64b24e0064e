"""The problem of `hypergradient.py`: one outer step of a training, on which every method is asked the same question.

The question: how does the validation loss change with the augmenter's weights λ, through the augmented images x̂ and
the classifier's weights w? The graph is cut at x̂ for everyone, so methods differ only in the inverse Hessian.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from augnet.classifier import Classifier, running_statistics_kept
from augnet.data import ImageSet, from_datasets, source_from
from augnet.implicit import Solution, flatten
from augnet.recipe import Recipe
from augnet.training import IFTTrainer

Call = Callable[["Problem", Tensor, Solution | None], tuple[Tensor, Solution | None]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to train, for how long, and where.

    Args:
        data: as for `augnet train`.
        size: of the images, pixels a side.
        train_size, val_size: images of the whole data set.
        model: of timm, with its own stem.
        batch: training and validation images of an outer step.
        width: channels of the first level of the U-Net, which has a decoder.
        steps: of training before anything is measured, an outer one in 6 after the first 20.
        step_size: α of a Neumann series with fixed steps, and of unrolled gradient descent; None is that of the run.
        seed: of everything.
        device: such as `cuda`.
        recipe: further settings of the recipe, as on the command line.
    """

    data: str = "digits"
    size: int = 32
    train_size: int = 256
    val_size: int = 128
    model: str = "resnet10t"
    batch: int = 64
    width: int = 14
    steps: int = 80
    step_size: float | None = None
    seed: int = 0
    device: str = "cpu"
    recipe: tuple[str, ...] = ()

    def trainer(self) -> IFTTrainer:
        """Make the trainer, untrained; its validation images are all for the hypergradient."""
        source = dataclasses.replace(
            source_from(self.data), size=self.size, train_size=self.train_size, val_size=self.val_size
        )
        splits = source.load(self.seed)
        arguments = [
            f"--augmenter.width={self.width}", "--augmenter.residual_limit=0.1", "--outer.watch=0",
            f"--schedule.batch_size={self.batch}", f"--schedule.val_batch_size={self.batch}", "--schedule.warmup=20",
            f"--seed={self.seed}", f"--device={self.device}", *self.recipe,
        ]  # fmt: skip
        recipe = dataclasses.replace(Recipe.parse(arguments), data=from_datasets(splits.train, splits.val))
        torch.manual_seed(self.seed)
        model = timm.create_model(self.model, num_classes=len(splits.classes), in_chans=splits.channels)
        centre, spread = [0.5] * splits.channels, [0.25] * splits.channels
        return IFTTrainer(recipe, classifier=Classifier(model, centre, spread))


def train(settings: Settings, path: Path) -> None:
    """Train for the settings' steps and write the state into a file."""
    trainer = settings.trainer()
    train, val = trainer._streams()
    for trainer.step in range(settings.steps):
        trainer._prepare_step()
        images, labels, _ = next(train)
        if trainer.recipe.schedule.is_outer(trainer.step):
            val_images, val_labels, _ = next(val)
            trainer.outer_step((images, labels), (val_images, val_labels))
        else:
            trainer.inner_step((images, labels))
    torch.save(trainer.state(), path)


def logits(
    classifier: nn.Module, x: Float[Tensor, "b c h w"], weights: list[Tensor] | None
) -> Float[Tensor, "b classes"]:
    """Pass images through a classifier, with other weights if they are given; running statistics stay as they are."""
    x = x.contiguous(memory_format=torch.channels_last)
    with running_statistics_kept(classifier):
        if weights is None:
            return classifier(x)
        names = [name for name, weight in classifier.named_parameters() if weight.requires_grad]
        return functional_call(classifier, dict(zip(names, weights, strict=True)), x)


class Problem:
    """An outer step at a trained state: a batch of training images, its noise, and a batch of validation images.

    Args:
        settings: of the training.
        state: file that `train` wrote.
        dtype: number type of everything.

    Attributes:
        trainer: with the state.
        start: the run's last inverse-Hessian-vector product.
        step_size: α for fixed steps.
    """

    def __init__(self, settings: Settings, state: Path, dtype: torch.dtype = torch.float32) -> None:
        self.settings, self.dtype = settings, dtype
        self.trainer = trainer = settings.trainer()
        trainer.load_state(torch.load(state, map_location=trainer.device))
        trainer.step = settings.steps
        self.classifier, self.augmenter = trainer.classifier.to(dtype).train(), trainer.augmenter.to(dtype)
        self.weights, self.hyperparameters = trainer.inner.weights, list(trainer.augmenter.parameters())
        found = trainer.outer.solution._asdict().items()
        self.start = Solution(**{k: v.to(dtype) if isinstance(v, Tensor) else v for k, v in found})
        self.step_size = self.start.step_size if settings.step_size is None else settings.step_size
        self.draw(settings.seed)

    def draw_noise(self, generator: torch.Generator) -> Float[Tensor, "b n"]:
        """Draw noise for a batch; without pairs of opposite sign, since what is estimated is an expectation."""
        return 2 * torch.rand(self.settings.batch, self.augmenter.noise_size, generator=generator) - 1

    def draw(self, seed: int) -> None:
        """Draw other batches and other noise."""
        splits, generator = self.trainer.splits, torch.Generator().manual_seed(seed)
        count = self.settings.batch
        parts = []
        for images in (splits.train, splits.val):
            chosen = torch.randperm(len(images), generator=generator)[:count]
            parts += [images.images[chosen].float() / 255, torch.as_tensor(images.labels)[chosen]]
        self.take(parts[0], parts[1], parts[2], parts[3], self.draw_noise(generator))

    def whole(self) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Cut the whole data set into batches: pairs of training and validation images with their labels."""
        count = self.settings.batch

        def batches(images: ImageSet) -> list[tuple[Tensor, Tensor]]:
            pixels, labels = images.images.float() / 255, torch.as_tensor(images.labels)
            whole = len(images) // count * count
            return list(zip(pixels[:whole].split(count), labels[:whole].split(count), strict=True))

        splits = self.trainer.splits
        train, val = batches(splits.train), batches(splits.val)
        return [(*pair, *val[number % len(val)]) for number, pair in enumerate(train)]

    def take(self, images: Tensor, labels: Tensor, val_images: Tensor, val_labels: Tensor, noise: Tensor) -> None:
        """Use these batches and this noise."""
        device = self.trainer.device
        self.images, self.val_images, self.noise = (x.to(device, self.dtype) for x in (images, val_images, noise))
        self.labels, self.val_labels = labels.to(device), val_labels.to(device)

    def augmented(self) -> Float[Tensor, "b c h w"]:
        """Augment the training batch; the graph to λ is kept."""
        return self.augmenter.augment(self.images, self.noise)[0]

    def outputs_and_loss(
        self, x: Float[Tensor, "b c h w"], weights: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "b classes"], Float[Tensor, ""]]:
        """Return logits and training loss of augmented images, at other weights if they are given."""
        found = logits(self.classifier, x, weights)
        return found, F.cross_entropy(found, self.labels)

    def val_loss(self, weights: list[Tensor] | None = None) -> Float[Tensor, ""]:
        """Return the validation loss, at other weights if they are given."""
        return F.cross_entropy(logits(self.classifier, self.val_images, weights), self.val_labels)

    def plain(self) -> None:
        """Do one plain forward and backward pass of the classifier: the unit of cost."""
        torch.autograd.grad(self.outputs_and_loss(self.images)[1], self.weights)

    def by_augmenter(
        self, augmented: Float[Tensor, "b c h w"], slope: Float[Tensor, "b c h w"], keep: bool = False
    ) -> Float[Tensor, "n"]:
        """Carry a slope by the augmented images back to the augmenter's weights; `keep` the graph for another."""
        parts = torch.autograd.grad(augmented, self.hyperparameters, slope, retain_graph=keep, allow_unused=True)
        pairs = zip(parts, self.hyperparameters, strict=True)
        return flatten(torch.zeros_like(w) if part is None else part for part, w in pairs)

    def hypergradient(self, call: Call, start: Solution | None) -> tuple[Float[Tensor, "n"], Solution | None]:
        """Let a method find the slope by x̂, and carry it to λ; also return where to start next time."""
        augmented = self.augmented()
        cut = augmented.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        slope, following = call(self, cut, start)
        return self.by_augmenter(augmented, slope), following
