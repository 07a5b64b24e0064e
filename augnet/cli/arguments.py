"""A parser for verbs whose options are few; `train`, whose options are a whole recipe, has jsonargparse's."""

import argparse
import inspect
from collections.abc import Callable
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """Parse the options of a verb; its docstring is the help, and a slip a ValueError."""

    def __init__(self, verb: Callable[[list[str]], int]) -> None:
        super().__init__(
            prog=f"augnet {verb.__name__}",
            description=inspect.getdoc(verb),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise what was wrong, instead of leaving the program."""
        raise ValueError(f"{message}; `{self.prog} --help` explains the options")
