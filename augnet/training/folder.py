"""The run folder while a training writes it: a complete record, and files that are never half written.

recipe.yaml            every setting
record.json            versions, seed, data fingerprint, what was adapted, alarms, results
augmenter.safetensors  the augmenter, with a header that says what it is
classifier.safetensors the classifier's weights
metrics.csv            one row per report
resume/                the last checkpoint
"""

import csv
import importlib.metadata
import json
import os
import platform
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from augnet.augmenter import Augmenter, Learned, change_in_words, in_words
from augnet.augmenter.file import to_bytes
from augnet.data import Pair
from augnet.recipe import Recipe, as_plain
from augnet.training import checkpoint
from augnet.training.evaluation import score
from augnet.training.progress import Progress
from augnet.training.run import Run
from augnet.training.settling import settled

if TYPE_CHECKING:
    from augnet.training.trainer import IFTTrainer

PACKAGES = ("torch", "torchvision", "kornia", "timm", "numpy")


class RunFolder:
    """The writing side of a run.

    Args:
        path: an existing run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = Run(path).path
        self.tensorboard: Any = None

    @classmethod
    def make(cls, path: Path, recipe: Recipe, trainer: "IFTTrainer") -> "RunFolder":
        """Begin a new run folder.

        Raises:
            FileExistsError: if there is something at `path` already.
        """
        # Without "..", which could name the working directory once its parents have been made.
        path = Path(os.path.normpath(path))
        cls.refuse_existing(path)
        (path / "resume").mkdir(parents=True)
        try:
            checkpoint.write_bytes(_lasting(recipe).as_yaml().encode(), path / "recipe.yaml")
            folder = cls(path)
            folder.tensorboard = _tensorboard(path) if recipe.tensorboard else None
            folder._begin_record(trainer)
        except BaseException:
            shutil.rmtree(path)
            raise
        return folder

    @staticmethod
    def refuse_existing(path: Path) -> None:
        """Raise FileExistsError if there is something at `path`."""
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is never overwritten; give another --out"
                + (f", or go on with it by --resume {path}" if (path / "recipe.yaml").exists() else "")
            )

    def discard(self) -> None:
        """Remove the folder, of a run that learned nothing."""
        shutil.rmtree(self.path)

    def _begin_record(self, trainer: "IFTTrainer") -> None:
        recipe, splits = trainer.recipe, trainer.splits
        self._write_record(
            {
                **self._circumstances(trainer),
                "seed": recipe.seed,
                "data_fingerprint": splits.fingerprint,
                "images": {"train": len(splits.train), "validation": len(splits.val), "test": len(splits.test or ())},
                "classes": list(splits.classes),
                "channels": splits.channels,
                "size": list(splits.size),
                "skipped_files": list(splits.skipped),
                "hyperparameters": sum(w.numel() for w in trainer.augmenter.parameters()),
                "weights": sum(w.numel() for w in trainer.inner.weights),
                "notes": trainer.notes,
                "alarms": [],
            }
        )

    def _circumstances(self, trainer: "IFTTrainer") -> dict[str, Any]:
        """What else than the recipe and the data decides the last bit of a weight."""
        return {
            "augnet": importlib.metadata.version("augnet"),
            "python": platform.python_version(),
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            "device": str(trainer.device),
            "threads": torch.get_num_threads(),
            "processes": trainer.processes.count,
        }

    def recipe(self, given: Recipe | None) -> Recipe:
        """Return the run's recipe, with data sets from Python put back.

        Raises:
            ValueError: if `given` differs from it in more than its data, or is needed and missing.
        """
        stored = _lasting(Run(self.path).recipe)
        if given is not None:
            compared = _lasting(given)
            names = [n for n in vars(stored) if as_plain(getattr(stored, n)) != as_plain(getattr(compared, n))]
            if names:
                raise ValueError(
                    f"{self.path} was begun with another recipe: {', '.join(names)} differ; start a new run"
                )
            return given
        if stored.data is None:
            raise ValueError(
                f"the data sets of {self.path} came from Python; resume it there: IFTTrainer.resume(path, recipe=...)"
            )
        return stored

    def restore(self, trainer: "IFTTrainer") -> None:
        """Put a trainer into the state of the last checkpoint.

        Raises:
            FileNotFoundError: if there is no checkpoint.
            ValueError: if the data or the settings are not those of the checkpoint.
        """
        kept, found = Run(self.path).record.get("data_fingerprint", "missing"), trainer.splits.fingerprint
        if kept != found:
            raise ValueError(
                f"the data of {self.path} have changed (fingerprint {kept[:12]} then, {found[:12]} now); "
                "start a new run"
            )
        stored = self.path / "resume" / "state.safetensors"
        if not stored.is_file():
            raise FileNotFoundError(
                f"{self.path} has no checkpoint: it was killed before its first one; remove the folder and begin anew"
            )
        state = checkpoint.read(stored)
        try:
            trainer.load_state(state)
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"the checkpoint of {self.path} is not of this classifier ({reason}); was it trained with a module of "
                "your own? hand that over as classifier="
            ) from error
        record, now = Run(self.path).record, self._circumstances(trainer)
        changed = [name for name, value in now.items() if record.get(name, value) != value]
        if changed:
            trainer.notes.append(f"not bit for bit the same run: {', '.join(changed)} changed since it was begun")

    def reopen(self, step: int) -> None:
        """Go on writing behind `step`: drop what was written after its checkpoint."""
        if Run(self.path).recipe.tensorboard:
            self.tensorboard = _tensorboard(self.path, step + 1)
        self._cut(step)

    def save(self, trainer: "IFTTrainer") -> None:
        """Write the augmenter, the classifier and a checkpoint as they are.

        The checkpoint comes last: a run killed in between goes on from the one before, and writes all of them again.
        """
        self._write_augmenter(trainer, trainer.augmenter)
        # Copies: safetensors refuses tensors that share memory, as tied weights do.
        weights = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in trainer.classifier.state_dict().items()
        }
        checkpoint.write_bytes(save(weights), self.path / "classifier.safetensors")
        checkpoint.write(trainer.state(), self.path / "resume" / "state.safetensors")

    def finish(self, trainer: "IFTTrainer") -> None:
        """Score the classifier on the validation and the test images, and complete the record."""
        record = Run(self.path).record
        for name, images in (("validation", trainer.splits.val), ("test", trainer.splits.test)):
            found = (
                None if images is None else score(trainer.classifier, images, trainer.device, trainer.recipe.workers)
            )
            record[f"{name}_accuracy"] = found and found.accuracy
            record[f"{name}_loss"] = found and found.loss
        record["seconds"] = trainer.seconds
        record["share_of_learning_to_augment"] = share_of_learning(trainer)
        augmenter, unwanted = settled(trainer.augmenter, trainer.watch.sample[0])
        learned = self._write_augmenter(trainer, augmenter)
        record["learned"] = [item.words for item in learned]
        silent = [] if trainer.augmenter.head is None else trainer.augmenter.head.silenced
        record["left_out"] = [item.words for item in unwanted if item.transform not in silent]
        record["spoiling"] = [transform.label for transform in silent]
        reasons = (("learned down and left out", "left_out"), ("left out for spoiling labels", "spoiling"))
        left_out = [f"{why}: {', '.join(record[name])}" for why, name in reasons if record[name]]
        for name, words in (
            ("in_words", in_words(learned)),
            ("changed", change_in_words(learned, trainer.augmenter.start())),
        ):
            record[name] = "; ".join([*filter(None, [words]), *left_out])
        self._write_record(record)

    def _write_augmenter(self, trainer: "IFTTrainer", augmenter: Augmenter) -> list[Learned]:
        """Write an augmenter's file, and return what the augmenter does."""
        learned = augmenter.summary(trainer.watch.sample[0])
        about = {
            "classes": list(trainer.splits.classes),
            "data": trainer.recipe.data and trainer.recipe.data.title,
            "data_fingerprint": trainer.splits.fingerprint,
            "images": len(trainer.splits.train),
            "size": list(trainer.splits.size),
            "steps": trainer.step,
            "words": [item.words for item in learned],
        }
        checkpoint.write_bytes(to_bytes(augmenter, about), self.path / "augmenter.safetensors")
        return learned

    def add_row(self, progress: Progress) -> None:
        """Append a row to metrics.csv, and alarms that went off to the record."""
        row = progress.row()
        path = self.path / "metrics.csv"
        fresh = not path.exists()
        with checkpoint.room_for(path), path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        if progress.warnings:
            record = Run(self.path).record
            record["alarms"] += [{"step": progress.step, "sentence": sentence} for sentence in progress.warnings]
            self._write_record(record)
        if self.tensorboard is not None:
            for name, value in row.items():
                self.tensorboard.add_scalar(name, value, progress.step)
            self.tensorboard.flush()

    def _cut(self, step: int) -> None:
        """Drop rows and alarms that were written after the checkpoint; a killed run may have left half a line, too."""
        record = Run(self.path).record
        record["alarms"] = [alarm for alarm in record["alarms"] if alarm["step"] <= step]
        self._write_record(record)
        path = self.path / "metrics.csv"
        if not path.exists():
            return
        header, *rows = path.read_text().splitlines(keepends=True) or [""]
        kept = [
            r for r in rows if r.endswith("\n") and r.count(",") == header.count(",") and int(r.split(",")[0]) <= step
        ]
        if kept:
            checkpoint.write_bytes("".join([header, *kept]).encode(), path)
        else:
            path.unlink()

    def _write_record(self, record: dict[str, Any]) -> None:
        checkpoint.write_bytes(json.dumps(record, indent=2).encode(), self.path / "record.json")


def share_of_learning(trainer: "IFTTrainer") -> float | None:
    """Share of the time that learning took: outer steps beyond inner ones; None where no step was an inner one."""
    outer, seconds = trainer.recipe.schedule.outer_steps_before(trainer.step), trainer.seconds
    if outer == trainer.step:
        return None
    plain = seconds["inner"] / (trainer.step - outer)
    return (seconds["outer"] - outer * plain) / max(1e-9, sum(seconds.values()))


def _lasting(recipe: Recipe) -> Recipe:
    """Give what of a recipe can be read again, from any working directory: data sets from Python cannot."""
    source = recipe.data
    return replace(recipe, data=None if source is None or isinstance(source, Pair) else source.anchored())


def _tensorboard(path: Path, first_step: int | None = None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("tensorboard is set but not installed; run: pip install 'augnet[tracking]'") from error
    return SummaryWriter(str(path / "tensorboard"), purge_step=first_step)
