"""Results on disk: a table with a row per finished training, which grows and is never rewritten."""

import csv
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from augnet.compare.measures import Measures
from augnet.compare.retraining import Result
from augnet.training.checkpoint import room_for

# Characters of a file that is no table which are shown.
SHOWN = 40
COLUMNS = ("arm", "steps", "seed", "copies", "accuracy", "loss", "calibration_error", "right", "seconds", "key")


class Results:
    """The results of a comparison, of this and of earlier sessions.

    `right` in the file counts the test images of each class that were classified rightly.

    Args:
        path: table to append to; made with the first row.
        known: further tables to read, made elsewhere.

    Raises:
        FileNotFoundError: if a further table is not there.
        ValueError: if a table has other columns.
    """

    def __init__(self, path: Path, known: Iterable[Path] = ()) -> None:
        self.path = path
        self.found: dict[tuple[str, int, int, int], Result] = {}
        for table in known:
            if not table.is_file():
                raise FileNotFoundError(f"there is no table of results {str(table)!r}")
            self._take(read(table))
        if path.exists() and path.stat().st_size:
            self._take(read(path))

    @property
    def lengths(self) -> list[int]:
        """Numbers of steps that there are results of, ascending."""
        return sorted({result.steps for result in self.found.values()})

    def get(self, key: str, steps: int, seed: int, copies: int) -> Result | None:
        """Look a result up."""
        return self.found.get((key, steps, seed, copies))

    def add(self, results: Iterable[Result]) -> None:
        """Append results to the table, in one write that is on disk when this returns."""
        results = list(results)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        if not self.path.exists() or self.path.stat().st_size == 0:
            writer.writerow(COLUMNS)
        elif not _ends_a_line(self.path):
            # Half a row of a session that was killed: it stays alone on its line, and is not read.
            text.write("\n")
        writer.writerows(map(_row, results))
        with room_for(self.path), self.path.open("ab") as file:
            file.write(text.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
        self._take(results)

    def _take(self, results: Iterable[Result]) -> None:
        for result in results:
            self.found.setdefault((result.key, result.steps, result.seed, result.copies), result)


def _row(result: Result) -> list[object]:
    accuracy, loss, calibration_error, right = result.measures
    measures = [accuracy, loss, calibration_error, " ".join(map(str, right))]
    return [result.arm, result.steps, result.seed, result.copies, *measures, result.seconds, result.key]


def read(path: Path) -> Iterator[Result]:
    """Read a table of results, all rows that are whole.

    Raises:
        ValueError: if it is none.
    """
    # Of bytes that are no text, what stands for them is no header either.
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header = file.readline().strip()
        if tuple(header.split(",")) != COLUMNS:
            raise ValueError(
                f"{path} should be a table of results, such as the results.csv of a comparison, but begins with "
                f"{header[:SHOWN]!r}; name another file"
            )
        # A power cut may leave zeros, which Python 3.10 takes for an error.
        rows = csv.reader(line.replace("\0", "") for line in file)
        for row in rows:
            if (result := _result(row)) is not None:
                yield result


def _result(row: list[str]) -> Result | None:
    """Read a row; None where a killed session left half of one."""
    if len(row) != len(COLUMNS) or len(row[-1]) != 16:
        return None
    arm, steps, seed, copies, accuracy, loss, calibration_error, right, seconds, key = row
    try:
        measures = Measures(float(accuracy), float(loss), float(calibration_error), tuple(map(int, right.split())))
        return Result(arm, int(steps), int(seed), int(copies), measures, float(seconds), key)
    except ValueError:
        return None


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
