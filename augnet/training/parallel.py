"""Several processes that train one model, each on its share of every batch.

All of them hold the same weights and make the same updates: what differs are the images, so gradients are averaged over
processes and so are batch norm's running statistics. The first process alone writes.

`torch.distributed` alone, under torchrun: an outer step differentiates the bare network by itself, so there is nothing
that a wrapper of the network, its optimiser or its data could do. For the same reason a classifier that is sharded
(FSDP) is refused: it must fit on one device, for which `inner.micro_batch` and `inner.checkpoint_activations` help.
"""

import atexit
import contextlib
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from augnet.implicit import flatten, unflatten
from augnet.training.device import device_named

WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel", "FSDPModule")


def _leave() -> None:
    """Leave the other processes once they are done too: a connection that closes early can abort the one behind it."""
    if dist.is_initialized():
        # One that died never comes.
        with contextlib.suppress(RuntimeError, ValueError):
            dist.monitored_barrier(timeout=timedelta(seconds=10))
        dist.destroy_process_group()


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as this one sees them.

    Args:
        rank: number of this process, from 0.
        count: processes in all, over all machines.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def joined(cls) -> "Processes":
        """Meet the other processes, where torchrun started this one; otherwise it is the only one.

        Raises:
            ConnectionError: if they cannot be met.
        """
        if not dist.is_available():
            return cls()
        if dist.is_torchelastic_launched() and not dist.is_initialized():
            with _company():
                dist.init_process_group()
            atexit.register(_leave)
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def device(self, name: str | None) -> torch.device:
        """Find a device as `device_named` does; each process has a GPU of its own.

        Raises:
            ValueError: if there is no such device, or one GPU is named for several processes.
        """
        name = name or ("cuda" if torch.cuda.is_available() else "cpu")
        if self.count == 1 or not name.startswith("cuda"):
            return device_named(name)
        if name != "cuda":
            raise ValueError(f"device {name!r} is one GPU for {self.count} processes; set device to 'cuda'")
        device = device_named(f"cuda:{os.environ.get('LOCAL_RANK', self.rank)}")
        torch.cuda.set_device(device)
        return device

    def average(self, tensor: Tensor) -> Tensor:
        """Average a tensor over processes, of the same shape on all of them.

        Raises:
            ConnectionError: if a process is gone; so do the methods below.
        """
        if self.count == 1:
            return tensor
        total = tensor.detach().clone(memory_format=torch.contiguous_format)
        with _company():
            dist.all_reduce(total)
        return total / self.count

    def averages(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Average tensors over processes, in one message."""
        return list(tensors) if self.count == 1 or not tensors else unflatten(self.average(flatten(tensors)), tensors)

    def mean(self, value: float) -> float:
        """Average a number over processes."""
        return value if self.count == 1 else float(self.average(torch.tensor(value, dtype=torch.float64)))

    def any(self, flag: bool) -> bool:
        """Say whether a flag is set on any process, so that all of them do the same."""
        return self.mean(float(flag)) > 0

    def gathered(self, tensor: Tensor) -> Tensor:
        """Put the shares of a batch together in order of the processes."""
        if self.count == 1:
            return tensor
        shares = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(self.count)]
        with _company():
            dist.all_gather(shares, tensor.detach().contiguous())
        return torch.cat(shares)

    def share(self, whole: Tensor) -> Tensor:
        """Take this process's part of what was made for the whole batch."""
        return whole.chunk(self.count)[self.rank]

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Give tensors everywhere the values that they have in the first process."""
        for tensor in tensors if self.count > 1 else ():
            value = tensor.detach().contiguous()
            with _company():
                dist.broadcast(value, 0)
            tensor.detach().copy_(value)

    def wait(self) -> None:
        """Go on when every process has come this far."""
        self.mean(0.0)

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """Hold the others back until the first process is through: what it fetches is then there for all."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    @contextlib.contextmanager
    def one_voice(self) -> Iterator[None]:
        """Let only the first process print."""
        if self.first:
            yield
            return
        with (
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            yield


ALONE = Processes()


@contextlib.contextmanager
def _company() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Gloo has no error of its own for a peer that is gone.
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ConnectionError(
            f"another process of this training is gone ({reason}); its last checkpoint, if it has one, goes on with "
            "--resume, on any number of processes"
        ) from error


def refuse_wrapped(classifier: nn.Module) -> None:
    """Raise ValueError if a module is wrapped for data parallelism, or sharded."""
    found = {kind.__name__ for module in classifier.modules() for kind in type(module).__mro__}
    for name in WRAPPERS:
        if name in found:
            raise ValueError(
                f"the classifier is wrapped by {name}, behind which an outer step cannot reach its weights; hand over "
                "the bare module, of which every process holds a whole copy"
            )


def launch(devices: int, arguments: Sequence[str]) -> int:
    """Run `augnet` with these arguments in several processes of this machine, by torchrun; return the exit code.

    Raises:
        ConnectionError: if a process was killed.
    """
    # Needed here alone: every other command starts as fast without.
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run.run(run.parse_args(["--standalone", f"--nproc-per-node={devices}", "-m", "augnet", *arguments]))
    except SignalException as stopped:
        return 128 + stopped.sigval
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode >= 0:
            return failure.exitcode
        raise ConnectionError(
            f"process {rank} of {devices} was ended by {signal.Signals(-failure.exitcode).name}; the last checkpoint "
            "goes on with --resume, on any number of processes"
        ) from error
    return 0
