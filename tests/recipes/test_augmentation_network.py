import pytest
import torch
from torch import nn

from augnet import Augmenter, InnerConfig, Recipe, ScheduleConfig
from augnet.data import Digits

LEARNED = ("identity", "Neumann", "unrolled")


@pytest.fixture(scope="module")
def trainer(script):
    """Make the trainer of a row: small digits and a network of one hidden layer; `rate` is the classifier's."""

    def make(row, rate=0.1):
        recipe = Recipe(
            data=Digits(size=8, train_size=200, val_size=100),
            augmenter=script.PAPER, outer=script.PLAIN, inner=InnerConfig(learning_rate=rate),
            schedule=ScheduleConfig(inner_steps=20, outer_every=2, warmup=0, batch_size=50, val_batch_size=50),
        )  # fmt: skip
        torch.manual_seed(0)
        classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
        return script.RowTrainer(recipe, row, classifier)

    return make


def batches_of(trainer):
    """50 training and validation digits of little contrast: no painted pixel is cut off, so gradients are exact."""
    parts = (trainer.splits.train, trainer.splits.val)
    return [(0.3 + 0.3 * part.images[:50].float() / 255, part.labels[:50]) for part in parts]


def network(trainer):
    return torch.cat([weight.detach().flatten() for weight in trainer.augmenter.parameters()])


def test_every_row_comes_out_and_only_those_that_learn_move_the_papers_network(script, trainer, tmp_path):
    assert sum(weight.numel() for weight in Augmenter(script.PAPER, 3).parameters()) == 6659
    start, trained = network(trainer("none")), {}
    for name in script.ROWS:
        trained[name] = trainer(name)
        row = script.train(trained[name], copies=3)
        assert 0.1 < row.plain <= 1
        assert 0.1 < row.averaged <= 1
        assert torch.equal(network(trained[name]), start) == (name not in LEARNED)
    script.draw(trained, tmp_path / "rows.png")
    assert (tmp_path / "rows.png").stat().st_size > 1000


def test_three_neumann_terms_are_three_unrolled_steps_and_the_identity_points_the_same_way(trainer):
    """α Σ (I - αH)ʲ b is what steps of rate α give where H hardly changes; here within a tenth."""
    gradients = {}
    for name in LEARNED:
        learning = trainer(name)
        torch.manual_seed(1)
        learning.outer_step(*batches_of(learning))
        gradients[name] = torch.cat([weight.grad.flatten() for weight in learning.augmenter.parameters()])
    unrolled = gradients["unrolled"]
    assert (gradients["Neumann"] - unrolled).norm() < 0.1 * unrolled.norm()
    assert torch.cosine_similarity(gradients["identity"], unrolled, dim=0) > 0.9


@pytest.mark.parametrize("name", LEARNED)
def test_learning_lowers_the_validation_loss_that_training_steps_lead_to(trainer, name):
    """The classifier stands still (a rate of 10⁻⁹), so the loss behind three steps depends on the network alone."""
    learning, measuring = trainer(name, rate=1e-9), trainer("none", rate=1e-9)
    batches, losses = batches_of(learning), []
    for _ in range(2):
        measuring.augmenter.load_state_dict(learning.augmenter.state_dict())
        torch.manual_seed(2)
        losses.append(measuring.unroll(*batches))
        for _ in range(5):
            learning.outer_step(*batches)
    assert losses[1] < losses[0]
