"""A comparison on disk and in words: comparison.json, .csv, .md and .png, beside results.csv.

Keys of comparison.json; shares are 0 to 1, intervals [low, high] of 95 %, and what is not known is null:

    run, steps, budgets, train_images, classes, test_images   (of each class)
    learning    seconds, share (of them beyond the classifier's training), steps (that fit into the same time)
    verdict     decision, sentence, learned, against, difference, interval, seeds; of the first section with one
    sections    budget, copies, verdict, arms: the best first, each with
                name, label, role (learned, fixed, longer), steps, seeds, accuracies, accuracy, interval, loss,
                calibration_error, class_accuracy, seconds, learned_above: difference, interval, seeds
    notes       sentences on what was left out
"""

import csv
import io
import json
import math
from typing import Any

from augnet.compare.comparison import Comparison
from augnet.compare.figure import draw
from augnet.compare.intervals import Interval
from augnet.compare.summary import ArmSummary, Section
from augnet.compare.verdict import FEWEST, Verdict, in_points, judge, percent, signed
from augnet.training.checkpoint import write_bytes

DOTS_PER_INCH = 150
# Classes that are named in words, at either end.
NAMED = 3


def write(comparison: Comparison) -> None:
    """Write the comparison into its folder; each file is whole or not there."""
    out = comparison.out
    write_bytes(json.dumps(as_json(comparison), indent=2, allow_nan=False).encode(), out / "comparison.json")
    write_bytes(_as_csv(comparison).encode(), out / "comparison.csv")
    write_bytes(("\n".join(as_markdown(comparison)) + "\n").encode(), out / "comparison.md")
    picture = io.BytesIO()
    draw(comparison).savefig(picture, format="png", dpi=DOTS_PER_INCH)
    write_bytes(picture.getvalue(), out / "comparison.png")


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Give what comparison.json holds."""
    sections = [
        {
            "budget": section.budget,
            "copies": section.copies,
            "verdict": _verdict(judge(section)),
            "arms": [_arm(arm, section, comparison) for arm in section.arms],
        }
        for section in comparison.sections
    ]
    learning = comparison.learning
    return {
        "run": str(comparison.run),
        "steps": comparison.steps,
        "budgets": list(dict.fromkeys(section.budget for section in comparison.sections)),
        "train_images": comparison.train_images,
        "classes": list(comparison.classes),
        "test_images": list(comparison.test_images),
        "learning": {"seconds": learning.seconds, "share": learning.share, "steps": learning.steps},
        "verdict": _verdict(comparison.verdict),
        "sections": sections,
        "notes": list(comparison.notes),
    }


def as_markdown(comparison: Comparison) -> list[str]:
    """Say all in lines of Markdown."""
    lines = [f"# {comparison.run.resolve().name}: learned against fixed augmentation", ""]
    for section in comparison.sections:
        lines += [f"## {heading(section)}", "", *table(section), ""]
        lines += [f"**{conclusion(section)}.**", ""]
        lines += [f"{sentence}\n" for sentence in by_class(section, comparison)]
    lines += [f"- {sentence}" for sentence in [*_how(comparison), *comparison.notes]]
    return lines


def conclusion(section: Section) -> str:
    """Give the verdict in a sentence, or say why there is none."""
    verdict = judge(section)
    return verdict.sentence if verdict else "nothing is judged, which takes a learned arm and one that is not"


def heading(section: Section) -> str:
    """Say what a section is of."""
    views = f", predictions averaged over {section.copies} views" if section.copies > 1 else ""
    times = "" if section.budget == 1 else f" ({section.budget:g} times the run's)"
    return f"{section.steps:,} steps{times}{views}"


def table(section: Section) -> list[str]:
    """Lay the arms out as a table in Markdown, the best first."""
    learned = section.learned
    above = [f"{learned.name} is above by, points"] if learned else []
    rows = [["arm", "seeds", "test accuracy, %", *above, "loss, nats", "calibration error, points", "s per training"]]
    for arm in section.arms:
        difference = ""
        if learned is not None and arm is not learned:
            found = learned.above(arm)
            difference = signed(found.mean) + (f" ({in_points(found)})" if found.values > 1 else "")
        accuracy = arm.accuracy
        ends = f" ({percent(accuracy.low)} to {percent(accuracy.high)})" if accuracy.values > 1 else ""
        rows.append([
            arm.label, str(accuracy.values), percent(accuracy.mean) + ends, *[difference] * len(above),
            f"{arm.mean('loss'):.3f}", percent(arm.mean("calibration_error")), f"{arm.seconds:,.0f}",
        ])  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return [padded[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *padded[1:]]


def by_class(section: Section, comparison: Comparison) -> list[str]:
    """Say which classes gain and lose most against the best of the others, of those that do so beyond chance."""
    learned, others = section.learned, section.others
    if learned is None or not others:
        return []
    classes = [name for name, images in zip(comparison.classes, comparison.test_images, strict=True) if images]
    found = learned.above_by_class(others[0], comparison.test_images, len(classes))
    if found[0].values < FEWEST:
        return []
    sure = [(each.mean, name) for each, name in zip(found, classes, strict=True) if each.low > 0 or each.high < 0]
    ordered = sorted(sure, key=lambda pair: pair[0])
    gains = [f"{name} {signed(gain)}" for gain, name in reversed(ordered[-NAMED:]) if gain > 0]
    losses = [f"{name} {signed(gain)}" for gain, name in ordered[:NAMED] if gain < 0]
    if not sure:
        return [f"Of no class is {learned.name} better or worse than {others[0].label} beyond chance."]
    both = [f"gains in {', '.join(gains)}"] * bool(gains) + [f"loses in {', '.join(losses)}"] * bool(losses)
    return [f"By class, against {others[0].label}, {learned.name} {' and '.join(both)} (points, beyond chance)."]


def _how(comparison: Comparison) -> list[str]:
    learning, everywhere = comparison.learning, [arm for section in comparison.sections for arm in section.arms]
    cost = f"Learning took {learning.seconds:,.0f} s, the joint training of the classifier included"
    if learning.steps is not None:
        cost += f", as long as {learning.steps:,} steps with the augmentation and without learning it"
    if longer := next((arm for arm in everywhere if arm.role == "longer"), None):
        cost += f"; {longer.label} has them on top"
    return [
        f"Each training is from scratch, on {comparison.train_images:,} images (the run's training and validation "
        f"images), and tested once on {sum(comparison.test_images):,}; arms share weights and batches, seed by seed.",
        "Intervals are Student's, of 95 %, over seeds; differences are paired by seed. They do not say how other test "
        "images would turn out. The best of the others is picked by the same results, which flatters it; *don't use* "
        "allows for that.",
        f"{cost}.",
    ]


def _arm(arm: ArmSummary, section: Section, comparison: Comparison) -> dict[str, Any]:
    accuracy, learned = arm.accuracy, section.learned
    above = None if learned is None or arm is learned else learned.above(arm)
    return {
        "name": arm.name,
        "label": arm.label,
        "role": arm.role,
        "steps": arm.steps,
        "seeds": [result.seed for result in arm.results],
        "accuracies": [result.measures.accuracy for result in arm.results],
        "accuracy": accuracy.mean,
        "interval": _ends(accuracy),
        "loss": _number(arm.mean("loss")),
        "calibration_error": _number(arm.mean("calibration_error")),
        "class_accuracy": [_number(float(share)) for share in arm.class_accuracy(comparison.test_images)],
        "seconds": arm.seconds,
        "learned_above": above and _difference(above),
    }


def _verdict(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    named = {name: getattr(verdict, name) for name in ("decision", "sentence", "learned", "against")}
    return {**named, **_difference(verdict.difference)}


def _difference(found: Interval) -> dict[str, Any]:
    return {"difference": found.mean, "interval": _ends(found), "seeds": found.values}


def _ends(found: Interval) -> list[float] | None:
    return None if found.values < 2 else [found.low, found.high]


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _as_csv(comparison: Comparison) -> str:
    """One row per arm and section; the cells of comparison.json that are single numbers."""
    rows = []
    for section in as_json(comparison)["sections"]:
        for arm in section["arms"]:
            above = arm["learned_above"] or {}
            low, high = above.get("interval") or (None, None)
            rows.append({
                "budget": section["budget"], "copies": section["copies"], "arm": arm["name"], "role": arm["role"],
                "steps": arm["steps"], "seeds": len(arm["seeds"]), "accuracy": arm["accuracy"], "loss": arm["loss"],
                "calibration_error": arm["calibration_error"], "seconds": arm["seconds"],
                "learned_above": above.get("difference"), "low": low, "high": high,
            })  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
