"""Corrupt 40 % of the training labels, and learn a network that gives each example its weight.

    python recipes/reweighting.py [--data digits] [--corrupted 0.4] [--trusted 100] [--out reweighting.png]

The network sees an example's loss and gives a weight (Shu et al. 2019); its 97 weights learn from 100 trusted images by
implicit differentiation. 20 s of one core for four trainings. Test accuracy, digits, seed 0:

    training on                      at the end    at best
    all, learned weights             94.3 %        94.8 %
    all, equal weights               81.5 %        93.2 %
    the trusted images only          89.1 %        89.3 %
    the clean part only              96.2 %        96.3 %

A corrupted example weighs less than a clean one with probability (AUC) 0.997.
"""

import argparse
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from tqdm import trange

from augnet.data import source_from
from augnet.implicit import Neumann, joint_descent

BATCH = 128


class Noisy(NamedTuple):
    """Training images with some wrong labels; a few trusted images; test images."""

    images: Float[Tensor, "n c h w"]
    labels: Int64[Tensor, "n"]
    corrupted: Bool[Tensor, "n"]
    trusted: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int


class Learned(NamedTuple):
    """The weight of every training example, in (0, 1), and the test accuracy at fifty moments and in the end."""

    weights: Float[Tensor, "n"]
    accuracy: list[float]


def corrupt(data: str, share: float, trusted: int, seed: int = 0) -> Noisy:
    """Read images and give a share of the training ones another label, each wrong one as likely."""
    if not 0 <= share < 1:
        raise ValueError(f"the share of corrupted labels is {share} and must be from 0 to below 1")
    splits = replace(source_from(data), val_size=trusted).load(seed)
    (images, labels), val, test = splits.tensors()
    generator, classes = torch.Generator().manual_seed(seed), len(splits.classes)
    corrupted = torch.rand(len(labels), generator=generator) < share
    others = (labels + torch.randint(1, classes, labels.shape, generator=generator)) % classes
    return Noisy(images, torch.where(corrupted, others, labels), corrupted, val, test, classes)


def train(noisy: Noisy, steps: int, warmup: int, seed: int = 0) -> Learned:
    """Train a classifier and, after the warm-up, the network that weights its examples by their losses."""
    torch.manual_seed(seed)
    classifier = nn.Sequential(nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, noisy.classes))
    classifier(noisy.images[:1])  # tells the lazy layer its size
    last = nn.Linear(32, 1)
    # All weights are one half at first: equal.
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    weigher = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), last, nn.Sigmoid())
    accuracy = []

    def losses(rows: Tensor) -> Tensor:
        return cross_entropy(classifier(noisy.images[rows]), noisy.labels[rows], reduction="none")

    def weigh(losses: Tensor) -> Tensor:
        return weigher(losses.detach()[:, None])[:, 0]

    def training_loss() -> Tensor:
        found = losses(torch.randint(len(noisy.images), (BATCH,)))
        weights = weigh(found)
        return (weights * found).sum() / weights.sum()

    def test(step: int, *_: float) -> None:
        if step % -(-steps // 50) == 0:
            with torch.no_grad():
                accuracy.append(float((classifier(noisy.test[0]).argmax(1) == noisy.test[1]).float().mean()))

    kind = "learned" if warmup < steps else "equal"
    joint_descent(
        training_loss, lambda: cross_entropy(classifier(noisy.trusted[0]), noisy.trusted[1]),
        Adam(classifier.parameters(), lr=0.001), Adam(weigher.parameters(), lr=0.001), Neumann(steps=1),
        steps=trange(steps, desc=f"{len(noisy.images):,} examples, {kind} weights"), warmup=warmup, report=test,
    )  # fmt: skip
    test(0)
    with torch.no_grad():
        return Learned(weigh(losses(torch.arange(len(noisy.images)))), accuracy)


def compare(noisy: Noisy, steps: int, seed: int = 0) -> dict[str, Learned]:
    """Train with learned weights, with equal ones, on the clean part alone and on the trusted images alone."""
    clean = noisy._replace(images=noisy.images[~noisy.corrupted], labels=noisy.labels[~noisy.corrupted])
    trusted = noisy._replace(images=noisy.trusted[0], labels=noisy.trusted[1])
    return {
        "learned weights": train(noisy, steps, steps // 20, seed),
        "equal weights": train(noisy, steps, steps, seed),
        "trusted images only": train(trusted, steps, steps, seed),
        "clean part only": train(clean, steps, steps, seed),
    }


def draw(noisy: Noisy, found: dict[str, Learned]) -> Figure:
    """Draw the weights of clean and corrupted examples, and test accuracy over training."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_weight, over_time = figure.subplots(1, 2)
    weights = found["learned weights"].weights
    parts = [weights[~noisy.corrupted].numpy(), weights[noisy.corrupted].numpy()]
    by_weight.hist(parts, bins=20, label=["right label", "wrong label"], color=["C0", "C3"])
    by_weight.set(xlabel="learned weight", ylabel="training examples")
    by_weight.legend(frameon=False)
    for name, learned in found.items():
        over_time.plot(torch.linspace(0, 100, len(learned.accuracy)), learned.accuracy, label=name)
    lowest = min(min(learned.accuracy[len(learned.accuracy) // 10 :]) for learned in found.values())
    over_time.set(xlabel="training done (%)", ylabel="share of test images right", ylim=(lowest - 0.02, 1))
    over_time.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, a folder, an .npz file, a torchvision name")
    parser.add_argument("--corrupted", type=float, default=0.4, help="share of training labels made wrong")
    parser.add_argument("--trusted", type=int, default=100, help="validation images, whose labels are right")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="reweighting.png")
    options = parser.parse_args()
    noisy = corrupt(options.data, options.corrupted, options.trusted, options.seed)
    found = compare(noisy, options.steps, options.seed)
    print("| training | test accuracy at the end | at best |\n|---|---|---|")
    for name, learned in found.items():
        print(f"| {name} | {learned.accuracy[-1]:.1%} | {max(learned.accuracy):.1%} |")
    found_as = roc_auc_score(~noisy.corrupted, found["learned weights"].weights)
    print(f"\ncorrupted examples weigh less than clean ones: AUC {found_as:.3f}")
    draw(noisy, found).savefig(options.out, dpi=150)


if __name__ == "__main__":
    main()
