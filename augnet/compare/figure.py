"""The figure of a comparison: every training a dot, every arm its mean and interval."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from augnet.compare.comparison import Comparison
from augnet.compare.summary import Section

INK, GRID = "#1b1b1b", "#d0d0d0"
# Okabe and Ito's colours, which all eyes tell apart; shapes say the same.
LOOKS = {"learned": ("#D55E00", "o"), "fixed": ("#0072B2", "s"), "longer": ("#0072B2", ">")}
NAMES = {"learned": "learned", "fixed": "fixed", "longer": "fixed, trained as long as learning took, too"}
PANEL, ROW, HEAD = 4.2, 0.3, 1.3


def draw(comparison: Comparison) -> Figure:
    """Draw a panel per budget and number of views; arms have the order of the first one."""
    sections = comparison.sections
    order = [arm.label for arm in sections[0].arms]
    order += [arm.label for section in sections[1:] for arm in section.arms if arm.label not in order]
    order = list(dict.fromkeys(order))
    size = (2.4 + PANEL * len(sections), HEAD + ROW * len(order))
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    panels = figure.subplots(1, len(sections), sharey=True, squeeze=False)[0]
    for axes, section in zip(panels, sections, strict=True):
        _panel(axes, section, order)
        views = f", mean of {section.copies} views" if section.copies > 1 else ""
        axes.set_title(f"{section.steps:,} steps{views}", fontsize=9, color=INK)
    panels[0].set_yticks(range(len(order)), order, fontsize=8)
    for label in panels[0].get_yticklabels():
        # Names are not formulas, whatever dollars are in them.
        label.set_parse_math(False)
    panels[0].set_ylim(len(order) - 0.5, -0.5)
    roles = dict.fromkeys(arm.role for section in sections for arm in section.arms)
    for role in roles:
        colour, marker = LOOKS[role]
        panels[0].plot(
            [], [], color=colour, marker=marker, linestyle="none", markerfacecolor="white", label=NAMES[role]
        )
    figure.legend(loc="outside lower center", ncols=len(roles), fontsize=8, frameon=False)
    return figure


def _panel(axes: Axes, section: Section, order: list[str]) -> None:
    for arm in section.arms:
        line = order.index(arm.label)
        colour, marker = LOOKS[arm.role]
        accuracies = 100 * np.array([result.measures.accuracy for result in arm.results])
        # Below the line, where the mean does not hide them.
        axes.plot(accuracies, np.full(len(accuracies), line + 0.28), ".", color=colour, alpha=0.6, markersize=4)
        found = arm.accuracy.scaled(100)
        reach = [[found.mean - found.low], [found.high - found.mean]] if found.values > 1 else None
        axes.errorbar(
            found.mean, line, xerr=reach, fmt=marker, color=colour, capsize=3, markersize=6,
            markerfacecolor="white", markeredgewidth=1.5,
        )  # fmt: skip
    if section.learned is not None:
        axes.axvline(100 * section.learned.accuracy.mean, color=LOOKS["learned"][0], linewidth=0.8, linestyle=":")
    # An interval may reach beyond what an accuracy can be.
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -1), min(high, 101))
    axes.set_xlabel("test accuracy, %: mean, 95 % interval, each seed", fontsize=8, color=INK)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
