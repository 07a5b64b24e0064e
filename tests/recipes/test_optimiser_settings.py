import math

import pytest
import torch

from augnet.data import Digits

# Learning rate, momentum and decay: from far too slow a start to one that is nearly right.
STARTS = [(1e-3, 0.3, 1e-5), (3e-3, 0.6, 1e-4), (3e-2, 0.8, 1e-6)]


@pytest.fixture(scope="module")
def arms(script):
    """Every start of the recipe's network on small digits, left alone and learned, for 300 steps."""
    source = Digits(size=8, train_size=200, val_size=100)
    starts = [torch.tensor([math.log(rate), math.log(p / (1 - p)), math.log(decay)]) for rate, p, decay in STARTS]
    return [
        [script.train(source, start, learned=learned, steps=300, outer_every=4) for start in starts]
        for learned in (False, True)
    ]


def test_the_spread_of_final_losses_shrinks_and_the_worst_start_is_mended(script, arms):
    fixed, learned = (script.spread(runs) for runs in arms)
    assert learned[-1] - learned[0] < (fixed[-1] - fixed[0]) / 2
    assert learned[-1] < fixed[-1] / 2


def test_settings_that_are_left_alone_stay_and_a_slow_learning_rate_rises(arms):
    fixed, learned = (runs[0] for runs in arms)
    assert all(settings == fixed.settings[0] for settings in fixed.settings)
    assert fixed.settings[0] == learned.settings[0] == pytest.approx(STARTS[0])
    assert learned.settings[-1][0] > 5 * learned.settings[0][0]


def test_the_step_is_that_of_torchs_sgd(script):
    """Three steps of update on |w - 1|²/2 against torch.optim.SGD with the same learning rate, momentum and decay."""
    w = torch.zeros(3, requires_grad=True)
    reference = torch.nn.Parameter(torch.zeros(3))
    optimiser = torch.optim.SGD([reference], lr=0.1, momentum=0.7, weight_decay=0.2)
    settings = torch.stack([torch.tensor(0.1).log(), torch.tensor(0.7).logit(), torch.tensor(0.2).log()])
    state = [w, torch.zeros(3)]
    for _ in range(3):
        reference.grad = reference.detach() - 1
        optimiser.step()
        update = script.step_of_sgd([state[0] - 1], state, settings)
        state = [part - change for part, change in zip(state, update, strict=True)]
    torch.testing.assert_close(state[0], reference)
