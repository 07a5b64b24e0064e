"""Families: an abstract class, and every class below it that is not abstract. Nothing is registered."""

import inspect


def members(family: type) -> list[type]:
    """List the concrete members of a family, subclasses of subclasses too, in the order of their declaration."""
    children: list[type] = family.__subclasses__()
    below = [member for child in children for member in members(child)]
    return below if inspect.isabstract(family) else [family, *below]
