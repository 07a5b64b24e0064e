"""`augnet show`: draw what was learned."""

from dataclasses import replace
from pathlib import Path

from augnet.cli.arguments import Parser


def show(arguments: list[str]) -> int:
    """Draw what was learned: figures/*.png, and report.html, one page that needs no network.

    augnet show RUN [--images SOURCE] [--out FOLDER] [--leave-one-out SEEDS [--steps N]]
    augnet show FILE.safetensors --images SOURCE [--out FOLDER]

    A run may still be training. It is shown on its own validation images unless SOURCE names others: a folder of
    images, with class folders or without, an .npz archive, or the name of a torchvision data set.
    """
    # matplotlib takes a second to import, which other verbs need not pay.
    from augnet.show import Subject
    from augnet.show.report import write

    parser = Parser(show)
    parser.add_argument("what", metavar="RUN", type=Path, help="run folder, or an augmenter's file")
    parser.add_argument("--images", metavar="SOURCE", help="images to show it on")
    parser.add_argument("--out", metavar="FOLDER", type=Path, help="by default RUN; for a file, NAME-show beside it")
    parser.add_argument(
        "--leave-one-out", metavar="SEEDS", type=int, default=0, dest="seeds",
        help="also train this many classifiers without each transform, to see which ones help; takes long",
    )  # fmt: skip
    parser.add_argument("--steps", metavar="N", type=int, help="steps of each such training; as in the run by default")
    options = parser.parse_args(arguments)
    if options.seeds < 0 or options.seeds == 1 or (options.steps is not None and options.steps < 1):
        raise ValueError(
            f"--leave-one-out must be 0 or at least 2, since one seed does not tell chance, and --steps "
            f"1 or more, found {options.seeds} and {options.steps}"
        )
    path: Path = options.what
    if path.is_file():
        if options.images is None:
            raise ValueError(f"{path} holds no images to show it on; name some with --images SOURCE")
        subject = Subject.of_file(path, options.images)
        out = options.out or path.with_name(f"{path.stem}-show")
    else:
        subject = Subject.of_run(path, options.images)
        out = options.out or path
        if subject.run is not None and not subject.run.finished:
            steps = subject.about.get("steps", "some")
            early = f"{path} is not finished; this is its last checkpoint, of {steps} steps"
            subject = replace(subject, notes=(early, *subject.notes))
    print(f"showing {subject.name} on {subject.source}")
    for note in subject.notes:
        print(f"note: {note}")
    page = write(subject, out, seeds=options.seeds, steps=options.steps, report=print)
    print(f"wrote {page} and {out / 'figures'}")
    return 0
