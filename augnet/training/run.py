"""A training on disk, for whoever wants to use what it left behind."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from augnet.augmenter import Augmenter, load
from augnet.classifier import Classifier
from augnet.data import DataSource, Splits
from augnet.recipe import Recipe


class Run:
    """A finished or unfinished training on disk.

    Args:
        path: the run folder.

    Raises:
        FileNotFoundError: if there is no run folder at `path`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / "recipe.yaml").is_file():
            raise FileNotFoundError(
                f"no run at {self.path}: a run folder holds recipe.yaml; was it made by `augnet train`?"
            )

    def __repr__(self) -> str:
        learned = self.record.get("in_words", "not finished")
        return f"Run({str(self.path)!r}): {learned}"

    @property
    def recipe(self) -> Recipe:
        """The settings; `data` is None where data sets came from Python."""
        return Recipe.load(self.path / "recipe.yaml")

    @property
    def record(self) -> dict[str, Any]:
        """Versions, seed, fingerprint, and, once it has ended, results."""
        path = self.path / "record.json"
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    @property
    def metrics(self) -> list[dict[str, float]]:
        """One dict per report, in order of steps; a row that is only half written is left out."""
        with (self.path / "metrics.csv").open(newline="") as file:
            rows = csv.DictReader(line for line in file if line.endswith("\n"))
            return [{name: float(value) for name, value in row.items()} for row in rows if None not in row.values()]

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return "test_accuracy" in self.record

    @property
    def verdict(self) -> str | None:
        """What `augnet compare` found, in a sentence; None where nothing has been compared yet."""
        path = self.path / "comparison" / "comparison.json"
        if not path.is_file():
            return None
        try:
            verdict = json.loads(path.read_text(encoding="utf-8"))["verdict"]
            return None if verdict is None else str(verdict["sentence"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); compare again, or remove it") from error

    def splits(self, data: DataSource | None = None) -> Splits:
        """Read the images that it learned from, cut as they were.

        Args:
            data: where they are; only if they came from Python.

        Raises:
            ValueError: if they came from Python and are not given, or have changed.
            FileNotFoundError: if they are gone.
        """
        recipe = self.recipe
        source = data or recipe.data
        if source is None:
            raise ValueError(
                f"the data sets of {self.path} came from Python; go on there: "
                "augnet.compare.compare(path, data=...) and Run(path).splits(data=...) take augnet.from_datasets(...)"
            )
        splits = source.load(recipe.seed)
        kept = self.record.get("data_fingerprint", "missing")
        if splits.fingerprint != kept:
            raise ValueError(
                f"the data of {self.path} have changed (fingerprint {kept[:12]} when it learned, "
                f"{splits.fingerprint[:12]} now); use the images that it learned from"
            )
        return splits

    def augmenter(self) -> Augmenter:
        """Load the augmenter, in evaluation mode, on the CPU."""
        return load(self.path / "augmenter.safetensors")[0]

    def classifier(self, own: nn.Module | None = None) -> nn.Module:
        """Load the classifier, in evaluation mode, on the CPU.

        Args:
            own: a module like the one that was trained; only if it was the user's own.

        Raises:
            FileNotFoundError: if there are no weights.
            ValueError: if they are damaged, or those of another module.
        """
        record = self.record
        model = own or Classifier.build(
            replace(self.recipe.classifier, pretrained=False),
            len(record["classes"]), record["channels"], tuple(record["size"]),
        )  # fmt: skip
        path = self.path / "classifier.safetensors"
        try:
            model.load_state_dict(load_file(path))
        except SafetensorError as error:
            raise ValueError(
                f"{path} is damaged ({error}); the last checkpoint is in {path.parent / 'resume'}"
            ) from error
        except RuntimeError as error:
            name = type(own).__name__ if own else self.recipe.classifier.name
            raise ValueError(
                f"{path} holds the weights of another model than {name}; if the run trained a module of your own, hand "
                "one like it over: run.classifier(module)"
            ) from error
        return model.eval()
