"""The parts of a batch that pass through the classifier one at a time, each with the random numbers of the whole.

A process has its share of the batch, and its share may be cut further so that memory suffices. Neither may change a
training: dropout draws for the whole batch, whatever part of it is at hand.
"""

import contextlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from augnet.training.parallel import Processes

# What classifiers draw with: these multiply by a mask of their first argument's shape, or fill their first argument.
MASKS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
FILLS = (Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_)
# What else draws, with the arguments without any of which it does not: name, position, and value where it is left out.
OTHERS: dict[Any, list[tuple[str, int, Any]]] = {
    F.alpha_dropout: [("p", 1, 0.5), ("training", 2, False)],
    F.feature_alpha_dropout: [("p", 1, 0.5), ("training", 2, False)],
    F.rrelu: [("training", 3, False)],
    torch.dropout: [("p", 1, 0.5), ("train", 2, True)],
    F.scaled_dot_product_attention: [("dropout_p", 4, 0.0)],
    F.multi_head_attention_forward: [("dropout_p", 10, 0.0), ("training", 13, True)],
    **{
        each: []
        for each in (
            torch.rand, torch.randn, torch.randint, torch.randperm, torch.rand_like, torch.randn_like, torch.normal,
            torch.bernoulli, torch.multinomial, torch.poisson, F.gumbel_softmax, Tensor.bernoulli, Tensor.multinomial,
            Tensor.exponential_, Tensor.random_, Tensor.log_normal_, Tensor.cauchy_, Tensor.geometric_,
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Images that pass through the classifier together.

    Args:
        start: first of them among the process's images.
        stop: behind the last of them.
        count: images of the process.
        processes: among which the batch is shared.
    """

    start: int
    stop: int
    count: int
    processes: Processes

    @property
    def share(self) -> float:
        """Share of the process's images: the weight of a mean over the part in the mean over all of them."""
        return (self.stop - self.start) / self.count

    def of(self, batch: Tensor) -> Tensor:
        """Take the part of what there is for every image of the process."""
        return batch if self.share == 1 else batch[self.start : self.stop]

    def drawn(self, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """Draw in this context what the whole batch would draw for these images, and leave the generators alone.

        Raises:
            ValueError: in the context, if the classifier draws in a way that is not followed.
        """
        if self.share == self.processes.count == 1:
            return contextlib.nullcontext()
        return self._drawn(device)

    @contextlib.contextmanager
    def _drawn(self, device: torch.device) -> Any:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _DrawsOfWhole(self):
            yield


def parts_of(count: int, largest: int, processes: Processes) -> list[Part]:
    """Cut a process's images into parts of about equal size, of at most `largest` images; 0 leaves them whole."""
    number = -(-count // largest) if largest else 1
    ends = [round(i * count / number) for i in range(number + 1)]
    return [Part(a, b, count, processes) for a, b in pairwise(ends)]


class _DrawsOfWhole(TorchFunctionMode):
    """Draws the numbers of a whole batch wherever a classifier draws for a part of it, and takes the part's.

    A tensor whose first dimension counts something else than images, or images times something, is drawn as it is.
    Functions that draw in other ways (`OTHERS`: attention's dropout, alpha dropout, patch dropout) are refused.
    """

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func in OTHERS and all(args[at] if at < len(args) else kwargs.get(n, v) for n, at, v in OTHERS[func]):
            raise ValueError(
                f"the classifier draws by {func.__name__}, and what that draws for a batch cannot be had for a part of "
                "it; leave out inner.micro_batch and train in one process, or take another kind of dropout"
            )
        if not args or func not in (*MASKS, *FILLS) or args[0].ndim == 0:
            return func(*args, **kwargs)
        x, *settings = args
        part, size = self.part, self.part.stop - self.part.start
        times, rest = divmod(len(x), size)
        if rest or not times:
            return func(*args, **kwargs)
        first = times * (part.processes.rank * part.count + part.start)
        own = slice(first, first + len(x))
        batch = _larger(x, times * part.count * part.processes.count)
        if func in FILLS:
            return x.copy_(func(batch, *settings, **kwargs)[own])
        return x * func(batch.fill_(1), *settings, **kwargs)[own]


def _larger(x: Tensor, count: int) -> Tensor:
    """Make room for `count` times what there is of the first dimension, laid out as x: layout decides who gets what."""
    strides = torch.empty_like(x, device="meta").stride()
    return x.detach().new_empty_strided((count, *x.shape[1:]), (x[0].numel(), *strides[1:]))
