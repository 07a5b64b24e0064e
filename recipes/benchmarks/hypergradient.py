"""What a hypergradient costs and how right it is: augnet's solvers, other libraries, and autograd alone.

    python recipes/benchmarks/hypergradient.py [--data path/to/gtsrb32] [--parts cost accuracy] [--out plot.png]

The problem is the outer step of a short-trained timm network with batch norm (4.9 M weights) and a U-Net of 92 k;
every method is cut at the augmented images. Costs are in units of one plain forward and backward pass of the
classifier, each method in a process of its own, in turns; `--parts accuracy` takes them from the table of an earlier
run. *Float32* is the relative distance to the same formula in float64 with exact second derivatives: what the
implementation costs in digits. *Whole data* is the mean cosine of hypergradients of one batch pair each with that of
the whole data set, where the inverse is the response to many more steps of gradient descent (`--terms` Neumann terms,
their length chosen by the largest eigenvalue), over all directions, with its standard error, and without that along
the training gradient (*projected*); a cosine of 1 is never reached, for the reference is an average over noise too:
`reliability` says how far two halves of it agree. *Noise* is the mean cosine between hypergradients of independent
pairs of batches; warm methods start cold in each of two chains, and errors take what is in a chain as independent.
λ_max is refreshed outside what is timed: one more product every 20 steps for an automatic step size. About six minutes
on one idle core for each part.
"""

import argparse
import csv
import dataclasses
import math
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measuring import Cost, cost, fresh, median_and_spread, publish
from outer_methods import methods, train_loss
from outer_problem import Problem, Settings, train
from torch import Tensor

from augnet.implicit import Neumann, flatten, hypergradient

COSTS = ("method", "units", "±", "memory", "counted", "units / counted", "float32")
UNIT, TRAINER = "plain forward and backward", "the trainer's outer step, both updates included"


def costs(settings: Settings, state: Path, name: str, time_only: bool) -> tuple[Cost, Tensor]:
    """Measure one method, warm where it starts warm; return its hypergradient too, empty where it gives none."""
    problem = Problem(settings, state)
    found: list[Tensor] = [torch.zeros(0)]
    if name == UNIT:
        return cost(problem.plain, settings.device, 3, time_only), found[0]
    if name == TRAINER:
        pairs = (problem.images, problem.labels), (problem.val_images, problem.val_labels)
        return cost(partial(problem.trainer.outer_step, *pairs), settings.device, 1, time_only), found[0]
    method = methods(problem.trainer.recipe)[name]

    def call() -> None:
        found[0] = problem.hypergradient(method.call, problem.start)[0]

    return cost(call, settings.device, 1, time_only), found[0].cpu()


def in_float64(settings: Settings, state: Path, name: str) -> Tensor:
    """Return the hypergradient of a method's formula in float64."""
    problem = Problem(settings, state, torch.float64)
    formula = methods(problem.trainer.recipe)[name].formula
    return problem.hypergradient(formula, problem.start)[0].cpu()


def relative(found: Tensor, reference: Tensor) -> float:
    """Return the distance, relative to the reference."""
    return float((found - reference).norm() / reference.norm())


def cost_rows(settings: Settings, state: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure every method in turns; a row for each."""
    known = methods(settings.trainer().recipe)
    missing = [name for name, method in known.items() if not method.installed]
    names = [UNIT, TRAINER, *(name for name in known if name not in missing)]
    seconds: dict[str, list[float]] = {name: [] for name in names}
    first: dict[str, tuple[Cost, Tensor]] = {}
    for number in range(rounds):
        for name in names:
            found = fresh(costs, settings, state, name, number > 0)
            seconds[name].append(found[0].seconds)
            first.setdefault(name, found)
    plain = first[UNIT][0]
    references: dict[object, Tensor] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        units, spread = median_and_spread(s / u for s, u in zip(seconds[name], seconds[UNIT], strict=True))
        spent, gradient = first[name]
        rows[name] = {
            "method": name, "units": units, "±": spread, "memory": spent.megabytes / plain.megabytes,
            "counted": spent.flops / plain.flops, "units / counted": units * plain.flops / spent.flops,
        }  # fmt: skip
        if name in known:
            formula = known[name].formula
            if formula not in references:
                references[formula] = fresh(in_float64, settings, state, name)
            rows[name]["float32"] = relative(gradient.double(), references[formula])
    return rows | {name: {"method": name, "units": "not installed"} for name in missing}


def estimates(settings: Settings, state: Path, name: str, count: int, burn_in: int) -> Tensor:
    """Return hypergradients of independent batch pairs at fixed weights, (2, count, λ): two chains of warm starts."""
    # The trainer's own step must not move what is measured.
    still = dataclasses.replace(settings, recipe=(*settings.recipe, "--outer.learning_rate=0"))
    problem = Problem(still, state)
    trainer, outer = problem.trainer, problem.trainer.outer
    method = None if name == TRAINER else methods(trainer.recipe)[name]
    chains = []
    for chain in (0, 1):
        start = outer.solution = None
        kept = []
        for number in range(count + burn_in * (method is None or method.warm)):
            problem.draw(1 + 10_000 * chain + number)
            if method is None:
                pairs = (problem.images, problem.labels), (problem.val_images, problem.val_labels)
                outer.step(problem.settings.steps, *pairs, 0)
                gradient = flatten(torch.zeros_like(w) if w.grad is None else w.grad for w in problem.hyperparameters)
            else:
                gradient, start = problem.hypergradient(method.call, start)
            kept.append(gradient.cpu())
        chains.append(torch.stack(kept[-count:]))
    return torch.stack(chains)


def references(settings: Settings, state: Path, terms: int, passes: int) -> Tensor:
    """Return the hypergradient of the whole data set, (2, 2, λ): not projected and projected, each in two halves.

    Raises:
        SystemExit: if the series diverges.
    """
    problem = Problem(settings, state)
    weights, generator = problem.weights, torch.Generator().manual_seed(settings.seed)
    batches = problem.whole()

    def cuts() -> list[tuple[Tensor, Tensor]]:
        """Augment every batch anew: images with their graph, and without."""
        pairs = []
        for batch in batches:
            problem.take(*batch, problem.draw_noise(generator))
            augmented = problem.augmented()
            pairs.append((augmented, augmented.detach().requires_grad_()))
        return pairs

    loss: Any = 0.0
    b = torch.zeros(sum(w.numel() for w in weights), device=weights[0].device)
    leaves = [cut for _, cut in cuts()]
    for batch, cut in zip(batches, leaves, strict=True):
        problem.take(*batch, problem.noise)
        loss = loss + train_loss(problem, cut) / len(batches)
        b += flatten(torch.autograd.grad(problem.val_loss(), weights)) / len(batches)
    solutions = []
    for project in (False, True):
        found = hypergradient(loss, None, weights, leaves, Neumann(steps=terms), project=project, val_gradient=b)
        if found.solution.diverged:
            raise SystemExit(f"the reference diverged; lower --terms (now {terms}) or train for more --steps")
        solutions.append(found.solution.value)
    del loss, found
    total = torch.zeros(2, 2, sum(w.numel() for w in problem.hyperparameters))
    for number in range(2 * passes):
        for batch, (augmented, cut) in zip(batches, cuts(), strict=True):
            problem.take(*batch, problem.noise)
            g = flatten(torch.autograd.grad(train_loss(problem, cut), weights, create_graph=True))
            for which, p in enumerate(solutions):
                (mixed,) = torch.autograd.grad(g @ p, [cut], retain_graph=True)
                total[which, number % 2] += problem.by_augmenter(augmented, -mixed, keep=which == 0).cpu()
    return total / (passes * len(batches))


def cosine(a: Tensor, b: Tensor) -> float:
    """Return the mean cosine of the vectors of one with those of the other."""
    return float((F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).mT).mean())


def accuracy_rows(
    settings: Settings, state: Path, count: int, burn_in: int, terms: int, passes: int
) -> dict[str, dict[str, Any]]:
    """Compare every formula with the whole data set's hypergradient, and with itself on other batches."""
    truth = fresh(references, settings, state, terms, passes)
    rows = {}
    for name, halves in zip(("all directions", "projected"), truth, strict=True):
        # Two halves that agree to c make a whole that agrees with the truth to √(2c / (1 + c)) (Spearman and Brown).
        between = cosine(halves[:1], halves[1:])
        whole = math.sqrt(max(0.0, 2 * between / (1 + between)))
        rows[name] = {"method": f"the reference, {name}: reliability", "whole data": whole}
    plain, projected = truth.mean(1, keepdim=True)
    for name, method in {TRAINER: None, **methods(settings.trainer().recipe)}.items():
        if method is None or not method.twin:
            found = fresh(estimates, settings, state, name, count, burn_in)
            both = found.flatten(0, 1)
            rows[name] = {"method": name, "noise": cosine(found[0], found[1])}
            # The trainer's own step teaches mirrors by turning them, which is another gradient than the reference's.
            if method is not None:
                each = [cosine(one[None], plain) for one in both]
                rows[name] |= {
                    "whole data": statistics.mean(each), "± whole data": statistics.stdev(each) / len(each) ** 0.5,
                    "whole data, projected": cosine(both, projected),
                }  # fmt: skip
    for name, method in methods(settings.trainer().recipe).items():
        if method.twin:
            rows[name] = {**rows[method.twin], "method": name}
    return rows


def costs_in(path: Path) -> dict[str, dict[str, Any]]:
    """Read what was measured before: the rows of a table that have a cost, without their accuracy."""
    with path.open(newline="") as file:
        rows = [{name: row[name] for name in COSTS if row.get(name)} for row in csv.DictReader(file)]
    return {
        row["method"]: {name: value if name == "method" else float(value) for name, value in row.items()}
        for row in rows
        if row.get("units", "not installed") != "not installed"
    }


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw accuracy over cost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    shown = [row for row in rows if isinstance(row.get("units"), float) and "± whole data" in row]
    for row in shown:
        colour = "tab:blue" if "augnet" in row["method"] else "tab:gray"
        axes.errorbar(row["units"], row["whole data"], row["± whole data"], fmt="o", color=colour)
    # One label for methods that give the same number at about the same cost.
    groups: dict[tuple[int, float], list[dict[str, Any]]] = {}
    for row in sorted(shown, key=lambda row: row["units"]):
        groups.setdefault((int(row["units"] > 10), round(row["whole data"], 3)), []).append(row)
    for (right, height), group in groups.items():
        place = group[-1 if right else 0]["units"], height
        words, side = "\n".join(row["method"] for row in group), "right" if right else "left"
        axes.annotate(words, place, fontsize=7, xytext=(-4 if right else 4, 3), textcoords="offset points", ha=side)
    axes.set(xlabel="cost, plain forward and backward passes", ylabel="cosine with the whole data's hypergradient")
    figure.savefig(path, dpi=150)


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["cost", "accuracy"], default=["cost", "accuracy"])
    for name, value in (("data", "digits"), ("model", "resnet10t"), ("device", "cpu")):
        parser.add_argument(f"--{name}", default=value)
    for name in ("size", "train_size", "val_size", "batch", "width", "steps", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name))
    parser.add_argument("--step_size", type=float, help="α of fixed steps; that of the run by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=3, help="hypergradients per chain")
    parser.add_argument("--burn_in", type=int, default=6, help="warm starts before they count")
    parser.add_argument("--terms", type=int, default=20, help="of the reference")
    parser.add_argument("--passes", type=int, default=2, help="over the data, for each half of the reference")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--out", type=Path, help="picture to draw")
    asked, recipe = parser.parse_known_args(arguments)
    names = [field.name for field in dataclasses.fields(Settings) if field.name != "recipe"]
    settings = Settings(**{name: getattr(asked, name) for name in names}, recipe=tuple(recipe))
    rows: dict[str, dict[str, Any]] = {}
    if "cost" not in asked.parts and asked.csv.exists():
        if asked.csv == parser.get_default("csv") and settings != Settings():
            parser.error("the costs known are of another problem; name another table with --csv")
        rows = costs_in(asked.csv)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.pt"
        fresh(train, settings, state)
        if "cost" in asked.parts:
            rows = cost_rows(settings, state, asked.rounds)
        if "accuracy" in asked.parts:
            found = accuracy_rows(settings, state, asked.count, asked.burn_in, asked.terms, asked.passes)
            rows = {name: {**rows.get(name, {}), **found.get(name, {})} for name in {**rows, **found}}
    publish(list(rows.values()), asked.csv, f"{asked.model}, batch {asked.batch} of {asked.size}×{asked.size}")
    if asked.out:
        draw(list(rows.values()), asked.out)


if __name__ == "__main__":
    main()
