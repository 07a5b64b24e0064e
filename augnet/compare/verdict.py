"""The verdict: one sentence, with its evidence.

The learned arm is set against the best of all others, which includes the one that was trained for longer. Let d be the
difference of their accuracies, paired over seeds, with its 95 % interval (intervals.py):

use it                the interval lies above 0
don't use it, use X   the interval lies below 0, also when it is widened for X being the best of so many (Bonferroni)
no difference found   neither, or there are fewer than 3 seeds

Accuracy moves in steps of one image, so few seeds often agree to the last digit; intervals allow for that rounding.

Of several learned arms `learned` is judged, or else the first one named: none is chosen by its results.

The best of many is chosen in hindsight, by the very results that it is then compared with, so it is partly the
luckiest: the rule leans against what was learned, but for that it does not take luck for a reason to drop it. Intervals
are over seeds. Test images are the same throughout, so
nothing is said of other images.
"""

from typing import Literal, NamedTuple

from augnet.compare.intervals import Interval
from augnet.compare.summary import Section

# Seeds from which on a difference may be found.
FEWEST = 3

Decision = Literal["use it", "no difference found", "don't use it"]


class Verdict(NamedTuple):
    """What to do, and why.

    Args:
        decision: in three words.
        sentence: the decision with its evidence.
        learned: name of the arm that is judged.
        against: label of the best of the others.
        difference: of their accuracies, 0 to 1.
    """

    decision: Decision
    sentence: str
    learned: str
    against: str
    difference: Interval


def judge(section: Section) -> Verdict | None:
    """Judge the learned arm of a section; None if there is none, or nothing to set it against."""
    learned, others = section.learned, section.others
    if learned is None or not others:
        return None
    best = others[0]
    difference = learned.above(best)
    decision: Decision = "no difference found"
    if difference.values >= FEWEST and difference.low > 0:
        decision = "use it"
    if difference.values >= FEWEST and learned.above(best, among=len(others)).high < 0:
        decision = "don't use it"
    action = f"{decision}, use {best.label}" if decision == "don't use it" else decision
    action = "too few seeds to judge" if difference.values < FEWEST else action
    among = f", the best of {len(others)} that are not learned" if len(others) > 1 else ""
    trained = f"{difference.values} seed{'s' * (difference.values > 1)} of {learned.steps:,} steps"
    luck = (
        ", as may be by luck of the best of so many"
        if decision == "no difference found" and difference.high < 0
        else ""
    )
    doubt = f" (95 % interval {in_points(difference)}{luck}, {trained})"
    if difference.values < FEWEST:
        doubt = f" ({trained}, which may be luck: take 5)"
    sentence = (
        f"{action}: {learned.name} has {percent(learned.accuracy.mean)} % test accuracy against "
        f"{percent(best.accuracy.mean)} % with {best.label}{among}, {signed(difference.mean)} points{doubt}"
    )
    return Verdict(decision, sentence, learned.name, best.label, difference)


def percent(share: float) -> str:
    """Write a share as a percentage, without its sign."""
    return f"{100 * share:.1f}"


def signed(share: float) -> str:
    """Write a difference of shares in points, with its sign."""
    text = f"{100 * share:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def in_points(difference: Interval) -> str:
    """Write the ends of an interval in points."""
    return f"{signed(difference.low)} to {signed(difference.high)}"
