"""`augnet export`: a run's augmenter as a file for other people's training code."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from augnet.augmenter import Augmenter, load
from augnet.cli.arguments import Parser
from augnet.data.splits import choose
from augnet.export import label_safety
from augnet.export.label_safety import LEAST_IMAGES, LabelSafety
from augnet.export.sample import fairly
from augnet.export.target import target_for
from augnet.training import Run
from augnet.training.checkpoint import write_bytes
from augnet.training.device import device_named

# Images that label safety is measured on and that plain policies are fitted to, at most.
CHECKED = 1024
FITTED = 500


def export(arguments: list[str]) -> int:
    """Write an augmenter for other people's training code.

    augnet export RUN [--to PATH] [--strength S] [--no-check] [--force]
    augnet export FILE.safetensors --to PATH [--images SOURCE] [--strength S] [--force]

    The ending of PATH says what is written; without it RUN.safetensors in the working directory:

      .safetensors  for augnet.LearnedAugment, a torchvision transform
      .pt2          a torch.export program; needs torch alone
      .onnx         an ONNX model; needs onnxruntime alone
      .py           plain torchvision code: probabilities and ranges that do not depend on the image
      .json         the same as an albumentations pipeline, for albumentations.load

    From a run, label safety is measured as well, on its validation images: the share of those that its classifier
    gets right which it still gets right once they are augmented, by class and strength. It is kept in the file; where
    classes suffer a warning names them and a strength that is safe. A plain policy, which is only near what was
    learned, is measured beside it.
    """
    parser = Parser(export)
    parser.add_argument("what", metavar="RUN", type=Path, help="run folder, or an augmenter's file")
    parser.add_argument("--to", metavar="PATH", type=Path, help="file to write")
    parser.add_argument(
        "--strength",
        metavar="S",
        type=float,
        help="0 changes nothing, 1 is as learned; by default that with which a file was exported, and 1 otherwise",
    )
    parser.add_argument(
        "--sampled", action="store_true", help="a program (.pt2, .onnx) that takes images alone and draws its own noise"
    )
    parser.add_argument(
        "--images", metavar="SOURCE", help="images to fit a plain policy (.py, .json) to; by default the run's own"
    )
    parser.add_argument("--no-check", action="store_true", help="do not measure label safety")
    parser.add_argument("--force", action="store_true", help="replace PATH if it is there")
    options = parser.parse_args(arguments)

    what: Path = options.what
    run = None if what.is_file() else Run(what)
    path: Path = options.to or Path(f"{what.resolve().stem if run is None else what.resolve().name}.safetensors")
    augmenter, about = load(what if run is None else what / "augmenter.safetensors")
    strength = about.get("strength", 1.0) if options.strength is None else options.strength
    target = target_for(path, strength=strength, **({"sampled": True} if options.sampled else {}))
    if options.images is not None and not target.fitted:
        raise ValueError(f"--images is for a plain policy (.py, .json), but {path} is {target.label}; leave it out")
    if path.exists() and not options.force:
        raise ValueError(f"{path} exists; replace it with --force, or name another file with --to")
    if run and not run.finished:
        print(f"note: {what} is not finished; this is what it has learned in {about.get('steps', 'some')} steps")
    images = _to_fit(what, run, options.images) if target.fitted else None
    check = None
    if run is not None and target.strength > 0 and not options.no_check:
        check = _Check.of(run)
    safety = check and check.learned(augmenter, target.strength)
    if safety is not None:
        about = {**about, "label_safety": safety.as_json()}
    if run is not None and run.verdict:
        about = {**about, "verdict": run.verdict}
    if strength != (1.0 if run is not None else about.get("strength", 1.0)):
        # It was reached at another strength.
        about = {key: value for key, value in about.items() if key != "verdict"}
    exported = target.export(augmenter, about, images)

    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(exported.content, path)
    print(f"wrote       {path} ({len(exported.content) / 1000:,.0f} kB), {target.label}")
    for line in exported.report:
        print(f"            {line}")
    if check is not None and safety is not None:
        print(f"safety      augmented as learned: {_in_words(safety, target.strength)}")
        warning = safety.warning(target.strength)
        if exported.change is not None:
            plain = check.plain(exported.change, target.strength)
            print(f"            by the plain policy: {_in_words(plain, target.strength)}")
            warning = plain.warning(target.strength, "lower --strength, or export what was learned (.safetensors)")
        print(f"            {safety.proposal}")
        if warning:
            print(f"warning: {warning}")
    print(f"next        {target.usage(path)}")
    return 0


def _to_fit(what: Path, run: Run | None, source: str | None) -> Tensor:
    """Read the images that a plain policy is fitted to."""
    if source is not None:
        # Here, since its figures need matplotlib, which takes a second to import.
        from augnet.show import Subject

        return (Subject.of_file if run is None else Subject.of_run)(what, source).images
    if run is None:
        raise ValueError(f"a plain policy is fitted to images, and {what} holds none; name some with --images SOURCE")
    try:
        train = run.splits().train
        return train.batch(choose(train.labels.numpy(), None, min(FITTED, len(train)), [0]))[0]
    except (ValueError, OSError) as error:
        raise ValueError(f"a plain policy is fitted to images: {error}; name others with --images SOURCE") from error


class _Check(NamedTuple):
    """What label safety is measured with."""

    device: torch.device
    classifier: nn.Module
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    @classmethod
    def of(cls, run: Run) -> "_Check | None":
        """Read a run's validation images and classifier, or say why they cannot be had."""
        try:
            splits, classifier = run.splits(), run.classifier()
            images, labels = splits.val.batch(fairly(splits.val, splits.val.labels, CHECKED))
        except (ValueError, OSError) as error:
            print(f"note: label safety is not measured: {error}")
            return None
        print(f"measuring label safety on {len(images):,} validation images; --no-check leaves it out")
        device = device_named(run.recipe.device if torch.cuda.is_available() else "cpu")
        return cls(device, classifier, images, labels, tuple(splits.classes))

    def learned(self, augmenter: Augmenter, strength: float) -> LabelSafety:
        strengths = sorted({*label_safety.STRENGTHS, strength})
        there, classifier = copy.deepcopy(augmenter).to(self.device), self.classifier.to(self.device)
        return label_safety.measure(there, classifier, self.images, self.labels, self.classes, strengths=strengths)

    def plain(self, change: Callable[[Tensor], Tensor], strength: float) -> LabelSafety:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return label_safety.measure_plain(
                change, self.classifier.cpu(), self.images, self.labels, self.classes, strength=strength
            )


def _in_words(safety: LabelSafety, strength: float) -> str:
    """Say how the worst class fares at a strength."""
    classes = [c for c in safety.classes.get(strength, ()) if c.known]
    if not classes:
        whole = safety.overall(strength)
        few = (
            f"of no class by itself are {LEAST_IMAGES} validation images classified rightly, so nothing is known of any"
        )
        return f"{whole.agreement:.0%} of what the classifier gets right stays right; {few}" if whole.images else few
    worst = min(classes, key=lambda c: c.agreement)
    mean = sum(c.agreement for c in classes) / len(classes)
    return f"{mean:.0%} of what the classifier gets right stays right, mean over classes; least {worst}"
