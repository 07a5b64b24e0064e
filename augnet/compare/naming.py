"""Arms by name.

`TrivialAugmentWide`; `mirror_crop+TrivialAugmentWide`, after mirror and crop; `learned@0.5`, at half the strength;
`file.py:transform`, one's own.
"""

from collections.abc import Iterable
from typing import Any

from augnet.compare.arm import MIRROR_CROP, Arm
from augnet.compare.fixed import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from augnet.compare.learned import Learned, LearnedPlain, Uniform
from augnet.compare.own import Own
from augnet.family import members
from augnet.nearest import nearest, plain

LONGER = "longer"
"""No arm of its own: the best of the others that are not learned, trained for longer (see comparison.py)."""
# Learned first, so that whoever interrupts a comparison has what matters.
FIRST = (Learned, LearnedPlain, Uniform)
AFTER_MIRROR_CROP = (TrivialAugmentWide, RandAugment, AutoAugment, AugMix)


def all_arms() -> list[Arm]:
    """List every arm that needs no setting, and those of torchvision after mirror and crop too."""
    named = _named()
    ordered = [*FIRST, *(member for member in named.values() if member not in FIRST)]
    return [*(member() for member in ordered), *(member(mirror_crop=True) for member in AFTER_MIRROR_CROP)]


def arm_named(text: str) -> Arm:
    """Make an arm by its name.

    Raises:
        ValueError: if there is none of that name; the message gives the nearest ones.
    """
    first, plus, rest = text.strip().partition("+")
    mirror_crop = bool(plus) and plain(first) == plain(MIRROR_CROP)
    name = rest if mirror_crop else text.strip()
    if ":" in name:
        return Own(where=name, mirror_crop=mirror_crop)
    short, at, strength = name.partition("@")
    known = _named()
    member = {plain(each): known[each] for each in known}.get(plain(short))
    if member is None and name.endswith(".py"):
        raise ValueError(f"which of the transforms of {name}? name one, such as {name}:transform")
    if member is None:
        raise ValueError(f"there is no arm {name!r}{nearest(name, [*known, LONGER])}")
    if not at:
        return member(mirror_crop=mirror_crop)
    if "strength" not in member.__dataclass_fields__:
        raise ValueError(f"{short} has no strength, found {name!r}; leave out what follows {short}")
    try:
        arm = member(mirror_crop=mirror_crop, strength=float(strength))
    except ValueError as error:
        raise ValueError(f"a strength is a number, such as learned@0.5, found {name!r}") from error
    return arm


def chosen(arms: Iterable[str | Arm] | None) -> tuple[list[Arm], bool]:
    """Make the arms that were asked for, each once; all of them by default.

    Returns:
        The arms, and whether the best is to be trained for longer.
    """
    if arms is None:
        return all_arms(), True
    asked = list(arms)
    longer = [text for text in asked if isinstance(text, str) and plain(text) == LONGER]
    made = [arm if isinstance(arm, Arm) else arm_named(arm) for arm in asked if arm not in longer]
    return list({arm.name: arm for arm in made}.values()), bool(longer)


def _named() -> dict[str, Any]:
    """List the arms that a short name stands for."""
    listed: list[Any] = members(Arm)
    return {member.short: member for member in listed if member is not Own}
