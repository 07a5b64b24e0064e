"""A plain policy: what a learned augmenter does on average, as standard operations that know nothing of the image.

Each transform gets a probability and an even range of amounts: those nearest to what the U-Net decides over a set of
images. What is lost is measured as a distance between distributions of amounts, in shares of the transform's limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import v2

from augnet.augmenter import Augmenter, Policy
from augnet.export.torchvision_code import code, compose
from augnet.transforms import DifferentiableTransform, LinearColour
from augnet.transforms.warp import Flow, Warp

# Shares of the limit at which distributions are compared: the middles of this many steps from −1 to 1.
GRID = 1000
# The U-Net's decision may depend on its noise: it is asked this often per image.
DRAWS = 8
# Used less than this (probability times share of the limit), a transform is not worth a line. Choices have a
# probability of 0.01 at least, so that one which was learned away stays below.
LEAST_USE = 0.02
# Distances below this are as good as none.
SEEN = 0.0005


class Step(NamedTuple):
    """One transform of a plain policy.

    Args:
        transform: which, with its limit and unit.
        probability: of being applied.
        low: smallest amount, in the transform's unit; 1 for a choice.
        high: largest amount; amounts between the two are equally likely.
        loss: 1-Wasserstein distance, in shares of the limit, from the amounts that the U-Net gives to all images.
        loss_by_image: the same from those that it gives to one image, averaged over images.
    """

    transform: DifferentiableTransform
    probability: float
    low: float
    high: float
    loss: float
    loss_by_image: float

    @property
    def use(self) -> float:
        """How much it is used: the largest share of the limit, times how often; for a choice, how often."""
        return self.probability * max(abs(self.low), abs(self.high)) / self.transform.limit

    @property
    def words(self) -> str:
        """Say it as a person would."""
        often = f"p {self.probability:.2f}"
        if self.transform.choice:
            return f"{self.transform.label} {often}"
        return f"{self.transform.label} {self.low:+.3g} to {self.high:+.3g} {self.transform.unit}, {often}"


@dataclass(frozen=True, kw_only=True)
class PlainPolicy:
    """Standard operations, each at random and on its own, in the order in which the augmenter applies them.

    Args:
        steps: what is done.
        left_out: what the augmenter does too little to be worth a line.
        size: height and width of the images that it was fitted to, in pixels.
        colour: their mean colour, one number in [0, 1] per channel.
        painted: what the augmenter may add to a pixel and no operation does, share of full scale.
    """

    steps: tuple[Step, ...]
    left_out: tuple[Step, ...]
    size: tuple[int, int]
    colour: tuple[float, ...]
    painted: float = 0.0

    @classmethod
    def fit(
        cls, augmenter: Augmenter, images: Float[Tensor, "b c h w"], *, strength: float = 1.0, seed: int = 0
    ) -> "PlainPolicy":
        """Fit a plain policy to what an augmenter decides on these images.

        Probabilities are averages. The range is the even distribution nearest in 2-Wasserstein distance to that of the
        amounts where the transform is applied: with G its distribution function, the middle is the mean and the width
        6 ∫ G (1 − G), since the best line through a quantile function has the slope of its second L-moment (Hosking
        1990). Limits cut it off.

        Args:
            augmenter: what to fit to.
            images: values in [0, 1]; those that it was trained on, or a sample of some hundreds.
            strength: of the augmenter.
            seed: of its noise.

        Raises:
            ValueError: if the augmenter has no transforms, if there are no images, or their channels do not fit.
        """
        if not augmenter.transforms:
            raise ValueError("this augmenter paints a residual and has no transforms, so no plain policy is like it")
        if len(images) == 0 or images.shape[1] != augmenter.channels:
            raise ValueError(
                f"a plain policy is fitted to images of {augmenter.channels} channel(s), found shape "
                f"{tuple(images.shape)}"
            )
        policy = decisions(augmenter, images, strength, seed)
        fitted = [_fit(transform, policy, k) for k, transform in enumerate(augmenter.transforms)]
        fitted.sort(key=lambda step: _turn(step.transform))
        height, width = images.shape[-2:]
        return cls(
            steps=tuple(step for step in fitted if step.use >= LEAST_USE),
            left_out=tuple(step for step in fitted if step.use < LEAST_USE),
            size=(height, width),
            colour=tuple(images.mean((0, 2, 3)).tolist()),
            painted=augmenter.config.residual_limit * min(1.0, strength),
        )

    @property
    def loss(self) -> float:
        """Mean over all transforms of their distance from the U-Net's amounts for one image, in shares of the limit."""
        steps = self.steps + self.left_out
        return sum(step.loss_by_image for step in steps) / len(steps)

    @property
    def unpainted(self) -> list[str]:
        """Say in a line that the painted residual is left out, if there is one."""
        return [f"Left out: painted change up to {self.painted:.3g} of full scale."] if self.painted else []

    def transform(self) -> v2.Compose:
        """Make it a torchvision transform: images of any kind in, float images in [0, 1] out.

        A batch in one tensor gets one draw for all its images. It is pickled by reference to augnet.
        """
        return compose(self.steps)

    def code(self, heading: Sequence[str] = ()) -> str:
        """Write it as a Python module that makes `transform` and needs torch and torchvision alone.

        Args:
            heading: lines of a comment at the top.
        """
        return code(self, heading)

    def table(self) -> list[str]:
        """Say what is done, a line per transform, the most used first, and what is lost by that and not painted."""
        steps = sorted(self.steps + self.left_out, key=lambda step: step.use, reverse=True)
        if steps[0].use == 0:
            return ["It changes nothing."]
        rows = []
        for step in steps:
            left_out = "" if step in self.steps else f"; left out, its use is {step.use:.2f}"
            off = f"; off by {step.loss:.3f}, image by image {step.loss_by_image:.3f}"
            rows.append(step.words + left_out + (off if step.loss_by_image >= SEEN else ""))
        lost = f"1-Wasserstein distance from the U-Net's amounts, mean over transforms: {self.loss:.3f} of their limits"
        return [*rows, lost, *self.unpainted]


def decisions(augmenter: Augmenter, images: Float[Tensor, "b c h w"], strength: float, seed: int) -> Policy:
    """Ask the U-Net about every image `DRAWS` times; the rows of one image stand `len(images)` apart."""
    with torch.no_grad():
        parts = []
        generator = torch.Generator().manual_seed(seed)
        for _ in range(DRAWS):
            noise = augmenter.draw_noise(len(images), generator)
            parts.append(augmenter.policy(images, noise, strength))
    return Policy(*(torch.cat(field) for field in zip(*parts, strict=True)))


def _turn(transform: DifferentiableTransform) -> int:
    """Say when the augmenter's turn for a transform is: warps, linear colour, all else (`fuse.apply`)."""
    return 0 if isinstance(transform, Warp | Flow) else 1 if isinstance(transform, LinearColour) else 2


def _grid() -> Float[Tensor, "g"]:
    return (torch.arange(GRID, dtype=torch.float64) + 0.5) * (2 / GRID) - 1


def _applied(transform: DifferentiableTransform, policy: Policy, k: int) -> Float[Tensor, "r g"]:
    """Give the distribution function of the magnitude where it is applied, a row per decision (see policy.py)."""
    grid = _grid()
    if transform.choice:
        return torch.zeros(len(policy.centre), GRID, dtype=torch.float64)
    centre = policy.centre[:, k : k + 1].double()
    spread = policy.spread[:, k : k + 1].double().clamp(min=1e-9)

    def below(x: Tensor) -> Tensor:
        return ((x - centre + spread) / (2 * spread)).clamp(0, 1)

    return below(grid) if transform.signed else torch.where(grid >= 0, below(grid) - below(-grid), 0)


def _gated(applied: Float[Tensor, "*r g"], probability: Float[Tensor, "*r"]) -> Float[Tensor, "*r g"]:
    """Give the distribution function of a magnitude that is 0 where it is not applied."""
    p = probability[..., None]
    return p * applied + (1 - p) * (_grid() >= 0)


def _fit(transform: DifferentiableTransform, policy: Policy, k: int) -> Step:
    applied, probability = _applied(transform, policy, k), policy.probability[:, k].double()
    pooled = (probability[:, None] * applied).sum(0) / probability.sum().clamp(min=1e-9)
    step = 2 / GRID
    mean = 1 - float(pooled.sum()) * step
    reach = 3 * float((pooled * (1 - pooled)).sum()) * step
    # Rounded here, so that code, pipeline and distance are of the very same policy.
    chance = round(float(probability.mean()), 3)
    least = -1.0 if transform.signed else 0.0
    low, high = (_rounded(min(1.0, max(least, end)) * transform.limit) for end in (mean - reach, mean + reach))
    if transform.choice:
        low = high = 1.0

    shares = torch.tensor([[low, high]], dtype=torch.float64) / transform.limit
    width = (shares[:, 1:] - shares[:, :1]).clamp(min=1e-9)
    even = ((_grid() - shares[:, :1]) / width).clamp(0, 1)
    plain = _gated(even, torch.tensor([chance], dtype=torch.float64))
    by_image = _gated(applied, probability).unflatten(0, (DRAWS, -1)).mean(0)

    def distance(functions: Tensor) -> float:
        # In one dimension the distance is the area between the distribution functions.
        return float((functions - plain).abs().sum(-1).mean()) * step

    return Step(transform, chance, low, high, distance(by_image.mean(0, keepdim=True)), distance(by_image))


def _rounded(amount: float) -> float:
    return float(f"{amount:.3g}")
