"""What of an augmenter is kept at the end of a training."""

from jaxtyping import Float
from torch import Tensor

from augnet.augmenter import Augmenter, Learned
from augnet.augmenter.policy import first_probability

# Share of its first probability below which a mirror or a quarter turn is left out. Mirrors begin at 0.3; where they
# help they ended at 0.23 at least, and where they harm at 0.17 at most (recipes/benchmarks/tried.md).
UNWANTED = 2 / 3


def settled(augmenter: Augmenter, images: Float[Tensor, "b c h w"]) -> tuple[Augmenter, list[Learned]]:
    """Leave out mirrors and quarter turns that were learned down to less than two thirds of where they began.

    What falls is not wanted, and would go to 0 if there were time: the nearer it is, the less
    there is to learn from. The little that is left does harm where classes are rare: with one traffic sign in 20
    mirrored, for every three true *keep left* there is a false one (`recipes/benchmarks/tried.md`).

    Args:
        augmenter: as it was learned; it stays as it is.
        images: values in [0, 1], over which the policy is averaged.

    Returns:
        The augmenter without them, and what they had come to. It is the one that came in where it would have nothing
        left to do.
    """
    config = augmenter.config
    unwanted = [
        item
        for item in augmenter.summary(images)
        if item.transform.turned
        and item.probability < UNWANTED * first_probability(item.transform, config.start_probability)
    ]
    if not unwanted or (len(unwanted) == len(augmenter.transforms) and not config.residual_limit):
        return augmenter, []
    return augmenter.without([item.transform for item in unwanted]), unwanted
