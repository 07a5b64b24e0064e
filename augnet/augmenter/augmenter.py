"""The augmenter: a U-Net that looks at an image and at noise, and the transforms that it steers.

Every weight of it is a hyperparameter of the classifier's training. It never sees labels, the classifier or a loss.
"""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from augnet import transforms as tf
from augnet.augmenter.policy import (
    LEAST_PROBABILITY,
    Learned,
    Policy,
    PolicyHead,
    check_strength,
    first_probability,
    summarise,
)
from augnet.augmenter.unet import UNet, shrink
from augnet.transforms import DifferentiableTransform, fuse

# Channels of a bottleneck, beyond those of any classifier that it could serve: a slip in a setting, not a wish.
WIDEST = 4096
# Smallest and largest setting that makes sense; a file that asks for more is refused before it is given memory.
BOUNDS = {"depth": (1, 13), "width": (1, WIDEST), "working_size": (1, 4096), "noise_channels": (0, 1024)}


def default_transforms() -> list[DifferentiableTransform]:
    """Return the members that an augmenter has unless told otherwise: those that cost little and that may gain.

    Noise costs little, but lowered accuracy on all three data sets of a screening, on each by about a standard error
    (`recipes/benchmarks/tried.md`).
    """
    return [
        tf.MirrorLeftRight(), tf.MirrorUpDown(), tf.Rotate(), tf.TranslateX(), tf.TranslateY(), tf.ShearX(),
        tf.ShearY(), tf.Scale(), tf.Aspect(), tf.Brightness(), tf.Contrast(), tf.Saturation(), tf.Hue(), tf.Greyscale(),
        tf.Gamma(), tf.AutoContrast(), tf.Equalize(), tf.Solarize(), tf.Posterize(), tf.Sharpness(), tf.GaussianBlur(),
        tf.Erase(),
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AugmenterConfig:
    """What the augmenter may do and how large its U-Net is.

    Args:
        transforms: members of the family, each with its limit; those that do not fit the images' channels are left out.
        residual_limit: largest change of a pixel by the decoder, share of full scale; 0 leaves the decoder out.
        depth: levels of the U-Net.
        width: channels of its first level, doubled from level to level.
        noise_channels: channels of noise, each constant over the image, that the U-Net sees beside the image.
        working_size: the U-Net looks at a copy of at most this many pixels a side; transforms see the full image.
        start_spread: spread of every transform at the start, share of its limit.
        start_probability: probability of every transform that has one at the start, in (0, 1); None takes what is
            customary: shifts, the left-right mirror and changes of light and colour sometimes, all else seldom.
        gates: `all` gives every transform a probability of being applied, `choices` only those that are choices.
    """

    transforms: list[DifferentiableTransform] = field(default_factory=default_transforms)
    residual_limit: float = 0.0
    depth: int = 3
    width: int = 8
    noise_channels: int = 1
    working_size: int = 16
    start_spread: float = 0.6
    start_probability: float | None = None
    gates: Literal["choices", "all"] = "all"

    def __post_init__(self) -> None:
        if not self.transforms and self.residual_limit == 0:
            raise ValueError("the augmenter has nothing to do: name transforms or set residual_limit above 0")
        names = [type(transform).__name__ for transform in self.transforms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"transforms has {name} {names.count(name)} times, which no report could tell apart; name it once"
                )
        for name in ("start_spread", "start_probability"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                raise ValueError(f"{name} must lie between 0 and 1, found {value}")
        if not 0 <= self.residual_limit <= 1:
            raise ValueError(f"residual_limit must lie in [0, 1], found {self.residual_limit}")
        for name, (least, most) in BOUNDS.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, found {getattr(self, name)}")
            if getattr(self, name) > most:
                raise ValueError(f"{name} must be at most {most:,}, found {getattr(self, name)}")
        if self.gates not in ("choices", "all"):
            raise ValueError(f"gates must be choices or all, found {self.gates!r}")
        if (channels := self.width * 2 ** (self.depth - 1)) > WIDEST:
            raise ValueError(
                f"depth {self.depth} and width {self.width} make a bottleneck of {channels:,} channels, but at most "
                f"{WIDEST:,} make sense; lower one of them"
            )


class Augmenter(nn.Module):
    """Augment images in [0, 1] the way that the U-Net's weights say.

    Args:
        config: transforms and sizes.
        channels: of the images.

    Attributes:
        transforms: the members in use, in the order of the policy's columns.
        left_out: sentences about members that do not fit `channels`.
        noise_size: numbers of noise per image.
    """

    like: Tensor

    def __init__(self, config: AugmenterConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.channels = channels
        self.transforms, left_out = fuse.usable(config.transforms, channels)
        self.left_out = [
            f"{type(t).__name__} is left out: it needs red, green and blue, and these images have {channels} channel(s)"
            for t in left_out
        ]
        if not self.transforms and config.residual_limit == 0:
            raise ValueError(f"nothing is left for the augmenter to do: {'; '.join(self.left_out)}")
        outputs = channels if config.residual_limit > 0 else 0
        self.unet = UNet(
            inputs=channels + config.noise_channels, outputs=outputs, depth=config.depth, width=config.width
        )
        self.head = (
            PolicyHead(
                self.unet.features,
                self.transforms,
                start_spread=config.start_spread,
                start_probability=config.start_probability,
                gates=config.gates,
            )
            if self.transforms
            else None
        )
        self.noise_size = config.noise_channels + 2 * len(self.transforms) + fuse.total_draws(self.transforms)
        # Of the type and on the device of the weights: to look for one of them takes as long as a convolution.
        self.register_buffer("like", torch.zeros(0), persistent=False)

    def without(self, unwanted: Collection[DifferentiableTransform]) -> "Augmenter":
        """Return a copy that lacks some of the transforms and decides on the others as before.

        Raises:
            ValueError: if nothing is left for it to do.
        """
        kept = [k for k, transform in enumerate(self.transforms) if transform not in unwanted]
        config = replace(self.config, transforms=[self.transforms[k] for k in kept])
        with torch.random.fork_rng(devices=[]):
            other = Augmenter(config, self.channels).to(self.like)
        state = self.state_dict()
        rows = [part * len(self.transforms) + k for part in range(3) for k in kept]
        for name in ("head.linear.weight", "head.linear.bias"):
            if name in state and kept:
                state[name] = state[name][rows]
            else:
                state.pop(name, None)
        other.load_state_dict(state)
        return other.train(self.training)

    def draw_noise(self, count: int, generator: torch.Generator | None = None) -> Float[Tensor, "b n"]:
        """Draw noise, uniform on (-1, 1), for `count` images.

        Draws are antithetic: the second half is the first with its sign turned, so that over a batch every centre
        is balanced and choices of probability one half are made just as often as not.
        """
        like = self.like
        device = generator.device if generator else like.device
        half = torch.empty((count + 1) // 2, self.noise_size, dtype=like.dtype, device=device)
        half = half.uniform_(-1, 1, generator=generator).to(like.device)
        return half if count == 1 else torch.cat([half, -half])[:count]

    def draws(self, noise: Float[Tensor, "b n"]) -> Float[Tensor, "b d"]:
        """Return the part of the noise that the transforms take: places, patterns."""
        return noise[:, self.config.noise_channels + 2 * len(self.transforms) :]

    def policy(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"] | None = None, strength: float = 1.0
    ) -> Policy:
        """Decide without doing: what `forward` would apply to these images with this noise.

        Raises:
            ValueError: if there are no transforms.
        """
        noise = self.draw_noise(len(images)) if noise is None else noise
        return self._decide(self._look(images, noise), noise, strength)

    @torch.no_grad()
    def amounts(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"], strength: float = 1.0
    ) -> Float[Tensor, "b k"]:
        """Decide the amounts alone: those of `policy`, bit for bit, in less time and without a gradient.

        Raises:
            ValueError: if there are no transforms.
        """
        head, question = self._question(self._look(images, noise), noise)
        return head.amounts(*question, strength)

    def residual(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"], strength: float = 1.0
    ) -> Float[Tensor, "b c h w"]:
        """Paint without adding: what `forward` would add to these images, once transformed.

        Raises:
            ValueError: if there is no decoder.
        """
        return self._paint(self._look(images, noise), images, strength)

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"] | None = None, strength: float = 1.0
    ) -> Float[Tensor, "b c h w"]:
        """Augment; the same noise gives the same images.

        Args:
            images: values in [0, 1].
            noise: of `draw_noise`; drawn from torch's global generator if left out.
            strength: 1 is as learned; others scale amounts, residual and the probability of choices, up to their
                limits.
        """
        return self.augment(images, noise, strength)[0]

    def augment(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"] | None = None, strength: float = 1.0
    ) -> tuple[Float[Tensor, "b c h w"], Policy | None]:
        """Augment, and say what was decided; the policy is None where there are no transforms."""
        augmented, policy, _ = self._augment(images, noise, strength)
        return augmented, policy

    def augment_both_ways(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b c h w"], Policy | None, Float[Tensor, "b c h w"], Float[Tensor, "b k"]]:
        """Augment, and augment again with one choice of each image turned: done if it was not, and the reverse.

        The U-Net looks at the images once.

        Returns:
            What `augment` returns. The turned images, through which no gradient passes. And how a difference between
            before and now tells of the probabilities: of a function of the image, (before − now) times this is an
            unbiased estimate of its slope by the probability of each choice that can be turned. It is one over the
            chance that this one is, negative where the choice was not done before, and 0 for what was not turned.

        Raises:
            ValueError: if no transform is a choice that is turned.
        """
        augmented, policy, residual = self._augment(images, noise)
        if policy is None:
            raise ValueError("this augmenter has no transforms, so there is nothing to turn")
        return augmented, policy, *self._turn(images, noise, policy, residual)

    def _augment(
        self, images: Tensor, noise: Tensor | None, strength: float = 1.0
    ) -> tuple[Tensor, Policy | None, Tensor | None]:
        """Augment; return images, policy and residual."""
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"images must be a batch (b, c, h, w) of floats in [0, 1], found {images.dtype} of shape "
                f"{tuple(images.shape)}"
            )
        if images.shape[1] != self.channels:
            raise ValueError(f"this augmenter is for {self.channels} channels, found images of {images.shape[1]}")
        noise = self.draw_noise(len(images)) if noise is None else noise
        levels = self._look(images, noise)
        policy = residual = None
        augmented = images
        if self.head is not None:
            policy = self._decide(levels, noise, strength)
            augmented = fuse.apply(self.transforms, images, policy.amounts, self.draws(noise))
        if self.config.residual_limit > 0:
            residual = self._paint(levels, images, strength)
            augmented = tf.straight_through_clamp(augmented + residual)
        return augmented, policy, residual

    @torch.no_grad()
    def _turn(self, images: Tensor, noise: Tensor, policy: Policy, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        turned = torch.tensor([transform.turned for transform in self.transforms], device=noise.device)
        if not any(transform.turned for transform in self.transforms):
            raise ValueError("none of this augmenter's transforms is a choice that can be turned")
        # What is hardly ever done, or hardly ever not, has little left to learn, and its turn comes more seldom.
        rate = policy.probability * (1 - policy.probability)
        # A choice has no magnitude, so its noise is still free to say which one is turned: of clocks that ring at these
        # rates, the first.
        free = noise[:, self.config.noise_channels :][:, : len(self.transforms)]
        waits = -((1 + free) / 2).clamp(min=torch.finfo(free.dtype).tiny).log() / rate
        which = waits.masked_fill(~turned, torch.inf).argmin(dim=-1, keepdim=True)
        is_turned = torch.zeros_like(policy.amounts).scatter(1, which, 1.0)
        done = (policy.amounts != 0).to(policy.amounts)
        amounts = torch.where(is_turned > 0, 1 - done, policy.amounts)
        augmented = fuse.apply(self.transforms, images, amounts, self.draws(noise))
        if residual is not None:
            augmented = (augmented + residual).clamp(0, 1)
        rarity = (rate * turned).sum(-1, keepdim=True) / rate
        # What is always done has a rate of 0.
        return augmented, torch.where(is_turned > 0, (2 * done - 1) * rarity, 0)

    def start(self) -> list[Learned]:
        """Say what the policy does before it has learned anything, of every image."""
        config, often = self.config, 1 - 2 * LEAST_PROBABILITY
        return [
            Learned(
                t, 0.0, t.limit * config.start_spread,
                LEAST_PROBABILITY + often * first_probability(t, config.start_probability)
                if t.choice or config.gates == "all" else 1.0,
            )
            for t in self.transforms
        ]  # fmt: skip

    def summary(self, images: Float[Tensor, "b c h w"]) -> list[Learned]:
        """Average the policy over images, with noise of a fixed seed."""
        if self.head is None:
            return []
        with torch.no_grad():
            noise = self.draw_noise(len(images), torch.Generator().manual_seed(0))
            return summarise(self.policy(images, noise), self.transforms)

    def _look(self, images: Tensor, noise: Tensor) -> list[Tensor]:
        images = shrink(images, self.config.working_size)
        seen = noise[:, : self.config.noise_channels, None, None].expand(-1, -1, *images.shape[-2:])
        return self.unet.encode(torch.cat([images, seen], dim=1))

    def _paint(self, levels: list[Tensor], images: Tensor, strength: float) -> Tensor:
        share = self.unet.decode(levels).tanh()
        if strength != 1:
            check_strength(strength)
            share = (strength * share).clamp(-1, 1)
        residual = self.config.residual_limit * share
        # At the same size too, where it changes nothing: asking would tie an exported program to sizes.
        return F.interpolate(residual, images.shape[-2:], mode="bilinear", align_corners=False)

    def _decide(self, levels: list[Tensor], noise: Tensor, strength: float) -> Policy:
        head, question = self._question(levels, noise)
        return head(*question, strength)

    def _question(self, levels: list[Tensor], noise: Tensor) -> tuple[PolicyHead, tuple[Tensor, Tensor, Tensor]]:
        """Give the head, and what it decides by: features, noise and dice."""
        if self.head is None:
            raise ValueError("this augmenter has no transforms, so it has no policy; look at its images instead")
        first, k = self.config.noise_channels, len(self.transforms)
        return self.head, (levels[-1].mean((-2, -1)), noise[:, first : first + k], noise[:, first + k : first + 2 * k])
