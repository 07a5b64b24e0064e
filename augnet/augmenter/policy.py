"""The policy: from the U-Net's bottleneck and noise to one amount per image and transform.

For transform k an image has a centre c and a spread s, both in magnitudes (1 stands for the transform's limit), and
with noise u uniform on (-1, 1) its magnitude is m = c + s u: signed transforms get the amount limit · m, the others
limit · |m|. It is applied with probability p; a choice, such as a mirror, has nothing but its p.

No gradient passes through a choice that is turned, such as a mirror. Its probability learns from the influence of an
image on the validation loss, with the choice and without it (`OuterLevel.step`): unbiased, where relaxed Bernoulli and
straight-through gradients are not, but for batch norm, through which images see each other, and for the projection,
which treats images of the batch and turned ones a little differently (recipes/benchmarks/tried.md). Between done and
not done of all others lie images too (of a choice of colour, blends), so their probabilities learn from slopes.

A strength other than 1 scales centre, spread and the probability of choices; magnitudes stop at 1 all the same.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from augnet.transforms import DifferentiableTransform

# Raw outputs are multiplied by this, so that one learning rate suits the U-Net's convolutions (weights of about 0.1)
# and the policy, whose raw outputs must travel over several units.
GAIN = 10.0
# Centres move this much slower than spreads: the gradient of a centre averages to nothing where a transform is as good
# to either side, and what is left is noise, in which a fast centre drifts.
CENTRE_SHARE = 0.2
# Probabilities stay off 0 and 1, where a choice would never be tried again.
LEAST_PROBABILITY = 0.01
# Share of its first spread by which a centre or a spread must have moved to be spoken of, or of its first probability.
MOVED = 0.1
# Raw output of spreads and probabilities of what is silent.
SILENT = -40.0


class Policy(NamedTuple):
    """What was decided for each image (b) and transform (k).

    Magnitudes are shares of the transform's limit; `amounts` are in the transform's unit. `use` is the share of the
    limit that is reached, times how often; of a choice, how often.
    """

    centre: Float[Tensor, "b k"]
    spread: Float[Tensor, "b k"]
    probability: Float[Tensor, "b k"]
    amounts: Float[Tensor, "b k"]
    use: Float[Tensor, "b k"]


class PolicyHead(nn.Module):
    """Linear map from bottleneck features to centre, spread and probability.

    Starts the same for all images (no weights, only biases) and at a moderate spread: at spread zero the gradient
    to the spread vanishes by symmetry.

    Args:
        features: channels of the bottleneck.
        transforms: what the policy is for.
        start_spread: spread to begin with, in (0, 1).
        start_probability: probability to begin with, in (0, 1); None takes what is customary of each transform.
        gates: `all` gives every transform a probability of being applied, `choices` only those that are choices.

    Attributes:
        silenced: transforms that `silence` was called for.
    """

    limit: Tensor
    signed: Tensor
    gated: Tensor
    choice: Tensor
    turned: Tensor
    loud: Tensor

    def __init__(
        self,
        features: int,
        transforms: Sequence[DifferentiableTransform],
        *,
        start_spread: float,
        start_probability: float | None,
        gates: str,
    ) -> None:
        super().__init__()
        self.transforms = tuple(transforms)
        self.linear = nn.Linear(features, 3 * len(transforms))
        nn.init.zeros_(self.linear.weight)
        probabilities = [first_probability(t, start_probability) for t in transforms]
        start = [0.0] * len(transforms) + [_logit(start_spread)] * len(transforms) + [_logit(p) for p in probabilities]
        with torch.no_grad():
            self.linear.bias.copy_(torch.tensor(start) / GAIN)
        self.register_buffer("limit", torch.tensor([t.limit for t in transforms]), persistent=False)
        self.register_buffer("signed", torch.tensor([t.signed for t in transforms]), persistent=False)
        gated = torch.tensor([t.choice or gates == "all" for t in transforms])
        self.register_buffer("gated", gated, persistent=False)
        self.register_buffer("choice", torch.tensor([t.choice for t in transforms]), persistent=False)
        self.register_buffer("turned", torch.tensor([t.turned for t in transforms]), persistent=False)
        self.register_buffer("loud", torch.ones(len(transforms)), persistent=False)
        self.silenced: list[DifferentiableTransform] = []

    def forward(
        self,
        features: Float[Tensor, "b features"],
        noise: Float[Tensor, "b k"],
        dice: Float[Tensor, "b k"],
        strength: float = 1.0,
    ) -> Policy:
        """Decide; `noise` and `dice` are uniform on (-1, 1)."""
        centre, spread, probability = self._ranges(features, strength)
        drawn = dice + 1 < 2 * probability
        chances = torch.where(drawn, probability, 1 - probability)
        ones = torch.ones_like(probability)
        magnitude = torch.where(self.choice, ones, self._magnitude(centre, spread, noise))
        # Forward done or not done; backward the trapezoid rule between the two (ReinMax, Liu et al. 2023): the slope at
        # either end, each weighted as if both ends were as likely.
        # A strength above 1 makes a choice certain; what then cannot happen, and happens by rounding, has no slope.
        slope = (0.5 / chances.clamp(min=LEAST_PROBABILITY)).detach()
        gate = drawn.to(probability) + slope * (probability - probability.detach())
        amounts = torch.where(self.gated, gate, ones) * self.limit * magnitude
        amounts = torch.where(self.turned, drawn.to(amounts), amounts)
        probability = torch.where(self.gated, probability, ones)
        use = probability * torch.where(self.choice, ones, (centre.abs() + spread).clamp(max=1))
        return Policy(centre, spread, probability, amounts, use)

    @torch.no_grad()
    def silence(self, transforms: Collection[DifferentiableTransform]) -> None:
        """Apply some transforms no more, whatever is learned from now on; a file keeps them at their least."""
        silenced = [*self.silenced, *transforms]
        self.silenced = [transform for transform in self.transforms if transform in silenced]
        self.loud = self.loud.new_tensor([transform not in silenced for transform in self.transforms])
        for part, raw in enumerate((0.0, SILENT, SILENT)):
            rows = part * len(self.transforms) + (self.loud == 0).nonzero()[:, 0]
            self.linear.weight[rows] = 0
            self.linear.bias[rows] = raw / GAIN

    @torch.no_grad()
    def amounts(
        self,
        features: Float[Tensor, "b features"],
        noise: Float[Tensor, "b k"],
        dice: Float[Tensor, "b k"],
        strength: float = 1.0,
    ) -> Float[Tensor, "b k"]:
        """Decide the amounts alone, without a gradient: those of `forward`, bit for bit, in less time."""
        centre, spread, probability = self._ranges(features, strength)
        drawn = dice + 1 < 2 * probability
        reach = torch.where(self.choice, self.limit, self.limit * self._magnitude(centre, spread, noise))
        return torch.where(self.gated, drawn * reach, reach)

    def _ranges(self, features: Tensor, strength: float) -> tuple[Tensor, Tensor, Tensor]:
        """Give centre, spread and probability."""
        # The mean over features, not their sum: the step of a weight should move a raw output no further than
        # the step of its bias, however wide the U-Net.
        normal = torch.layer_norm(features, features.shape[-1:])
        share = GAIN / features.shape[-1]
        raw = torch.addmm(self.linear.bias, normal, self.linear.weight.mT, beta=GAIN, alpha=share)
        centre, spread, probability = raw.chunk(3, dim=-1)
        centre, spread, probability = (CENTRE_SHARE * centre).tanh(), spread.sigmoid(), probability.sigmoid()
        probability = LEAST_PROBABILITY + (1 - 2 * LEAST_PROBABILITY) * probability
        if strength != 1:
            check_strength(strength)
            centre, spread = strength * centre, strength * spread
            probability = torch.where(self.choice, (strength * probability).clamp(max=1), probability)
        if self.silenced:
            centre, spread, probability = centre * self.loud, spread * self.loud, probability * self.loud
        return centre, spread, probability

    def _magnitude(self, centre: Tensor, spread: Tensor, noise: Tensor) -> Tensor:
        magnitude = (centre + spread * noise).clamp(-1, 1)
        return torch.where(self.signed, magnitude, magnitude.abs())


def first_probability(transform: DifferentiableTransform, start_probability: float | None) -> float:
    """Say how often a transform is applied at the start: by default as is customary."""
    return transform.customary if start_probability is None else start_probability


def check_strength(strength: float) -> None:
    """Raise ValueError unless `strength` is a number of at least 0."""
    if not isinstance(strength, int | float) or not 0 <= strength < math.inf:
        raise ValueError(
            f"strength must be a number of at least 0 (0 changes nothing, 1 is as learned), found {strength!r}"
        )


def _logit(probability: float) -> float:
    # On the CPU also where a file's augmenter is laid out on the meta device, which has no values.
    return float(torch.logit(torch.tensor(probability, dtype=torch.float64, device="cpu")))


class Learned(NamedTuple):
    """What a policy does with one transform, averaged over images; magnitudes in the transform's unit."""

    transform: DifferentiableTransform
    centre: float
    spread: float
    probability: float

    @property
    def use(self) -> float:
        """How much it is used: the share of the limit that it reaches, times how often; for a choice, how often."""
        reach = 1.0 if self.transform.choice else (abs(self.centre) + self.spread) / self.transform.limit
        return self.probability * min(1.0, reach)

    @property
    def words(self) -> str:
        """Say it as a person would, such as "rotation ±14°"."""
        label, unit = self.transform.label, self.transform.unit
        if self.use == 0:
            return f"{label} off"
        if self.transform.choice:
            return f"{label} p {self.probability:.2f}"
        often = f" p {self.probability:.2f}" if self.probability < 1 else ""
        unit = "°" if unit == "degrees" else f" {unit}" if unit else ""
        limit = self.transform.limit
        low, high = (max(-limit, min(limit, end)) for end in (self.centre - self.spread, self.centre + self.spread))
        if not self.transform.signed:
            low, high = (0.0, max(abs(low), abs(high))) if low * high <= 0 else sorted((abs(low), abs(high)))
            return f"{label} {low:.2g} to {high:.2g}{unit}{often}"
        if abs(self.centre) < self.spread / 4:
            return f"{label} ±{self.spread:.2g}{unit}{often}"
        return f"{label} {low:+.2g} to {high:+.2g}{unit}{often}"


def in_words(learned: Sequence[Learned], most: int = 6) -> str:
    """Say what a policy does, the most used transforms first and at most so many of them one by one."""
    ordered = sorted(learned, key=lambda item: item.use, reverse=True)
    rest = ", ".join(item.transform.label for item in ordered[most:])
    return ", ".join(item.words for item in ordered[:most]) + (f"; weaker: {rest}" if rest else "")


def change_in_words(learned: Sequence[Learned], start: Sequence[Learned], most: int = 6) -> str:
    """Say which transforms have changed since the start, those whose use changed most first, and from where.

    Args:
        learned: what a policy does.
        start: what it did at first; entries of other transforms are left alone.
        most: so many one by one.

    Returns:
        The sentence; empty where nothing has changed by a tenth.
    """
    before = {item.transform: item for item in start}
    pairs = [(item, before[item.transform]) for item in learned]
    moved = [(now, then) for now, then in pairs if _has_moved(now, then)]
    moved.sort(key=lambda pair: abs(pair[0].use - pair[1].use), reverse=True)
    said = [
        now.words + (f" from {then.words.removeprefix(then.transform.label)[1:]}" if now.use else "")
        for now, then in moved[:most]
    ]
    rest = ", ".join(now.transform.label for now, _ in moved[most:])
    return ", ".join(said) + (f"; less far: {rest}" if rest else "")


def _has_moved(now: Learned, then: Learned) -> bool:
    often = abs(now.probability - then.probability) > MOVED * then.probability
    far = max(abs(now.centre - then.centre), abs(now.spread - then.spread)) > MOVED * then.spread
    return often or (far and not now.transform.choice)


def summarise(policy: Policy, transforms: Sequence[DifferentiableTransform]) -> list[Learned]:
    """Average a policy over its images, one entry per transform."""
    centre, spread, probability = (x.mean(dim=0).tolist() for x in policy[:3])
    return [
        Learned(t, t.limit * c, t.limit * s, p)
        for t, c, s, p in zip(transforms, centre, spread, probability, strict=True)
    ]
