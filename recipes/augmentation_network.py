"""Learn the paper's augmentation network: a small U-Net paints on the training images, each weight a hyperparameter.

    python recipes/augmentation_network.py [--data digits] [--size 100] [--seeds 0 1 2]
    python recipes/augmentation_network.py --data cifar10 --root data --full     # ResNet-18, wants a GPU

"None" keeps the network as it starts, and the last column averages predictions over 16 painted copies of a test image.
Four minutes of one core; 6,497 hyperparameters; 100 digits to train on and 100 to validate; means of three seeds:

    row               | test accuracy | averaged over copies
    no network        | 91.6 %        | 91.6 %
    none              | 89.7 %        | 91.2 %
    regulariser alone | 92.1 %        | 92.1 %
    identity          | 91.3 %        | 92.2 %
    Neumann           | 91.9 %        | 92.2 %
    unrolled          | 91.8 %        | 92.4 %

The order is the paper's (learning beats none, Neumann terms do as well as unrolled steps, the identity less), but the
hypergradient does not deserve it: the reference code's regulariser, which asks for draws that differ, does as much
alone, and all are within the noise of leaving the network out. `--full` was never run.
"""

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.autograd import grad
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import trange

from augnet import Classifier, ClassifierConfig
from augnet.augmenter import UNet
from augnet.classifier import running_statistics_kept
from augnet.data import Splits, all_batches, batches, source_from
from augnet.implicit import Identity, InverseHessian, Neumann, hypergradient, unrolled_hypergradient

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Neumann terms or unrolled steps, and the inner learning rate, which is their α.
STEPS, RATE = 3, 0.05


def implicit(inverse: InverseHessian) -> Callable[..., Sequence[Tensor]]:
    return lambda train, val, w, learned: hypergradient(train(w), val(w), w, learned, inverse).gradients


# How each row finds its hypergradient, given training and validation loss as functions of the classifier's weights,
# these weights, and the painter's; rows with None do not learn, and the first has no painter.
ROWS: dict[str, Callable[..., Sequence[Tensor]] | None] = {
    "no network": None,
    "none": None,
    "regulariser alone": lambda train, val, weights, learned: grad(val(weights), learned),
    "identity": implicit(Identity()),
    "Neumann": implicit(Neumann(steps=STEPS, step_size=RATE)),
    "unrolled": lambda *given: unrolled_hypergradient(*given, steps=STEPS, step_size=RATE).gradients,
}


class Painter(nn.Module):
    """The paper's network: image and one number of noise in, image plus a residual out; 6,659 weights on RGB images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unet = UNet(inputs=channels + 1, outputs=channels, depth=2, width=8)

    def forward(self, images: Tensor) -> Tensor:
        noise = torch.randn(len(images), 1, 1, 1, device=images.device).expand(-1, -1, *images.shape[-2:])
        # As in the reference code nothing is cut off; a quarter of full scale is about ±1 where images are normalised.
        return images + self.unet.decode(self.unet.encode(torch.cat([images, noise], dim=1))).tanh() / 4

    def regulariser(self, images: Tensor, draws: int = 4) -> Tensor:
        """Give how far the mean of draws is from the image, less their spread, as the reference code does."""
        painted = torch.stack([self(images) for _ in range(draws)])
        return (painted.mean(dim=0) - images).abs().mean() - painted.std(dim=0).mean()


def make_classifier(splits: Splits, full: bool) -> Classifier:
    """Make the paper's ResNet-18, or a small network; with group norm, since batch norm takes back constant shifts."""
    if full:
        return Classifier.build(ClassifierConfig(name="resnet18"), len(splits.classes), splits.channels, splits.size)
    layers: list[nn.Module] = []
    for width in (16, 32, 64):
        layers += [nn.LazyConv2d(width, 3, padding=1), nn.GroupNorm(4, width), nn.ReLU(), nn.AvgPool2d(2)]
    small = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(len(splits.classes)))
    small(torch.zeros(1, splits.channels, *splits.size))  # tells lazy layers their sizes
    return Classifier(small, [0.5] * splits.channels, [0.25] * splits.channels)


def train(
    splits: Splits, row: str, *, full: bool = False, steps: int, batch: int = 64, seed: int = 0
) -> tuple[Painter | None, float, float]:
    """Give a painter, trained beside a classifier, and accuracies: of plain test images, and averaged over copies."""
    torch.manual_seed(seed)
    classifier, rule = make_classifier(splits, full).to(DEVICE), ROWS[row]
    painter = None if row == "no network" else Painter(splits.channels).to(DEVICE)
    learned = [] if rule is None else list(painter.parameters())
    names, weights = (list(column) for column in zip(*classifier.named_parameters(), strict=True))
    inner = torch.optim.SGD(weights, lr=RATE, momentum=0.9, nesterov=True)
    outer = torch.optim.Adam(learned or [torch.zeros(0)])
    schedule = OneCycleLR(inner, RATE, steps, pct_start=0.1, cycle_momentum=False)
    training, validation = batches(splits.train, batch, seed), batches(splits.val, 128, seed + 1)

    def loss(weights: list[Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(functional_call(classifier, dict(zip(names, weights, strict=True)), (images,)), labels)

    def training_loss(weights: list[Tensor]) -> Tensor:
        return loss(weights, painted, labels) + 2.5e-4 * torch.stack([w.square().sum() for w in weights]).sum()

    def validation_loss(weights: list[Tensor]) -> Tensor:
        return loss(weights, *unseen) + painter.regulariser(unseen[0])

    for step in trange(steps, desc=f"{row}, seed {seed}"):
        images, labels = (tensor.to(DEVICE) for tensor in next(training)[:2])
        painted = painter(images) if painter else images
        if rule and step >= steps // 10 and step % 3 == 0:
            unseen = [tensor.to(DEVICE) for tensor in next(validation)[:2]]
            with running_statistics_kept(classifier):
                slopes = rule(training_loss, validation_loss, weights, learned)
            for weight, slope in zip(learned, slopes, strict=True):
                weight.grad = slope
            outer.param_groups[0]["lr"] = 0.0015 * (1 + math.cos(math.pi * step / steps))
            outer.step()
        painted = painted.detach()
        for weight, slope in zip(weights, grad(training_loss(weights), weights), strict=True):
            weight.grad = slope
        inner.step()
        schedule.step()
    classifier.eval()
    right, total = torch.zeros(2), 0
    with torch.no_grad():
        for images, labels, _ in all_batches(splits.test, 256):
            images = images.to(DEVICE)
            copies = [classifier(painter(images) if painter else images).softmax(1) for _ in range(16)]
            guesses = torch.stack([classifier(images), torch.stack(copies).mean(dim=0)]).argmax(dim=-1).cpu()
            right, total = right + (guesses == labels).sum(dim=1), total + len(labels)
    return painter, *(right / total).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="digits, a folder, an .npz file, a torchvision name")
    parser.add_argument("--root", help="folder of torchvision's data")
    parser.add_argument("--full", action="store_true", help="ResNet-18 on all images for 60,000 steps; wants a GPU")
    parser.add_argument("--size", type=int, default=100, help="training images, and validation images; not with --full")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", default="augmentation_network.png")
    options = parser.parse_args()
    source = source_from(options.data, options.root)
    source = source if options.full else replace(source, train_size=options.size, val_size=options.size)
    size = {"full": True, "steps": 60_000, "batch": 128} if options.full else {"steps": 300}
    splits = {seed: source.load(seed) for seed in options.seeds}
    found = {row: [train(splits[seed], row, seed=seed, **size) for seed in options.seeds] for row in options.rows}
    print("| row | test accuracy | averaged over copies | every seed |\n|---|---|---|---|")
    for row, trained in found.items():
        plain, averaged = (statistics.mean(one[place] for one in trained) for place in (1, 2))
        every = ", ".join(f"{plain:.1%} / {averaged:.1%}" for _, plain, averaged in trained)
        print(f"| {row} | {plain:.1%} | {averaged:.1%} | {every} |")
    images = splits[options.seeds[0]].train.batch(range(12))[0].to(DEVICE)
    sheet = {"as they are": images}
    for row, ((painter, *_), *_) in found.items():  # two draws of the first seed's noise
        sheet |= {f"{row}, {number}": painter(images).detach() for number in (1, 2) if painter}
    rows = [torch.cat([*shown.clamp(0, 1).cpu()], dim=2) for shown in sheet.values()]
    figure = Figure(figsize=(9, 0.75 * len(sheet)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(torch.cat(rows, dim=1).permute(1, 2, 0), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[(place + 0.5) * images.shape[-2] for place in range(len(sheet))], yticklabels=sheet)
    figure.savefig(options.out, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    main()
