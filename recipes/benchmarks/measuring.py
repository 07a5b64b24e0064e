"""Measure side by side: every call in a process of its own, in turns, and write what came out as one table.

What is compared is run round by round, so that a busy machine is equally busy to all. On a CPU the clock is the
processor time of one thread, which waiting for others does not move; on a GPU it is the wall.
"""

import contextlib
import csv
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

Answer = TypeVar("Answer")
# Imported once by the process that the others are forked from: a fork then takes milliseconds, an import seconds.
PRELOADED = ["torch", "torch.profiler", "timm", "kornia", "matplotlib", "augnet.training"]


class Cost(NamedTuple):
    """What a call costs.

    Args:
        seconds: of one call; the median of several.
        megabytes: peak of allocated memory above the start of the call.
        flops: counted floating-point operations, in 10⁹; matrix products and convolutions only.
    """

    seconds: float
    megabytes: float
    flops: float


class NoModules(contextlib.nullcontext):
    """Stand in for the counter's record of modules, whose hooks `autograd.grad` does not allow."""

    parents = frozenset({"Global"})


def fresh(function: Callable[..., Answer], *arguments: object, threads: int = 1) -> Answer:
    """Call a function in a new process, which has no memory of other calls, and hand its answer over.

    Raises:
        concurrent.futures.process.BrokenProcessPool: if the process was killed, as for want of memory.
    """
    # The profiler would print a line for each call.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (threads,)) as pool:
        return pool.submit(function, *arguments).result()


def seconds(call: Callable[[], object], device: str = "cpu") -> float:
    """Time one call: processor time of one thread on a CPU, the wall on a GPU or with several threads."""
    on_gpu = device.startswith("cuda")
    clock = time.process_time if not on_gpu and torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    call()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - began


def cost(call: Callable[[], object], device: str = "cpu", repeats: int = 1, time_only: bool = False) -> Cost:
    """Measure a call: memory and operations at the first time, which does not count, then the median of the others."""
    if time_only:
        call()
        return Cost(statistics.median(seconds(call, device) for _ in range(repeats)), math.nan, math.nan)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter:
        megabytes = peak_megabytes(call, device)
    times = [seconds(call, device) for _ in range(repeats)]
    return Cost(statistics.median(times), megabytes, counter.get_total_flops() / 1e9)


def peak_megabytes(call: Callable[[], object], device: str = "cpu") -> float:
    """Run a call; return its peak of allocated memory above the start, MB."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - start) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    now = peak = 0
    for event in found.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak / 1e6


def median_and_spread(values: Iterable[float]) -> tuple[float, float]:
    """Return the median, and half the distance between the least and the greatest."""
    values = list(values)
    return statistics.median(values), (max(values) - min(values)) / 2


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Fit k in cost ∝ sizeᵏ by least squares of the logarithms."""
    slope, _ = statistics.linear_regression(torch.tensor(sizes).log().tolist(), torch.tensor(costs).log().tolist())
    return slope


def publish(rows: Sequence[dict[str, object]], path: Path | None, note: str = "") -> None:
    """Print rows as a Markdown table, and write them as CSV; a row may lack columns that another has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print(f"{note}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in rows:
        print(f"| {' | '.join(readable(row.get(column, '')) for column in columns)} |")
    print(flush=True)
    if path is not None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(
                {name: f"{v:.5g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows
            )


def append(row: dict[str, object], path: Path) -> None:
    """Add a row to a CSV file, and before the first one the names of its columns."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def readable(value: object) -> str:
    """Write a number with three digits that count."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
