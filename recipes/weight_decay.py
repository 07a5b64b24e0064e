"""Give every weight a weight decay of its own, and overfit the validation set (Lorraine, Vicol and Duvenaud 2020).

    python recipes/weight_decay.py [--data digits] [--images 50] [--steps 2000] [--out weight_decay.png]

As many hyperparameters as weights are enough to make a validation set part of the training set: with 50 images to train
and 50 to validate, the validation loss follows. 105 s of one core for nine trainings. Validation loss (nats) at first
and in the end, digits, seed 0:

    decays            linear           MLP              convolutional
    one for all       0.548 → 0.507    0.487 → 0.492    0.590 → 0.552
    one per unit      0.548 → 0.315    0.487 → 0.188    0.590 → 0.277
    one per weight    0.548 → 0.006    0.487 → 0.001    0.590 → 0.003

With one per weight the test loss ends at 0.41, 0.34 and 0.43: what is fitted is these images. Units are
saturating (tanh). With others it is harder: with ReLUs one decay per weight reaches 0.006 (MLP) and 0.165
(convolutional), and one per unit ends above one for all; with ReLU, SiLU and softplus alike the MLP's loss falls to
about 0.3 there and then climbs, to 0.6 to 1.1.

Which weights share a decay is a line of `GRAINS`; one per layer is `lambda weights: [log_decay() for _ in weights]`.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from tqdm import trange

from augnet.data import Splits, source_from
from augnet.implicit import Neumann, joint_descent

MODELS: dict[str, Callable[[int], nn.Sequential]] = {
    "linear": lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(classes)),
    "MLP": lambda classes: nn.Sequential(nn.Flatten(), nn.LazyLinear(64), nn.Tanh(), nn.LazyLinear(classes)),
    "convolutional": lambda classes: nn.Sequential(
        nn.LazyConv2d(8, 3, stride=2), nn.Tanh(), nn.LazyConv2d(16, 3, stride=2), nn.Tanh(), nn.Flatten(),
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


class Tuned(NamedTuple):
    """What came of a run.

    Args:
        hyperparameters: how many decays were learned.
        validation: validation loss at every outer step, before it; nats.
        train_loss, test_loss: at the end, without the decay; nats.
        test_accuracy: at the end, a share.
    """

    hyperparameters: int
    validation: list[float]
    train_loss: float
    test_loss: float
    test_accuracy: float


def tune(splits: Splits, model: str, grain: str, steps: int, seed: int = 0, rate: float = 0.01) -> Tuned:
    """Train a network and its weight decays side by side; `rate` is the outer learning rate."""
    torch.manual_seed(seed)
    train, val, test = splits.tensors()
    network = MODELS[model](len(splits.classes))
    network(train[0])  # tells lazy layers their sizes
    weights: list[Tensor] = list(network.parameters())
    log_decays = GRAINS[grain](weights)
    # One that several tensors share is learned once.
    learned = list({id(tensor): tensor for tensor in log_decays}.values())

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(network(images), labels)

    def training_loss() -> Tensor:
        decay = [(d.exp() * w.square()).sum() / 2 for d, w in zip(log_decays, weights, strict=True)]
        return loss(*train) + torch.stack(decay).sum()

    went = joint_descent(
        training_loss, lambda: loss(*val), Adam(weights, lr=0.003), Adam(learned, lr=rate), Neumann(steps=1),
        steps=trange(steps, desc=f"{model}, {grain}"), warmup=steps // 10,
    )  # fmt: skip
    with torch.no_grad():
        accuracy = (network(test[0]).argmax(1) == test[1]).float().mean()
        ends = float(loss(*train)), float(loss(*test)), float(accuracy)
    return Tuned(sum(tensor.numel() for tensor in learned), went.validation, *ends)


def draw(found: dict[str, dict[str, Tuned]]) -> Figure:
    """Draw the validation loss over training, and where it ends by the number of decays."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    over_time, by_number = figure.subplots(1, 2, sharey=True)
    for number, (model, runs) in enumerate(found.items()):
        by_size = sorted(runs.values(), key=lambda run: run.hyperparameters)
        over_time.plot(by_size[-1].validation, color=f"C{number}", label=model)
        ends = [(run.hyperparameters, run.validation[-1]) for run in by_size]
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
    splits = replace(source_from(options.data), train_size=options.images, val_size=options.images).load(options.seed)
    found = {
        model: {grain: tune(splits, model, grain, options.steps, options.seed) for grain in GRAINS} for model in MODELS
    }
    print("| model | decays | number | validation loss | training | test | test accuracy |\n" + "|---" * 7 + "|")
    for model, runs in found.items():
        for grain, run in runs.items():
            validation = f"{run.validation[0]:.3f} → {run.validation[-1]:.4f}"
            ends = f"{run.train_loss:.4f} | {run.test_loss:.3f} | {run.test_accuracy:.1%}"
            print(f"| {model} | {grain} | {run.hyperparameters:,} | {validation} | {ends} |")
    draw(found).savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
