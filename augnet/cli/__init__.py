"""The command line: `augnet VERB`.

Every verb is a module with a short function, whose docstring is its help. Whatever a user got wrong ends as one
sentence and exit code 2; the library itself never prints.
"""

import signal
import sys
from collections.abc import Callable, Sequence

from augnet.cli.compare import compare
from augnet.cli.export import export
from augnet.cli.show import show
from augnet.cli.train import train
from augnet.training import TrainingDiverged

USAGE = """usage: augnet [-h] {train,show,export,compare} ...

Learn an image augmentation from the validation loss.

  train    learn an augmenter and a classifier from labelled images; writes a run folder
  show     draw what was learned: figures, and a page that explains itself
  export   write an augmenter for other people's training code
  compare  retrain with it and with fixed augmentation, and say whether it is worth using

`augnet VERB --help` explains a verb.
"""

VERBS: dict[str, Callable[[list[str]], int]] = {"train": train, "show": show, "export": export, "compare": compare}
# What torch says, in a plain RuntimeError, where a machine has no more memory.
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; return the exit code: 0 done, 2 bad input or a failed training, 128 + n stopped by signal n."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"augnet: no verb {verb!r}; there is {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        return VERBS[verb](rest)
    except KeyboardInterrupt:
        print("augnet: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError, TrainingDiverged, MemoryError, RuntimeError) as error:
        if (sentence := _sentence(error)) is None:
            raise
        print(f"augnet: {sentence}", file=sys.stderr)
        return 2


def _sentence(error: Exception) -> str | None:
    """Say on one line what a user can mend; None if the fault is in the code."""
    text = str(error)
    if isinstance(error, MemoryError) or any(mark in text for mark in OUT_OF_MEMORY):
        text = "out of memory; lower schedule.batch_size, schedule.val_batch_size or data.size, or take a smaller model"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror.lower()}: {error.filename}" if error.filename else error.strerror
    elif isinstance(error, RuntimeError) and not isinstance(error, TrainingDiverged):
        # A process that decodes images was killed, or found no room in /dev/shm.
        if not text.startswith("DataLoader worker"):
            return None
        text += "; lower `workers`, or set it to 0"
    return " ".join(text.split())
