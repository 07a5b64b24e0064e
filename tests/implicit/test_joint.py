"""Joint descent finds hyperparameters whose best values are known, and leaves training as it was."""

import math

import pytest
import torch
from torch.optim import SGD
from tqdm import trange

from augnet.implicit import ConjugateGradient, Identity, Neumann, joint_descent


@pytest.fixture
def ridge():
    """Weights w = 0, log-decay h = 0 and both losses of train = 2|w|² - c'w + exp(h)|w|²/2, val = |w - t|²/2."""
    c, t = torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64), torch.tensor([0.3, 0.2, 0.5], dtype=torch.float64)
    w, h = (
        torch.zeros(3, dtype=torch.float64, requires_grad=True),
        torch.zeros((), dtype=torch.float64, requires_grad=True),
    )
    best = c @ c / (t @ c) - 4

    def training_loss():
        return 2 * w @ w - c @ w + h.exp() * w @ w / 2

    return w, h, training_loss, lambda: (w - t).square().sum() / 2, best


@pytest.mark.parametrize(
    "settings",
    [
        {"inverse": Neumann(steps=1)},
        {"inverse": ConjugateGradient(steps=3), "outer_every": 3, "warmup": 50},
        {"inverse": Neumann(steps=2, step_size=0.1), "warmup": 1},
    ],
    ids=["one warm product", "conjugate gradients", "fixed step"],
)
def test_the_best_weight_decay_of_a_ridge_regression_is_found(ridge, settings):
    """w* = c / (4 + exp h) lies on a ray, and is nearest to t where c'w* = c'c / (4 + exp h) is c't."""
    w, h, training_loss, validation_loss, best = ridge
    joint_descent(training_loss, validation_loss, SGD([w], lr=0.1), SGD([h], lr=2.0), **settings, steps=600)
    torch.testing.assert_close(h.detach().exp(), best)


def test_the_best_decay_of_every_weight_is_found():
    """With a decay d for each weight, w* = c / (4 + d) is t itself at d = c / t - 4."""
    c, t = torch.tensor([30, 10, 20], dtype=torch.float64), torch.tensor([3, 2, 2.5], dtype=torch.float64)
    w, d = torch.zeros(3, dtype=torch.float64, requires_grad=True), torch.ones(3, dtype=torch.float64)
    d.requires_grad_()
    joint_descent(
        lambda: 2 * w @ w - c @ w + d @ w.square() / 2, lambda: (w - t).square().sum() / 2,
        SGD([w], lr=0.1), SGD([d], lr=0.3), Neumann(steps=1), steps=1000,
    )  # fmt: skip
    torch.testing.assert_close(d.detach(), c / t - 4)


def test_outer_steps_do_not_disturb_training(ridge):
    """With an outer learning rate of 0 the weights are those of plain descent, momentum and all."""
    w, h, training_loss, validation_loss, _ = ridge
    plain = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    inner = SGD([plain], lr=0.05, momentum=0.9)
    for _ in range(10):
        inner.zero_grad()
        (2.5 * plain @ plain - torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64) @ plain).backward()
        inner.step()
    inner = SGD([w], lr=0.05, momentum=0.9)
    joint_descent(training_loss, validation_loss, inner, SGD([h], lr=0.0), Identity(), steps=10, outer_every=2)
    torch.testing.assert_close(w, plain)


def test_steps_are_reported_and_losses_computed_when_they_are_due(ridge):
    """Of 7 steps, 2 to warm up and then one in 3: outer steps are 2 and 5; losses are told before the update."""
    w, h, training_loss, validation_loss, _ = ridge
    calls, told = [], []

    def counted(name, loss):
        calls.append(name)
        return loss()

    ended = joint_descent(
        lambda: counted("train", training_loss), lambda: counted("val", validation_loss),
        SGD([w], lr=0.1), SGD([h], lr=1.0), Neumann(steps=2, step_size=0.1), steps=7, outer_every=3, warmup=2,
        report=lambda *losses: told.append(losses),
    )  # fmt: skip
    assert calls == ["train", "train", *(["train", "val", "train", "train"] * 2)][: len(calls)]
    assert [step for step, _, validation in told if not math.isnan(validation)] == [2, 5]
    assert [step for step, _, _ in told] == list(range(7))
    assert told[0][1] == 0.0
    assert (ended.products, ended.resets) == (4, 0)
    assert ended.training == [training for _, training, _ in told]
    assert ended.validation == [told[2][2], told[5][2]]


def test_a_progress_bar_counts_the_steps(ridge):
    w, h, training_loss, validation_loss, _ = ridge
    with trange(7, disable=True) as bar:
        ended = joint_descent(training_loss, validation_loss, SGD([w], lr=0.1), SGD([h], lr=1.0), Identity(), steps=bar)
    assert len(ended.training) == len(ended.validation) == 7


def test_a_warmup_of_all_steps_leaves_the_hyperparameters_alone(ridge):
    w, h, training_loss, validation_loss, _ = ridge
    ended = joint_descent(
        training_loss, validation_loss, SGD([w], lr=0.1), SGD([h], lr=1.0), Identity(), steps=100, warmup=100
    )
    assert ended.solution is None
    assert h == 0
    torch.testing.assert_close(w.detach(), torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64) / 5)


def test_a_product_that_blows_up_is_counted(ridge):
    """α = 10 is far above 2 / λ_max = 2 / 5."""
    w, h, training_loss, validation_loss, _ = ridge
    inverse = Neumann(steps=5, step_size=10.0)
    ended = joint_descent(training_loss, validation_loss, SGD([w], lr=0.1), SGD([h], lr=0.0), inverse, steps=3)
    assert ended.resets == 3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "steps is 0 and must be at least 1"),
        ({"outer_every": 0}, "outer_every is 0 and must be at least 1"),
        ({"warmup": 6}, "warmup is 6 and must be from 0 to steps, 5"),
        ({"inverse": Neumann(curvature="gauss_newton")}, "curvature is gauss_newton and must be 'hessian'"),
    ],
)
def test_settings_out_of_range_are_named(ridge, settings, words):
    w, h, training_loss, validation_loss, _ = ridge
    settings = {"inverse": Identity(), "steps": 5, **settings}
    with pytest.raises(ValueError, match=words):
        joint_descent(training_loss, validation_loss, SGD([w], lr=0.1), SGD([h], lr=0.1), **settings)


def test_optimisers_of_the_wrong_tensors_are_refused(ridge):
    w, h, training_loss, validation_loss, _ = ridge
    frozen = SGD([torch.zeros(2)], lr=0.1)
    with pytest.raises(ValueError, match="no tensor of the outer optimiser requires gradients"):
        joint_descent(training_loss, validation_loss, SGD([w], lr=0.1), frozen, Identity(), steps=1)
    with pytest.raises(ValueError, match="a tensor is in both optimisers"):
        joint_descent(training_loss, validation_loss, SGD([w, h], lr=0.1), SGD([h], lr=0.1), Identity(), steps=1)


def test_a_descent_that_blows_up_says_at_which_step(ridge):
    w, h, training_loss, validation_loss, _ = ridge
    with pytest.raises(ValueError, match=r"is not finite at step \d+; lower a learning rate"):
        joint_descent(training_loss, validation_loss, SGD([w], lr=1e3), SGD([h], lr=1.0), Identity(), steps=200)
