"""What was learned, in sentences for somebody who has not read the paper."""

from collections.abc import Mapping, Sequence

from augnet.augmenter import Learned
from augnet.export import LabelSafety
from augnet.export.label_safety import LEAST_IMAGES
from augnet.show.gain import Effect
from augnet.show.subject import Subject, name_of

NAMED = 4
# Use below which a transform is as good as absent.
HARDLY = 0.1
# Classes named one by one.
MOST_CLASSES = 4


def said(item: Learned) -> str:
    """Say what one transform does and how often."""
    does = item.transform.label if item.transform.choice else item._replace(probability=1.0).words
    return f"{does} on {item.probability:.0%} of images"


def sentences(
    subject: Subject,
    learned: Sequence[Learned],
    safety: LabelSafety | None,
    changed: Mapping[str, Sequence[int]],
    effects: Sequence[Effect],
    varied: float,
) -> list[str]:
    """Say what an augmenter does, what it leaves alone, whether it is safe, and what it gains.

    Args:
        subject: what is shown.
        learned: the policy, averaged over its images.
        safety: agreement at several strengths, if there is a classifier.
        changed: classes that each choice, made alone, turns into another.
        effects: of leaving transforms out, if that was measured.
        varied: largest standard deviation of a transform's use over images.
    """
    found = []
    if learned:
        ordered = sorted(learned, key=lambda item: -item.use)
        much = sum(item.probability for item in learned)
        found.append(
            f"Of its {len(learned)} transforms, an image gets {much:.1f} on average. The most used: "
            f"{'; '.join(said(item) for item in ordered[:NAMED])}."
        )
        hardly = [item.transform.label for item in ordered if item.use < HARDLY]
        if hardly:
            found.append(f"Hardly used: {', '.join(hardly)}.")
        found.append(
            "How much it does differs between images."
            if varied >= 0.01
            else "It treats all images alike: how much it does hardly depends on what it sees."
        )
    record = subject.run.record if subject.run else {}
    reasons = {
        "left_out": "Learned down and left out",
        "spoiling": "Left out since labels suffer under it (outer.least_skill)",
    }
    for name, why in reasons.items():
        if record.get(name):
            found.append(f"{why}: {', '.join(record[name])}.")
    if subject.augmenter.config.residual_limit:
        found.append(
            f"Besides, it paints: every pixel may change by up to {subject.augmenter.config.residual_limit:g} of full "
            "scale."
        )
    found += [_choice(subject, learned, label, classes) for label, classes in changed.items()]
    if safety is not None:
        learnt, twice = safety.overall(1.0), safety.overall(2.0)
        found.append(
            f"Of {learnt.images:,} images that the classifier reads rightly, {learnt.agreement:.0%} still are once "
            f"augmented as learned, and {twice.agreement:.0%} at twice the strength."
        )
    if effects:
        *single, whole = effects
        best = max((e for e in single if e.sure), key=lambda effect: abs(effect.difference), default=None)
        found.append(
            f"Trained without any of its transforms, a classifier's validation loss is {_change(whole)}; "
            + (
                f"of all, {best.name} {'helps' if best.difference > 0 else 'harms'} most: without it, the loss is "
                f"{_change(best)}."
                if best
                else "left out one at a time, none makes a difference beyond chance."
            )
        )
    verdict = subject.run.verdict if subject.run else subject.about.get("verdict")
    if verdict:
        found.append(f"Compared with fixed augmentation, by classifiers trained from scratch: {verdict}.")
    return found


def _change(effect: Effect) -> str:
    direction = "higher" if effect.difference >= 0 else "lower"
    return f"{abs(effect.difference):.2g} ± {effect.error:.1g} nats {direction}"


def _choice(subject: Subject, learned: Sequence[Learned], label: str, changed: Sequence[int]) -> str:
    (often,) = [item.probability for item in learned if item.transform.label == label]
    start = f"{label[0].upper()}{label[1:]} is done on {often:.0%} of images"
    if not changed:
        return f"{start}; done to all, it would leave most images readable, of every class with {LEAST_IMAGES} or more."
    names = ", ".join(name_of(subject.classes, number) for number in changed[:MOST_CLASSES])
    more = f" and {len(changed) - MOST_CLASSES} more" if len(changed) > MOST_CLASSES else ""
    classes = "class" if len(changed) == 1 else "classes"
    return f"{start}; it makes the classifier misread most images of {len(changed)} {classes}: {names}{more}."


def facts(subject: Subject) -> list[tuple[str, str]]:
    """List what a reader should know of where this came from: names and values."""
    rows = [("shown on", subject.source)]
    if subject.run is None:
        about = {name: value for name, value in subject.about.items() if not isinstance(value, dict | list)}
        return rows + [(name.replace("_", " "), str(value)) for name, value in about.items()]
    record, recipe = subject.run.record, subject.run.recipe
    images = record["images"]
    height, width = record["size"]
    done = subject.run.finished
    place = getattr(recipe.data, "path", "") or getattr(recipe.data, "root", "")
    step = subject.about.get("steps", 0)
    rows += [
        ("data", f"{type(recipe.data).__name__} {place}".strip()),
        ("images", f"{images['train']:,} training, {images['validation']:,} validation, {images['test']:,} test"),
        ("size", f"{width}×{height} pixels, {record['channels']} channel(s), {len(record['classes'])} classes"),
        ("classifier", f"{recipe.classifier.name}, {record['weights']:,} weights"),
        ("augmenter", f"U-Net of {record['hyperparameters']:,} weights, each a hyperparameter"),
        ("training", f"{'' if done else 'not finished: '}step {step:,} of {recipe.schedule.inner_steps:,}"),
        ("seed", str(record["seed"])),
    ]
    if done:
        for part in ("validation", "test"):
            if record[f"{part}_accuracy"] is not None:
                rows.append((f"{part} accuracy", f"{record[f'{part}_accuracy']:.1%}"))
        share = record["share_of_learning_to_augment"]
        seconds = sum(record["seconds"].values())
        learning = "" if share is None else f", {share:.0%} of it for learning to augment"
        rows.append(("cost", f"{seconds:,.0f} s on {record['device']}{learning}"))
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    rows.append(("versions", f"augnet {record['augnet']}, Python {record['python']}, {versions}"))
    rows.append(("data fingerprint", record["data_fingerprint"]))
    return rows
