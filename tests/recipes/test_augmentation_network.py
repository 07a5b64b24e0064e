"""The paper's painter learns by the hypergradient that it is told to."""

import pytest
import torch

from augnet.data import Digits
from augnet.implicit import flatten

LEARNED = ("identity", "Neumann", "unrolled")


@pytest.fixture(scope="module")
def splits():
    return Digits(size=8, train_size=60, val_size=60).load(seed=0)


@pytest.fixture(scope="module")
def rules(script):
    """Give each rule's gradient on one small problem in float64: a linear classifier of four painted images."""
    torch.manual_seed(0)
    images, labels = torch.rand(4, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    unseen = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    painter = script.Painter(1).double()
    noise = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    painted = images + painter.unet.decode(painter.unet.encode(torch.cat([images, noise], dim=1))).tanh() / 4
    weights = [torch.randn(64, 2, dtype=torch.float64).div(8).requires_grad_()]

    def loss(weights, x):
        return torch.nn.functional.cross_entropy((x - 0.5).flatten(1) @ weights[0], labels)

    given = lambda w: loss(w, painted), lambda w: loss(w, unseen), weights, list(painter.parameters())
    return {row: flatten(script.ROWS[row](*given)).detach() for row in LEARNED}


def test_the_painter_is_the_papers(script):
    assert sum(weight.numel() for weight in script.Painter(3).parameters()) == 6659


def test_three_neumann_terms_are_three_unrolled_steps_and_the_identity_points_the_same_way(rules):
    """α Σ (I - αH)ʲ b is what steps of rate α give where H hardly changes; here within a tenth."""
    unrolled = rules["unrolled"]
    assert (rules["Neumann"] - unrolled).norm() < 0.1 * unrolled.norm()
    assert torch.cosine_similarity(rules["identity"], unrolled, dim=0) > 0.9


def test_images_are_not_cut_off_at_black_and_white(script):
    """On black images a random network paints below 0 somewhere, and within a quarter of full scale everywhere."""
    torch.manual_seed(0)
    painted = script.Painter(1)(torch.zeros(8, 1, 8, 8))
    assert painted.min() < 0
    assert painted.abs().max() <= 0.25


@pytest.mark.parametrize("row", LEARNED)
def test_a_network_that_learns_is_left_with_draws_that_differ_and_stay_near_the_image(script, splits, row):
    """What the regulariser counts: it starts near 0 and learning lowers it; rows that do not learn keep it."""
    values = {}
    for name in ("none", row):
        painter = script.train(splits, name, steps=60).painter
        torch.manual_seed(0)
        values[name] = float(painter.regulariser(splits.val.batch(range(60))[0], draws=16).detach())
    assert values[row] < values["none"] - 0.03


def test_the_row_without_a_network_has_none(script, splits):
    trained = script.train(splits, "no network", steps=20)
    assert trained.painter is None
    assert trained.plain == trained.averaged
