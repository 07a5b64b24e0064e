import pytest
import torch

from augnet.data import Digits


@pytest.fixture(scope="module")
def outcomes(script):
    """Every arm on small digits with three labels per class."""
    problem = script.few_labels(Digits(size=8), per_class=3, seed=1)
    return script.compare(problem, steps=300, seed=1)


def test_the_learned_combination_beats_equal_weights(outcomes):
    """Both train on the same images and labels from the same weights; the gain must be plain."""
    assert outcomes["learned, retrained"].accuracy > outcomes["equal weights"].accuracy + 0.02
    assert outcomes["learned, retrained"].loss < 0.85 * outcomes["equal weights"].loss


def test_the_harmful_target_loses_weight_against_the_useful_ones(outcomes):
    """Slopes in the order of the targets, the planted noise last; at the start all are 1 but for the hidden layer."""
    first, *_, last = outcomes["learned, on half the labels"].slopes
    assert max(first) / min(first) < 1.1
    assert last[-1] < 0.5 * max(last[:-1])


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
