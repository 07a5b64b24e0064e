"""What two processes check together, started by torchrun; `test_parallel.py` starts them.

    torchrun --nproc-per-node 2 tests/training/two_processes.py FOLDER

In FOLDER `begun_by_one` is a run to go on with; `begun_by_two` is begun there and stopped.
"""

import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import quick_recipe
from test_parts import in_double, small, steps
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from augnet.implicit import ConjugateGradient, Identity
from augnet.recipe import InnerConfig, OuterConfig
from augnet.training import IFTTrainer
from augnet.training.parallel import ALONE, Processes

CASES = [
    {"outer": OuterConfig(label_safety=0.1, spread_reward=0.001)},
    {"outer": OuterConfig(second_derivative="exact"), "inner": InnerConfig(micro_batch=3)},
    {"inner": InnerConfig(optimiser="adamw", gradient_clip=0.1), "outer": OuterConfig(precondition="optimiser")},
    {"inverse_hessian": Identity(), "outer": OuterConfig(second_derivative="exact", temperature=False)},
    {"inverse_hessian": ConjugateGradient(steps=2, damping=0.1, curvature="gauss_newton")},
]


def alone(recipe, dropout):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "joined", lambda: ALONE)
        return in_double(recipe, small(dropout))


def two_are_one():
    """Weights, hypergradient and losses of three steps of each kind, in float64."""
    for settings in CASES:
        for dropout in (0.0, 0.3):
            recipe = quick_recipe(**settings)
            ours, theirs = steps(in_double(recipe, small(dropout)), 3), steps(alone(recipe, dropout), 3)
            assert ours[1] == pytest.approx(theirs[1], rel=1e-9)
            for one, two in zip(ours[0], theirs[0], strict=True):
                torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-9)


def weights_start_as_those_of_the_first():
    torch.manual_seed(dist.get_rank())
    trainer = IFTTrainer(quick_recipe(), classifier=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    one, two = trainer.processes.gathered(trainer.classifier[1].weight).chunk(2)
    assert torch.equal(one, two)


def running_statistics_are_the_mean_of_shares():
    """The momentum is 0.1, so a share's variance v takes 1 to 0.9 + 0.1 v, and the mean of both is kept."""
    trainer = in_double(quick_recipe(), nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 10)))
    whole = torch.rand(16, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    trainer.inner.step(0, trainer.processes.share(whole), torch.arange(8))
    shares = torch.stack([share.var() for share in whole.chunk(2)])
    torch.testing.assert_close(trainer.classifier[0].running_var, 0.9 + 0.1 * shares.mean()[None])


def what_hides_or_cuts_weights_is_refused():
    for wrapped in (DistributedDataParallel(small()), fully_shard(small())):
        with pytest.raises(ValueError, match="hand over the bare module, of which every process holds a whole copy"):
            IFTTrainer(quick_recipe(), classifier=wrapped)


def runs_change_hands(folder):
    assert (IFTTrainer.resume(folder / "begun_by_one").fit() is None) == (dist.get_rank() == 1)
    begun = IFTTrainer(IFTTrainer.resume(folder / "begun_by_one").recipe, out=folder / "begun_by_two")
    # Told in one process alone.
    begun.fit(lambda progress: begun.stop() if progress.step == 9 and dist.get_rank() == 1 else None)
    assert begun.step == 9


if __name__ == "__main__":
    torch.set_num_threads(1)
    two_are_one()
    weights_start_as_those_of_the_first()
    running_statistics_are_the_mean_of_shares()
    what_hides_or_cuts_weights_is_refused()
    runs_change_hands(Path(sys.argv[1]))
