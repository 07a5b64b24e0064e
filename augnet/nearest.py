"""Names that were meant: what to say where a name is not known."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """Say which known names are like this one; case, dashes, underscores and spaces do not count.

    Args:
        name: what was given.
        known: the names that there are.
        otherwise: advice where none is like it; by default the list of all.

    Returns:
        The rest of a sentence, from its semicolon on.
    """
    spelt = {plain(one): one for one in known}
    near = [spelt[match] for match in difflib.get_close_matches(plain(name), spelt)]
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; {otherwise or 'there is ' + ', '.join(sorted(spelt.values()))}"


def plain(name: str) -> str:
    """Write a name in lower case, without dashes, underscores and spaces."""
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")
