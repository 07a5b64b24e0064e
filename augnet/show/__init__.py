"""Show what was learned: every figure as a function, and a page that explains itself."""

from augnet.show.amounts import amounts
from augnet.show.by_class import by_class
from augnet.show.gain import Effect, gain, leave_one_out
from augnet.show.gallery import gallery
from augnet.show.history import history, use_over_time
from augnet.show.residual import residual
from augnet.show.safety import safety
from augnet.show.strip import strip
from augnet.show.subject import Subject
from augnet.show.walk import animation, walk

__all__ = [
    "Effect", "Subject", "amounts", "animation", "by_class", "gain", "gallery", "history",
    "leave_one_out", "residual", "safety", "strip", "use_over_time", "walk",
]  # fmt: skip
