"""Learn the regularisation of an LSTM over characters: dropouts, activation penalties and one decay per weight.

    python recipes/recurrent.py [--sequences 10] [--steps 500] [--without-optuna]

The paper trains on 10 sequences and overfits 10 validation sequences, to show that the hypergradient does what it is
told; here they are cut out of the manual that Python's `help()` shows. The same time goes to a random search and to
Optuna's default, with one decay per tensor, since neither could do anything with one per weight.

100 seconds of one core. Nats per character; 21,845 hyperparameters, and 20 in a search:

    settings         | training | validation | test  | trainings | core seconds
    untuned          | 0.033    | 5.918      | 6.373 | 1         | 6
    tuned in one run | 1.313    | 2.380      | 3.380 | 1         | 27
    random search    | 2.400    | 3.127      | 3.304 | 5         | 34
    Optuna           | 2.719    | 3.092      | 3.172 | 5         | 33

Validation is overfitted, as it should be: a nat below the test loss, where the searches stay together with it. For the
test loss, ten validation sequences are too few for as many hyperparameters, and the searches do better.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from augnet.implicit import Neumann, joint_descent

# Steps, and the losses of the three parts of the text before them.
Curve = list[tuple[int, list[float]]]
# Where searches draw from: five shares dropped, and decimal logarithms of four penalties and of every tensor's decay.
SHARES, PENALTIES, DECAYS = (0.01, 0.8), (-5.0, 0.0), (-7.0, -1.0)


class Text(NamedTuple):
    """Sequences of a text as numbers of its characters, (sequences, length + 1), and how many characters there are."""

    train: Tensor
    val: Tensor
    test: Tensor
    characters: int


class Outcome(NamedTuple):
    """Losses without noise and penalties at the end, nats per character, and what they cost in seconds of one core."""

    train: float
    val: float
    test: float
    seconds: float


def python_manual(sequences: int, length: int, seed: int) -> Text:
    """Cut sequences that do not overlap out of the manual that Python's `help()` shows, in lower case."""
    text = " ".join(" ".join(topics[name] for name in sorted(topics)).lower().split())
    letters = {letter: number for number, letter in enumerate(sorted(set(text)))}
    pieces = torch.tensor([letters[letter] for letter in text]).unfold(0, length + 1, length + 1)
    order = torch.randperm(len(pieces), generator=torch.Generator().manual_seed(seed))
    return Text(*pieces[order[: 12 * sequences]].split([sequences, sequences, 10 * sequences]), len(letters))


def settings(numbers: Sequence[float] | None, weights: Sequence[Tensor]) -> list[Tensor]:
    """Make the hyperparameters.

    Args:
        numbers: 9 and one per weight tensor in (0, 1), which stand for the ranges that are searched; None for a light
            hand with everything.
        weights: the model's, in order.

    Returns:
        Logits of the shares dropped of the embedding, then of each layer's output and recurrent weights in turn; logs
        of the penalties on each layer's squared activations and on their change in time (Merity et al. 2018), (2, 2);
        and the log of the decay of every weight.
    """
    if numbers is None:
        shares, penalties, decays = torch.full((5,), 0.05), torch.full((2, 2), 1e-3), [1e-4] * len(weights)
    else:
        low, high = torch.tensor([SHARES] * 5 + [PENALTIES] * 4 + [DECAYS] * len(weights)).T
        values = low + torch.tensor(numbers) * (high - low)
        shares, penalties, decays = values[:5], 10 ** values[5:9].view(2, 2), (10 ** values[9:]).tolist()
    logs = [torch.full_like(weight, decay).log() for weight, decay in zip(weights, decays, strict=True)]
    return [tensor.detach().requires_grad_() for tensor in (shares.logit(), penalties.log(), *logs)]


class LSTM(nn.Module):
    """Two layers that predict the next character; of cells, since the fused LSTM has no second derivative."""

    def __init__(self, characters: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.cells = nn.ModuleList(nn.LSTMCell(width, width) for _ in range(2))
        self.head = nn.Linear(width, characters)

    def loss(self, text: Tensor, regularisation: Sequence[Tensor] | None = None) -> Tensor:
        """Give the mean cross-entropy of a character in nats; regularised, with noise and with all penalties on top."""
        penalty = torch.zeros(())

        def dropped(place: int, like: Tensor) -> Tensor:
            # Gaussian factors of the mean and variance of dropout's: the share dropped has a gradient.
            if regularisation is None:
                return torch.ones_like(like)
            return 1 + (regularisation[0][place] / 2).exp() * torch.randn_like(like)

        inputs = self.embedding(text[:, :-1].T)
        # The same factors at every moment of a sequence.
        inputs = inputs * dropped(0, inputs[0])
        for layer, cell in enumerate(self.cells):
            recurrent = cell.weight_hh * dropped(2 * layer + 2, cell.weight_hh)
            state, outputs = (torch.zeros_like(inputs[0]),) * 2, []
            for x in inputs:
                state = torch.lstm_cell(x, state, cell.weight_ih, recurrent, cell.bias_ih, cell.bias_hh)
                outputs.append(state[0])
            inputs = torch.stack(outputs)
            if regularisation is not None:
                squares = torch.stack([inputs.square().mean(), inputs.diff(dim=0).square().mean()])
                penalty = penalty + regularisation[1][layer].exp() @ squares
            inputs = inputs * dropped(2 * layer + 1, inputs[0])
        if regularisation is not None:
            pairs = zip(regularisation[2:], self.parameters(), strict=True)
            penalty = penalty + torch.stack([(decay.exp() * w * w).sum() for decay, w in pairs]).sum() / 2
        return penalty + cross_entropy(self.head(inputs).flatten(0, 1), text[:, 1:].T.flatten())


def fit(
    text: Text, numbers: Sequence[float] | None, *, curve: Curve | None = None, steps: int, width: int, seed: int
) -> Outcome:
    """Train with `settings(numbers)`, fixed, or learned on the way if there is a `curve` to write the losses into."""
    torch.manual_seed(seed)
    model, began = LSTM(text.characters, width), time.process_time()
    weights = list(model.parameters())
    regularisation = settings(numbers, weights)
    bar = tqdm(total=steps, unit="step", disable=curve is None)

    @torch.no_grad()
    def losses() -> list[float]:
        return [model.loss(part).item() for part in text[:3]]

    def report(step: int, loss: float, validation: float) -> None:
        bar.update()
        if curve is not None and step % max(1, steps // 40) == 0:
            curve.append((step, losses()))

    joint_descent(
        lambda: model.loss(text.train, regularisation), lambda: model.loss(text.val),
        torch.optim.Adam(weights, lr=0.01), torch.optim.Adam(regularisation, lr=0.05), Neumann(steps=1),
        steps=steps, warmup=steps if curve is None else steps // 10, report=report,
    )  # fmt: skip
    bar.close()
    return Outcome(*losses(), time.process_time() - began)


def search(text: Text, seconds: float, study: Any = None, *, steps: int, width: int, seed: int) -> list[Outcome]:
    """Train again and again until the seconds are spent, with what an Optuna study asks for, or else at random."""
    size, generator = 9 + len(list(LSTM(1, 1).parameters())), torch.Generator().manual_seed(seed)
    outcomes: list[Outcome] = []
    while not outcomes or sum(outcome.seconds for outcome in outcomes) < seconds:
        trial = study and study.ask()
        numbers = torch.rand(size, generator=generator).tolist()
        numbers = [trial.suggest_float(str(n), 0, 1) for n in range(size)] if trial else numbers
        outcomes.append(fit(text, numbers, steps=steps, width=width, seed=seed))
        if trial:
            study.tell(trial, outcomes[-1].val)
    return outcomes


def parzen_study(seed: int) -> Any:
    """Make a study of Optuna's default kind, a tree-structured Parzen estimator."""
    try:
        import optuna
    except ImportError as error:
        raise SystemExit(
            "the comparison with Optuna needs it: `pip install optuna`, or say --without-optuna"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))


def draw(curve: Curve, table: dict[str, list[Outcome]], out: Path) -> None:
    """Draw the losses of the tuned run, and the best validation loss of every way by the time that it took."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    steps, losses = zip(*curve, strict=True)
    for name, line in zip(("training", "validation", "test"), zip(*losses, strict=True), strict=True):
        left.plot(steps, line, label=name)
    left.set(xlabel="step", ylabel="nats per character", title="tuned in one run")
    left.legend()
    for name, outcomes in table.items():
        spent = torch.tensor([outcome.seconds for outcome in outcomes]).cumsum(0)
        best = torch.tensor([outcome.val for outcome in outcomes]).cummin(0).values
        right.step(spent, best, where="post", marker="o", label=name)
    right.set(xlabel="seconds of one core", title="validation loss, best so far")
    right.legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=10, help="to train on, and as many to validate on")
    parser.add_argument("--length", type=int, default=25, help="characters of a sequence")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--without-optuna", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("recurrent.png"))
    options = parser.parse_args()
    study = None if options.without_optuna else parzen_study(options.seed)
    text = python_manual(options.sequences, options.length, options.seed)
    sizes = {"steps": options.steps, "width": options.width, "seed": options.seed}
    curve: Curve = []
    tuned = fit(text, None, curve=curve, **sizes)
    table = {"untuned": [fit(text, None, **sizes)], "tuned in one run": [tuned]}
    table["random search"] = search(text, tuned.seconds, **sizes)
    if study is not None:
        table["Optuna"] = search(text, tuned.seconds, study, **sizes)
    print("| nats per character | training | validation | test | trainings | core seconds |\n|---|---|---|---|---|---|")
    for name, outcomes in table.items():
        best = min(outcomes, key=lambda outcome: outcome.val)
        seconds = sum(outcome.seconds for outcome in outcomes)
        print(f"| {name} | {best.train:.3f} | {best.val:.3f} | {best.test:.3f} | {len(outcomes)} | {seconds:.0f} |")
    draw(curve, table, options.out)
    print(f"\nwrote {options.out}")


if __name__ == "__main__":
    main()
