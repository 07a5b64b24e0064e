"""The report: every figure as a file, and one page that holds them all, needs no network, and explains itself."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jinja2
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from augnet.classifier import Classifier
from augnet.export import LabelSafety, measure
from augnet.show.amounts import amounts
from augnet.show.by_class import by_class
from augnet.show.canvas import darken
from augnet.show.controls import address, controls
from augnet.show.decisions import decide
from augnet.show.gain import Effect, gain, leave_one_out
from augnet.show.gallery import gallery
from augnet.show.history import history
from augnet.show.residual import residual
from augnet.show.safety import changed_by_choices, safety
from augnet.show.strip import strip
from augnet.show.subject import Subject
from augnet.show.walk import animation, walk
from augnet.show.words import facts, sentences

# Dots per inch: of files, and of the page.
SHARP, READABLE = 150, 115
QUALITY = 82
WALKERS = 3


class Part(NamedTuple):
    """A figure of the page.

    Args:
        name: of its file.
        title: what it shows.
        reading: a sentence that says how to read it.
        draw: makes it.
    """

    name: str
    title: str
    reading: str
    draw: Callable[[], Figure]


class Pictured(NamedTuple):
    """A figure on the page: addresses of its pictures on light and on dark paper, or why there is none.

    Without a picture on dark paper the other one is for both.
    """

    name: str
    title: str
    reading: str
    light: str = ""
    dark: str = ""
    size: tuple[int, int] = (0, 0)
    missing: str = ""


def write(
    subject: Subject,
    out: Path,
    *,
    seeds: int = 0,
    steps: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write figures/*.png and report.html.

    Args:
        subject: what to show.
        out: folder to write into; made if it is not there.
        seeds: trainings with each transform left out; 0 leaves them out.
        steps: classifier updates of each of them; those of the run by default.
        report: called with a sentence on what is done now.

    Returns:
        The page.
    """
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    augmenter, images = subject.augmenter, subject.images
    effects, unmeasured = _effects(subject, seeds, steps, report)
    found, changed, unsafe = _safety(subject)
    pictured = []
    for part in _parts(subject, effects, unmeasured, found, unsafe):
        drawn = _draw(part, figures)
        report(f"left out: {part.title} ({drawn.missing})" if drawn.missing else f"drawn: {part.title}")
        pictured.append(drawn)
    pictured.append(_compared(subject))
    (figures / "walk.webp").write_bytes(animation(augmenter, images[:WALKERS]))
    report("drawing the page")
    varied = float(decide(augmenter, images, 1)[0].use.std(dim=0, correction=0).max()) if augmenter.transforms else 0.0
    page = jinja2.Environment(
        loader=jinja2.PackageLoader("augnet.show", "."), autoescape=True, undefined=jinja2.StrictUndefined
    ).get_template("report.html.j2").render(
        name=subject.name,
        summary=sentences(subject, augmenter.summary(images), found, changed, effects, varied),
        facts=facts(subject),
        notes=subject.notes,
        figures=pictured,
        controls=controls(subject),
    )  # fmt: skip
    path = out / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _effects(
    subject: Subject, seeds: int, steps: int | None, report: Callable[[str], None]
) -> tuple[list[Effect], str]:
    """Measure what leaving transforms out does, or say why not."""
    run, k = subject.run, len(subject.augmenter.transforms)
    if run is None or run.recipe.data is None or subject.classifier is None or k == 0:
        return [], "it needs a run with its data and its classifier, and transforms to leave out"
    recipe = run.recipe
    if seeds == 0:
        return [], (
            f"it takes training {k + 2} classifiers from scratch, several times over; measure it with "
            f"augnet show {run.path} --leave-one-out 3"
        )
    splits = run.splits()

    def build() -> nn.Module:
        return Classifier.build(recipe.classifier, len(splits.classes), splits.channels, splits.size)

    def estimate(seconds: float) -> None:
        report(f"making {(k + 2) * seeds} trainings with transforms left out, about {seconds / 60:,.0f} minutes")

    effects = leave_one_out(
        subject.augmenter, build, splits.train, splits.val, recipe, seeds=seeds, steps=steps, report=estimate
    )
    return effects, ""


def _safety(subject: Subject) -> tuple[LabelSafety | None, dict[str, list[int]], str]:
    """Measure label safety, and what each choice does to classes; or say why not."""
    if subject.classifier is None or subject.labels is None:
        return None, {}, "it needs the run's classifier and images of its classes"
    augmenter, classifier, images, labels = subject.augmenter, subject.classifier, subject.images, subject.labels
    try:
        changed = changed_by_choices(augmenter, images, labels, classifier)
        return measure(augmenter, classifier, images, labels, subject.classes), changed, ""
    except ValueError as error:
        return None, {}, str(error)


def _draw(part: Part, folder: Path) -> Pictured:
    """Draw a figure into a file and for the page; where it cannot be drawn, keep the reason."""
    try:
        figure = part.draw()
    except ValueError as error:
        return Pictured(part.name, part.title, part.reading, missing=str(error))
    path = folder / f"{part.name}.png"
    figure.savefig(path, dpi=SHARP)
    with Image.open(path) as sharp:
        size = round(sharp.width * READABLE / SHARP), round(sharp.height * READABLE / SHARP)
        light = _compressed(sharp.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    # Everything has its place now, and to find it again would take as long as to draw it.
    figure.set_layout_engine("none")
    darken(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=READABLE)
    dark = _compressed(Image.open(drawn).convert("RGB"))
    return Pictured(part.name, part.title, part.reading, light, dark, size)


def _compared(subject: Subject) -> Pictured:
    """Take the figure of `augnet compare`, if there is one."""
    named = (
        "comparison", "Whether it is any better",
        "Classifiers were trained from scratch with what was learned and with fixed augmentation, and tested once. A "
        "dot is a training, a mark the mean of an arm with its 95 % interval; right is better. All numbers are in "
        "comparison.md beside the figure, in the folder of the run.",
    )  # fmt: skip
    if subject.run is None:
        return Pictured(*named, missing="a file holds no comparison; show the run folder instead")
    path = subject.run.path / "comparison" / "comparison.png"
    if not path.is_file():
        return Pictured(
            *named, missing=f"no comparison is in the run folder; make one with augnet compare {subject.run.path}"
        )
    try:
        with Image.open(path) as drawn:
            size = round(drawn.width * READABLE / SHARP), round(drawn.height * READABLE / SHARP)
            picture = _compressed(drawn.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    except OSError as error:
        return Pictured(*named, missing=f"{path} is damaged ({error}); compare again")
    return Pictured(*named, light=picture, size=size)


def _compressed(image: Image.Image) -> str:
    written = io.BytesIO()
    image.save(written, "WEBP", quality=QUALITY)
    return address(written.getvalue(), "webp")


def _parts(
    subject: Subject, effects: list[Effect], unmeasured: str, found: LabelSafety | None, unsafe: str
) -> list[Part]:
    augmenter, images, labels, classes = subject.augmenter, subject.images, subject.labels, subject.classes

    def drawn_history() -> Figure:
        if subject.run is None:
            raise ValueError("a file does not tell how it was learned; show the run folder instead")
        return history(subject.run)

    def drawn_gain() -> Figure:
        if not effects:
            raise ValueError(unmeasured)
        return gain(effects)

    def drawn_safety() -> Figure:
        if found is None:
            raise ValueError(unsafe)
        return safety(found)

    return [
        Part(
            "gallery", "What it makes of images",
            "Each row is an image that was chosen by chance, and draws of its augmentation. Below each stands the "
            "classifier's confidence in the true class; a frame marks those where augmentation lowers it by 0.1 or "
            "more. A good augmentation changes much and leaves you sure of the class.",
            lambda: gallery(augmenter, images, labels, classes, subject.classifier),
        ),
        Part(
            "amounts", "What was learned",
            "A hill shows how strongly a transform is applied where it is applied: 0 is not at all, ±1 its limit. Dots "
            "are means over images, with 95 % intervals by bootstrap (narrower than the dot where there is no bar). "
            "The most used stand on top.",
            lambda: amounts(augmenter, images),
        ),
        Part(
            "history", "How it was learned",
            "Lines should have levelled off by the end; a loss that rises, noise near 1 with a residual that keeps "
            "rising, or a numbered alarm are reasons not to trust it. Watched are validation images that nothing is "
            "learned from (or all, of fewer than about 80): where their loss stays above that of the others, the "
            "augmentation suits the others alone. The small panels show each transform's range.",
            drawn_history,
        ),
        Part(
            "by_class", "Whether it depends on the image",
            "Purple: a class gets more of a transform than others, orange: less; a dot marks differences beyond "
            "three standard errors. Below: the images that get the least and the most, with their use.",
            lambda: by_class(augmenter, images, labels, classes),
        ),
        Part(
            "strip", "One transform at a time",
            "From left to right each transform goes from two spreads below its centre to two above, within its limits "
            "and from 0 where amounts have no sign, the others being off; below each image stands the amount. Shown on "
            "the image of most contrast among 16 chosen by chance.",
            lambda: strip(augmenter, images),
        ),
        Part(
            "walk", "A walk through the noise",
            "Nothing changes from left to right but the noise, along a smooth closed path; a jump is a transform that "
            "switches on or off.",
            lambda: walk(augmenter, images[:WALKERS]),
        ),
        Part(
            "residual", "What it paints",
            "The middle row is what the decoder adds to the upper row to give the lower one.",
            lambda: residual(augmenter, images, labels),
        ),
        Part(
            "gain", "Which transforms help",
            "Classifiers were trained from scratch with each transform left out, and everything else the same: right "
            "of 0, the validation loss is higher without it, so it helps. Bars are intervals over seeds "
            "and validation images that all hold at once with 95 % confidence; a hollow square could be chance. The "
            "augmenter learned from these same validation images, which flatters its transforms.",
            drawn_gain,
        ),
        Part(
            "safety", "Whether labels survive",
            "The share of images, among those that the classifier reads rightly, that it still reads rightly once "
            "augmented. The bold line is over all classes, with its 95 % interval; the named classes suffer most. Left "
            "of 1 is weaker than learned, right of it stronger. The classifier is no judge of images that look like "
            "none of those it was trained on.",
            drawn_safety,
        ),
    ]  # fmt: skip
