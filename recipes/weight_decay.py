"""Give every weight a weight decay of its own, and overfit the validation set (Lorraine, Vicol and Duvenaud 2020).

    python recipes/weight_decay.py [--data digits] [--images 50] [--steps 2000] [--out weight_decay.png]

As many hyperparameters as weights are enough to make a validation set part of the training set: with 50 images to train
and 50 to validate, the validation loss follows. 76 s of one core for nine trainings. Validation loss (nats) at first
and in the end, digits, seed 0:

    decays            linear           MLP              convolutional
    one for all       0.548 → 0.507    0.490 → 0.475    0.747 → 0.552
    one per unit      0.548 → 0.315    0.490 → 0.651    0.747 → 0.655
    one per weight    0.548 → 0.006    0.490 → 0.002    0.747 → 0.065

With one per weight the test loss ends at 0.41, 0.56 and 1.14: what is fitted is these images. With one per unit, models
with hidden units end above one for all: the MLP's loss climbs after a while, with five products too. An outer learning
rate of 0.03 is worse: the convolutional net dies of one decay for all (2.30).

Which weights share a decay is a line of `GRAINS`; one per layer is `lambda weights: [log_decay() for _ in weights]`.
"""

import argparse
import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from tqdm import tqdm

from augnet.data import source_from
from augnet.implicit import Neumann, joint_descent

MODELS: dict[str, Callable[[int], nn.Sequential]] = {
    "linear": lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes)),
    "MLP": lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(64), nn.ReLU(), nn.LazyLinear(classes)),
    "convolutional": lambda classes: nn.Sequential(
        nn.LazyConv2d(8, 3, stride=2), nn.ReLU(), nn.LazyConv2d(16, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.LazyLinear(classes),
    ),
}  # fmt: skip


def log_decay(*shape: int) -> Tensor:
    """Start at a decay of e⁻⁵, which hardly matters."""
    return torch.full(shape, -5.0, requires_grad=True)


# Which weights share a decay: its logarithms for each tensor of weights, in a shape that broadcasts to that tensor's.
GRAINS: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
    "one for all": lambda weights: [log_decay()] * len(weights),
    "one per unit": lambda weights: [log_decay(len(w), *[1] * (w.ndim - 1)) for w in weights],
    "one per weight": lambda weights: [log_decay(*w.shape) for w in weights],
}


class Images(NamedTuple):
    """Images (n, c, h, w) with labels (n,) to train on, validate on and test on, and the number of classes."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


class Tuned(NamedTuple):
    """What came of a run.

    Args:
        hyperparameters: how many decays were learned.
        validation: validation loss at every outer step, before it; nats.
        train_loss, test_loss: at the end, without the decay; nats.
        test_accuracy: at the end, a share.
        resets: how often the inverse-Hessian product blew up.
    """

    hyperparameters: int
    validation: list[float]
    train_loss: float
    test_loss: float
    test_accuracy: float
    resets: int


def load(data: str, images: int, seed: int) -> Images:
    """Read as few images to train and to validate, and all for the test."""
    splits = dataclasses.replace(source_from(data), train_size=images, val_size=images).load(seed)
    if splits.test is None:
        raise ValueError(f"{data!r} sets no test images apart; give test/ or test.npz beside the training images")
    train, val, test = (part.batch(range(len(part))) for part in (splits.train, splits.val, splits.test))
    return Images(train, val, test, len(splits.classes))


def tune(images: Images, model: str, grain: str, steps: int, seed: int = 0, rate: float = 0.01) -> Tuned:
    """Train a network and its weight decays side by side; `rate` is the outer learning rate."""
    torch.manual_seed(seed)
    network = MODELS[model](images.classes)
    network(images.train[0])  # tells lazy layers their sizes
    weights: list[Tensor] = list(network.parameters())
    log_decays = GRAINS[grain](weights)
    shared = list({id(tensor): tensor for tensor in log_decays}.values())
    validation: list[float] = []

    def loss(part: tuple[Tensor, Tensor]) -> Tensor:
        return cross_entropy(network(part[0]), part[1])

    def training_loss() -> Tensor:
        decay = [(d.exp() * w.square()).sum() / 2 for d, w in zip(log_decays, weights, strict=True)]
        return loss(images.train) + torch.stack(decay).sum()

    with tqdm(total=steps, desc=f"{model}, {grain}") as bar:

        def report(step: int, train: float, val: float) -> None:
            bar.update()
            if step >= steps // 10:
                validation.append(val)

        ended = joint_descent(
            training_loss, lambda: loss(images.val), Adam(weights, lr=0.003), Adam(shared, lr=rate),
            Neumann(steps=1), steps=steps, warmup=steps // 10, report=report,
        )  # fmt: skip
    with torch.no_grad():
        accuracy = (network(images.test[0]).argmax(1) == images.test[1]).float().mean()
        train_loss, test_loss = float(loss(images.train)), float(loss(images.test))
    number = sum(tensor.numel() for tensor in shared)
    return Tuned(number, validation, train_loss, test_loss, float(accuracy), ended.resets)


def draw(found: dict[str, dict[str, Tuned]]) -> Figure:
    """Draw the validation loss over training, and where it ends by the number of decays."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    over_time, by_number = figure.subplots(1, 2, sharey=True)
    for number, (model, runs) in enumerate(found.items()):
        *_, finest = runs.values()
        over_time.plot(finest.validation, color=f"C{number}", label=model)
        ends = [(run.hyperparameters, run.validation[-1]) for run in runs.values()]
        by_number.plot(*zip(*ends, strict=True), "o-", color=f"C{number}", label=model)
    over_time.set(xlabel="outer steps", ylabel="validation loss (nats)", yscale="log", title="one decay per weight")
    by_number.set(xlabel="weight decays learned", xscale="log", title="where it ends")
    by_number.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, a folder, an .npz file, a torchvision name")
    parser.add_argument("--images", type=int, default=50, help="training images, and as many validation images")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="weight_decay.png")
    options = parser.parse_args()
    # Weights that a strong decay drives to 1e-40 would slow every product tenfold.
    torch.set_flush_denormal(True)
    images = load(options.data, options.images, options.seed)
    found = {
        model: {grain: tune(images, model, grain, options.steps, options.seed) for grain in GRAINS} for model in MODELS
    }
    print(
        "| model | decays | number | validation loss | training | test | test accuracy | resets |\n" + "|---" * 8 + "|"
    )
    for model, runs in found.items():
        for grain, run in runs.items():
            print(
                f"| {model} | {grain} | {run.hyperparameters:,} | "
                f"{run.validation[0]:.3f} → {run.validation[-1]:.4f} | "
                f"{run.train_loss:.4f} | {run.test_loss:.3f} | {run.test_accuracy:.1%} | {run.resets} |"
            )
    draw(found).savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
