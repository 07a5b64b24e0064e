"""The paper's painter learns by the hypergradient that it is told to."""

import pytest
import torch
from torch.autograd import grad
from torch.nn.functional import cross_entropy

from augnet.data import Digits
from augnet.implicit import flatten

LEARNED = ("identity", "Neumann", "unrolled")


@pytest.fixture(scope="module")
def splits():
    return Digits(size=8, train_size=60, val_size=60).load(seed=0)


class Small:
    """Four painted and four unseen images in float64, a linear classifier, and noise that stays."""

    def __init__(self, script):
        torch.manual_seed(0)
        self.images, self.unseen, self.noise = torch.rand(3, 4, 1, 8, 8, dtype=torch.float64)
        self.labels, self.painter = torch.tensor([0, 1, 0, 1]), script.Painter(1).double()
        self.weights = [torch.randn(64, 2, dtype=torch.float64).div(8).requires_grad_()]
        self.learned = list(self.painter.parameters())

    def loss(self, weights, x):
        return cross_entropy((x - 0.5).flatten(1) @ weights[0], self.labels)

    def train(self, weights):
        unet = self.painter.unet
        residual = unet.decode(unet.encode(torch.cat([self.images, self.noise], dim=1))).tanh() / 4
        return self.loss(weights, self.images + residual)

    def val(self, weights):
        return self.loss(weights, self.unseen)

    def gradient(self, rule):
        return rule(self.train, self.val, self.weights, self.learned)

    def behind_three_steps(self, rate):
        """Give the validation loss behind three steps of training."""
        weights = self.weights
        for _ in range(3):
            weights = [w - rate * g for w, g in zip(weights, grad(self.train(weights), weights), strict=True)]
        return self.val(weights).item()


@pytest.fixture(scope="module")
def small(script):
    return Small(script)


@pytest.fixture(scope="module")
def rules(script, small):
    return {row: flatten(small.gradient(script.ROWS[row])).detach() for row in LEARNED}


def test_the_painter_is_the_papers(script):
    assert sum(weight.numel() for weight in script.Painter(3).parameters()) == 6659


def test_three_neumann_terms_are_three_unrolled_steps_and_the_identity_points_the_same_way(rules):
    """α Σ (I - αH)ʲ b is what steps of rate α give where H hardly changes; here within a tenth."""
    unrolled = rules["unrolled"]
    assert (rules["Neumann"] - unrolled).norm() < 0.1 * unrolled.norm()
    assert torch.cosine_similarity(rules["identity"], unrolled, dim=0) > 0.9


@pytest.mark.parametrize("row", LEARNED)
def test_a_step_against_the_hypergradient_lowers_the_validation_loss_that_training_leads_to(script, row):
    small = Small(script)
    before = small.behind_three_steps(script.RATE)
    slopes = small.gradient(script.ROWS[row])
    length = flatten(slopes).norm()
    with torch.no_grad():
        for weight, slope in zip(small.learned, slopes, strict=True):
            weight -= 0.1 * slope / length
    assert small.behind_three_steps(script.RATE) < before


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
        painter, *_ = script.train(splits, name, steps=60)
        torch.manual_seed(0)
        values[name] = float(painter.regulariser(splits.val.batch(range(60))[0], draws=16).detach())
    assert values[row] < values["none"] - 0.03


def test_the_row_without_a_network_has_none(script, splits):
    painter, plain, averaged = script.train(splits, "no network", steps=20)
    assert painter is None
    assert plain == averaged
