"""Trainings side by side, one per process and thread."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TypeVar

import torch

from augnet.compare.bench import Bench
from augnet.compare.retraining import Training

T = TypeVar("T")
# What is done with a training; the last argument says whether to stop.
Work = Callable[[Bench, Training, Callable[[], bool]], T]


class Processes:
    """Processes that all have the bench; a context manager, which stops them when it is left.

    Args:
        bench: what all arms share.
        jobs: processes; 1 stays in this one.

    Raises:
        ValueError: if the bench cannot be handed to other processes.
    """

    def __init__(self, bench: Bench, jobs: int) -> None:
        self.bench, self.jobs = bench, jobs
        self._stop: Event | None = None
        self._pool: ProcessPoolExecutor | None = None
        self._files = contextlib.ExitStack()

    def __enter__(self) -> "Processes":
        if self.jobs > 1:
            with contextlib.ExitStack() as files:
                # In a file: what goes to a process by its pipe has to fit into that, or it is waited for in vain when
                # the process dies at once. Not as tensors, which go by /dev/shm; containers have little of that.
                bench = Path(files.enter_context(tempfile.TemporaryDirectory(prefix="augnet-"))) / "bench.pickle"
                self._write(bench)
                self._files = files.pop_all()
            # Forked processes hang where torch had threads before.
            context = multiprocessing.get_context("spawn")
            self._stop = context.Event()
            self._pool = ProcessPoolExecutor(
                self.jobs, mp_context=context, initializer=_begin, initargs=(bench, self._stop)
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None and self._stop is not None:
            self._stop.set()
            self._pool.shutdown(cancel_futures=True)
        self._files.close()

    def _write(self, path: Path) -> None:
        try:
            with path.open("wb") as file:
                pickle.dump(self.bench, file)
        except OSError as error:
            raise ValueError(
                f"the data cannot be written for other processes ({error}); make room in {tempfile.gettempdir()}, "
                "name another folder by TMPDIR, or set jobs to 1"
            ) from error
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ValueError(
                f"the data or the classifier cannot be handed to other processes ({error}); define them at the "
                "top of a module, or set jobs to 1"
            ) from error

    def run(self, work: Work[T], trainings: Sequence[Training]) -> Iterator[tuple[Training, T]]:
        """Do a piece of work for every training; yield what comes of it, as it comes.

        Raises:
            ValueError: if the work failed on a training; the message names its arm.
            ChildProcessError: if a process died.
        """
        if self._pool is None:
            for training in trainings:
                with _one_thread(), _named(training):
                    found = work(self.bench, training, lambda: False)
                yield training, found
            return
        futures: dict[Future[T], Training] = {self._pool.submit(_do, work, each): each for each in trainings}
        waiting = dict(futures)
        for future in as_completed(futures):
            training = futures[future]
            try:
                with _named(training):
                    found = future.result()
            except BrokenProcessPool as error:
                # First come, first served: those under way are the first that are not done.
                names = list(dict.fromkeys(each.arm.name for each in waiting.values()))[: self.jobs]
                raise ChildProcessError(
                    f"a process died, killed or out of memory, while it trained {' or '.join(names)}; what was done is "
                    "kept: run it again, with fewer jobs; a script that compares must do so under "
                    '`if __name__ == "__main__":`, since every process imports it'
                ) from error
            del waiting[future]
            yield training, found


@contextlib.contextmanager
def _named(training: Training) -> Iterator[None]:
    """Say which arm it was that failed."""
    try:
        yield
    except BrokenProcessPool:
        raise
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"training with {training.arm.name} (seed {training.seed}) failed: {error}") from error


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


# What a process was given when it began.
_given: list[tuple[Bench, Event]] = []


def _begin(bench: Path, stop: Event) -> None:
    # A terminal sends Ctrl-C to all; the first process decides, and tells the others by the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # It was written by the first process, for its user alone.
    with bench.open("rb") as file:
        _given.append((pickle.load(file), stop))


def _end_with_parent() -> None:
    """End when the first process is killed, which cannot tell anyone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(work: Work[T], training: Training) -> T:
    ((bench, stop),) = _given
    return work(bench, training, stop.is_set)
