"""Time a fused chain of transforms against its members, kornia, torchvision and albumentations, and every transform.

    python recipes/benchmarks/transforms_cost.py [--members]

Milliseconds for a batch of 64 images of 32×32 and for one of 16 of 224×224: the forward pass alone, and the forward and
backward pass to the amounts, or for the whole augmenter to the weights of its U-Net. Each chain is a process of its
own, in turns; medians over rounds, and half their range. `x` is the ratio to the fused chain, taken within a round.
`--members` times every transform alone too. About a minute on one idle core.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from chains import CHAIN, differentiable, draw, drawing, one_after_another
from measuring import fresh, median_and_spread, publish, seconds
from torch import Tensor

from augnet import transforms as T
from augnet.augmenter import Augmenter, AugmenterConfig

WHOLE = "the augmenter, U-Net included"
SIZES = ((64, 32), (16, 224))


def milliseconds(call: Callable[[], object], repeats: int, device: str) -> float:
    """Take the median of several runs, after one that does not count."""
    call()
    return 1e3 * statistics.median(seconds(call, device) for _ in range(repeats))


def both(
    program: Callable[[Tensor], Tensor], learned: list[Tensor], images: Tensor, repeats: int, device: str
) -> tuple[float, float]:
    """Time the forward pass alone, and the forward and backward pass to what is learned."""
    weights = torch.rand_like(images)

    def backward() -> None:
        torch.autograd.grad((program(images) * weights).sum(), learned, allow_unused=True)

    return milliseconds(torch.no_grad()(partial(program, images)), repeats, device), milliseconds(
        backward, repeats, device
    )


def chain_cost(name: str, batch: int, size: int, repeats: int, device: str) -> tuple[float, float | None]:
    """Time one chain; None where there is nothing to walk back to."""
    torch.manual_seed(0)
    images = torch.rand(batch, 3, size, size, device=device)
    if name == WHOLE:
        augmenter = Augmenter(AugmenterConfig(transforms=CHAIN), channels=3).to(device)
        return both(augmenter, list(augmenter.parameters()), images, repeats, device)
    if name in differentiable():
        amounts, noise = draw(CHAIN, batch, device)
        amounts.requires_grad_()
        program = differentiable()[name]
        return both(lambda x: program(x, amounts, noise), [amounts], images, repeats, device)
    return milliseconds(partial(drawing(size)[name], images), repeats, device), None


def chain_rows(batch: int, size: int, rounds: int, repeats: int, device: str) -> list[dict[str, Any]]:
    """Return a row for each chain; other libraries' are for the CPU, where their users run them."""
    names = [*differentiable(), WHOLE, *(drawing(size) if device == "cpu" else ())]
    found: dict[str, list[tuple[float, float | None]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            found[name].append(fresh(chain_cost, name, batch, size, repeats, device))
    rows = []
    for name in names:
        row: dict[str, Any] = {"batch": batch, "size": size, "chain": name}
        for column, title in enumerate(("forward", "with backward")):
            times = [measured[column] for measured in found[name]]
            if None not in times:
                row[f"{title}, ms"], row[f"± {title}"] = median_and_spread(times)
                row[f"{title}, x"], _ = median_and_spread(
                    t / fused[column] for t, fused in zip(times, found["fused"], strict=True)
                )
        rows.append(row)
    return rows


def member_costs(batch: int, size: int, repeats: int, device: str) -> list[dict[str, Any]]:
    """Return a row for each transform."""
    images, rows = torch.rand(batch, 3, size, size, device=device), []
    for member in T.all_transforms():
        transforms = [member()]
        amounts, noise = draw(transforms, batch, device)
        amounts.requires_grad_()

        def program(x: Tensor, transforms=transforms, amounts=amounts, noise=noise) -> Tensor:
            return one_after_another(transforms, x, amounts, noise)

        forward, back = both(program, [amounts], images, repeats, device)
        rows.append({"batch": batch, "size": size, "transform": member.__name__, "ms": forward, "with backward": back})
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Print the tables, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", action="store_true")
    parser.add_argument("--batch", type=int, help="images of --size, instead of the two batches")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    asked = parser.parse_args(arguments)
    sizes = SIZES if asked.batch is None else ((asked.batch, asked.size),)
    given = asked.repeats, asked.device
    note = f"a chain of {len(CHAIN)}, {asked.device}, one thread"
    publish([row for batch, size in sizes for row in chain_rows(batch, size, asked.rounds, *given)], asked.csv, note)
    if asked.members:
        rows = [row for batch, size in sizes for row in fresh(member_costs, batch, size, *given)]
        publish(rows, asked.csv.with_stem(f"{asked.csv.stem}_members"))


if __name__ == "__main__":
    main()
