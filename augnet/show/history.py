"""How it was learned: amounts, losses and the quality of the hypergradient over training, and alarms."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from augnet.augmenter import Augmenter, Learned
from augnet.show.canvas import BLUE, COLOURS, FAINT, INK, ORANGE, RED, SKY, Place, halves, place, plain
from augnet.training import Run
from augnet.transforms import DifferentiableTransform, all_transforms

NAMED = 6
# A log axis from end to end, within which all ticks between powers of ten have room for their numbers, or two of them.
FEW, MANY = 8, 1000
STYLES = ("-", "--")
COLUMNS = 4
# Characters of an alarm that fit beside each other.
BESIDE = 150
Rows = Sequence[Mapping[str, float]]


def at(augmenter: Augmenter, row: Mapping[str, float]) -> list[Learned]:
    """Read what was done on average at a row of metrics.csv."""
    found = []
    for transform in augmenter.transforms:
        name = type(transform).__name__
        centre, spread = row.get(f"{name}.centre", 0.0), row.get(f"{name}.spread", 0.0)
        found.append(Learned(transform, centre, spread, row[f"{name}.probability"]))
    return found


def use_over_time(augmenter: Augmenter, rows: Rows, *, on: Place | None = None) -> Figure:
    """Show the use of each transform over training: the share of its limit that it reaches, times how often.

    Those that were once the most used have names, the others are grey. Mirrors that were left out in the end are there.
    """
    sheet = place(on, 7, 3.4)
    _use(sheet.subplots(), augmenter, rows)
    return sheet.figure


def history(run: Run, *, on: Place | None = None) -> Figure:
    """Show a training, finished or not: use of the transforms, losses, hypergradient, and every transform's amounts.

    Args:
        run: with at least one row in metrics.csv.
        on: see `place`.

    Raises:
        ValueError: if the run has not written a row yet.
    """
    rows = run.metrics if (run.path / "metrics.csv").exists() else []
    if not rows:
        raise ValueError(f"{run.path} has no metrics yet; wait for its first report")
    augmenter = run.augmenter()
    lines = math.ceil(len(augmenter.transforms) / COLUMNS)
    alarms = run.record.get("alarms", [])
    said = [line for n, alarm in enumerate(alarms, 1) for line in _said(n, alarm)]
    sheet = place(on, 11, 6.2 + 1.45 * lines + 0.2 * len(said))
    upper, lower = halves(sheet, [6.2 + 0.2 * len(said), max(0.01, 1.45 * lines)])
    cells = upper.add_gridspec(2, 3)
    panels = [upper.add_subplot(cell) for cell in (cells[0, :2], cells[0, 2], cells[1, 0], cells[1, 1], cells[1, 2])]
    use, losses, norm, noise, residual = panels
    if augmenter.transforms:
        _use(use, augmenter, rows)
        _bands(lower, augmenter, rows, lines)
    else:
        use.set_axis_off()
    names = {"training_loss": "training, augmented", "validation_loss": "validation", "watched_loss": "watched"}
    _curves(losses, rows, names)
    losses.set(ylabel="nats", title="losses")
    _curves(norm, rows, {"hypergradient_norm": "norm"})
    norm.set(ylabel="nats per unit of weight", title="norm of the hypergradient")
    _curves(noise, rows, {"hypergradient_noise": "noise"})
    noise.set(ylabel="share of its mean square", title="noise of the hypergradient", ylim=(0, 1.02))
    _curves(residual, rows, {"residual": "residual"})
    residual.set(ylabel="|b − Hx| / |b|", title="residual of the inverse product")
    # A loss too, one peak of which would else flatten all the rest.
    for axes in (losses, norm, residual):
        _positive(axes)
    for axes in panels:
        axes.set_xlabel("step (classifier updates)", fontsize=8)
        axes.yaxis.label.set_fontsize(8)
        axes.title.set_fontsize(9)
        for number, alarm in enumerate(alarms, 1):
            axes.axvline(alarm["step"], color=RED, linewidth=1, linestyle="--")
            axes.text(
                alarm["step"], 0.98, f"{number}", color=RED, fontsize=8, ha="right", va="top",
                transform=axes.get_xaxis_transform(),
            )  # fmt: skip
    if said:
        upper.supxlabel("\n".join(said), fontsize=8, color=RED, x=0.01, ha="left", parse_math=False)
    return sheet.figure


def _said(number: int, alarm: Mapping[str, Any]) -> list[str]:
    return textwrap.wrap(f"{number}: step {alarm['step']:,}: {alarm['sentence']}", BESIDE, subsequent_indent="    ")


def _left_out(augmenter: Augmenter, row: Mapping[str, float]) -> list[type[DifferentiableTransform]]:
    """List the transforms that the run began with and its augmenter no longer has."""
    kept = set(map(type, augmenter.transforms))
    return [kind for kind in all_transforms() if f"{kind.__name__}.probability" in row and kind not in kept]


def _reach(kind: type[DifferentiableTransform], row: Mapping[str, float]) -> float:
    """Give the share of the limit that is reached, with the limit that the transform has by default."""
    far = abs(row[f"{kind.__name__}.centre"]) + row[f"{kind.__name__}.spread"]
    return min(1.0, far / float(vars(kind)["limit"]))


def _use(axes: Axes, augmenter: Augmenter, rows: Rows) -> None:
    steps = [row["step"] for row in rows]
    uses = [[item.use for item in at(augmenter, row)] for row in rows]
    curves = {transform.label: [use[k] for use in uses] for k, transform in enumerate(augmenter.transforms)}
    for kind in _left_out(augmenter, rows[0]):
        # Of a choice the use is its probability.
        reach = [1.0 if kind.choice else _reach(kind, row) for row in rows]
        curves[kind.label] = [
            row[f"{kind.__name__}.probability"] * share for row, share in zip(rows, reach, strict=True)
        ]
    order = sorted(curves, key=lambda label: -max(curves[label]))
    for rank, label in enumerate(order):
        curve = curves[label]
        looks: dict[str, Any] = {"color": FAINT, "linewidth": 0.8, "zorder": 0}
        if rank < NAMED:
            looks = {
                "color": COLOURS[rank],
                "linestyle": STYLES[rank % 2],
                "label": label,
            }
        axes.plot(steps, curve, marker="." if len(steps) == 1 else None, **looks)
    plain(axes).set(ylim=(0, 1.02), xlim=(0, steps[-1] * 1.02), ylabel="use")
    axes.set_xlabel("step (classifier updates)", fontsize=8)
    axes.set_title("use: share of the limit reached, times how often", fontsize=9)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=2, loc="upper left")


def _curves(axes: Axes, rows: Rows, names: Mapping[str, str]) -> None:
    for (column, label), colour, style in zip(names.items(), (BLUE, ORANGE, INK), ("-", "--", ":"), strict=False):
        points = [(row["step"], row[column]) for row in rows if math.isfinite(row[column])]
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(steps, values, style, color=colour, label=label, marker="." if len(points) == 1 else None)
    plain(axes).set_xlim(0, rows[-1]["step"] * 1.02)
    if len(names) > 1 and axes.lines:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _positive(axes: Axes) -> None:
    if axes.lines:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        # Within few powers of ten there is room for numbers between them.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < MANY else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}" if high / low < FEW else NullFormatter())
        axes.tick_params(labelsize=8, which="both")


def _bands(sheet: Any, augmenter: Augmenter, rows: Rows, lines: int) -> None:
    """Draw each transform's centre and spread in its unit, between its limits, the most used first."""
    steps = [row["step"] for row in rows]
    learned = [at(augmenter, row) for row in rows]
    order = sorted(range(len(augmenter.transforms)), key=lambda k: -learned[-1][k].use)
    grid = sheet.subplots(lines, COLUMNS, squeeze=False, sharex=True)
    for axes in grid.flat[len(order) :]:
        axes.set_axis_off()
    for axes, k in zip(grid.flat, order, strict=False):
        transform = augmenter.transforms[k]
        items = [row[k] for row in learned]
        often = f"p {items[0].probability:.2f} → {items[-1].probability:.2f}"
        plain(axes)
        if transform.choice:
            axes.plot(steps, [item.probability for item in items], color=BLUE)
            axes.set_ylim(0, 1)
            axes.set_ylabel("probability", fontsize=7)
        else:
            # Amounts without a sign are the sizes of what the policy decides, whose range may span 0.
            size = float if transform.signed else abs
            ends = [(size(item.centre - item.spread), size(item.centre + item.spread)) for item in items]
            spans = [not transform.signed and abs(item.centre) < item.spread for item in items]
            low = [0.0 if spanning else min(pair) for pair, spanning in zip(ends, spans, strict=True)]
            axes.fill_between(steps, low, [max(pair) for pair in ends], color=SKY, alpha=0.5, linewidth=0)
            axes.plot(steps, [size(item.centre) for item in items], color=BLUE)
            axes.set_ylim(-transform.limit if transform.signed else 0, transform.limit)
            axes.set_ylabel(transform.unit, fontsize=7)
        axes.set_title(f"{transform.label} · {often}", fontsize=8)
        axes.tick_params(labelsize=7)
    sheet.supxlabel(
        "step (classifier updates); line: centre, band: spread, up to the limits; p: probability", fontsize=8
    )
