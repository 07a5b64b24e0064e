"""What was learned: the distribution of every transform's amounts over the data, beside its limits."""

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from augnet.augmenter import Augmenter
from augnet.show.canvas import BLUE, INK, SKY, Place, limit_of, place, plain
from augnet.show.decisions import decide

DRAWS = 8
BINS = 48
RESAMPLES = 1000
# Of a distribution's peak, in rows.
TALL = 0.75


def bootstrap(values: Float[Tensor, "b k"], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Give the mean over images, and below and above it the ends of its 95 % interval: (k,) and (2, k).

    Percentiles of the means of images drawn with replacement (Efron 1979).
    """
    generator = torch.Generator().manual_seed(seed)
    mean = values.mean(dim=0)
    means = torch.stack(
        [values[torch.randint(len(values), (len(values),), generator=generator)].mean(dim=0) for _ in range(RESAMPLES)]
    )
    low, high = means.quantile(torch.tensor([0.025, 0.975]), dim=0)
    return mean, torch.stack([(mean - low).clamp(min=0), (high - mean).clamp(min=0)])


def amounts(
    augmenter: Augmenter, images: Float[Tensor, "b c h w"], *, seed: int = 0, on: Place | None = None
) -> Figure:
    """Show each transform's amounts where it is applied, its centre and spread, and how often it is applied.

    Rows are ordered by use: the share of the limit that is reached, times how often. Error bars are 95 % intervals of
    means over images, by bootstrap.

    Args:
        augmenter: what to show.
        images: values in [0, 1].
        seed: fixes the noise and the bootstrap.
        on: see `place`.

    Raises:
        ValueError: if the augmenter has no transforms.
    """
    policies = decide(augmenter, images, DRAWS, seed)
    centre, spread, often = (
        bootstrap(torch.stack([getattr(policy, part) for policy in policies]).mean(dim=0), seed)
        for part in ("centre", "spread", "probability")
    )
    use = torch.stack([policy.use for policy in policies]).mean(dim=(0, 1))
    applied = torch.cat([policy.amounts for policy in policies])
    order = use.argsort(descending=True).tolist()
    sheet = place(on, 9, 1.1 + 0.42 * len(order))
    left, middle, right = sheet.subplots(1, 3, sharey=True, width_ratios=[3, 1, 1])
    for line, k in enumerate(order):
        transform = augmenter.transforms[k]
        points = {right: often}
        if not transform.choice:
            points |= {left: centre, middle: spread}
            _ridge(left, applied[:, k] / transform.limit, line, transform.signed)
        for axes, (mean, error) in points.items():
            # Amounts without a sign are the sizes of what the policy decides.
            at = float(mean[k]) if transform.signed else abs(float(mean[k]))
            axes.errorbar(at, line, xerr=error[:, k, None], fmt="o", color=INK, markersize=4, capsize=3, linewidth=1.5)
    transforms = [augmenter.transforms[k] for k in order]
    names = [f"{t.label}\n{limit_of(t)}" for t in transforms]
    left.set(xlim=(-1.02, 1.02), xlabel="amount, share of the limit")
    left.set_yticks(range(len(order)), names, fontsize=8)
    left.set_ylim(len(order) - 0.4, -0.9)
    middle.set(xlim=(-0.02, 1.02), xlabel="spread, of the limit")
    right.set(xlim=(-0.02, 1.02), xlabel="share of images")
    for axes in (left, middle, right):
        plain(axes).grid(axis="x", alpha=0.3)
        axes.xaxis.label.set_fontsize(8)
    for end in (-1, 1):
        left.axvline(end, color=INK, linewidth=1, linestyle=":")
    for axes, title in ((left, "amounts where applied; dot: centre"), (middle, "spread"), (right, "how often")):
        axes.set_title(title, fontsize=9)
    return sheet.figure


def _ridge(axes, magnitudes: Float[Tensor, "m"], line: int, signed: bool) -> None:
    """Draw the distribution of the magnitudes of images to which the transform is applied."""
    found = magnitudes[magnitudes != 0]
    if len(found) == 0:
        return
    counts = torch.histc(found, BINS, -1, 1)
    edges = torch.linspace(-1, 1, BINS + 1)
    heights = line - TALL * counts / counts.max()
    axes.stairs(heights.numpy(), edges.numpy(), baseline=line, fill=True, color=SKY, alpha=0.6)
    axes.stairs(heights.numpy(), edges.numpy(), baseline=line, color=BLUE, linewidth=0.8)
    if not signed:
        axes.hlines(line, -1, 0, color=INK, linewidth=0.6, alpha=0.3)
