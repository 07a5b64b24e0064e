import pytest
import torch

from augnet.data import Digits


@pytest.fixture(scope="module")
def outcomes(script):
    """Every arm on small digits with two labels per class for training and two for validation."""
    return script.compare(script.few_labels(Digits(size=8), per_class=2, seed=1), steps=600, seed=1)


def test_the_learned_combination_beats_the_main_task_alone_and_equal_weights(outcomes):
    """All train on the same images and labels from the same weights; the gain must be plain."""
    for arm in ("main task alone", "equal weights"):
        assert outcomes["learned, retrained"].accuracy > outcomes[arm].accuracy + 0.03
        assert outcomes["learned, retrained"].loss < 0.9 * outcomes[arm].loss


def test_the_harmful_target_loses_weight_and_a_useful_one_gains(outcomes):
    """Slopes in the order of the targets, the neighbours first and the planted noise last; at the start all are 1."""
    assert outcomes["equal weights"].slopes == pytest.approx([1.0] * 4, abs=0.1)
    neighbours, *_, noise = outcomes["learned, retrained"].slopes
    assert neighbours > 3
    assert noise < 0.5


def test_without_weight_there_are_no_auxiliary_losses(script):
    losses = torch.ones(3, requires_grad=True)
    combined = script.Combination(3, weight=0.0)(losses)
    assert combined == 0
    assert torch.autograd.grad(combined, losses)[0].tolist() == [0.0] * 3


def test_a_combination_never_falls_as_a_loss_rises(script):
    torch.manual_seed(0)
    combination = script.Combination(3)
    for parameter in combination.parameters():
        torch.nn.init.normal_(parameter, std=3)
    losses = torch.rand(50, 3) * 10
    for one in losses.requires_grad_():
        (slopes,) = torch.autograd.grad(combination(one), one)
        assert bool((slopes >= 0).all())


def test_few_labels_are_few_and_of_every_class(script):
    problem = script.few_labels(Digits(size=8), per_class=2, seed=0)
    for _, labels in (problem.train, problem.val):
        assert labels.bincount(minlength=10).tolist() == [2] * 10
    assert all(len(target) == len(problem.images) for target in problem.targets.values())
